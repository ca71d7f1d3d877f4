"""Rows that a person leaves out before sending: the file keeps them, and the batch says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from producer.sheet.row import FAULTS, Row

_CACHE_KIB = 16_384


def scratch_database(table: str) -> sqlite3.Connection:
    """Return a database with one table, on disk, which SQLite itself deletes when it is closed.

    Any thread may use it, one after another, as they write a download.
    """
    db = sqlite3.connect("", check_same_thread=False)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    db.execute(f"CREATE TABLE {table}")
    return db


@dataclass(frozen=True, slots=True)
class Leaving:
    """Which rows are left out.

    A row that cannot be sent anyway keeps its own problem, unless it is left out by its line.
    """

    lines: frozenset[int] = frozenset()
    doubts: frozenset[str] = frozenset()
    """Messages of doubts: all rows with one of them."""
    repeated: bool = False
    """All rows whose number stands in a row before that is sent."""

    def __bool__(self) -> bool:
        return bool(self.lines or self.doubts or self.repeated)

    @property
    def name(self) -> str:
        """What distinguishes these rows from all others of the same file."""
        return f"{sorted(self.lines)} {sorted(self.doubts)} {self.repeated}"

    def applied(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows, those that are left out with `left_out` as their problem."""
        with closing(scratch_database("numbers (hash INTEGER PRIMARY KEY)")) as db:
            for row in rows:
                by_line = row.line in self.lines
                if by_line or (row.phone is not None and self._leaves(row, row.phone.e164, db)):
                    row = row.kept_back(FAULTS["left_out"])  # noqa: PLW2901 (it takes its place)
                yield row

    def _leaves(self, row: Row, number: str, db: sqlite3.Connection) -> bool:
        if any(each.message in self.doubts for each in row.warnings):
            return True
        if not self.repeated:
            return False
        return not db.execute("INSERT OR IGNORE INTO numbers VALUES (?)", (hash(number),)).rowcount


NOTHING = Leaving()
