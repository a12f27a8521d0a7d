"""Records that their topic deleted before the regulatory stage had read them: noted beside the rows, for review.

Such an exception is of no trade: nobody knows which trades were in them. Its session is empty, its day 0, and in place
of an ExecID it says where the records were.
"""

from __future__ import annotations

from eod_workers.ports import ExceptionRow, TopicPartition, place

FIELD = "records"
"""Of the exceptions that note it."""


def gone(source: TopicPartition, first: int, end: int) -> ExceptionRow:
    """The exception about the records with first ≤ offset < end."""
    detail = (
        f"{end - first} records were deleted from the log (retention.ms, retention.bytes) before they had been read: "
        "their trades have no rows here. The archive may have them, and their counterparties do"
    )
    return ExceptionRow("", 0, f"{place(source, first)}-{end - 1}", FIELD, str(end - first), detail)
