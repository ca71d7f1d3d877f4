"""Counts of a file's rows, in one pass over them; memory does not grow with their number.

Numbers that stand in it more than once are found by a temporary database on disk. It holds hashes
that mean nothing outside this process, and vanishes when it is closed. With 64 bits, the chance
that two of a million numbers share a hash is 1 in 30 million.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from jobs.job import EVENT
from jobs.ledger import NumberHistory
from jobs.phone import Fault, PhoneNumber
from producer.second_codes import NO_HISTORY
from producer.sheet import Row
from producer.sheet.leaving import scratch_database

LINES_KEPT = 20
"""Lines named for each kind; the file of invalid rows has all of them."""
MOST_KINDS = 50
"""Kinds that are distinguished; all others are counted as one."""

_LINES_SHOWN_OF_MANY = 5
_OTHERS = Fault("others", "of other kinds", "correct what is named, then check the file again")


@dataclass(slots=True)
class Places:
    """How many rows have something in common, and where the first of them are."""

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
        lines = ", ".join(str(line) for line in shown)
        if self.count > len(shown):
            return f"{unit}s {lines} and {self.count - len(shown):,} more"
        return f"{unit}{'s' if self.count > 1 else ''} {lines}"


@dataclass(slots=True)
class Waiting(Places):
    """Rows for whose number a code waits elsewhere already."""

    batches: Counter[str] = field(default_factory=Counter)
    """How many wait in which batch, or as `EVENT`."""

    def add_in(self, batch_id: str, line: int) -> None:
        self.add(line)
        self.batches[batch_id] += 1

    def as_dict(self) -> dict[str, Any]:
        batches = {each: n for each, n in self.batches.items() if each != EVENT}
        return {**Places.as_dict(self), "batches": batches, "events": self.batches[EVENT]}

    def where(self, unit: str) -> str:
        """Return the lines, and where their numbers wait: "lines 3, 7; 2 in batch may"."""
        shown = self.batches.most_common(_LINES_SHOWN_OF_MANY)
        places = [
            f"{n:,} {'by events' if each == EVENT else f'in batch {each}'}" for each, n in shown
        ]
        if len(self.batches) > len(shown):
            places.append("others elsewhere")
        return "; ".join((Places.where(self, unit), ", ".join(places)))


Faults = dict[Fault, Places]
"""The rows of each fault, doubt or repair.

One code may be several of them: it has other messages for country code 86 than for 7.
"""


def ranked(faults: Faults) -> list[tuple[Fault, Places]]:
    """Return the faults with their rows, the most frequent first."""
    return sorted(faults.items(), key=lambda each: -each[1].count)


def _ranked_dicts(faults: Faults) -> list[dict[str, Any]]:
    return [
        {
            "code": fault.code,
            "message": fault.message,
            "remedy": fault.remedy,
            **places.as_dict(),
        }
        for fault, places in ranked(faults)
    ]


@dataclass(slots=True)
class Tally:
    """Counts rows, what is wrong, doubtful or repaired in them, and what their numbers got before.

    Without the ledger no number seems to have got a code, or to wait for one.
    """

    rows: int = 0
    valid: int = 0
    rejected: Faults = field(default_factory=dict)
    doubts: Faults = field(default_factory=dict)
    doubtful: int = 0
    """Rows to be sent that have any doubt."""
    repairs: Faults = field(default_factory=dict)
    repaired: Places = field(default_factory=Places)
    """Rows that had any repair."""
    sent_before: Places = field(default_factory=Places)
    """Rows to be sent though their number got a code before."""
    waiting: Waiting = field(default_factory=Waiting)
    """Rows to be sent though a code for their number waits elsewhere."""
    in_interval: Places = field(default_factory=Places)
    """Rows whose number cannot get a second code just now."""

    @property
    def invalid(self) -> int:
        return self.rows - self.valid

    def count(self, row: Row, history: NumberHistory = NO_HISTORY) -> None:
        self.rows += 1
        if row.problem is not None:
            _note(self.rejected, row.problem, row.line)
            return
        self.valid += 1
        self.doubtful += bool(row.warnings)
        for doubt in row.warnings:
            _note(self.doubts, doubt, row.line)
        if row.repaired:
            self.repaired.add(row.line)
        for repair in row.repaired:
            _note(self.repairs, repair, row.line)
        if history.codes:
            self.sent_before.add(row.line)
        if history.waits_in:
            self.waiting.add_in(history.waits_in, row.line)
        if history.is_closed:
            self.in_interval.add(row.line)

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "valid": self.valid,
            "invalid": self.invalid,
            "invalid_by_reason": _ranked_dicts(self.rejected),
            "doubts": _ranked_dicts(self.doubts),
            "repairs": _ranked_dicts(self.repairs),
            "sent_before": self.sent_before.as_dict(),
            "waiting_elsewhere": self.waiting.as_dict(),
        }


def _note(faults: Faults, fault: Fault, line: int) -> None:
    if fault not in faults and len(faults) >= MOST_KINDS:
        fault = _OTHERS
    faults.setdefault(fault, Places()).add(line)


EXAMPLES_KEPT = 20


@dataclass(frozen=True, slots=True)
class Doubles:
    """Numbers that more than one row of a file has."""

    numbers: int
    rows: int
    """Rows beyond the first of each such number."""
    examples: tuple[Places, ...]
    """The rows of each such number, for the first ones in the file."""


class NumberUse:
    """Finds numbers that stand in a file more than once, or get too many codes."""

    def __init__(self) -> None:
        self._db = scratch_database("used (number INTEGER, line INTEGER, before INTEGER)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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

    def repeated(self) -> Iterator[int]:
        """Yield the lines of all rows whose number another row has, too, in order."""
        groups = "SELECT number FROM used GROUP BY 1 HAVING count(*) > 1"
        lines = f"SELECT line FROM used WHERE number IN ({groups}) ORDER BY line"  # noqa: S608 (constant)
        for (line,) in self._db.execute(lines):
            yield line

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
