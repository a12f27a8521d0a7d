"""What ingestion can be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eod_workers.fix.frames import MAX_FRAME_BYTES
from eod_workers.fix.rules import MAX_ACCURACY_S
from eod_workers.ingestion.terms import TimeOfDay, Zone
from eod_workers.runtime.variables import NameSet, ReferenceSettings
from eod_workers.trades.contracts import CURRENCY, HOUSE, Contracts
from eod_workers.trades.dates import NEW_YORK
from eod_workers.trades.reference import load_reference

Currency = Annotated[str, Field(pattern="^" + CURRENCY.pattern.replace(r"\Z", "$"))]
"""As in ISO 4217."""


class IngestionSettings(ReferenceSettings):
    """Where it listens, to whom, and how long it collects."""

    fix_host: str = Field("127.0.0.1", description="Where the FIX acceptor listens; in a container all addresses.")
    fix_port: int = Field(9876, ge=0, le=65_535, description="Its port; 0 takes a free one.")
    fix_comp_id: str = Field("EOD", description="Our CompID.")
    fix_counterparties: NameSet = Field(frozenset(), description="Comma-separated SenderCompIDs that may log on.")
    fix_admit_anybody: bool = Field(
        False,
        description="Admit who is named neither there nor in a sessions file: for demos and tests.",
    )
    fix_tls_cert_file: str = Field(
        "", description="Our certificate for FIX, with those between it and its authority, as PEM; empty: no TLS."
    )
    fix_tls_key_file: str = Field("", description="Its private key, as PEM.")
    fix_tls_ca_file: str = Field(
        "", description="Authorities of the counterparties' certificates, as PEM; with it they must show one."
    )
    fix_trader_tag: int | None = Field(
        None, ge=1, description="Field that names the trader, before the parties: 50, 109 or one of your own."
    )
    fix_messages_per_s: float | None = Field(
        None, gt=0, description="What a session may send in a second; beyond that it is read no faster."
    )
    fix_max_message_bytes: int = Field(
        65_536,
        ge=65_536,
        le=MAX_FRAME_BYTES,
        description="Longest FIX message; a longer one is rejected, takes its number and becomes a dead letter.",
    )
    fix_max_connections: int = Field(
        1_000,
        ge=10,
        description="FIX connections at a time; beyond it those that have not logged on make room.",
    )
    fix_sending_time_within_s: int = Field(
        86_400,
        ge=0,
        le=MAX_ACCURACY_S,
        description="How far SendingTime(52) may be from our clock; FIX calls 120 reasonable, 0 does not look at it.",
    )
    fix_zone: Zone = Field(
        NEW_YORK,
        description="Time zone of trading days: of a trade that names none in TradeDate(75), and of EOD_FIX_RESET.",
    )
    fix_reset: TimeOfDay = Field(
        None, description="HH:MM when sessions begin their numbers at 1 again, every day; empty: when they ask for it."
    )
    fix_sessions_file: str = Field(
        "",
        description="YAML file of the sessions that may log on, with terms (docs/fix.md); read again when it changes.",
    )
    fix_trade_captures: bool = Field(
        True,
        description="Whether TradeCaptureReport(AE) is booked; else it is refused as an unsupported message.",
    )
    fix_currency: Currency = Field(
        HOUSE, description="Currency of a trade that names none in Currency(15), and for which reference data has none."
    )
    linger_ms: float = Field(4.0, ge=0, le=100, description="How long trades are collected for a record.")

    def contracts(self) -> Contracts:
        """What is known of the money of instruments.

        Raises:
            ValueError: the reference data cannot be read, or is wrong.
        """
        return Contracts(
            self.fix_currency, load_reference(self.reference_file).contracts if self.reference_file else {}
        )
