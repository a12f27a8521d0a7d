"""Which pipelines there are: kopf tells of changes as they come, and a roll call says what is.

Kopf runs on a thread and an event loop of its own. When one of its watches fails for good (an answer that it does not
expect is enough), it ends and cancels every task of its loop; here it then begins anew, and no pipeline's loop notices.
Nor does it tell of pipelines that were deleted while it was not watching. So once a minute the names of all pipelines
are called: those that are gone are let go, and those whose generation we do not know are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Sequence

import kopf

from eod_operator.api import KIND
from eod_operator.handlers import pipeline_of, registry
from eod_operator.kube.api import METADATA_LIST, Api, ClusterError, Manifest
from eod_operator.loops import Loops

logger = logging.getLogger(__name__)

ROLL_CALL_EVERY_S = 60.0
_PAGE = 500
_AGAIN_AFTER_S = 2.0


class Watching:
    """Tells the loops which pipelines there are."""

    def __init__(self, api: Api, loops: Loops, namespaces: Sequence[str]) -> None:
        """Prepare.

        Args:
            api: for the roll call.
            loops: what is told.
            namespaces: those to watch; none means all.
        """
        self._api = api
        self._loops = loops
        self._namespaces = tuple(namespaces)
        self._stop = threading.Event()

    async def run(self) -> None:
        """Watch and call the roll until cancelled."""
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._watch, args=(loop,), name="kopf", daemon=True)
        thread.start()
        try:
            while True:
                await asyncio.sleep(ROLL_CALL_EVERY_S * random.uniform(0.8, 1.2))
                with contextlib.suppress(ClusterError):  # the next one will do
                    await self.call_the_roll()
        finally:
            self._stop.set()

    async def call_the_roll(self) -> None:
        """Compare the pipelines that there are with those that we know.

        Raises:
            ClusterError: the API server does not answer.
        """
        known = {pipeline.owner.uid: pipeline.generation for pipeline, _ in self._loops}
        there: set[str] = set()
        for namespace in self._namespaces or (None,):
            for meta in await self._metadata(namespace):
                there.add(meta["uid"])
                if known.get(meta["uid"]) != int(meta.get("generation", 0)):
                    await self._read(meta["namespace"], meta["name"])
        for uid in known.keys() - there:
            self._loops.gone(uid)

    async def _metadata(self, namespace: str | None) -> list[Manifest]:
        found: list[Manifest] = []
        token = ""
        while True:
            query = {"limit": str(_PAGE)} | ({"continue": token} if token else {})
            answer = await self._api.call("list", KIND, namespace, query=query, accept=METADATA_LIST)
            found += [one["metadata"] for one in answer.get("items", [])]
            token = answer.get("metadata", {}).get("continue") or ""
            if not token:
                return found

    async def _read(self, namespace: str, name: str) -> None:
        try:
            self._loops.seen(pipeline_of(await self._api.call("get", KIND, namespace, name)))
        except ClusterError as error:
            if not error.missing:
                raise

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run kopf, again and again: the body of its thread."""

        def tell(call: object, argument: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody wants to know any more
                loop.call_soon_threadsafe(call, argument)  # type: ignore[arg-type]

        handlers = registry(lambda pipeline: tell(self._loops.seen, pipeline), lambda uid: tell(self._loops.gone, uid))
        settings = kopf.OperatorSettings()
        settings.process.ultimate_exiting_timeout = None  # it would kill the process when kopf ends
        while not self._stop.is_set():
            try:
                asyncio.run(
                    kopf.operator(
                        registry=handlers,
                        settings=settings,
                        standalone=True,
                        clusterwide=not self._namespaces,
                        namespaces=self._namespaces,
                        stop_flag=self._stop,
                    )
                )
            except Exception:
                logger.exception("the watch of pipelines has failed; it begins anew")
            self._stop.wait(_AGAIN_AFTER_S)
