"""A person's reasons are kept in stories, which may go into a ticket: without phone numbers."""

from __future__ import annotations

import re

_SHOWN_DIGITS = 2
_NUMBER = re.compile(r"\+?\d(?:[\s\-\u2010-\u2015\u2212().\[\]/]{0,3}\d){6,}")
"""Seven digits or more, with what people write between them. A long ticket number is one, too."""
_DATE = re.compile(r"(?:19|20)\d\d-[01]\d-[0-3]\d")


def without_numbers(text: str) -> str:
    """Mask whatever may be a phone number, as "******88"; a date such as 2026-11-23 stays."""
    return _NUMBER.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    number = found[0]
    return number if _DATE.fullmatch(number) else f"******{number[-_SHOWN_DIGITS:]}"
