"""One data record of a sheet, and the plain form in which the readers of each format give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jobs.phone import Fault, PhoneNumber
from producer.sheet.problem import Problem


class Record(NamedTuple):
    """What a format's reader gives: cells, not yet understood."""

    line: int
    """Physical line, or row of the workbook, where the record begins; 1-based."""
    cells: list[str]
    numeric: int = 0
    """Bit n is set if cell n is a number in the file, not text: its leading zeros are lost."""
    fault: Fault | None = None
    """Why the record cannot be understood at all."""
    hidden: bool = False
    """A person hid this row, or filtered it away."""
    uncalculated: int = 0
    """Bit n is set if cell n is a formula of which the file does not hold the value."""


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """One customer: a number that can be sent to, or a problem. Never both, never neither."""

    number: int
    """1-based ordinal among the data records; the job's row. Empty lines do not count."""
    line: int
    """Physical line, or row of the workbook, where the record begins; 1-based."""
    cells: list[str]
    """The customer's own values as in the file, one per column of the header; more if the record
    has more. Encodable as UTF-8 and free of NUL."""
    phone: PhoneNumber | None
    problem: Problem | None = None
    """Why nothing can be sent for this row."""
    warnings: tuple[Problem, ...] = ()
    """Doubts; the row can be sent all the same."""
    repaired: tuple[Problem, ...] = ()
    """What was repaired to get the number; each leaves no doubt."""

    def __repr__(self) -> str:
        told = self.problem.code if self.problem is not None else repr(self.phone)
        return f"<Row {self.number} at {self.line}: {told}>"
