from eod_workers.kernel.columns import TradeColumns

def take_plain(
    buffer: bytes,
    position: int,
    columns: TradeColumns,
    *,
    begin_string: bytes,
    sender: bytes,
    target: bytes,
    session: str,
    epoch: int,
    expected: int,
    received_at_ns: int,
) -> tuple[int, int]: ...
