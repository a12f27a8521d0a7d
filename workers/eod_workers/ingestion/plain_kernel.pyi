from eod_workers.trades.columns_kernel import TradeColumns
from eod_workers.trades.dates import TradeDates

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
    dates: TradeDates,
    accuracy_ns: int = ...,
    currency: bytes = ...,
) -> tuple[int, int]: ...
