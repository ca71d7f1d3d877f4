"""Text files as records: CSV and its relatives, whatever state their quotes are in; JSON Lines.

The `csv` module reads rows, but where a quotation mark is opened and never closed it takes all
lines up to the next mark, or to the end of the file, for one cell. Here such a line becomes one bad
record, and reading goes on with the next line. JSON Lines have one object in each line; their
columns are all names that occur in the file.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from jobs.phone import Fault
from producer.sheet.columns import HEADER_SEARCH_RECORDS, rate_header
from producer.sheet.row import FAULTS, Record, SheetError, not_a_sheet
from producer.sheet.source import Source
from producer.sheet.writing import unshielded

_OPENING_CHARS = 1 << 12
_VCARD = re.compile(r"\s*BEGIN:VCARD\b", re.I)
_MARKUP = re.compile(r"\s*<(?:!doctype|!--|\?xml|html|head|body|table)", re.I)
_JSON_DOCUMENT = re.compile(r"\s*\[\s*[{\[]|\s*\{\s*\n")
_JSON_LINE = re.compile(r'\s*\{[ \t]*["}]')


def is_json_lines(source: Source, codec: str) -> bool:
    """Return whether a text is JSON Lines; else it is delimited text.

    Raises:
        SheetError: `not_a_sheet`: it is XML, a web page or one JSON document.
    """
    opening = io.TextIOWrapper(source.open(), codec, "replace").read(_OPENING_CHARS)
    if _MARKUP.match(opening):
        raise not_a_sheet("a web page or XML")
    if _VCARD.match(opening):
        raise not_a_sheet("an address book (vCard)", "export the contacts as CSV instead")
    if _JSON_DOCUMENT.match(opening):
        raise not_a_sheet(
            "one JSON document",
            "write one object a line (JSON Lines), without brackets around them",
        )
    return _JSON_LINE.match(opening) is not None


_MAX_LINE_CHARS = 1 << 16
"""Of one line, and of one record over several lines. A spreadsheet's cell holds half of it."""
_MAX_RECORD_LINES = 200


class _RecordTooLongError(Exception):
    """A record is longer than allowed."""


class _Lines(Iterator[str]):
    """A file's lines with their ends: LF, CR LF or CR.

    `record` keeps the lines that were read since `begin_record`, so that they can be read again in
    another way.
    """

    def __init__(self, source: Source, codec: str) -> None:
        self._bytes = source.open()
        self._text = io.TextIOWrapper(self._bytes, codec, "strict", newline="")
        self._waiting: deque[str] = deque()
        self._size = source.size
        self.record: list[str] = []
        self.number = 0
        """The physical line that was read last; 1-based."""
        self.ended_within_record = False

    def __next__(self) -> str:
        record = self.record
        again = bool(self._waiting)
        line = self._waiting.popleft() if again else self._text.readline(_MAX_LINE_CHARS)
        if not line:
            self.ended_within_record = bool(record)
            raise StopIteration
        self.number += 1
        record.append(line)
        if len(line) >= _MAX_LINE_CHARS and line[-1] not in "\r\n":
            if not again:
                self._skip_to_end_of_line()
            raise _RecordTooLongError
        if len(record) > 1 and (
            len(record) > _MAX_RECORD_LINES or sum(map(len, record)) > _MAX_LINE_CHARS
        ):
            raise _RecordTooLongError
        return line

    def begin_record(self) -> None:
        self.record.clear()
        self.ended_within_record = False

    def keep_first_line_only(self) -> None:
        """Put back all lines of the record but the first, to be read as records of their own."""
        self._waiting.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1
        del self.record[1:]

    @property
    def fraction(self) -> float:
        """How much of the file was read so far, 0 to 1; in steps of some 64 KiB."""
        return min(1.0, self._bytes.tell() / self._size) if self._size else 1.0

    def _skip_to_end_of_line(self) -> None:
        while piece := self._text.readline(_MAX_LINE_CHARS):
            if piece[-1] in "\r\n":
                return


