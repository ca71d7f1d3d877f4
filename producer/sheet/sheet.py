"""Any real input file as a stream of rows: what a person calls "the spreadsheet".

Its digest, which becomes a batch's id, covers what the file says, not how it is written down. A
spreadsheet program that opens a file and saves it writes other bytes: a byte order mark, other line
ends, another separator, other quotation marks, another encoding, a workbook in place of CSV. The
customers are the same, so it must be the same batch. What counts are the names of the columns; the
cells, with a person's corrections, in the order of the rows, because a job is named after its row's
place; and whatever makes a different row of the same cells. So two files with the same digest have
the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, BinaryIO

from jobs.phone import NO_PHONE_NUM, Fault
from producer.sheet.columns import Columns, Header, NamedColumns, find_header
from producer.sheet.encoding import find_encoding
from producer.sheet.leaving import NOTHING, Leaving
from producer.sheet.number import NumberReader
from producer.sheet.row import FAULTS, Note, Record, Row, SheetError, of_file, shown
from producer.sheet.source import (
    ZIP_MARK,
    Source,
    most_unpacked,
    open_source,
    refuse_other_files,
    too_big,
)
from producer.sheet.text import DelimitedText, JsonLines, choose_delimiter, is_json_lines
from producer.sheet.workbook import Worksheet

Corrections = Mapping[int, Mapping[int, str]]
"""By a record's line and the index of its cell: the text that stands in its place."""

_DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_UNCLEAR = frozenset({"no_header", "no_phone_column", "ambiguous_columns", "no_such_column"})
MAX_ROW_BYTES = 1 << 17
"""Of a row's cells together: one full cell of a spreadsheet, in Chinese, has 96 KiB."""
_ALWAYS_ALLOWED_BYTES = 32 << 20
"""Of rows, for any file, however small. A workbook stores once a text that a thousand rows share;
each row of a batch has its own."""
_BESIDE_CELLS, _BESIDE_ROW = 3, 64
"""Bytes that a cell, and a row, take besides their text while they wait to be sent."""


