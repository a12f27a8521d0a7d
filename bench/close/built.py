"""The peers' programs, looked up once: finding out whether they are built reads all of their sources."""

from __future__ import annotations

from functools import cache

from testbed.peers import Peers


@cache
def built() -> Peers:
    """Ready to run, built first if need be."""
    return Peers(Peers.fetch())
