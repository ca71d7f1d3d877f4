"""Bounds on times and rates; a value beyond them is more likely a typo than intended."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

LONGEST_LIFE_DAYS = 365
SLOWEST, FASTEST = 0.001, 10_000
"""Jobs per second: one in a quarter of an hour, and the highest limit that the settings take."""
_START = re.compile(r"(?:(\d{4}-\d\d-\d\d)[ T])?(\d{1,2}):(\d\d)")


def life_s(seconds: float) -> float:
    """Return the seconds after which a code is of no use.

    Raises:
        ValueError: they make no sense; the message belongs after the option's name.
    """
    if not 0 < seconds <= LONGEST_LIFE_DAYS * 86_400:  # false for NaN, too
        raise ValueError(f"must be more than 0 seconds, and {LONGEST_LIFE_DAYS} days at most")
    return seconds


def start_ms(text: str, now_ms: int) -> int:
    """Read when to start, "10:00" or "2026-11-27 10:00" on this machine's wall clock, in Unix ms.

    A time without a day is the next one after `now_ms`.

    Raises:
        ValueError: as for `life_s`.
    """
    now = datetime.fromtimestamp(now_ms / 1000)
    found = _START.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a time such as 10:00, or 2026-11-27 10:00")
    try:
        day = datetime.fromisoformat(found[1]) if found[1] else now
        start = day.replace(hour=int(found[2]), minute=int(found[3]), second=0, microsecond=0)
    except ValueError:
        raise ValueError("there is no such day or time") from None
    if start <= now:
        if found[1]:
            raise ValueError("that time is past")
        start += timedelta(days=1)
    return start_at_ms(start, now_ms)


def start_at_ms(start: datetime, now_ms: int) -> int:
    """Return when to start in Unix ms.

    Raises:
        ValueError: as for `life_s`.
    """
    in_ms = round(start.timestamp() * 1000)
    if in_ms <= now_ms:
        raise ValueError("that time is past")
    if in_ms - now_ms > LONGEST_LIFE_DAYS * 86_400_000:
        raise ValueError(f"must be within {LONGEST_LIFE_DAYS} days")
    return in_ms


def rate(per_second: float) -> float:
    """Return jobs per second at most.

    Raises:
        ValueError: as for `life_s`.
    """
    if not SLOWEST <= per_second <= FASTEST:
        raise ValueError(f"must be {SLOWEST} to {FASTEST:,} jobs per second")
    return per_second
