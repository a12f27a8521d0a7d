"""One API server, over one pool of connections: calls with a time limit and a budget, and watches.

Asynchronous throughout, so that a thousand pipelines need no threads. Objects are plain dicts: what is sent is what
`resources` made, what comes back is what the server said. Where the server is and who we are comes from the
kubernetes client's own loaders, which know service accounts, kubeconfigs and their rotating tokens.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from kubernetes import client, config

from eod_operator.kube.budget import Budget
from eod_operator.kube.kinds import RESOURCES

REQUEST_WITHIN_S = 10.0
CONNECT_WITHIN_S = 5.0
CONNECTIONS = 16
"""Connections at once; watches have their own. Each takes a buffer of 256 KiB, which is asyncio's for TLS."""
_METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
JSON = "application/json"
METADATA_LIST = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
OUTAGE_S = 15.0
"""A server that does not answer for as long is away; shorter gaps are a matter of course."""
_WATCH_SILENT_FOR_S = 30.0
"""A watch that outlives its server-side limit by this much is dead, whatever TCP says."""

Manifest = dict[str, Any]
Observe = Callable[[str, str, int, float], None]
"""Told of each request: verb, kind, HTTP status (0 without an answer), seconds."""


class ClusterError(Exception):
    """The API server refused or did not answer.

    Attributes:
        status: the HTTP status; 0 when there was no answer.
        reason: Kubernetes' machine-readable reason, such as Conflict or Forbidden; empty without one.
    """

    def __init__(self, status: int, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def conflict(self) -> bool:
        """The object has changed since we read it (or exists, where it was to be created)."""
        return self.status == 409  # noqa: PLR2004 - HTTP's own number

    @property
    def missing(self) -> bool:
        """There is no such object, or no such kind."""
        return self.status == 404  # noqa: PLR2004 - HTTP's own number

    @property
    def invalid(self) -> bool:
        """A field of the object is not as it must be."""
        return self.status == 422  # noqa: PLR2004 - HTTP's own number

    @property
    def expired(self) -> bool:
        """The resource version is too old to go on from."""
        return self.status == 410  # noqa: PLR2004 - HTTP's own number

    @property
    def transient(self) -> bool:
        """Worth trying again unchanged: no answer, throttled, or the server's own fault."""
        return self.status in {0, 429} or self.status >= 500  # noqa: PLR2004 - HTTP's own numbers


def login() -> client.Configuration:
    """Where the API server is and who we are: the pod's service account, else what the kubeconfig says.

    Raises:
        ClusterError: neither is there.
    """
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            config.load_kube_config()  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise ClusterError(
                0, f"no cluster to talk to: run inside one, or point KUBECONFIG at a kubeconfig ({error})"
            ) from error
    return client.Configuration.get_default_copy()


class Api:
    """Calls and watches of one API server; made and used on one event loop.

    Attributes:
        skew_s: how far our clock is ahead of the server's.
        outage: when it last gave no answer for `OUTAGE_S` or longer, and when it answered again; None if never.
    """

    def __init__(
        self,
        configuration: client.Configuration,
        *,
        budget: Budget | None = None,
        observe: Observe = lambda _verb, _kind, _status, _seconds: None,
        user_agent: str = "eod-operator",
        granted: bool = True,
    ) -> None:
        """Where it is, and who we are.

        Args:
            configuration: of the kubernetes client.
            budget: of requests.
            observe: told of each.
            user_agent: who we say that we are.
            granted: make those calls alone that charts grant the operator; people have rights of their own.
        """
        self._granted = granted
        self._configuration = configuration
        self._budget = budget or Budget()
        self._observe = observe
        tls = _tls(configuration)
        self._session, self._watches = (
            aiohttp.ClientSession(
                base_url=configuration.host,
                connector=aiohttp.TCPConnector(ssl=tls, limit=limit),
                headers={"Accept": JSON, "User-Agent": user_agent},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_WITHIN_S
                ),  # calls have limits of their own
            )
            for limit in (CONNECTIONS, 0)
        )
        self.skew_s = 0.0
        self.outage: tuple[float, float] | None = None
        self._silent_since_s: float | None = None

    @property
    def budget(self) -> Budget:
        """What is left of the requests that we allow ourselves."""
        return self._budget

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._watches.close()

    async def call(
        self,
        verb: str,
        kind: str,
        namespace: str | None,
        name: str = "",
        *,
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = APPLY,
        accept: str = JSON,
        urgent: bool = False,
        fence: Callable[[], None] = lambda: None,
    ) -> Manifest:
        """Make one request and return the answer.

        Args:
            verb: as in RBAC, without watch.
            kind: a kind of `RESOURCES`.
            namespace: None for all of them.
            name: of one object; empty for a collection.
            subresource: such as status.
            query: query parameters.
            body: what to send.
            content_type: of a patch.
            accept: how the answer shall be; `METADATA_LIST` spares the contents of a list.
            urgent: wait for no budget and no free connection; for a lease, which must not lapse for being busy.
            fence: called when the budget has let the request through; what it raises keeps it from being sent.

        Raises:
            ClusterError: the server refused, or did not answer within `REQUEST_WITHIN_S`.
        """
        headers = {"Content-Type": content_type if verb == "patch" else JSON, "Accept": accept}
        path = self._path(verb, kind, namespace, name, subresource)
        status, text, why = await self._send(verb, kind, path, query, headers, body, urgent=urgent, fence=fence)
        answer = _parsed(text)
        if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's successes
            message = answer.get("message") or why
            raise ClusterError(status, f"{verb} {path}: {message}", reason=str(answer.get("reason", "")))
        return answer

    async def text(self, kind: str, namespace: str, name: str, *, subresource: str, query: Mapping[str, str]) -> str:
        """The answer to a question that is no object: a log.

        Raises:
            ClusterError: the server refused, or did not answer within `REQUEST_WITHIN_S`.
        """
        path = self._path("get", kind, namespace, name, subresource)
        status, said, why = await self._send("get", kind, path, query, {"Accept": "*/*"}, None)
        if status != 200:  # noqa: PLR2004 - HTTP's OK
            raise ClusterError(status, f"get {path}: {_parsed(said).get('message') or why}")
        return said.decode(errors="replace")

    async def _send(
        self,
        verb: str,
        kind: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: Manifest | None,
        *,
        urgent: bool = False,
        fence: Callable[[], None] = lambda: None,
    ) -> tuple[int, bytes, str]:
        """One request; status, answer and the status in words."""
        data = None if body is None else json.dumps(body)
        session = self._watches if urgent else self._session  # the one without a limit, so as not to queue
        if not urgent:
            await self._budget.take()
        fence()
        started_s = time.monotonic()
        status = 0
        try:
            async with (
                asyncio.timeout(REQUEST_WITHIN_S),
                session.request(
                    _METHODS[verb], path, params=query, headers={**self._headers(), **headers}, data=data
                ) as response,
            ):
                text = await response.read()
                status = response.status
                self._answered(response, started_s)
                return status, text, str(response.reason)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._silent_since_s = self._silent_since_s or time.time()
            said = str(error) or f"no answer within {REQUEST_WITHIN_S:g} s"
            raise ClusterError(0, f"{verb} {path}: the API server did not answer: {said}") from error
        finally:
            self._observe(verb, kind, status, time.monotonic() - started_s)

    async def watch(
        self, kind: str, namespace: str | None, *, query: Mapping[str, str], within_s: float
    ) -> AsyncGenerator[Manifest, None]:
        """Yield the events of one watch, which the server ends after about `within_s`.

        Raises:
            ClusterError: it was refused, or broke; `expired` when the resource version is too old, which the server
                may also say in the middle of a watch.
        """
        path = self._path("watch", kind, namespace)
        params = {**query, "watch": "true", "timeoutSeconds": str(max(1, int(within_s)))}
        await self._budget.take()
        started_s = time.monotonic()
        status = 0
        try:
            async with asyncio.timeout(within_s + _WATCH_SILENT_FOR_S):
                async with self._watches.get(path, params=params, headers=self._headers()) as response:
                    status = response.status
                    self._observe("watch", kind, status, time.monotonic() - started_s)
                    if status != 200:  # noqa: PLR2004 - HTTP's OK
                        answer = _parsed(await response.read())
                        message = answer.get("message") or response.reason
                        raise ClusterError(status, f"watch {path}: {message}", reason=str(answer.get("reason", "")))
                    async for line in _lines(response):
                        event = json.loads(line)
                        if event.get("type") == "ERROR":
                            told = event.get("object", {})
                            raise ClusterError(int(told.get("code", 500)), f"watch {path}: {told.get('message')}")
                        yield event
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if not status:
                self._observe("watch", kind, 0, time.monotonic() - started_s)
            raise ClusterError(0, f"watch {path}: it broke: {str(error) or 'it fell silent'}") from error

    def _path(self, verb: str, kind: str, namespace: str | None, name: str = "", subresource: str = "") -> str:
        resource = RESOURCES[kind]
        if self._granted and not resource.allows(verb, subresource):
            thing = f"{resource.plural}/{subresource}" if subresource else resource.plural
            raise PermissionError(f"{verb} of {thing} is not in kube/kinds.py, so no chart grants it: add it there")
        return resource.path(namespace, name, subresource)

    def _headers(self) -> dict[str, str]:
        """The token, read anew each time: that of a service account rotates."""
        settings: Mapping[str, Any] = self._configuration.auth_settings()
        return {one["key"]: one["value"] for one in settings.values() if one["in"] == "header" and one["value"]}

    def _answered(self, response: aiohttp.ClientResponse, started_s: float) -> None:
        """Note the end of an outage, and how far our clock is from the server's, to the second of an HTTP date."""
        if self._silent_since_s is not None:
            if time.time() - self._silent_since_s >= OUTAGE_S:
                self.outage = (self._silent_since_s, time.time())
            self._silent_since_s = None
        said = response.headers.get("Date")
        if said is None or time.monotonic() - started_s > 1:
            return
        try:
            self.skew_s = time.time() - parsedate_to_datetime(said).timestamp() - 0.5
        except ValueError:
            return


def _tls(configuration: client.Configuration) -> ssl.SSLContext | bool:
    if not configuration.host.startswith("https"):
        return True
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of any length: an object may be larger than a stream reader's limit."""
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


def _parsed(text: bytes) -> Manifest:
    try:
        answer = json.loads(text) if text else {}
    except ValueError:  # a proxy in between, or an API server that is just starting
        return {"message": text[:200].decode(errors="replace").strip()}
    return answer if isinstance(answer, dict) else {}
