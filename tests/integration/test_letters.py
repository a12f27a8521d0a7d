"""What the list of dead letters takes of a real Redis, beside the positions."""

from __future__ import annotations

import json
from contextlib import closing

import redis
from eod_workers.dead_letters.index import line_of
from eod_workers.letters import fix_letter
from eod_workers.ports import Record
from eod_workers.protos.dead_letter_pb2 import REASON_VALIDATION
from support.fix_messages import report
from testbed.redis import Redis

LISTED = 1_700
"""About what a partition of twelve lists of 20,000."""
_BYTES = 450
"""Of a usual letter; the settings say "some 400"."""


def test_a_letter_is_listed_in_some_four_hundred_bytes(redis_server: Redis, unique: str) -> None:
    lines = {}
    for number in range(LISTED):
        letter = fix_letter(
            report(number, f"X{number}"),
            REASON_VALIDATION,
            "LastPx(31)='12,5' is not a decimal number",
            session=f"BROKER{number % 50}->EOD",
            epoch=3,
            msg_seq_num=number,
            received_at_ns=1_796_022_627_638_000_000 + number,
        )
        record = Record("trades.dlq", 3, number, None, b"", 1_796_022_627_638)
        lines[letter.id] = json.dumps(line_of(letter, record))
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        client.hset(unique, mapping=lines)
        used = client.memory_usage(unique, samples=0)
    assert used is not None
    assert _BYTES / 2 < used / LISTED < _BYTES
