"""Delimited text (CSV and its relatives) as records, whatever state its quotes are in.

Rows are read by the `csv` module. What it would swallow in silence is caught here: a quotation mark
that is opened and never closed makes it take all lines up to the next mark, or to the end of the
file, for one cell. Such a line becomes one bad record, and reading goes on with the line after it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from jobs.phone import Fault
from producer.sheet.columns import HEADER_SOUGHT_IN
from producer.sheet.encoding import Encoding
from producer.sheet.lines import MAX_LINE_CHARS, Lines, RecordTooLongError
from producer.sheet.problem import SheetError
from producer.sheet.row import Record
from producer.sheet.shield import unshielded
from producer.sheet.source import Source

DELIMITERS = (",", ";", "\t", "|")
_MOST_BAD_QUOTES = 1000

_OPEN_QUOTE = Fault(
    "unclosed_quote",
    "a quotation mark is opened here and not closed",
    "close it, or double it if it belongs to the text",
)
_TOO_LONG = Fault(
    "record_too_long",
    f"the row is longer than {MAX_LINE_CHARS >> 10} KiB",
    "shorten it, or look for a missing line break or quotation mark",
)


class DelimitedText:
    """The records of one delimited file, from the start at each iteration."""

    def __init__(self, source: Source, encoding: Encoding, delimiter: str) -> None:
        self._source = source
        self._encoding = encoding
        self.delimiter = delimiter
        self._has_nul = source.survey.nul_count > 0
        self.reads_as_row: Callable[[list[str]], bool] = lambda _: False
        """Whether cells make a good row; set once the header is understood."""
        self._lines: Lines | None = None

    @property
    def fraction(self) -> float:
        return self._lines.fraction if self._lines is not None else 0.0

    def __iter__(self) -> Iterator[Record]:
        """Give all records that are not blank, the header first.

        Raises:
            SheetError: `broken_quotes` if so many quotes are unclosed that no row is certain.
        """
        lines = self._lines = Lines(self._source, self._encoding)
        reader = csv.reader(lines, delimiter=self.delimiter)
        record, bad = lines.record, 0
        while True:
            lines.begin_record()
            fault: Fault | None = None
            try:
                cells = next(reader)
                if len(record) > 1 and self._swallows_rows(record):
                    fault = _OPEN_QUOTE
            except StopIteration:
                if not record:
                    return
                fault = _OPEN_QUOTE
            except (csv.Error, RecordTooLongError):
                fault = _TOO_LONG if len(record) == 1 else _OPEN_QUOTE
            if fault is None and lines.ended_within_record:
                fault = _OPEN_QUOTE
            if fault is not None:
                bad += 1
                if bad > _MOST_BAD_QUOTES:
                    raise _broken_quotes(self._source.name, lines.number - len(record) + 1)
                lines.keep_first_line_only()
                reader = csv.reader(lines, delimiter=self.delimiter)
                cells = record[0].rstrip("\r\n").split(self.delimiter)
            elif ' "' in record[0]:
                cells = self._without_blanks_before_quotes(cells, record)
            if self._may_be_shielded(record):
                cells = [unshielded(cell) for cell in cells]
            if self._has_nul:
                cells = [without_nul(cell) for cell in cells]
            is_blank = fault is None and not "".join(cells).strip()
            if is_blank or (lines.number == 1 and _announced_delimiter(record[0])):
                continue
            yield Record(lines.number - len(record) + 1, cells, fault=fault)

    def _without_blanks_before_quotes(self, cells: list[str], record: Sequence[str]) -> list[str]:
        """The cells of `"a", "b"`: a blank takes the meaning from the quotation mark behind it."""
        if not any(cell[:1] == " " and cell.lstrip(" ")[:1] == '"' for cell in cells):
            return cells
        try:
            return next(
                csv.reader(record, delimiter=self.delimiter, skipinitialspace=True, strict=True)
            )
        except csv.Error:
            return cells

    def _may_be_shielded(self, record: Sequence[str]) -> bool:
        return len(record) > 1 or "'" in record[0] or '="' in record[0]

    def _swallows_rows(self, record: Sequence[str]) -> bool:
        """Whether the lines of one record look like several rows.

        A closing quotation mark that is followed by text was meant to open another cell. And two
        lines of one record that each make a good row are two rows.
        """
        try:
            for _ in csv.reader(record, delimiter=self.delimiter, strict=True):
                pass
        except csv.Error:
            return True
        return sum(map(self._is_row, record)) > 1

    def _is_row(self, line: str) -> bool:
        line = line.rstrip("\r\n")
        quoted = next(csv.reader([line], delimiter=self.delimiter), [])
        return self.reads_as_row(quoted) or self.reads_as_row(line.split(self.delimiter))


def choose_delimiter(
    source: Source, encoding: Encoding, rate: Callable[[Sequence[str]], int]
) -> str:
    """The delimiter with which the header is understood best, also if it stands below a title.

    Args:
        source: The file.
        encoding: Its encoding.
        rate: How well a header is understood; more is better.
    """
    announced = _announced_delimiter(_first_line(source, encoding))
    if announced:
        return announced

    def merit(delimiter: str) -> tuple[int, int, int]:
        text = DelimitedText(source, encoding, delimiter)
        first, *others = [record.cells for record in islice(text, HEADER_SOUGHT_IN)] or [[]]
        return rate(first), max(map(rate, others), default=0), len(first)

    return max(DELIMITERS, key=merit)


def without_nul(cell: str) -> str:
    """Without NULs that fill a field up; one within the text stays visible as what is not text."""
    return cell.rstrip("\0").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _first_line(source: Source, encoding: Encoding) -> str:
    try:
        return next(Lines(source, encoding), "")
    except RecordTooLongError:
        return ""


def _announced_delimiter(line: str) -> str:
    """The delimiter of a first line such as "sep=;", which Excel understands; "" if it is none."""
    found = re.fullmatch(r"sep=([^\w\s\"'=]|\t)\s*", line)
    return found[1] if found is not None else ""


def _broken_quotes(file: str, line: int) -> SheetError:
    return SheetError(
        "broken_quotes",
        file,
        f"more than {_MOST_BAD_QUOTES} rows have a quotation mark that is not closed",
        "save the file again from the program it comes from, as CSV with quoted text, or as .xlsx",
        line,
    )
