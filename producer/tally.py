"""What the rows of a file are, counted while they are read once; memory does not grow with them.

Which numbers stand in it more than once is asked of a temporary database on disk. It holds hashes
that mean nothing outside this process, and vanishes when it is closed. 64 bits tell a million
numbers apart but for one chance in 30 million.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from jobs.job import EVENT
from jobs.phone import PhoneNumber
from producer.sheet import Problem, Row

LINES_KEPT = 20
"""Lines named for each kind; the file of invalid rows has all of them."""
MOST_KINDS = 50
"""Kinds told apart, whatever a file has; the others are counted as one."""

_LINES_SHOWN_OF_MANY = 5
_OTHERS = ("others", "of other kinds")


@dataclass(slots=True)
class Places:
    """How many rows something is true of, and the first lines of them."""

    count: int = 0
    lines: list[int] = field(default_factory=list)
    """The first `LINES_KEPT` of them."""

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.lines) < LINES_KEPT:
            self.lines.append(line)

    def as_dict(self) -> dict[str, Any]:
        return {"count": self.count, "lines": self.lines}

    def where(self, unit: str) -> str:
        """Return the lines in words: "lines 3, 7, 9", "lines 3, 7, 9, 12, 15 and 40 more"."""
        shown = self.lines if self.count <= LINES_KEPT else self.lines[:_LINES_SHOWN_OF_MANY]
        told = ", ".join(str(line) for line in shown)
        if self.count > len(shown):
            return f"{unit}s {told} and {self.count - len(shown):,} more"
        return f"{unit}{'s' if self.count > 1 else ''} {told}"


@dataclass(slots=True)
class Waiting(Places):
    """The rows to whose number a code waits elsewhere."""

    batches: Counter[str] = field(default_factory=Counter)
    """How many wait in which batch, or as `EVENT`."""

    def add_in(self, batch_id: str, line: int) -> None:
        self.add(line)
        self.batches[batch_id] += 1

    def as_dict(self) -> dict[str, Any]:
        batches = {each: n for each, n in self.batches.items() if each != EVENT}
        told = {"count": self.count, "lines": self.lines, "batches": batches}
        return {**told, "events": self.batches[EVENT]}

    def where(self, unit: str) -> str:
        """Return the lines, and where their numbers wait: "lines 3, 7; 2 in batch may"."""
        shown = self.batches.most_common(_LINES_SHOWN_OF_MANY)
        told = [
            f"{n:,} {'by events' if each == EVENT else f'in batch {each}'}" for each, n in shown
        ]
        if len(self.batches) > len(shown):
            told.append("others elsewhere")
        return "; ".join((Places.where(self, unit), ", ".join(told)))


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of fault, doubt or repair: how often, where, and what to do.

    A code alone is no kind: what is said of country code 86 would be false of 7.
    """

    code: str
    message: str
    remedy: str
    unit: str
    rows: Places = field(default_factory=Places)

    def as_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "count": self.rows.count,
            "message": self.message,
            "remedy": self.remedy,
            "lines": self.rows.lines,
        }

    @property
    def where(self) -> str:
        return self.rows.where(self.unit)


ProblemKinds = dict[tuple[str, str], ProblemKind]
"""By code and message."""


def ranked(kinds: ProblemKinds) -> list[ProblemKind]:
    """Return them as people want to see them: the most frequent first."""
    return sorted(kinds.values(), key=lambda kind: -kind.rows.count)


class Tally:
    """Counts rows, and what is wrong, doubtful or repaired in them."""

    def __init__(self) -> None:
        self.rows = 0
        self.valid = 0
        self.rejected: ProblemKinds = {}
        self.doubts: ProblemKinds = {}
        self.repairs: ProblemKinds = {}
        self.repaired = Places()
        """Rows that had any repair."""

    @property
    def invalid(self) -> int:
        return self.rows - self.valid

    def count(self, row: Row) -> None:
        self.rows += 1
        if row.problem is not None:
            _note(self.rejected, row.problem)
            return
        self.valid += 1
        for doubt in row.warnings:
            _note(self.doubts, doubt)
        if row.repaired:
            self.repaired.add(row.line)
        for repair in row.repaired:
            _note(self.repairs, repair)

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "valid": self.valid,
            "invalid": self.invalid,
            "invalid_by_reason": _dicts(self.rejected),
            "doubts": _dicts(self.doubts),
            "repairs": _dicts(self.repairs),
        }


def _note(kinds: ProblemKinds, problem: Problem) -> None:
    found = kinds.get((problem.code, problem.message))
    if found is None:
        found = _new_kind(kinds, problem)
    found.rows.add(problem.line)


def _new_kind(kinds: ProblemKinds, problem: Problem) -> ProblemKind:
    if len(kinds) < MOST_KINDS:
        found = ProblemKind(problem.code, problem.message, problem.remedy, problem.unit)
    elif _OTHERS in kinds:
        return kinds[_OTHERS]
    else:
        found = ProblemKind(
            *_OTHERS, "correct what is named, then check the file again", problem.unit
        )
    kinds[found.code, found.message] = found
    return found


def _dicts(kinds: ProblemKinds) -> list[dict[str, Any]]:
    return [kind.as_dict() for kind in ranked(kinds)]


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
