"""Masks what may be a phone number in texts of people and backends: names, references, reasons."""

from __future__ import annotations

import re

MASK = "******"
_SHOWN_DIGITS = 2

_BETWEEN = r"[\s\-\u2010-\u2015\u2212().\[\]/]{0,3}"
"""What people write between digits."""
_NUMBER = re.compile(rf"\+?\d(?:{_BETWEEN}\d){{6,}}")
"""Seven digits or more; so is a long ticket number."""
_INTERNATIONAL = re.compile(rf"\+{_BETWEEN}\d(?:{_BETWEEN}\d){{6,}}")
_DATE = re.compile(r"(?:19|20)\d\d-[01]\d-[0-3]\d")
_DATE_AND_HOUR = re.compile(rf"{_DATE.pattern} [0-2]\d(?=:[0-5]\d)")


def without_numbers(text: str) -> str:
    """Mask whatever may be a phone number, as "******88"; a date stays, with its time."""
    return _NUMBER.sub(_masked, text)


def without_international_numbers(text: str) -> str:
    """Mask numbers with a plus in front, as "******88"; other digits may be the id of an order."""
    return _INTERNATIONAL.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    number = found[0]
    is_time = _DATE_AND_HOUR.match(found.string, found.start())
    if _DATE.fullmatch(number) or (is_time and is_time.end() == found.end()):
        return number
    return f"{MASK}{number[-_SHOWN_DIGITS:]}"
