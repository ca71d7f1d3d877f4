"""Writing sheets that Excel opens correctly by a double click, and that this package reads again.

CSV is UTF-8 with a byte order mark (without it Excel assumes an old code page), CR LF, and commas,
or semicolons where the customer's file has them: an Excel that exports them expects them. Tabs and
vertical bars would not become columns in a .csv. `plain` CSV, for programs, has neither mark nor
shields (see `shielded`).

.xlsx takes little code here: every cell is a text, so nothing is a formula and no zero is lost;
only times in columns of ours are dates. Rows are written as they come, so a million take no memory,
and a pipe will do. XlsxWriter needs temporary files for that; use it once sheets are to have more
formats.
"""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias
from unicodedata import east_asian_width

from producer.sheet.row import SheetError, shown

ENCODING = "utf-8-sig"

FORMS = ("csv", "plain", "xlsx")
"""What a person may choose: for spreadsheet programs, for programs, a workbook."""
_ENCODINGS = {"csv": ENCODING, "plain": "utf-8", "xlsx": None}
_PORTION_BYTES = 1 << 16

Cell: TypeAlias = str | datetime
"""Of a column of ours; a time is written in its own time zone, without naming it."""

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
"""What a person may choose, by name."""


def separator_for(own: str, asked: str | None = None) -> str:
    """Return the separator that was asked for by name, or that fits the customer's own.

    Raises:
        ValueError: there is none of that name; the message lists what there is.
    """
    if asked is None:
        return own if own == ";" else ","
    if asked not in SEPARATORS:
        raise ValueError(f"must be one of {', '.join(SEPARATORS)}")
    return SEPARATORS[asked]


class SheetWriter:
    """Writes the customer's columns in their order, then columns of ours.

    Columns of the same names at the header's end, as in a results file that was corrected and
    submitted again, are replaced, not repeated.
    """

    def __init__(
        self,
        stream: IO[Any],
        header: Sequence[str],
        ours: Sequence[str],
        delimiter: str = ",",
        form: str = "csv",
        show: Callable[[str], str] = str,
        *,
        kept: int | None = None,
        title: str = "",
    ) -> None:
        """Write the header.

        Args:
            stream: Opened with newline="", as by `written_file`; binary for a workbook.
            header: The customer's columns.
            ours: The columns to add.
            delimiter: Between cells, from `separator_for`.
            form: One of `FORMS`.
            show: Escapes each cell for a terminal.
            kept: How many columns of the header are the customer's own, if other columns of ours
                stand behind them.
            title: Of a workbook's sheet.
        """
        self._book = _Book(stream, title) if form == "xlsx" else None
        text = csv.writer(stream, delimiter=delimiter, lineterminator="\r\n")
        self._write_row = text.writerow if self._book is None else self._book.write
        self._shield = shielded if form == "csv" else str
        self._show = show
        self._read = len(header)
        if kept is None:
            repeated = bool(ours) and tuple(header[-len(ours) :]) == tuple(ours)
            kept = self._read - len(ours) if repeated else self._read
        self._kept = kept
        self._ours = len(ours)
        self._put([*header[: self._kept], *ours])

    def write(self, cells: Sequence[str], ours: Sequence[Cell]) -> None:
        """Write a row.

        Args:
            cells: As read, from `Row.cells`. Cells beyond the header's follow after our columns.
            ours: A cell for each of our columns.

        Raises:
            ValueError: `ours` has more or fewer cells.
        """
        if len(ours) != self._ours:
            raise ValueError(f"{len(ours)} cells for {self._ours} columns")
        own = [*cells[: self._kept], *[""] * (self._kept - len(cells))]
        self._put([*own, *ours, *cells[self._read :]])

    def close(self) -> None:
        """Write the end of a workbook."""
        if self._book is not None:
            self._book.close()

    def _put(self, cells: Sequence[Cell]) -> None:
        self._write_row([self._shown(cell) for cell in cells])

    def _shown(self, cell: Cell) -> Cell:
        if isinstance(cell, datetime):
            return cell if self._book is not None else f"{cell:%Y-%m-%d %H:%M:%S}"
        return self._show(self._shield(cell))


