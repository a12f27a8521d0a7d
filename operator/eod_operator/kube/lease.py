"""Which replica of the operator acts: leader election over one Lease, by the rules of client-go's leaderelection.

Nobody trusts another's clock. A candidate takes over once it has *itself* seen the same record for as long as the
record's holder asked, and the holder stops sooner than that, counted from when it *sent* its last renewal. So two
never hold the Lease at once, however wrong the wall clocks are, while no clock runs faster than another by more than
`duration_s / renew_within_s`. What the rules cannot give is fencing: a process that freezes between its look at
`held` and its write may write late. Hence `held` is asked right before every write is sent, and the API server is
told which version of the object was seen: what comes late it refuses, once the next leader has written.

Beyond client-go, a candidate that finds the Lease deleted waits as if it had just been renewed, because the holder
may still believe in it; the holder makes it anew meanwhile. A candidate that starts at that moment cannot know, and
one whose request to make it is under way has no say: who deletes it by hand risks two leaders for `renew_within_s`.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from eod_operator.kube.api import Api, ClusterError, Manifest
from eod_operator.kube.kinds import RESOURCES

KIND = "Lease"
RELEASE_WITHIN_S = 2.0
JITTER = 1.2
"""A candidate waits up to so many times `retry_every_s` more, so that candidates do not all ask at once."""
_SOONEST_S = 0.001  # so that a clock that stands still is not asked without end
_RELEASED_FOR_S = 1  # the API does not allow 0


def identity() -> str:
    """A name that no other process has, nor this one after a restart."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex}"


