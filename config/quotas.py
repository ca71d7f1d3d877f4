"""Bounds on spending as written in the settings: "5/10m,10/d", "watch:50/10m", "off"."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPANS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LIMIT = re.compile(r"(\d{1,9})/(\d{0,4})([smhd])")
LONGEST_S = 31 * 86_400


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` codes in any span; others are refused, or only counted if `is_watched`."""

    count: int
    span_s: int
    is_watched: bool

    def __str__(self) -> str:
        unit = next(u for u in "dhms" if self.span_s % _SPANS[u] == 0)
        many = self.span_s // _SPANS[unit]
        return f"{'watch:' * self.is_watched}{self.count}/{many if many > 1 else ''}{unit}"


def read_limits(text: str) -> tuple[Limit, ...]:
    """Return the limits of one rule; none for "off".

    Raises:
        ValueError: the text is wrong; the message belongs after the setting's name.
    """
    watched = text.startswith("watch:")
    if text == "off":
        return ()
    limits = []
    for part in text.removeprefix("watch:").split(","):
        found = _LIMIT.fullmatch(part.strip())
        if found is None:
            raise ValueError('must be "off", or counts per span such as 5/10m,10/d (s, m, h, d)')
        span_s = int(found[2] or 1) * _SPANS[found[3]]
        if not (int(found[1]) and 0 < span_s <= LONGEST_S):
            raise ValueError("must have counts of at least 1, and spans of 31 days at most")
        limits.append(Limit(int(found[1]), span_s, watched))
    return tuple(limits)