class _Book:
    """A workbook of one sheet of texts and dates, written row by row below a header.

    The first rows wait until the columns' widths are known from them.
    """

    def __init__(self, stream: IO[bytes], title: str) -> None:
        self._zip = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED)
        for name, content in _parts().items():
            if name == _SHEET:
                self._begins, _, self._ends = content.partition("{rows}")
                continue
            if name == _WORKBOOK:
                content = content.format(title=escape(_sheet_name(title)))  # noqa: PLW2901
            self._zip.writestr(name, _XML + content)
        self._sheet = self._zip.open(_SHEET, "w", force_zip64=True)
        self._first: list[Sequence[Cell]] | None = []
        self._row = self._columns = 0

    def write(self, cells: Sequence[Cell]) -> None:
        if self._first is None:
            self._put(cells)
            return
        self._first.append(cells)
        if len(self._first) >= _ROWS_FOR_WIDTHS:
            self._begin(self._first)

    def _begin(self, first: list[Sequence[Cell]]) -> None:
        self._first = None
        self._columns = len(first[0]) if first else 0
        widths = [
            max(_width_of(cells[column]) for cells in first if column < len(cells))
            for column in range(self._columns)
        ]
        columns = "".join(
            f'<col min="{n}" max="{n}" width="{width}" customWidth="1"/>'
            for n, width in enumerate(widths, 1)
        )
        begins = self._begins.format(columns=f"<cols>{columns}</cols>" if columns else "")
        self._sheet.write((_XML + begins).encode())
        for cells in first:
            self._put(cells)

    def _put(self, cells: Sequence[Cell]) -> None:
        self._row += 1
        if self._row > _MOST_ROWS or len(cells) > _MOST_COLUMNS:
            raise _too_big(f"more than {_MOST_ROWS:,} rows or {_MOST_COLUMNS:,} columns")
        texts = "".join(
            f'<c r="{_letters(column)}{self._row}"{_content(cell, is_bold=self._row == 1)}</c>'
            for column, cell in enumerate(cells)
            if cell
        )
        self._sheet.write(f'<row r="{self._row}">{texts}</row>'.encode())

    def close(self) -> None:
        try:
            if self._first is not None:
                self._begin(self._first)
            last = _letters(max(0, self._columns - 1))
            filtered = f'<autoFilter ref="A1:{last}{max(1, self._row)}"/>'
            self._sheet.write(self._ends.format(filter=filtered).encode())
        finally:
            self._sheet.close()
            self._zip.close()


_MOST_ROWS, _MOST_COLUMNS, _MOST_CHARS = 1_048_576, 16_384, 32_767  # of Excel
_ROWS_FOR_WIDTHS = 100
_NARROWEST, _WIDEST = 8, 60
_WIDTH_OF_A_TIME = 20
"""Anything narrower is shown as ####."""
_WORKBOOK, _SHEET = "xl/workbook.xml", "xl/worksheets/sheet1.xml"
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


@cache
def _parts() -> dict[str, str]:
    """Return the parts of workbook.toml by their names in the file."""
    parts = tomllib.loads((files(__package__) / "workbook.toml").read_text("utf-8"))
    return {name: re.sub(r"\n\s*", "", xml) for name, xml in parts.items()}


