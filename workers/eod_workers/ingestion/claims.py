"""Whether a session that another replica serves is live there: its owner is asked, by name, and asks its counterparty.

A Logon(A) says who it is from, and no more: it may be that of a counterparty whose line broke, or of somebody else who
knows the CompIDs. Before the session is taken over (see `tenure`), the ingestion that served it last is asked on a
channel of the state store. It sends its counterparty a TestRequest(1), and answers whether that was heard. Whoever has
ended listens to no channel, and one that is frozen does not answer: their sessions can be taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from eod_workers.ingestion.tenure import owner_key
from eod_workers.ports import StateStore, Unavailable

logger = structlog.get_logger()
_FIRST_RETRY_S, _LAST_RETRY_S = 0.2, 5.0
_LISTENING_WITHIN_S = 2.0
_CHANNEL = "fix:ask:"


class Claims:
    """Asks other ingestions for one, and answers when it is asked; its `name` is that of this process alone."""

    def __init__(
        self,
        state: StateStore,
        is_live_here: Callable[[str], Awaitable[bool]],
        *,
        drawn_name: str,
        answered_within_s: float,
    ) -> None:
        """`is_live_here` tells whether a session is live in this process, and gives it up if it is not.

        `drawn_name` nobody else has. An owner that has not answered within `answered_within_s` (seconds) is taken for
        frozen.
        """
        self.name = f"{socket.gethostname()}-{drawn_name}"
        self._state = state
        self._is_live_here = is_live_here
        self._answered_within_s = answered_within_s
        self._listening = asyncio.Event()
        self._why_deaf = "it has just begun to listen for answers"
        self._asked = 0
        self._questions: dict[int, asyncio.Future[bool]] = {}
        self._askers: dict[str, list[tuple[str, int]]] = {}
        """Session → who waits for an answer, and the number of its question."""

    async def run(self) -> None:
        """Listens for questions and for answers until it is cancelled; a subscription that breaks is made anew."""
        delay = _FIRST_RETRY_S
        while True:
            try:
                await self._listen()
            except (Unavailable, PermissionError, RuntimeError) as error:
                delay = _FIRST_RETRY_S if self._listening.is_set() else min(2 * delay, _LAST_RETRY_S)
                self._why_deaf = str(error)
                logger.warning("fix.asks_nobody", error=str(error), retry_in_s=delay)
            finally:
                self._listening.clear()
            await asyncio.sleep(delay)

    async def is_live(self, session: str) -> bool:
        """Whether the session is live in another process.

        Raises:
            Unavailable: the store is away, or an answer would not be heard.
            PermissionError: the store does not allow to ask.
            TypeError: the key of the session's owner is in use for something else.
        """
        stored = await self._state.get_versioned(owner_key(session))
        owner = stored[1].decode() if stored is not None else ""
        if not owner or owner == self.name:
            return False
        self._asked += 1
        number, answer = self._asked, asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        question = json.dumps({"session": session, "from": self.name, "number": number}).encode()
        try:
            while True:
                hears = self._listening.is_set()
                if not await self._state.publish(_CHANNEL + owner, question):
                    return False
                if hears:
                    return await asyncio.wait_for(answer, self._answered_within_s)
                await self._until_listening()
        except TimeoutError:
            logger.warning(
                "fix.owner_silent",
                session=session,
                owner=owner,
                why=f"the ingestion that served it has not answered for {self._answered_within_s:g} s: it is taken "
                "for frozen, and the session over",
            )
            return False
        finally:
            del self._questions[number]

    async def _until_listening(self) -> None:
        try:
            await asyncio.wait_for(self._listening.wait(), _LISTENING_WITHIN_S)
        except TimeoutError:
            raise Unavailable(f"the ingestion that serves it cannot be heard: {self._why_deaf}") from None

    async def _listen(self) -> None:
        subscription = await self._state.subscribe(_CHANNEL + self.name)
        self._listening.set()
        try:
            async with asyncio.TaskGroup() as group:
                async for _, message in subscription:
                    try:
                        self._heard(json.loads(message), group)
                    except (ValueError, KeyError, TypeError) as error:
                        logger.warning(
                            "fix.not_understood", message=message[:200], error=f"{type(error).__name__}: {error}"
                        )
        except* (Unavailable, PermissionError, RuntimeError) as errors:
            raise errors.exceptions[0] from None
        finally:
            self._askers.clear()  # of an answer that had not even begun
            await subscription.close()

    def _heard(self, said: Mapping[str, Any], group: asyncio.TaskGroup) -> None:
        """Takes an answer, or a question: those about one session are answered together."""
        if "live" in said:
            question = self._questions.get(said["number"])
            if question is not None and not question.done():
                question.set_result(bool(said["live"]))
            return
        session, asker = said["session"], (said["from"], said["number"])
        if session in self._askers:
            self._askers[session].append(asker)
        else:
            self._askers[session] = [asker]
            group.create_task(self._answer(session))

    async def _answer(self, session: str) -> None:
        try:
            live = await self._is_live_here(session)
        finally:
            askers = self._askers.pop(session, [])
        for asker, number in askers:
            with contextlib.suppress(Unavailable, PermissionError):
                await self._state.publish(_CHANNEL + asker, json.dumps({"number": number, "live": live}).encode())
