"""One rule's wish for a stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """One rule's wish: its name, the replicas it asks for, and the arithmetic in words."""

    name: str
    replicas: int
    detail: str
