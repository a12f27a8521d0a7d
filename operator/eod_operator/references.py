"""The ConfigMaps and Secrets that a spec refers to: are they there, and have their contents changed?

A changed content must reach the pods, whose environment is read once, so its digest becomes part of their template;
that of files which stages read again does not.
Contents are never logged, and not kept, but for the credentials that Kafka is asked with. Secrets are read one by one,
by the names that specs give, and never listed: a watch would need the right to list them all. So each is looked at
once a minute, whoever refers to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from eod_operator.api import PipelineSpec
from eod_operator.api.http import Http
from eod_operator.api.sources import Config, MountedFiles
from eod_operator.asking import Door, door_of
from eod_operator.conditions import Problem
from eod_operator.kafka.security import KEYS, Security, decoded, security_of
from eod_operator.kube.api import Api, ClusterError
from eod_operator.resources import digest

LOOK_EVERY_S = 60.0
LOOK_SOON_S = LOOK_EVERY_S / 6
"""At what is missing, and at credentials that Kafka refuses: somebody is probably mending them."""
_REMEMBERED = 10_000

Keys = dict[tuple[str, str], frozenset[str]]
"""Objects by kind and name, and keys of each."""


@dataclass(frozen=True, slots=True)
class Referred:
    """What a spec refers to, as it is now.

    Attributes:
        digest: of all contents; empty when nothing is referred to.
        missing: what does not exist, as "Secret NAME" or "key KEY of Secret NAME".
        problem: why something could not be read, with the remedy; its last known content counts until then.
        unknown: whether something has never been read, so that the digest says nothing.
        security: what Kafka is asked with, or why it cannot be asked.
        door: how pods are asked.
    """

    digest: str = ""
    missing: tuple[str, ...] = ()
    problem: str | None = None
    unknown: bool = False
    security: Security | Problem = field(default_factory=Security)
    door: Door = field(default_factory=Door)


@dataclass(slots=True)
class _Content:
    """One object.

    Attributes:
        looked_at_s: when.
        digest: of its content; None while it has never been read.
        keys: None when it does not exist, or has never been read.
        problem: why it could not be read.
        kept: the keys whose texts the operator itself uses.
        texts: what is there of these.
    """

    looked_at_s: float
    digest: str | None
    keys: frozenset[str] | None
    problem: str | None = None
    kept: frozenset[str] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)


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
        used, texts = _used(spec), dict[str, Mapping[str, str]]()
        if anew:
            for kind, name in wanted:
                self._known.pop((namespace, kind, name), None)
        missing, digests, problem, unknown = [], [], None, False
        for (kind, name), keys in sorted(wanted.items()):
            kept = used.get((kind, name), frozenset())
            soon = refused and secret is not None and (kind, name) == ("Secret", secret.name)
            content = await self._content(namespace, kind, name, kept, soon=soon)
            if kept and content.keys is not None:
                texts[name] = content.texts
            if (kind, name) in read_once:
                digests.append(content.digest)
            problem = problem or content.problem
            if content.digest is None:
                unknown = True
            elif content.keys is None:
                missing.append(f"{kind} {name}")
            else:
                missing += [f"key {key} of {kind} {name}" for key in sorted(keys - content.keys)]
        security = security_of(spec.kafka.security, texts.get(secret.name) if secret is not None else None)
        whole = digest(digests) if digests else ""
        return Referred(whole, tuple(missing), problem, unknown, security, door_of(spec.http, texts))

    async def _content(self, namespace: str, kind: str, name: str, kept: frozenset[str], *, soon: bool) -> _Content:
        place = (namespace, kind, name)
        known = self._known.get(place)
        if known is not None and (known.kept >= kept or known.keys is None):
            for_s = LOOK_SOON_S if soon or known.keys is None else LOOK_EVERY_S
            if self._clock() - known.looked_at_s < for_s:
                return known
        try:
            found = await self._api.call("get", kind, namespace, name)
            data = {**(found.get("data") or {}), **(found.get("binaryData") or {})}
            kept |= known.kept if known is not None else frozenset()
            texts = decoded({key: value for key, value in (found.get("data") or {}).items() if key in kept})
            content = _Content(self._clock(), digest(data), frozenset(data), kept=kept, texts=texts)
        except ClusterError as error:
            if error.missing:
                content = _Content(self._clock(), "", None)
            else:
                told = f"{kind} {name} cannot be read: {error}; check the rights of the operator's ServiceAccount"
                before = known or _Content(0.0, None, None)
                content = _Content(self._clock(), before.digest, before.keys, told, before.kept, before.texts)
        while len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[place] = content
        return content


def _used(spec: PipelineSpec) -> Keys:
    """The keys of Secrets that the operator itself uses; of no other the text is kept."""
    security, http = spec.kafka.security, spec.http
    used: Keys = {}
    if security is not None and security.secret_ref is not None:
        _add(used, "Secret", security.secret_ref.name, KEYS)
    if http is not None and http.tls is not None:
        _add(used, "Secret", http.tls.secret_ref.name, {"tls.crt"})
    if http is not None and http.token is not None:
        _add(used, "Secret", http.token.secret_key_ref.name, {http.token.secret_key_ref.key})
    return used


def referred(spec: PipelineSpec, *, reread: bool = True) -> Keys:
    """What a spec refers to, with the keys that it needs of each; `reread`: also what stages read again."""
    config, security = spec.config, spec.kafka.security
    wanted: Keys = {}
    sources: list[Config | MountedFiles] = [config, *(one for one in config.files if reread or not one.reread)]
    for whole in sources:
        if whole.config_map_ref is not None:
            _add(wanted, "ConfigMap", whole.config_map_ref.name)
        if whole.secret_ref is not None:
            _add(wanted, "Secret", whole.secret_ref.name)
    if security is not None and security.secret_ref is not None:
        _add(wanted, "Secret", security.secret_ref.name, {"username", "password"} if security.login else ())
    for source in filter(None, (variable.value_from for variable in config.env)):
        for kind, part in (("ConfigMap", source.config_map_key_ref), ("Secret", source.secret_key_ref)):
            if part is not None:
                _add(wanted, kind, part.name, {part.key})
    if reread and spec.http is not None:
        _add_http(wanted, spec.http)
    return wanted


def _add_http(wanted: Keys, http: Http) -> None:
    """The Secrets of the stages' port, which they read again when these change."""
    if http.tls is not None:
        _add(wanted, "Secret", http.tls.secret_ref.name, {"tls.crt", "tls.key"})
    if http.token is not None:
        _add(wanted, "Secret", http.token.secret_key_ref.name, {http.token.secret_key_ref.key})


def _add(wanted: Keys, kind: str, name: str, keys: Iterable[str] = ()) -> None:
    wanted[kind, name] = wanted.get((kind, name), frozenset()).union(keys)
