"""A place in bytes that moves on with each number or text read; everything in TDS after the header is little endian."""

from __future__ import annotations

from tds.packets import Malformed


class Reader:
    """Reads `data` from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def left(self) -> int:
        """How many bytes are not read yet."""
        return len(self._data) - self.at

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            Malformed: there are fewer.
        """
        if size > self.left:
            raise Malformed(f"{size} bytes are wanted at {self.at}, {self.left} are left")
        self.at += size
        return self._data[self.at - size : self.at]

    def u8(self) -> int:
        """A byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Two bytes."""
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        """Four bytes."""
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        """Eight bytes."""
        return int.from_bytes(self.take(8), "little")

    def text(self, characters: int) -> str:
        """So many UTF-16 units."""
        return self.take(2 * characters).decode("utf-16-le")

    def short_text(self) -> str:
        """A text after a byte that says how long it is (B_VARCHAR)."""
        return self.text(self.u8())
