"""What a sheet is read into: rows, and what can be wrong with one or with the whole file.

Messages name no option and no button. What a person may choose instead is a value, `Choice`; the
command line or the page says how.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Final, Literal, NamedTuple

from jobs.phone import Fault, PhoneNumber

Choice = Literal["phone_column", "country_column", "sheet", "encoding", "overwrite", "format"]
"""What a person may choose: a column, a workbook's sheet, a text's encoding; for a file to write,
to replace what is there, or its format."""

_SHOWN_CHARS = 60


def shown(name: str, most: int = _SHOWN_CHARS) -> str:
    """Return a name on one line, of bounded length, with nothing that moves a cursor."""
    plain = "".join(c if c.isprintable() else " " for c in name).strip()
    return plain if len(plain) <= most else plain[: most - 1] + "…"


FAULTS: Final = {
    code: Fault(code, **texts)
    for code, texts in tomllib.loads(
        (files(__package__) / "faults.toml").read_text("utf-8")
    ).items()
}
"""What can be wrong with a cell, a row or a file; the words are in faults.toml."""


class Note(NamedTuple):
    """What a person should know about how a file was read; one sentence without a full stop."""

    text: str
    code: str
    """Its name, by which another language has other words."""
    values: tuple[tuple[str, str], ...] = ()
    """What stands in the sentence, by name: of columns, of sheets."""
    choice: Choice | None = None
    """What they may choose instead."""


class SheetError(Exception):
    """The file cannot be read as a sheet of customers at all; exit code 2 at the command line.

    Its text is one line for people: file, line where there is one, reason and remedy. The file
    is named by whoever opened it (`of_file`).
    """

    def __init__(
        self,
        code: str,
        message: str,
        remedy: str,
        line: int = 0,
        choices: tuple[Choice, ...] = (),
        names: Mapping[Choice, Sequence[str]] | None = None,
        file: str = "",
    ) -> None:
        super().__init__(code, message, remedy, line, choices, names)
        self.code = code
        self.file = file
        self.line = line
        """1-based; 0 if the whole file is meant."""
        self.unit = "line"
        """What `line` counts: "line", or "row" of a workbook."""
        self.message = message
        self.remedy = remedy
        self.choices = choices
        """What the person may choose to get on."""
        self.names = dict(names or {})
        """The names that there are to choose from: of columns, of a workbook's sheets."""

    def __str__(self) -> str:
        where = f"{self.file}, {self.unit} {self.line}" if self.line else self.file
        return f"{where}: {self.message}; {self.remedy}"


@contextmanager
def of_file(name: str, unit: str = "line") -> Iterator[None]:
    """Add a file's name, and what its lines are called, to an error that is raised within."""
    try:
        yield
    except SheetError as error:
        if not error.file:
            error.file, error.unit = name, unit
        raise


_SAVE_THE_LIST = (
    "open the list in the program that it comes from, such as Excel, save it as .xlsx or as CSV "
    "UTF-8, and take that file"
)


def not_a_sheet(kind: str, remedy: str = _SAVE_THE_LIST) -> SheetError:
    """Return the error for a file of another kind."""
    return SheetError("not_a_sheet", f"this is {kind}", remedy)


class Record(NamedTuple):
    """The cells that a format's reader returns, not yet interpreted."""

    line: int
    """Physical line, or row of the workbook, where the record begins; 1-based."""
    cells: list[str]
    numeric: int = 0
    """Bit n is set if cell n is a number in the file, not text: its leading zeros are lost."""
    fault: Fault | None = None
    """Why the record cannot be read at all."""
    hidden: bool = False
    """Hidden or filtered away by a person."""
    uncalculated: int = 0
    """Bit n is set if cell n is a formula whose value the file does not hold."""


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
    problem: Fault | None = None
    """Why nothing can be sent for this row."""
    warnings: tuple[Fault, ...] = ()
    """Doubts; the row can be sent all the same."""
    repaired: tuple[Fault, ...] = ()
    """What was repaired to get the number; each leaves no doubt."""

    def kept_back(self, problem: Fault) -> Row:
        """Return the row as one that is not sent."""
        return replace(self, phone=None, problem=problem, warnings=(), repaired=())

    def __repr__(self) -> str:
        result = self.problem.code if self.problem is not None else repr(self.phone)
        return f"<Row {self.number} at {self.line}: {result}>"