_DELIMITERS = (",", ";", "\t", "|")
_MOST_BAD_QUOTES = 1000

_TOO_LONG = Fault(
    "record_too_long",
    f"the row is longer than {_MAX_LINE_CHARS >> 10} KiB",
    "shorten it, or look for a missing line break or quotation mark",
)


class DelimitedText:
    """The records of one delimited file, from the start at each iteration."""

    def __init__(self, source: Source, codec: str, delimiter: str) -> None:
        self._source = source
        self._codec = codec
        self.delimiter = delimiter
        self._has_nul = source.nul_count > 0
        self.is_good_row: Callable[[list[str]], bool] = lambda _: False
        """Set once the header is known."""
        self._lines: _Lines | None = None

    @property
    def fraction(self) -> float:
        return self._lines.fraction if self._lines is not None else 0.0

    def __iter__(self) -> Iterator[Record]:
        """Yield all records that are not blank, the header first.

        Raises:
            SheetError: `broken_quotes`: so many quotes are unclosed that no row is certain.
        """
        lines = self._lines = _Lines(self._source, self._codec)
        reader = csv.reader(lines, delimiter=self.delimiter)
        record, bad = lines.record, 0
        while True:
            lines.begin_record()
            fault: Fault | None = None
            try:
                cells = next(reader)
                if len(record) > 1 and self._swallows_rows(record):
                    fault = FAULTS["unclosed_quote"]
            except StopIteration:
                if not record:
                    return
                fault = FAULTS["unclosed_quote"]
            except (csv.Error, _RecordTooLongError):
                fault = _TOO_LONG if len(record) == 1 else FAULTS["unclosed_quote"]
            if fault is None and lines.ended_within_record:
                fault = FAULTS["unclosed_quote"]
            if fault is not None:
                bad += 1
                if bad > _MOST_BAD_QUOTES:
                    raise SheetError(
                        "broken_quotes",
                        f"more than {_MOST_BAD_QUOTES} rows have a quotation mark that is not "
                        "closed",
                        "save the file again from the program it comes from, as CSV with quoted "
                        "text, or as .xlsx",
                        lines.number - len(record) + 1,
                    )
                lines.keep_first_line_only()
                reader = csv.reader(lines, delimiter=self.delimiter)
                cells = record[0].rstrip("\r\n").split(self.delimiter)
            elif ' "' in record[0]:
                cells = self._without_spaces_before_quotes(cells, record)
            if len(record) > 1 or "'" in record[0] or '="' in record[0]:
                cells = [unshielded(cell) for cell in cells]
            if self._has_nul:
                cells = [_without_nul(cell) for cell in cells]
            is_blank = fault is None and not "".join(cells).strip()
            if is_blank or (lines.number == 1 and _announced_delimiter(record[0])):
                continue
            yield Record(lines.number - len(record) + 1, cells, fault=fault)

    def _without_spaces_before_quotes(self, cells: list[str], record: Sequence[str]) -> list[str]:
        """Return the cells of `"a", "b"`, where a space hides the quotation mark after it."""
        if not any(cell[:1] == " " and cell.lstrip(" ")[:1] == '"' for cell in cells):
            return cells
        try:
            return next(
                csv.reader(record, delimiter=self.delimiter, skipinitialspace=True, strict=True)
            )
        except csv.Error:
            return cells

    def _swallows_rows(self, record: Sequence[str]) -> bool:
        """Return whether the lines of one record look like several rows.

        They do if text follows a closing quotation mark, which was meant to open another cell, or
        if two of the lines each make a good row.
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
        return self.is_good_row(quoted) or self.is_good_row(line.split(self.delimiter))


def choose_delimiter(source: Source, codec: str) -> str:
    """Return the delimiter with which a header, even one below a title, is recognised best."""
    try:
        announced = _announced_delimiter(next(_Lines(source, codec), ""))
    except _RecordTooLongError:
        announced = ""
    if announced:
        return announced

    def score(delimiter: str) -> tuple[int, int, int]:
        text = DelimitedText(source, codec, delimiter)
        first, *others = [record.cells for record in islice(text, HEADER_SEARCH_RECORDS)] or [[]]
        return rate_header(first), max(map(rate_header, others), default=0), len(first)

    return max(_DELIMITERS, key=score)


def _without_nul(cell: str) -> str:
    """Return a cell without NULs at its end; one within the text stays visible."""
    return cell.rstrip("\0").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _announced_delimiter(line: str) -> str:
    """Return the delimiter of a first line such as "sep=;", which Excel understands, or ""."""
    found = re.fullmatch(r"sep=([^\w\s\"'=]|\t)\s*", line)
    return found[1] if found is not None else ""


_MAX_COLUMNS = 1000
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class _Number(str):
    """A JSON number as written: 1.0 keeps its dot, and 400 digits are not converted."""

    __slots__ = ()


class _NameTwiceError(Exception):
    """An object has two values for one name."""


class JsonLines:
    """The records of a JSON Lines file; the first is its header."""

    def __init__(self, source: Source, codec: str) -> None:
        self._source = source
        self._codec = codec
        self._lines: _Lines | None = None
        self._columns = self._find_columns()

    @property
    def fraction(self) -> float:
        return self._lines.fraction if self._lines is not None else 0.0

    def __iter__(self) -> Iterator[Record]:
        yield Record(1, list(self._columns))
        for line, found in self._objects():
            if isinstance(found, Fault):
                yield Record(line, [], fault=found)
                continue
            cells, numeric = [], 0
            for index, column in enumerate(self._columns):
                value = found.get(column)
                cells.append(_text(value))
                numeric |= isinstance(value, _Number) << index
            yield Record(line, cells, numeric)

    def _objects(self) -> Iterator[tuple[int, Mapping[str, Any] | Fault]]:
        lines = self._lines = _Lines(self._source, self._codec)
        decoder = json.JSONDecoder(
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
            object_pairs_hook=_object,
        )
        while True:
            lines.begin_record()
            try:
                text = next(lines).strip(" \t\r\n\0")
            except StopIteration:
                return
            except _RecordTooLongError:
                yield lines.number, _TOO_LONG
                continue
            if not text:
                continue
            try:
                value = decoder.decode(text)
            except (ValueError, RecursionError):
                yield lines.number, FAULTS["not_json"]
                continue
            except _NameTwiceError:
                yield lines.number, FAULTS["name_twice"]
                continue
            yield lines.number, value if isinstance(value, dict) else FAULTS["not_an_object"]

    def _find_columns(self) -> tuple[str, ...]:
        """Return all names in the order of their first occurrence; takes a pass over the file.

        Raises:
            SheetError: `too_many_columns`; the first line's fault if no line has any name.
        """
        columns: dict[str, None] = {}
        first_fault: tuple[int, Fault] | None = None
        for line, found in self._objects():
            if isinstance(found, Fault):
                first_fault = first_fault or (line, found)
            if not isinstance(found, Fault) and found.keys() - columns.keys():
                columns.update(dict.fromkeys(found))
                if len(columns) > _MAX_COLUMNS:
                    raise SheetError(
                        "too_many_columns",
                        f"the objects have more than {_MAX_COLUMNS} different names",
                        "use the same names in each line",
                        line,
                    )
        if not columns and first_fault is not None:
            line, fault = first_fault
            raise SheetError(fault.code, fault.message, fault.remedy, line)
        return tuple(columns)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NameTwiceError
    return found


def _text(value: Any) -> str:
    """Return a value as a cell: text as it is, "" for null, JSON for lists and objects."""
    if isinstance(value, str):
        text: str = value
    elif value is None:
        return ""
    elif isinstance(value, bool):
        return str(value).lower()
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii():
        text = _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return _without_nul(text) if "\0" in text else text
