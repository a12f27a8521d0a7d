"""What is written to the log and to the stores as messages, each with the version of its layout (protos/eod/v1).

Fields are only ever added within a version; a reader refuses a version that it does not know. One function parses and
checks all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Protocol, Self, TypeVar

from google.protobuf.message import DecodeError

from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.protos.prices_pb2 import PriceBatch
from eod_workers.protos.storage_pb2 import ArchiveSegment, PnlSnapshot
from eod_workers.protos.trades_pb2 import FrameBatch, TradeBatch


class UndecodableBatch(Exception):
    """The bytes are no message that this release reads; the message says why, and what would help."""


class Versioned(Protocol):
    """A generated message that says its version."""

    version: int

    @classmethod
    def FromString(cls, s: bytes) -> Self:  # noqa: N802 - protobuf's
        """The message of some bytes."""
        ...


Message = TypeVar("Message", bound=Versioned)


@dataclass(frozen=True, slots=True)
class Layout(Generic[Message]):
    """One kind of message.

    Attributes:
        message: its generated class.
        version: that is written, and the only one that is read.
        otherwise: what helps when a message is of another version.
    """

    message: type[Message]
    version: int
    otherwise: str

    @property
    def name(self) -> str:
        """As the schema calls it."""
        return self.message.__name__

    def parse(self, value: bytes) -> Message:
        """The message of a record or an object.

        Raises:
            UndecodableBatch: not such a message, or of a version that this release does not read.
        """
        try:
            found = self.message.FromString(value)
        except DecodeError as error:
            article = "an" if self.name[0] in "AEIOU" else "a"
            raise UndecodableBatch(f"not {article} {self.name}: {error}") from error
        if found.version != self.version:
            raise UndecodableBatch(
                f"{self.name} version {found.version}; this reader knows {self.version}: {self.otherwise}"
            )
        return found


_REDRIVE = "upgrade the stage, then redrive"
TRADE_BATCH: Final = Layout(TradeBatch, 1, _REDRIVE)
FRAME_BATCH: Final = Layout(FrameBatch, 1, _REDRIVE)
PRICE_BATCH: Final = Layout(PriceBatch, 1, _REDRIVE)
DEAD_LETTER: Final = Layout(DeadLetter, 1, "upgrade what reads it")
ARCHIVE_SEGMENT: Final = Layout(ArchiveSegment, 1, "upgrade what reads it")
PNL_SNAPSHOT: Final = Layout(PnlSnapshot, 1, "run the release that wrote it")
LAYOUTS: Final = (TRADE_BATCH, FRAME_BATCH, PRICE_BATCH, DEAD_LETTER, ARCHIVE_SEGMENT, PNL_SNAPSHOT)
"""All of them."""