class Lease:
    """One replica's part in the election; made and used on one event loop.

    Args:
        api: where the Lease is.
        namespace: the operator's own.
        identity: who we are; see `identity`.
        name: of the Lease.
        duration_s: others wait so long after they have seen our last renewal; announced in whole seconds, rounded up.
        renew_within_s: we act so long after we have sent it.
        retry_every_s: between renewals, and between the looks of a candidate (plus jitter).
        clock: seconds that only go forward.
        wall: seconds since 1970, written for humans and never read.
        rng: of the jitter.
        changed: told True when we begin to hold the Lease and False when we cease to, also while a request hangs.

    Attributes:
        holder: who holds it, as last seen; None for nobody.
        transitions: how often it changed hands, as last seen.
        problem: why it cannot be read or written, with a remedy; None when it can.

    Raises:
        ValueError: times that do not fit together.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        identity: str,
        name: str = "eod-operator",
        duration_s: float = 15.0,
        renew_within_s: float = 10.0,
        retry_every_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        changed: Callable[[bool], None] = lambda _held: None,
    ) -> None:
        if not identity:
            raise ValueError("identity is empty, which in a Lease means nobody: use kube.lease.identity()")
        if not 0 < JITTER * retry_every_s < renew_within_s < duration_s:
            raise ValueError(
                f"0 < {JITTER:g} * retry_every_s ({retry_every_s:g}) < renew_within_s ({renew_within_s:g}) "
                f"< duration_s ({duration_s:g}) does not hold: the leader must have time to try twice, and must stop "
                "before another may take over; 2, 10 and 15 are usual"
            )
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._name = name
        self._duration_s = duration_s
        self._renew_within_s = renew_within_s
        self._retry_every_s = retry_every_s
        self._clock = clock
        self._wall = wall
        self._rng = rng or random.Random()
        self._changed = changed

        self.holder: str | None = None
        self.transitions = 0
        self.problem: str | None = None
        self._leading = False
        self._claimed = False
        """Whether the record may have our name: a request without an answer may still arrive."""
        self._sent_s: float | None = None
        self._written: Manifest | None = None
        """The server's last answer to us; the next renewal needs no reading when nobody else has written."""
        self._spec: Manifest | None = None
        self._wait_s = 0.0
        self._seen_s = -math.inf
        self._told = False
        self._watchdog: asyncio.TimerHandle | None = None

    @property
    def held(self) -> bool:
        """Whether we may act now; by the clock, so a process that was frozen knows at once that it may not."""
        return self._leading and self._left_s() > 0

    @property
    def renewed_ago_s(self) -> float | None:
        """Seconds since we sent the last renewal that succeeded; None before the first."""
        return None if self._sent_s is None else self._clock() - self._sent_s

    async def run(self) -> None:
        """Acquire, renew and acquire again until cancelled; then release, so that the next takes over at once.

        Whatever the Lease guards must have ended before the cancellation.
        """
        try:
            while True:
                await self._try()
                await asyncio.sleep(self._pause_s())
        finally:
            self._leading = False
            self._tell()
            await self._release()

    def _pause_s(self) -> float:
        """Until the next attempt; a candidate does not sleep through the moment at which the Lease runs out."""
        if self.held:
            return self._retry_every_s
        jitter = JITTER * self._rng.random()
        pause_s = self._retry_every_s * (1 + jitter)
        left_s = self._seen_s + self._wait_s - self._clock()
        return min(pause_s, left_s + self._retry_every_s * jitter / 4) if left_s > 0 else pause_s

    async def _try(self) -> None:
        """Acquire or renew once, in half of the time that a renewal has, so that a hanging request leaves another."""
        within_s = self._renew_within_s / 2
        try:
            async with asyncio.timeout(within_s):
                await self._acquire_or_renew()
        except TimeoutError:
            self.problem = self._unreachable(f"no answer within {within_s:g} s")
        except ClusterError as error:
            if error.conflict:  # somebody wrote between our look and our write: who leads, the next look will show
                self._leading = False
            self.problem = None if error.conflict else self._explained(error)
        else:
            self.problem = None
        self._tell()

    async def _acquire_or_renew(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            try:
                await self._write(written)
            except ClusterError as error:
                if not (error.conflict or error.missing):
                    raise
            else:
                return
        lease = await self._read()
        self._see(lease)
        if self._free():
            await self._write(lease)

    async def _read(self) -> Manifest | None:
        try:
            return await self._api.call("get", KIND, self._namespace, self._name, urgent=True)
        except ClusterError as error:
            if error.missing:
                return None
            raise

    def _see(self, lease: Manifest | None) -> None:
        """Note what the record says and, when it says something new, the time on our own clock."""
        if lease is None:
            if self._spec is not None:  # deleted since: whoever held it, seen by us or not, may still act
                self._spec = None
                self._seen_s = self._clock()
                self._wait_s = max(self._wait_s, self._duration_s)
            return
        spec = lease.get("spec") or {}
        if spec != self._spec:
            self._spec = spec
            self._seen_s = self._clock()
        self.holder = spec.get("holderIdentity") or None
        self.transitions = spec.get("leaseTransitions") or 0
        self._wait_s = spec.get("leaseDurationSeconds") or self._duration_s
        if self.holder != self._identity:
            self._leading = self._claimed = False

    def _free(self) -> bool:
        """Whether we may put our name into the record that was just seen, or make it."""
        ours = self.held if self._spec is None else self.holder in {None, self._identity}
        return ours or self._clock() >= self._seen_s + self._wait_s

    async def _write(self, lease: Manifest | None) -> None:
        """Put our name into the record as it was read; the resource version lets one writer win."""
        now = _micro_time(self._wall())
        spec: Manifest = {} if lease is None else lease.get("spec") or {}
        ours = spec.get("holderIdentity") == self._identity
        body = {
            "apiVersion": RESOURCES[KIND].api_version,
            "kind": KIND,
            "metadata": {"name": self._name, "namespace": self._namespace},
            **(lease or {}),
            "spec": {
                **spec,
                "holderIdentity": self._identity,
                "leaseDurationSeconds": math.ceil(self._duration_s),
                "acquireTime": spec.get("acquireTime") or now if ours else now,
                "renewTime": now,
                "leaseTransitions": (spec.get("leaseTransitions") or 0) + (lease is not None and not ours),
            },
        }
        self._claimed = True
        sent_s = self._clock()
        if lease is None:
            answer = await self._api.call("create", KIND, self._namespace, body=body, urgent=True)
        else:
            answer = await self._api.call("update", KIND, self._namespace, self._name, body=body, urgent=True)
        self._see(answer)
        self._written = answer
        self._sent_s = sent_s
        self._leading = True

    async def _release(self) -> None:
        """Take our name out of the record, if it may be there; without an answer the others wait it out."""
        if not self._claimed:
            return
        try:
            async with asyncio.timeout(RELEASE_WITHIN_S):
                if not await self._released():
                    await self._released()
        except (ClusterError, TimeoutError) as error:
            said = str(error) or f"no answer within {RELEASE_WITHIN_S:g} s"
            self.problem = self._unreachable(f"it was not released, so the others wait {self._wait_s:g} s: {said}")

    async def _released(self) -> bool:
        """Whether our name is out of it; not when the one renewal that may be under way has come in between."""
        lease = await self._read()
        self._see(lease)
        if lease is None or self.holder != self._identity:
            return True
        now = _micro_time(self._wall())
        free = {"holderIdentity": "", "leaseDurationSeconds": _RELEASED_FOR_S, "acquireTime": now, "renewTime": now}
        body = {**lease, "spec": {**lease["spec"], **free}}
        try:
            self._see(await self._api.call("update", KIND, self._namespace, self._name, body=body, urgent=True))
        except ClusterError as error:
            if not error.conflict:
                raise
            return False
        return True

    def _left_s(self) -> float:
        return -math.inf if self._sent_s is None else self._sent_s + self._renew_within_s - self._clock()

    def _tell(self) -> None:
        """Tell of a change, and come back when the time is up, whatever hangs meanwhile."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        held = self.held
        if held:
            delay_s = max(_SOONEST_S, self._left_s())
            self._watchdog = asyncio.get_running_loop().call_later(delay_s, self._tell)
        if held != self._told:
            self._told = held
            self._changed(held)

    def _explained(self, error: ClusterError) -> str:
        if error.status == 403:  # noqa: PLR2004 - HTTP's own number
            return (
                f"Lease {self._namespace}/{self._name}: the operator lacks a Role in namespace {self._namespace} that "
                "grants get, create and update on leases of coordination.k8s.io, bound to its ServiceAccount; the "
                f"chart has both. It does not act until then ({error})"
            )
        if error.missing:
            return (
                f"Lease {self._namespace}/{self._name}: there is no namespace {self._namespace}: make it, or give the "
                f"operator's own ({error})"
            )
        return self._unreachable(str(error))

    def _unreachable(self, said: str) -> str:
        return (
            f"Lease {self._namespace}/{self._name} cannot be read or written, and without it the operator does not "
            f"act: check that the API server runs and that the operator's pod may reach it ({said})"
        )


def _micro_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