_NOT_XML = re.compile("[\0-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


_EXCEL_DAY_0 = datetime(1899, 12, 30)
_DAY_S = 86_400
_NOT_IN_A_SHEET_NAME = re.compile(r"[\[\]:*?/\\]")
_LONGEST_SHEET_NAME = 31


def _sheet_name(title: str) -> str:
    name = _NOT_XML.sub(" ", _NOT_IN_A_SHEET_NAME.sub(" ", title))[:_LONGEST_SHEET_NAME]
    return name.strip(" '") or "Sheet1"


def _width_of(cell: Cell) -> int:
    """Return how wide a cell is, in digits; a Chinese character is as wide as two."""
    if isinstance(cell, datetime):
        return _WIDTH_OF_A_TIME
    text = cell[:_WIDEST]
    wide = sum(east_asian_width(char) in "WF" for char in text)
    return min(_WIDEST, max(_NARROWEST, len(text) + wide + 2))


def _content(cell: Cell, *, is_bold: bool) -> str:
    """Return the rest of a cell's element, up to its end."""
    if isinstance(cell, datetime):
        days = (cell.replace(tzinfo=None) - _EXCEL_DAY_0).total_seconds() / _DAY_S
        return f' s="1"><v>{days:.8f}</v>'
    style = ' s="2"' if is_bold else ""
    return f'{style} t="inlineStr"><is><t xml:space="preserve">{_xml_text(cell)}</t></is>'


@cache
def _letters(column: int) -> str:
    """Return a column as Excel names it: A to Z, then AA."""
    before, last = divmod(column, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def _xml_text(cell: str) -> str:
    """Return a text as a workbook holds it; what XML cannot hold becomes _x001B_."""
    if len(cell) > _MOST_CHARS:
        raise _too_big(f"a cell of more than {_MOST_CHARS:,} characters")
    return escape(_NOT_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", cell))


def _too_big(what: str) -> SheetError:
    return SheetError(
        "too_big",
        f"it would have {what}",
        "write CSV",
        choices=("format",),
        file="the workbook",
    )


@contextmanager
def written_sheet(  # noqa: PLR0913 (what a sheet is made of, each by its name)
    path: str | Path,
    header: Sequence[str],
    ours: Sequence[str],
    *,
    stdout: BinaryIO | None = None,
    overwrite: bool = False,
    delimiter: str = ",",
    form: str = "csv",
    show: Callable[[str], str] = str,
    kept: int | None = None,
) -> Iterator[SheetWriter]:
    """Open a file as `written_file` does, and a `SheetWriter` for it."""
    with written_file(path, stdout, overwrite=overwrite, encoding=_ENCODINGS[form]) as stream:
        writer = SheetWriter(stream, header, ours, delimiter, form, show, kept=kept)
        try:
            yield writer
        except BaseException:
            with suppress(Exception):  # the file is discarded; the first error counts
                writer.close()
            raise
        writer.close()


class _Portion(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)

    def take(self) -> bytes:
        taken, self.data = self.data, bytearray()
        return bytes(taken)


def streamed_sheet(
    header: Sequence[str],
    ours: Sequence[str],
    rows: Iterable[tuple[Sequence[str], Sequence[Cell]]],
    delimiter: str = ",",
    form: str = "csv",
    *,
    kept: int | None = None,
    title: str = "",
) -> Iterator[bytes]:
    """Yield what `written_sheet` would write, in portions: a sheet of any size takes little memory.

    Each row comes as the customer's cells and ours.
    """
    portion = _Portion()
    encoding = _ENCODINGS[form]
    stream: Any = portion
    if encoding is not None:
        stream = io.TextIOWrapper(portion, encoding, newline="", write_through=True)
    writer = SheetWriter(stream, header, ours, delimiter, form, kept=kept, title=title)
    yield portion.take()
    for cells, own in rows:
        writer.write(cells, own)
        if len(portion.data) >= _PORTION_BYTES:
            yield portion.take()
    writer.close()
    stream.flush()
    yield portion.take()


@contextmanager
def written_file(
    path: str | Path,
    stdout: BinaryIO | None = None,
    *,
    overwrite: bool = False,
    encoding: str | None = ENCODING,
) -> Iterator[IO[Any]]:
    """Open a file for a `SheetWriter`; it appears, whole, when the block ends without an error.

    Only its owner can read it, as it holds full numbers. "-" is standard output. A file that exists
    may be the customer's own, or hold hours of corrections. Without an encoding the file takes
    bytes.

    Raises:
        SheetError: `not_writable`; `exists`, unless it is to be overwritten.
    """
    with _opened(path, stdout, overwrite=overwrite) as file:
        if encoding is None:
            yield file
            return
        text = io.TextIOWrapper(file, encoding, newline="")
        try:
            yield text
        finally:
            text.flush()
            text.detach()


@contextmanager
def _opened(path: str | Path, stdout: BinaryIO | None, *, overwrite: bool) -> Iterator[BinaryIO]:
    if str(path) == "-":
        if stdout is None:
            raise SheetError("not_writable", "there is no standard output", "name a file", file="-")
        yield stdout
        stdout.flush()
        return
    target = Path(path)
    if os.path.exists(target) and not target.is_file():  # a device or a pipe
        try:
            with target.open("wb") as file:
                yield file
        except OSError as exc:
            raise _not_writable(target, exc) from exc
        return
    if not overwrite and os.path.lexists(target):
        raise SheetError(
            "exists",
            "the file exists already",
            "name another one, or let it be replaced",
            choices=("overwrite",),
            file=shown(target.name),
        )
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except (OSError, ValueError) as exc:
        raise _not_writable(target, exc) from exc
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException as exc:
        with suppress(OSError):
            Path(name).unlink()
        if isinstance(exc, OSError):
            raise _not_writable(target, exc) from exc
        raise


def _not_writable(target: Path, error: Exception) -> SheetError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
    return SheetError(
        "not_writable",
        f"the file cannot be written ({reason})",
        "check folder, permissions and free space",
        file=shown(target.name),
    )


_STARTERS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four: their full-width forms
_RISKY = re.compile(f"'*(?:[\t\r\n]|\\s*[{_STARTERS}])")
_SHIELDED = re.compile(f"'+(?:[\t\r\n]|\\s*[{_STARTERS}])")
_NEGATIVE = re.compile(r"-\d{1,10}(?:[.,]\d{1,10})?")
_DAMAGED_NUMBER = re.compile(
    r"0\d+"  # a zero in front
    r"|\d{11,}"  # shown as 1.89E+10, and beyond 15 digits cut
    r"|\+\d[\d ().\-]*"  # a plus in front
    r"|\d+(?:\.\d+)?[eE][+\-]?\d+"  # what looks like an exponent, and may be an id
)
_WITHIN = re.compile(f"([,;\t|\r\n][\\s\"]*)('*[{_STARTERS}])")
_SHIELDED_WITHIN = re.compile(f"([,;\t|\r\n][\\s\"]*)'('*[{_STARTERS}])")
_TEXT_FORMULA = re.compile(r'="([^"]*)"')


def shielded(cell: str) -> str:
    """Return a cell that is safe in a CSV file that a person opens in a spreadsheet program.

    Otherwise a cell such as =HYPERLINK(…) would run as a formula, with a stranger's text in it; and
    a number would lose what arithmetic does not need: 0701 becomes 701, +85251234567 loses its
    plus, 18888888888 is shown, and saved, as 1.89E+10, and the id 1E5 as 100000.

    So there are two shields, which the reader of this package takes away again:

    - `'=SUM(A1)`: an apostrophe before anything that may start a formula. The spreadsheet shows it,
      a person understands it, no program runs it. It is the usual advice (OWASP, "CSV Injection").
    - `="0701"`: a formula that is nothing but a text, for digits only. It is the one form that
      Excel, WPS and Google Sheets show as 0701 exactly: an apostrophe or a tab would become part of
      the value, and a look-up of the number in the customer's own list would silently fail. Nothing
      can be injected: between the quotation marks are only digits, "+-().", "E" and spaces.

    Excel may separate cells at another character than the file does, and then sees a formula within
    a cell: `x;=cmd` in a file with commas. So the apostrophe also goes before what follows a
    separator. A plain negative number (-12.5) stays: it is a number in every program.
    """
    if _DAMAGED_NUMBER.fullmatch(cell):
        return f'="{cell}"'
    if _NEGATIVE.fullmatch(cell):
        return cell
    within = _WITHIN.sub(r"\1'\2", cell)
    return "'" + within if _RISKY.match(cell) else within


def unshielded(cell: str) -> str:
    """Return a cell without its shield, whoever put it there."""
    formula = _TEXT_FORMULA.fullmatch(cell)
    if formula is not None:
        return formula[1]
    bare = _SHIELDED_WITHIN.sub(r"\1\2", cell) if "'" in cell else cell
    return bare[1:] if _SHIELDED.match(bare) else bare