class Sheet:
    """An opened input file. Each iteration yields the same rows.

    Attributes:
        name: The file's name without its folder, or "standard input".
        named_encoding: The text's encoding, by Python's name, if a person named another one than
            was detected: then the digest does not show which cells were read. Else None.
        delimiter: Of delimited text; else ",", for results are CSV.
        header: The names of the customer's columns, as in the file.
        columns: Which of them hold the number.
        asked: The columns that a person named.
        notes: What a person should know about how the file was read.
        unit: What `Row.line` counts: "line", or "row" of a workbook.
        worksheet: Of a workbook: the sheet that is read; else "".
        worksheets: Of a workbook: all its sheets.
    """

    def __init__(
        self,
        source: Source,
        encoding: str | None = None,
        sheet: str | None = None,
        asked: NamedColumns = NamedColumns(),  # noqa: B008 (frozen)
        corrections: Corrections | None = None,
        leaving: Leaving = NOTHING,
    ) -> None:
        self._source = source
        self._corrections = corrections or {}
        self._leaving = leaving
        self.name = source.name
        self.asked = asked
        self._digest: str | None = None
        self.named_encoding: str | None = None
        self.delimiter = ","
        self.worksheet = ""
        self.worksheets: list[str] = []
        is_workbook = source.head.startswith(ZIP_MARK)
        self.unit = "row" if is_workbook else "line"
        notes: list[Note] = []
        with of_file(self.name, self.unit):
            self._reader = (
                self._open_workbook(sheet, notes)
                if is_workbook
                else self._open_text(encoding, sheet, notes)
            )
            try:
                header = self._find_header(asked)
                self._named_columns = self._describe_named_columns(header.columns)
                _check_size(header.names, 0)
            except BaseException:
                self._close_reader()
                raise
        self.header: tuple[str, ...] = header.names
        self.columns: Columns = header.columns
        self._records_above = header.records_above
        self.notes = (*notes, *self.columns.notes)
        self._numbers = NumberReader(self.columns)
        self._is_delimited = isinstance(self._reader, DelimitedText)
        if isinstance(self._reader, DelimitedText):
            self._reader.is_good_row = self._is_good_row

    def __enter__(self) -> Sheet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._close_reader()
        self._source.close()

    @property
    def digest(self) -> str:
        """SHA-256 in hex of the content. The same content is the same batch.

        The first complete iteration computes it, or a pass of its own if it is needed before that.
        Naming an encoding does not change it: else a person who names another one, because names
        look wrong, would send everything again. It is the digest of what is read where none is
        named, or of the bytes if nothing can be read then.

        Raises:
            SheetError: `file_changed`, `damaged_workbook` or `broken_quotes`.
        """
        if self.named_encoding is not None:
            self._digest = self._digest or self._digest_as_found()
        elif self._digest is None:
            for _ in self._records():
                pass
        return self._digest or ""

    @property
    def fraction_read(self) -> float:
        """How far the latest iteration is, 0 to 1, for a progress bar."""
        return self._reader.fraction

    def __iter__(self) -> Iterator[Row]:
        """Iterate over every data record that is not blank, as rows, in order.

        Raises:
            SheetError: `file_changed`, `damaged_workbook` or `broken_quotes`, with the line.
        """
        rows = (self._row(number, record) for number, record in enumerate(self._records(), 1))
        return self._leaving.applied(rows) if self._leaving else rows

    def _records(self) -> Iterator[Record]:
        """Yield the records below the header; refuse a file that changes meanwhile."""
        records = self._bounded(islice(self._reader, self._records_above + 1, None))
        is_new = self._digest is None and self.named_encoding is None
        is_named = isinstance(self._reader, JsonLines)
        content = ContentDigest(self.header, named=is_named) if is_new else None
        if content is not None and self._named_columns:
            content.add((), self._named_columns)
        if content is not None and self._leaving:
            content.add((), f"left out {self._leaving.name}")
        width = len(self.header)
        with of_file(self.name, self.unit):
            try:
                for record in records:
                    if record.line in self._corrections:
                        record = self._corrected(record)  # noqa: PLW2901 (it takes its place)
                    _, cells, numeric, fault, _, uncalculated = record
                    if uncalculated and self._is_blank(record):
                        continue
                    if content is not None:
                        if numeric or fault is not None or len(cells) > width:
                            content.add(cells, self._distinction(record))
                        else:
                            content.add(cells)
                    yield record
            except UnicodeDecodeError as exc:  # the whole file was valid when it was opened
                self._source.check_unchanged()
                raise SheetError(
                    "bad_bytes", "the text cannot be read", "save the file again"
                ) from exc
            self._source.check_unchanged()
            if content is not None:
                self._digest = content.hexdigest()

    def _corrected(self, record: Record) -> Record:
        """Return a record with the texts that a person put into its cells."""
        cells, numeric, uncalculated = list(record.cells), record.numeric, record.uncalculated
        for index, text in self._corrections[record.line].items():
            cells.extend([""] * (index + 1 - len(cells)))
            cells[index] = text
            numeric &= ~(1 << index)
            uncalculated &= ~(1 << index)
        return record._replace(cells=cells, numeric=numeric, uncalculated=uncalculated)

    def _bounded(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records; refuse one that is too big, and more than the file may hold."""
        beside = _BESIDE_ROW + _BESIDE_CELLS * len(self.header)
        most = most_unpacked(self._source.packed_bytes, _ALWAYS_ALLOWED_BYTES)
        taken = 0
        for record in records:
            taken += _check_size(record.cells, record.line) + beside
            if taken > most:
                raise too_big(most)
            yield record

    def _distinction(self, record: Record) -> str:
        """Return what distinguishes a record from one with the same cells; "" if nothing does."""
        cells = record.cells
        width = len(self.header)
        if record.fault is not None:
            return record.fault.code
        if len(cells) > width and self._is_delimited and any(cells[width:]):
            return "too_many_cells"
        may_be_read = (self.columns.number, *self.columns.others)
        if any(record.numeric >> i & 1 for i in may_be_read) and not self._reads_alike(record):
            return "numeric"
        return ""

    def _describe_named_columns(self, columns: Columns) -> str:
        """Return the columns that a person named if others would have been found; else ""."""
        if self.asked == NamedColumns():
            return ""
        with suppress(SheetError):
            found = self._find_header(NamedColumns()).columns
            if replace(found, notes=()) == replace(columns, notes=()):
                return ""
        return f"columns {columns.number} {columns.country}"

    def _reads_alike(self, record: Record) -> bool:
        """Return whether the number would be the same if its cell were text."""
        cells = [*record.cells, *[""] * (len(self.header) - len(record.cells))]
        as_text = self._numbers.read(cells).phone
        if as_text is not None and as_text.phone_num == cells[self.columns.number]:
            return True  # no zero was lost that is restored where a cell is a number
        return as_text == self._numbers.read(cells, record.numeric).phone

    def _is_good_row(self, cells: list[str]) -> bool:
        return len(cells) == len(self.header) and self._numbers.read(cells).fault is None

    def _digest_as_found(self) -> str:
        try:
            return Sheet(
                self._source,
                asked=self.asked,
                corrections=self._corrections,
                leaving=self._leaving,
            ).digest
        except SheetError:
            return self._source.digest_of_bytes()

    def _row(self, number: int, record: Record) -> Row:
        line, cells, numeric, fault, hidden, uncalculated = record
        doubt = None
        if len(cells) != len(self.header) and fault is None:
            fault, doubt = self._fit(cells)
        if fault is not None:
            return Row(number, line, cells, None, fault)
        reading = self._numbers.read(cells, numeric)
        if reading.fault is not None:
            fault = reading.fault
            if uncalculated and self._is_missing(fault, uncalculated):
                fault = FAULTS["not_calculated"]
            return Row(number, line, cells, None, fault)
        doubts = reading.warnings
        if doubt is not None:
            doubts += (doubt,)
        if hidden:
            doubts += (FAULTS["hidden_row"],)
        return Row(number, line, cells, reading.phone, None, doubts, reading.repaired)

    def _fit(self, cells: list[str]) -> tuple[Fault | None, Fault | None]:
        """Fit a record to the columns in place; return a fault, or else a doubt, about it."""
        width = len(self.header)
        missing = width - len(cells)
        if missing > 0:
            cells.extend([""] * missing)
            return None, FAULTS["short_row"] if self._is_delimited else None
        if any(cells[width:]):
            return FAULTS["too_many_cells"] if self._is_delimited else None, None
        del cells[width:]
        return None, None

    def _is_blank(self, record: Record) -> bool:
        """Return whether a row holds nothing but formulas, as rows prepared for later do."""
        return (
            not record.uncalculated >> self.columns.number & 1 and not "".join(record.cells).strip()
        )

    def _is_missing(self, fault: Fault, uncalculated: int) -> bool:
        """Return whether a fault only means that a cell's formula was not calculated."""
        column = {
            NO_PHONE_NUM.code: self.columns.number,
            "no_country_code": self.columns.country,
        }.get(fault.code)
        return column is not None and bool(uncalculated >> column & 1)

    def _open_workbook(self, asked: str | None, notes: list[Note]) -> Worksheet:
        reader = Worksheet(self._source, asked)
        notes += reader.notes
        self.worksheet, self.worksheets = reader.entry.name, reader.names
        return reader

    def _open_text(
        self, asked: str | None, sheet: str | None, notes: list[Note]
    ) -> DelimitedText | JsonLines:
        if sheet is not None:
            raise SheetError(
                "no_such_sheet",
                f'this is no workbook, so it has no sheet "{shown(sheet)}"',
                "name no sheet",
                choices=("sheet",),
            )
        source = self._source
        refuse_other_files(source)
        codec, note = find_encoding(source, asked)
        if asked is not None:
            found = None
            with suppress(SheetError):
                found, _ = find_encoding(source)
            self.named_encoding = codec if codec != found else None
        if note is not None:
            notes.append(note)
        if source.nul_count and codec.startswith(("utf-8", "gb", "cp")):
            count = source.nul_count
            text = f"the file holds {count} NUL bytes; those around text were left out"
            notes.append(Note(text, "nul_bytes", (("count", str(count)),)))
        if is_json_lines(source, codec):
            return JsonLines(source, codec)
        self.delimiter = choose_delimiter(source, codec)
        if self.delimiter != ",":
            name = _DELIMITER_NAMES.get(self.delimiter, f'"{self.delimiter}"')
            values = (("separator", self.delimiter.replace("\t", "Tab")),)
            notes.append(Note(f"the cells are separated by {name}", "separator", values))
        return DelimitedText(source, codec, self.delimiter)

    def _find_header(self, asked: NamedColumns) -> Header:
        try:
            return find_header(self._reader, self.unit, asked)
        except SheetError as error:
            if isinstance(self._reader, Worksheet) and error.code in _UNCLEAR:
                raise self._reader.with_sheet_hint(error) from None
            raise

    def _close_reader(self) -> None:
        if isinstance(self._reader, Worksheet):
            self._reader.close()


def open_sheet(  # noqa: PLR0913 (each is a choice of its own)
    path: str | Path,
    *,
    stdin: BinaryIO | None = None,
    upload: IO[bytes] | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
    phone_column: str | None = None,
    country_column: str | None = None,
    corrections: Corrections | None = None,
    leaving: Leaving = NOTHING,
) -> Sheet:
    """Open an input file: CSV and its relatives, .xlsx or JSON Lines, also packed as .gz.

    It reads the whole file once, for its encoding, before it returns.

    Args:
        path: The file, or "-" for standard input.
        stdin: The bytes to read for "-".
        upload: A temporary file that holds what `path` names; closed with the sheet.
        encoding: The text's encoding, if a person knows better than what is detected.
        sheet: Name of the worksheet; else the first visible one with rows.
        phone_column: Name of the number's column; else it is found.
        country_column: Name of the country's column; else it is found.
        corrections: What a person put into cells below the header; the file keeps its own.
        leaving: Which rows a person leaves out.

    Raises:
        SheetError: It cannot be read as a sheet. A file's content raises no other error.
    """
    source = open_source(path, stdin, upload)
    try:
        asked = NamedColumns(phone_column, country_column)
        return Sheet(source, encoding, sheet, asked, corrections, leaving)
    except BaseException:
        source.close()
        raise


def _check_size(cells: Sequence[str], line: int) -> int:
    """Return the size of a row's cells in bytes; raise `row_too_big` beyond `MAX_ROW_BYTES`."""
    text = "".join(cells)
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_ROW_BYTES:
        raise SheetError(
            "row_too_big",
            f"the cells hold more than {MAX_ROW_BYTES >> 10} KiB of text together",
            "shorten them, or take out the columns that are not needed",
            line,
        )
    return size


_CELL_END = "\0"  # no cell holds a NUL
_ROW_END = b"\xff"  # and no UTF-8 this byte


class ContentDigest:
    """SHA-256 of a header and of the records below it, which are added one after another."""

    def __init__(self, header: Sequence[str], *, named: bool = False) -> None:
        """Begin with the header; where cells are `named` in the file, columns have no order."""
        self._sha = hashlib.sha256()
        self._update = self._sha.update
        self._order = sorted(range(len(header)), key=header.__getitem__) if named else None
        self.add(header)

    def add(self, cells: Sequence[str], distinction: str = "") -> None:
        """Add a record's cells, and what distinguishes it from another one with the same cells.

        Empty cells at its end do not count, as programs add and drop them; nor do the kinds of line
        ends within a text.
        """
        order = self._order
        if order is not None and len(cells) == len(order):
            cells = [cells[index] for index in order]
        text = _CELL_END.join(cells).rstrip(_CELL_END)
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if distinction:
            text += f"{_CELL_END}{_CELL_END}{distinction}{_CELL_END}"
        self._update(text.encode() + _ROW_END)

    def hexdigest(self) -> str:
        return self._sha.hexdigest()
