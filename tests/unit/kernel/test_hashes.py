"""The kernel's sums are those of the pure code, for every length and every byte."""

from __future__ import annotations

import pytest
from eod_workers import kernel
from eod_workers.fix import frames
from eod_workers.trades import partitioner
from hypothesis import given
from hypothesis import strategies as st

if not kernel.available():
    pytest.skip(f"the kernel is not used: {kernel.why_not()}", allow_module_level=True)

from eod_workers.kernel import hashes

some_bytes = st.binary(max_size=70) | st.integers(0, 3_000).map(lambda size: bytes(255 for _ in range(size)))


@given(data=some_bytes)
def test_the_checksum_is_that_of_the_pure_code(data: bytes) -> None:
    assert hashes.checksum(data) == frames.checksum(data)


@given(data=some_bytes)
def test_murmur2_is_that_of_the_pure_code(data: bytes) -> None:
    assert hashes.murmur2(data) == partitioner.murmur2(data)
