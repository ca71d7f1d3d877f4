"""One worksheet's rows as records, streamed; numbers, dates and texts as a person sees them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from producer.sheet.row import Record, SheetError, shown
from producer.sheet.source import Source
from producer.sheet.workbook import DAMAGE, LocalNames, SheetEntry, Workbook, feed_xml, plain_text

_MOST_COLUMNS = 1000  # a value further right would make each row as wide in memory
_SHEETS_SHOWN = 10
_MOST_ROWS = 1_048_576  # of Excel
_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_LETTERS_BEFORE_A = ord("A") - 1

_TRUE = {"1": "TRUE", "0": "FALSE"}


class Worksheet:
    """The rows of one worksheet that are not blank, from the start at each iteration."""

    def __init__(self, source: Source, asked: str | None = None) -> None:
        """Open the workbook and choose the sheet: the one asked for, or the first that has rows.

        Raises:
            SheetError: `damaged_workbook`, `not_a_sheet`, `no_such_sheet` or `empty`.
        """
        self._book = Workbook(source)
        self._done = 0
        try:
            self.entry = self._choose(asked)
        except BaseException:
            self._book.close()
            raise
        self._size = self._book.part_size(self.entry.part)

    @property
    def others(self) -> list[str]:
        """Names of the sheets that are not read."""
        return [sheet.name for sheet in self._book.sheets if sheet != self.entry]

    @property
    def others_named(self) -> str:
        others = self.others
        more = f" and {len(others) - _SHEETS_SHOWN} more" if len(others) > _SHEETS_SHOWN else ""
        return ", ".join(f'"{shown(other)}"' for other in others[:_SHEETS_SHOWN]) + more

    @property
    def how_to_choose(self) -> str:
        """What to type for another sheet; with its name where there is but one."""
        others = self.others
        if len(others) == 1 and shown(others[0]) == others[0]:
            return f"--sheet {shlex.quote(others[0])} for that one"
        return "--sheet NAME for one of those"

    def perhaps_wrong(self, error: SheetError) -> SheetError:
        """Return an error that says that another sheet may have been meant."""
        return SheetError(
            error.code,
            error.file,
            f'in sheet "{shown(self.entry.name)}", {error.message}',
            f"{error.remedy}; or name another sheet with --sheet: {self.others_named}",
            error.line,
            error.unit,
        )

    @property
    def fraction(self) -> float:
        return min(1.0, self._done / self._size) if self._size else 1.0

    def close(self) -> None:
        self._book.close()

    def __iter__(self) -> Iterator[Record]:
        """Yield all rows that are not blank.

        Raises:
            SheetError: `damaged_workbook`, with the row that was read last.
        """
        return self._rows(self.entry)

    def _rows(self, entry: SheetEntry) -> Iterator[Record]:
        parser = _RowParser(self._book)
        with self._book.open_part(entry.part) as part:
            try:
                for self._done in feed_xml(part, parser.start, parser.end, parser.pieces):
                    yield from parser.rows
                    parser.rows.clear()
                parser.end_row()
                yield from parser.rows
            except (*DAMAGE, LookupError) as exc:
                raise self._book.damaged("in or after this row", parser.row or 1) from exc

    def _choose(self, asked: str | None) -> SheetEntry:
        sheets = self._book.sheets
        if asked is not None:
            for sheet in sheets:
                if sheet.name.casefold() == asked.casefold():
                    return sheet
            names = ", ".join(f'"{shown(sheet.name)}"' for sheet in sheets)
            raise SheetError(
                "no_such_sheet",
                self._book.name,
                "the workbook has no sheet of that name",
                f"name one of {names}",
            )
        for sheet in sheets:
            if sheet.visible and next(self._rows(sheet), None) is not None:
                return sheet
        raise SheetError(
            "empty", self._book.name, "the workbook has no visible sheet with rows", "fill one in"
        )


class _RowParser:
    """Takes the XML of a sheet and gathers its rows."""

    def __init__(self, book: Workbook) -> None:
        self._book = book
        self._texts = book.load_texts().get
        self._styles = book.styles
        self._epoch = datetime(1904, 1, 1) if book.counts_from_1904 else datetime(1899, 12, 30)
        self._names = LocalNames()
        self._columns: dict[str, int] = {}
        self.rows: list[Record] = []
        self.pieces: list[str] = []
        self._kept = 0
        self._ignored = 0
        """Elements open whose text is not the cell's: a phonetic reading, a second value."""
        self.row = 0
        self._continues = False
        self._hidden = False
        self._cells: list[str] = []
        self._numeric = 0
        self._column = -1
        self._type: str | None = None
        self._style: str | None = None
        self._is_formula = False
        self._uncalculated = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        local = self._names[name]
        if local == "c":
            self.pieces.clear()
            self._kept = 0
            self._is_formula = False
            self._type = attributes.get("t")
            self._style = attributes.get("s")
            reference = attributes.get("r")
            column = self._column + 1 if reference is None else self._column_of(reference)
            if self._continues:
                self._continues = False
                if column < len(self._cells):  # a second row of that number after all
                    self.end_row()
            self._column = column
        elif local == "v":
            if self._type != "inlineStr":  # such a cell's value is its <is>, wherever that stands
                self._kept = 0
            del self.pieces[self._kept :]
        elif local == "t":
            del self.pieces[self._kept :]
        elif local == "row":
            self._begin_row(attributes)
        elif local == "f":
            self._is_formula = True
        elif local == "rPh":
            self._ignored += 1
        elif local == "is":
            if self._type == "inlineStr":
                self._kept = 0
            elif self._kept:
                self._ignored += 1

    def end(self, name: str) -> None:
        local = self._names[name]
        if local == "v":
            if not self._kept:
                self._kept = len(self.pieces)
        elif local == "c":
            if self._kept:
                pieces = self.pieces
                self._end_cell(pieces[0] if self._kept == 1 else "".join(pieces[: self._kept]))
            elif self._is_formula and self._type != "str":  # that one's value may be an empty text
                self._put("")
                self._uncalculated |= 1 << self._column
        elif local == "t":
            self._kept = self._kept if self._ignored else len(self.pieces)
        elif local == "rPh" or (local == "is" and self._ignored):
            self._ignored -= 1

    def _begin_row(self, attributes: Mapping[str, str]) -> None:
        """Begin a row, or continue one: some programs write an element for each cell."""
        row = int(attributes.get("r", self.row + 1))
        if not 0 < row <= _MOST_ROWS:
            raise ValueError("a row that no sheet has")
        self._continues = row == self.row
        if not self._continues:
            self.end_row()
            self.row = row
            self._hidden = False
        self._hidden = self._hidden or attributes.get("hidden") in {"1", "true"}

    def end_row(self) -> None:
        """Add the current row, if it is not blank, to those that are ready."""
        cells = self._cells
        if cells and ("".join(cells).strip() or self._uncalculated):
            self.rows.append(
                Record(self.row, cells, self._numeric, None, self._hidden, self._uncalculated)
            )
        self._cells = []
        self._numeric = 0
        self._uncalculated = 0
        self._column = -1

    def _column_of(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        column = self._columns.get(letters)
        if column is None:
            if _REFERENCE.fullmatch(reference.upper()) is None:
                raise ValueError("a cell without a place")
            column = 0
            for letter in letters.upper():
                column = column * 26 + ord(letter) - _LETTERS_BEFORE_A
            column -= 1
            self._columns[letters] = column
        return column

    def _end_cell(self, value: str) -> None:
        kind = self._type
        if kind == "s":
            text = self._texts(int(value))
        elif kind is None or kind == "n":
            text = self._number(value)
        elif kind == "b":
            text = _TRUE.get(value, value)
        elif kind == "d":
            text = value.replace("T00:00:00", "").replace("T", " ")
        else:  # "str" of a formula, "inlineStr", and "e" such as #N/A
            text = plain_text(value)
        self._put(text)

    def _put(self, text: str) -> None:
        cells = self._cells
        if self._column >= _MOST_COLUMNS:
            raise self._book.too_wide(self.row, _MOST_COLUMNS)
        if self._column < len(cells):
            raise ValueError("cells out of order")
        while len(cells) < self._column:
            cells.append("")
        cells.append(text)

    def _number(self, value: str) -> str:
        """Return a number as the cell shows it, never shortened: without ".0" or an exponent."""
        style = self._style
        if style is not None and style in self._styles.dates:
            return self._date(value)
        self._numeric |= 1 << self._column
        if not (value.isdigit() and value.isascii()):
            number = float(value)
            value = str(int(number)) if number.is_integer() else f"{number:.15g}"
        elif len(value) > 1 and value[0] == "0":
            value = value.lstrip("0") or "0"
        if style is not None and style in self._styles.zeros:
            zeros = self._styles.zeros[style]
            if value.isdigit() and len(value) <= zeros:
                self._numeric &= ~(1 << self._column)
                value = value.zfill(zeros)
        if style is not None and style in self._styles.pluses and value.isdigit():
            return self._styles.pluses[style] + value
        return value

    def _date(self, value: str) -> str:
        days = float(value)
        try:
            seconds = round((days % 1) * 86_400)
            if self._style in self._styles.spans:
                minutes, second = divmod(int(days) * 86_400 + seconds, 60)
                return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
            moment = self._epoch + timedelta(days=int(days), seconds=seconds)
        except OverflowError:
            return value
        if days < 1:
            return f"{moment:%H:%M:%S}"
        return f"{moment:%Y-%m-%d}" if seconds == 0 else f"{moment:%Y-%m-%d %H:%M:%S}"
