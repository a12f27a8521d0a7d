from collections.abc import Iterable

from eod_workers.trades.model import Trade

class TradeColumns:
    partitions: int
    rows: int
    frame_bytes: int
    apart: tuple[bytes, ...]
    def __init__(self, partitions: int, apart: Iterable[str] = ...) -> None: ...
    def add(self, trade: Trade) -> None: ...
    def drain(self) -> list[tuple[int, int, bytes]]: ...
