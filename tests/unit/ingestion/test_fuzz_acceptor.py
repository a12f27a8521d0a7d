"""A round of `make fuzz-fix`."""

from __future__ import annotations

import pytest
from fuzz import acceptor


@pytest.mark.timeout(120)
def test_hostile_streams_trouble_nobody_else_and_every_byte_is_kept_once() -> None:
    ran = acceptor.run(seconds=0, seed=20261129)
    assert (ran.rounds, ran.connections) == (1, acceptor.CONNECTIONS)
    assert ran.trades > acceptor.FILLS
    assert ran.letters > 0
