"""Where each exchange is, so that a date means a day there: exchange_calendars knows too, but loads pandas to say it.

A test compares this table with exchange_calendars, so an upgrade that adds an exchange or moves one is noticed.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from eod_operator.scaling.calendar import UnknownExchangeError, unknown_exchange

ZONES = {
    "24/5": "UTC",
    "24/7": "UTC",
    "AIXK": "Asia/Almaty",
    "ARCX": "America/New_York",
    "ASEX": "Europe/Athens",
    "ASX": "Australia/Sydney",
    "BATS": "America/New_York",
    "BMF": "America/Sao_Paulo",
    "BSE": "Asia/Kolkata",
    "BVB": "Europe/Bucharest",
    "BVMF": "America/Sao_Paulo",
    "CBOT": "America/Chicago",
    "CFE": "America/Chicago",
    "CME": "America/Chicago",
    "CMES": "America/Chicago",
    "COMEX": "America/Chicago",
    "FWB": "Europe/Berlin",
    "HKEX": "Asia/Hong_Kong",
    "ICE": "America/New_York",
    "ICEUS": "America/New_York",
    "IEPA": "America/New_York",
    "JKT": "Asia/Jakarta",
    "JPX": "Asia/Tokyo",
    "LSE": "Europe/London",
    "LUXSE": "Europe/Luxembourg",
    "NASDAQ": "America/New_York",
    "NYFE": "America/New_York",
    "NYMEX": "America/Chicago",
    "NYSE": "America/New_York",
    "OOTC": "America/New_York",
    "OSE": "Europe/Oslo",
    "SIX": "Europe/Zurich",
    "SSE": "Asia/Shanghai",
    "TASE": "Asia/Tel_Aviv",
    "TSX": "America/Toronto",
    "XAMS": "Europe/Amsterdam",
    "XASE": "America/New_York",
    "XASX": "Australia/Sydney",
    "XBDA": "Atlantic/Bermuda",
    "XBEL": "Europe/Belgrade",
    "XBKK": "Asia/Bangkok",
    "XBOG": "America/New_York",
    "XBOM": "Asia/Kolkata",
    "XBRA": "Europe/Bratislava",
    "XBRU": "Europe/Brussels",
    "XBSE": "Europe/Bucharest",
    "XBUD": "Europe/Budapest",
    "XBUE": "America/Argentina/Buenos_Aires",
    "XCBF": "America/Chicago",
    "XCSE": "Europe/Copenhagen",
    "XCYS": "Asia/Nicosia",
    "XDUB": "Europe/Dublin",
    "XDUS": "Europe/Brussels",
    "XEEE": "Europe/Berlin",
    "XETR": "Europe/Berlin",
    "XEUR": "Europe/Berlin",
    "XFRA": "Europe/Berlin",
    "XHAM": "Europe/Brussels",
    "XHEL": "Europe/Helsinki",
    "XHKG": "Asia/Hong_Kong",
    "XICE": "Atlantic/Reykjavik",
    "XIDX": "Asia/Jakarta",
    "XIST": "Europe/Istanbul",
    "XJSE": "Africa/Johannesburg",
    "XKAR": "Asia/Karachi",
    "XKLS": "Asia/Kuala_Lumpur",
    "XKRX": "Asia/Seoul",
    "XLIM": "America/Lima",
    "XLIS": "Europe/Lisbon",
    "XLIT": "Europe/Vilnius",
    "XLJU": "Europe/Ljubljana",
    "XLON": "Europe/London",
    "XLUX": "Europe/Luxembourg",
    "XMAD": "Europe/Madrid",
    "XMEX": "America/Mexico_City",
    "XMIL": "Europe/Rome",
    "XMOS": "Europe/Moscow",
    "XNAS": "America/New_York",
    "XNYS": "America/New_York",
    "XNZE": "Pacific/Auckland",
    "XOSL": "Europe/Oslo",
    "XPAR": "Europe/Paris",
    "XPHS": "Asia/Manila",
    "XPRA": "Europe/Prague",
    "XRIS": "Europe/Riga",
    "XSAU": "Asia/Riyadh",
    "XSES": "Asia/Singapore",
    "XSGO": "America/Santiago",
    "XSHG": "Asia/Shanghai",
    "XSTO": "Europe/Stockholm",
    "XSTU": "Europe/Berlin",
    "XSWX": "Europe/Zurich",
    "XTAE": "Asia/Tel_Aviv",
    "XTAI": "Asia/Taipei",
    "XTAL": "Europe/Tallinn",
    "XTKS": "Asia/Tokyo",
    "XTSE": "America/Toronto",
    "XTSX": "America/Toronto",
    "XWAR": "Europe/Warsaw",
    "XWBO": "Europe/Vienna",
    "XZAG": "Europe/Zagreb",
    "us_futures": "America/New_York",
}
"""IANA names, by ISO 10383 code and by the common names that stand for them."""


def zone_of(code: str) -> ZoneInfo:
    """The time zone of an exchange.

    Raises:
        UnknownExchangeError: the code is not known.
    """
    if code not in ZONES:
        raise UnknownExchangeError(unknown_exchange(code, ZONES))
    return ZoneInfo(ZONES[code])
