"""Numbers that stand in a file more than once, found among any number of rows in little memory.

The rows go to a temporary database on disk, as hashes that mean nothing outside this process; it
vanishes when it is closed. 64 bits tell a million numbers apart but for one chance in 30 million.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Self

from jobs.phone import PhoneNumber
from producer.tally import LINES_KEPT, Places

EXAMPLES_KEPT = 20
_CACHE_KIB = 16_384


@dataclass(frozen=True, slots=True)
class Doubles:
    """What stands in a file more than once."""

    numbers: int
    """Numbers that more than one row has."""
    rows: int
    """Rows beyond the first of each such number."""
    examples: tuple[Places, ...]
    """The rows of each such number, for the first ones in the file."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "numbers": self.numbers,
            "rows": self.rows,
            "examples": [same.as_dict() for same in self.examples],
        }


class NumberUse:
    """Collects which line has which number, and how many codes that number got before."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")  # on disk, deleted by SQLite itself
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE used (number INTEGER, line INTEGER, before INTEGER)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def add(self, phone: PhoneNumber, line: int, before: int) -> None:
        """Note a row; `before` is how many codes its number got before."""
        self._db.execute("INSERT INTO used VALUES (?, ?, ?)", (hash(phone.e164), line, before))

    def doubles(self) -> Doubles:
        groups = (
            "SELECT number, count(*) AS n, min(line) AS first FROM used GROUP BY 1 HAVING n > 1"
        )
        numbers, rows = self._db.execute(
            f"SELECT count(*), coalesce(sum(n - 1), 0) FROM ({groups})"  # noqa: S608 (constant)
        ).fetchone()
        shown = self._db.execute(f"{groups} ORDER BY first LIMIT ?", (EXAMPLES_KEPT,)).fetchall()
        return Doubles(
            numbers, rows, tuple(Places(n, self._lines(number)) for number, n, _ in shown)
        )

    def used_more_than(self, most: int) -> Places:
        """Find numbers with more than `most` codes, this file's included: one line of each."""
        groups = (
            "SELECT min(line) AS first FROM used GROUP BY number HAVING count(*) + max(before) > ?"
        )
        counting = f"SELECT count(*) FROM ({groups})"  # noqa: S608 (constant)
        (count,) = self._db.execute(counting, (most,)).fetchone()
        shown = self._db.execute(f"{groups} ORDER BY first LIMIT ?", (most, LINES_KEPT))
        return Places(count, [line for (line,) in shown])

    def _lines(self, number: int) -> list[int]:
        found = self._db.execute(
            "SELECT line FROM used WHERE number = ? ORDER BY line LIMIT ?", (number, LINES_KEPT)
        )
        return [line for (line,) in found]
