"""What the rows of a file are, counted while they are read once; memory does not grow with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from producer.sheet import Problem, Row

LINES_KEPT = 20
"""Lines named for each finding; the file of invalid rows has all of them."""


@dataclass(slots=True)
class Finding:
    """One kind of fault, doubt or repair: how often, where, and what to do."""

    code: str
    message: str
    """Of the first such row."""
    remedy: str
    unit: str
    count: int = 0
    lines: list[int] = field(default_factory=list)
    """The first `LINES_KEPT` of them."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "count": self.count,
            "message": self.message,
            "remedy": self.remedy,
            "lines": self.lines,
        }

    @property
    def where(self) -> str:
        """The lines in words: "lines 3, 7 and 9", "lines 3, 7, 9 … and 40 more"."""
        shown = self.lines if self.count <= LINES_KEPT else self.lines[:5]
        told = ", ".join(str(line) for line in shown)
        if self.count > len(shown):
            return f"{self.unit}s {told} and {self.count - len(shown):,} more"
        return f"{self.unit}{'s' if self.count > 1 else ''} {told}"


class Tally:
    """Counts rows; `rejected`, `doubts` and `repairs` are by code."""

    def __init__(self) -> None:
        self.rows = 0
        self.valid = 0
        self.rejected: dict[str, Finding] = {}
        self.doubts: dict[str, Finding] = {}
        self.repairs: dict[str, Finding] = {}

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


def _note(findings: dict[str, Finding], problem: Problem) -> None:
    found = findings.get(problem.code)
    if found is None:
        found = Finding(problem.code, problem.message, problem.remedy, problem.unit)
        findings[problem.code] = found
    found.count += 1
    if len(found.lines) < LINES_KEPT:
        found.lines.append(problem.line)


def _dicts(findings: dict[str, Finding]) -> list[dict[str, Any]]:
    ranked = sorted(findings.values(), key=lambda finding: -finding.count)
    return [finding.as_dict() for finding in ranked]
