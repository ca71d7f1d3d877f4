"""The rows of a file that a person should look at before it is sent, a few hundred at most.

They are shown by what they have in common: a problem, a doubt, a number that several rows have, or
that the person left them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from jobs.phone import Fault
from producer.customers import naming_columns
from producer.second_codes import KEPT_BACK
from producer.sheet import FAULTS, Leaving, Row, Sheet
from producer.tally import Doubles

MOST = 500
"""Rows kept, of each kind."""
_REPORT_ROWS = 2_000


class Review:
    """Collects these rows while the file is read."""

    def __init__(self, sheet: Sheet, leaving: Leaving) -> None:
        self._sheet, self._leaving = sheet, leaving
        self._wrong: list[Row] = []
        self._doubtful: dict[int, Row] = {}
        self._left_out: list[Row] = []
        self._doubles: list[list[Row]] = []
        self._doubled: set[int] = set()
        self._values: dict[str, dict[str, str]] = {}

    def add(self, row: Row) -> None:
        """Add a row that cannot be sent, was left out, or is doubtful, if there is place for it."""
        problem, width = row.problem, len(self._sheet.header)
        for each in (problem, *row.warnings):
            if each is not None and each.values and len(self._values) < MOST:
                self._values[each.message] = dict(each.values)
        if problem is None:
            if len(self._doubtful) < MOST:
                self._doubtful[row.line] = row
        elif row.line in self._leaving.lines and problem.code == "left_out":
            if len(self._left_out) < MOST:
                self._left_out.append(row)
        elif problem.code not in KEPT_BACK and len(row.cells) == width:  # noqa: SIM102 (as above)
            if len(self._wrong) < MOST:
                self._wrong.append(row)

    def add_doubles(self, doubles: Doubles, report: Callable[[int], None]) -> None:
        """Add the rows of numbers that several rows have: the file is read up to the last of them.

        `report` is called from time to time, with the number of rows so far.
        """
        wanted = {line for same in doubles.examples for line in same.lines}
        found: dict[int, Row] = {}
        for row in self._sheet if wanted else ():
            if row.line in wanted:
                found[row.line] = row
                if len(found) == len(wanted):
                    break
            if row.number % _REPORT_ROWS == 0:
                report(row.number)
        self._doubled = set(found)
        self._doubles = [[found[line] for line in same.lines] for same in doubles.examples]

    def as_dict(self, naming: Sequence[int]) -> dict[str, Any]:
        """Return the groups, and the rows in their order, each with the group's place.

        Rows have the cells that are shown: those `naming` the customer, the number and the
        country; the others are empty. `values`: the values in a problem's message, by message.
        """
        groups: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        shown = {*naming, self._sheet.columns.number, self._sheet.columns.country}
        width = len(self._sheet.header)

        def add(kind: str, problem: Fault, members: Sequence[Row]) -> None:
            groups.append({"kind": kind, **asdict(problem)})
            for row in members:
                also = [each for each in row.warnings if each != problem]
                cells = row.cells[:width]
                rows.append(
                    {
                        "group": len(groups) - 1,
                        "line": row.line,
                        "cells": [cell if i in shown else "" for i, cell in enumerate(cells)],
                        "also": [asdict(each) for each in also],
                        "is_editable": kind != "left_out",
                    }
                )

        for problem, members in _by_problem(self._wrong):
            add("wrong", problem, members)
        doubtful = [row for row in self._doubtful.values() if row.line not in self._doubled]
        for problem, members in _by_problem(doubtful):
            add("doubt", problem, members)
        for same in self._doubles:
            add("double", FAULTS["repeated"], same)
        if self._left_out:
            add("left_out", FAULTS["left_out"], self._left_out)
        return {"groups": groups, "review": rows, "values": self._values}


def naming_of(sheet: Sheet) -> list[int]:
    """Return the columns that say who a customer is."""
    columns = sheet.columns
    return naming_columns(sheet.header, {columns.number, columns.country, *columns.others})


def _by_problem(rows: Sequence[Row]) -> list[tuple[Fault, list[Row]]]:
    """Return rows by problem, or first doubt; the most frequent one first."""
    found: dict[Fault, list[Row]] = {}
    for row in rows:
        found.setdefault(row.problem or row.warnings[0], []).append(row)
    return sorted(found.items(), key=lambda each: -len(each[1]))
