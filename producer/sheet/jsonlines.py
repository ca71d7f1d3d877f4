"""JSON Lines as records: one object a line; the columns are all names that occur in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.phone import Fault
from producer.sheet.delimited import without_nul
from producer.sheet.encoding import Encoding
from producer.sheet.lines import MAX_LINE_CHARS, Lines, RecordTooLongError
from producer.sheet.problem import SheetError
from producer.sheet.row import Record
from producer.sheet.source import Source

_MAX_COLUMNS = 1000
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_NOT_JSON = Fault("not_json", "the line is not JSON", "correct it, or leave it out")
_NAME_TWICE = Fault(
    "name_twice", "the line has two values of one name", "leave the right one, or rename one"
)
_NOT_AN_OBJECT = Fault(
    "not_an_object",
    "the line is not a JSON object",
    'write it as {"country_code": "852", "phone_num": "…"}',
)
_TOO_LONG = Fault(
    "record_too_long", f"the line is longer than {MAX_LINE_CHARS >> 10} KiB", "shorten it"
)


class _Number(str):
    """A JSON number as it is written: an integer of 400 digits costs nothing, 1.0 keeps its dot."""

    __slots__ = ()


class _NameTwiceError(Exception):
    """An object has two values of one name."""


class JsonLines:
    """The records of a JSON Lines file; the first is its header."""

    def __init__(self, source: Source, encoding: Encoding) -> None:
        self._source = source
        self._encoding = encoding
        self._lines: Lines | None = None
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
        lines = self._lines = Lines(self._source, self._encoding)
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
            except RecordTooLongError:
                yield lines.number, _TOO_LONG
                continue
            if not text:
                continue
            try:
                value = decoder.decode(text)
            except (ValueError, RecursionError):
                yield lines.number, _NOT_JSON
                continue
            except _NameTwiceError:
                yield lines.number, _NAME_TWICE
                continue
            yield lines.number, value if isinstance(value, dict) else _NOT_AN_OBJECT

    def _find_columns(self) -> tuple[str, ...]:
        """All names in the order of their first occurrence; takes one pass over the file.

        Raises:
            SheetError: `too_many_columns`, or the first line's fault if no line has any name.
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
                        self._source.name,
                        f"the objects have more than {_MAX_COLUMNS} different names",
                        "use the same names in each line",
                        line,
                    )
        if not columns and first_fault is not None:
            line, fault = first_fault
            raise SheetError(fault.code, self._source.name, fault.message, fault.remedy, line)
        return tuple(columns)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NameTwiceError
    return found


def _text(value: Any) -> str:
    """A value as a cell: text as it is, nothing for null, and JSON for what has no other form."""
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
    return without_nul(text) if "\0" in text else text
