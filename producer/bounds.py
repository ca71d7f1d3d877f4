"""What times and rates make sense; beyond them a slip of the finger is more likely than a wish."""

from __future__ import annotations

LONGEST_LIFE_DAYS = 365
SLOWEST, FASTEST = 0.001, 10_000
"""Jobs per second: one in a quarter of an hour, and the highest limit that the settings take."""


def life_s(seconds: float) -> float:
    """Give back the seconds after which a code is of no use.

    Raises:
        ValueError: they make no sense; the message is to follow the option's name.
    """
    if not 0 < seconds <= LONGEST_LIFE_DAYS * 86_400:  # nor is NaN within
        raise ValueError(f"must be more than 0 seconds, and {LONGEST_LIFE_DAYS} days at most")
    return seconds


def rate(per_second: float) -> float:
    """Give back jobs per second at most.

    Raises:
        ValueError: as for `life_s`.
    """
    if not SLOWEST <= per_second <= FASTEST:
        raise ValueError(f"must be {SLOWEST} to {FASTEST:,} jobs per second")
    return per_second
