"""What can be wrong with a file, and what with one of its rows."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.phone import Fault

_SHOWN_CHARS = 60


def shown(name: str, most: int = _SHOWN_CHARS) -> str:
    """A name out of a file or folder, on one line, bounded, with nothing that moves a cursor."""
    plain = "".join(c if c.isprintable() else " " for c in name).strip()
    return plain if len(plain) <= most else plain[: most - 1] + "…"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about one row: why it is refused, what is doubtful, or what was repaired."""

    code: str
    """Its name for programs, as `scientific`."""
    message: str
    """One sentence without a full stop; never a full number."""
    remedy: str
    file: str
    line: int
    unit: str = "line"
    """What `line` counts: "line", or "row" of a workbook."""

    @classmethod
    def of(cls, fault: Fault, file: str, line: int, unit: str) -> Problem:
        return cls(fault.code, fault.message, fault.remedy, file, line, unit)

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.line}: {self.message}; {self.remedy}"


class SheetError(Exception):
    """The file cannot be read as a sheet of customers at all; exit code 2 at the command line.

    Its text is one line for people: file, line where there is one, reason and remedy.
    """

    def __init__(
        self, code: str, file: str, message: str, remedy: str, line: int = 0, unit: str = "line"
    ) -> None:
        super().__init__(code, file, message, remedy, line, unit)
        self.code = code
        self.file = file
        self.line = line
        """1-based; 0 if the whole file is meant."""
        self.unit = unit
        """What `line` counts: "line", or "row" of a workbook."""
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.file}, {self.unit} {self.line}" if self.line else self.file
        return f"{where}: {self.message}; {self.remedy}"


def not_a_sheet(
    file: str, kind: str, remedy: str = "save it as .xlsx or as CSV UTF-8"
) -> SheetError:
    """The error of a file that is of another kind, named for what it is."""
    return SheetError("not_a_sheet", file, f"this is {kind}", remedy)
