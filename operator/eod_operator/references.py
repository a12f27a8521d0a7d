"""The ConfigMaps and Secrets that a spec refers to: are they there, and have their contents changed?

A changed content must reach the pods, whose environment is read once, so its digest becomes part of their template;
that of files which stages read again does not.
Contents are never logged, and not kept, but for the credentials that Kafka is asked with. Secrets are read one by one,
by the names that specs give, and never listed: a watch would need the right to list them all. So each is looked at
once a minute, whoever refers to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from eod_operator.api import PipelineSpec
from eod_operator.conditions import Problem
from eod_operator.kafka.security import Security, decoded, security_of
from eod_operator.kube.api import Api, ClusterError
from eod_operator.resources import digest

LOOK_EVERY_S = 60.0
LOOK_SOON_S = LOOK_EVERY_S / 6
"""At what is missing, and at credentials that Kafka refuses: somebody is probably mending them."""
_REMEMBERED = 10_000

Name = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True, slots=True)
class Referred:
    """What a spec refers to, as it is now.

    Attributes:
        digest: of all contents; empty when nothing is referred to.
        missing: what does not exist, as "Secret NAME" or "key KEY of Secret NAME".
        problem: why something could not be read, with the remedy; its last known content counts until then.
        unknown: whether something has never been read, so that the digest says nothing.
        security: what Kafka is asked with, or why it cannot be asked.
    """

    digest: str = ""
    missing: tuple[str, ...] = ()
    problem: str | None = None
    unknown: bool = False
    security: Security | Problem = field(default_factory=Security)


@dataclass(slots=True)
class _Content:
    """One object.

    Attributes:
        looked_at_s: when.
        digest: of its content; None while it has never been read.
        keys: None when it does not exist, or has never been read.
        problem: why it could not be read.
        texts: what is in it, if Kafka is asked with it.
    """

    looked_at_s: float
    digest: str | None
    keys: frozenset[str] | None
    problem: str | None = None
    texts: Mapping[str, str] | None = field(default=None, repr=False)


class References:
    """Looks at referred objects, each at most once in `LOOK_EVERY_S`."""

    def __init__(self, api: Api, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[tuple[str, str, str], _Content] = {}

    async def look(self, namespace: str, spec: PipelineSpec, *, anew: bool = False, refused: bool = False) -> Referred:
        """Look at all that a spec refers to.

        Args:
            namespace: of the pipeline.
            spec: of the pipeline.
            anew: also at what was looked at a moment ago.
            refused: Kafka does not take its credentials, so that these are looked at soon again.
        """
        wanted = referred(spec)
        read_once = referred(spec, reread=False)
        secret = spec.kafka.security.secret_ref if spec.kafka.security is not None else None
        credentials: Mapping[str, str] | None = None
        if anew:
            for kind, name in wanted:
                self._known.pop((namespace, kind, name), None)
        missing, digests, problem, unknown = [], [], None, False
        for (kind, name), keys in sorted(wanted.items()):
            if kind == "Secret" and secret is not None and name == secret.name:
                content = await self._content(namespace, kind, name, texts=True, soon=refused)
                credentials = content.texts
            else:
                content = await self._content(namespace, kind, name)
            if (kind, name) in read_once:
                digests.append(content.digest)
            problem = problem or content.problem
            if content.digest is None:
                unknown = True
            elif content.keys is None:
                missing.append(f"{kind} {name}")
            else:
                missing += [f"key {key} of {kind} {name}" for key in sorted(keys - content.keys)]
        security = security_of(spec.kafka.security, credentials)
        return Referred(digest(digests) if digests else "", tuple(missing), problem, unknown, security)

    async def _content(
        self, namespace: str, kind: str, name: str, *, texts: bool = False, soon: bool = False
    ) -> _Content:
        place = (namespace, kind, name)
        known = self._known.get(place)
        if known is not None and (known.texts is not None or known.keys is None or not texts):
            for_s = LOOK_SOON_S if soon or known.keys is None else LOOK_EVERY_S
            if self._clock() - known.looked_at_s < for_s:
                return known
        try:
            found = await self._api.call("get", kind, namespace, name)
            data = {**(found.get("data") or {}), **(found.get("binaryData") or {})}
            kept = decoded(found.get("data") or {}) if texts else None
            content = _Content(self._clock(), digest(data), frozenset(data), texts=kept)
        except ClusterError as error:
            if error.missing:
                content = _Content(self._clock(), "", None)
            else:
                told = f"{kind} {name} cannot be read: {error}; check the rights of the operator's ServiceAccount"
                before = known or _Content(0.0, None, None)
                content = _Content(self._clock(), before.digest, before.keys, told, before.texts)
        while len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[place] = content
        return content


def referred(spec: PipelineSpec, *, reread: bool = True) -> dict[Name, frozenset[str]]:
    """What a spec refers to, with the keys that it needs of each; `reread`: also what stages read again."""
    config = spec.config
    wanted: dict[Name, frozenset[str]] = {}
    for kind, whole in (("ConfigMap", config.config_map_ref), ("Secret", config.secret_ref)):
        if whole is not None:
            wanted[kind, whole.name] = frozenset()
    for files in config.files:
        if files.reread and not reread:
            continue
        for kind, whole in (("ConfigMap", files.config_map_ref), ("Secret", files.secret_ref)):
            if whole is not None:
                wanted.setdefault((kind, whole.name), frozenset())
    security = spec.kafka.security
    if security is not None and security.secret_ref is not None:
        needed = frozenset({"username", "password"} if security.login else ())
        place = ("Secret", security.secret_ref.name)
        wanted[place] = wanted.get(place, frozenset()) | needed
    for variable in config.env:
        source = variable.value_from
        if source is None:
            continue
        for kind, part in (("ConfigMap", source.config_map_key_ref), ("Secret", source.secret_key_ref)):
            if part is not None:
                wanted[kind, part.name] = wanted.get((kind, part.name), frozenset()) | {part.key}
    return wanted
