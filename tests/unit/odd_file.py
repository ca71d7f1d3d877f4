"""What an odd file is: its bytes, and what must come out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

GOOD = "+85251234567"
GOOD_2 = "+85251234568"
EXAMPLE = "+85218888888888"  # the vendor's


@dataclass(frozen=True)
class OddFile:
    """A file, and how it must be read."""

    name: str
    make: Callable[[], bytes]
    error: str = ""
    """Code of the `SheetError` that opening or reading must end with; "" if it is readable."""
    phones: tuple[str, ...] = ()
    """Numbers that can be sent to, in order."""
    problems: tuple[tuple[int, str], ...] = ()
    """Line and code of each row that is refused, in order."""
    repaired: frozenset[str] = frozenset()
    """Codes of all repairs."""
    warnings: frozenset[str] = frozenset()
    """Codes of all doubts."""


def text_file(name: str, text: str, codec: str = "utf-8", **expected: Any) -> OddFile:
    return OddFile(name, partial(text.encode, codec), **expected)


def byte_file(name: str, content: bytes, **expected: Any) -> OddFile:
    return OddFile(name, partial(bytes, content), **expected)
