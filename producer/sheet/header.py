"""Which record holds the names of the columns: the first one, or the one below a title."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

from producer.sheet.columns import (
    HEADER_SOUGHT_IN,
    Asked,
    Columns,
    Seen,
    find_columns,
    holds_data,
    is_like_a_number,
    no_header,
    rate_header,
)
from producer.sheet.problem import SheetError
from producer.sheet.row import Record

_ROWS_SEEN = 50
"""Rows below the names of which the cells are looked at."""


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns, and where they stand."""

    names: tuple[str, ...]
    columns: Columns
    records_above: int = 0
    notes: tuple[str, ...] = ()


def find_header(
    records: Iterable[Record],
    file: str,
    unit: str,
    asked: Asked = Asked(),  # noqa: B008 (frozen)
) -> Header:
    """Find it among the first records.

    Args:
        records: All of the file, from the start at each iteration.
        file: What people know the file by.
        unit: What a record's line counts: "line", or "row" of a workbook.
        asked: The columns that a person named.

    Raises:
        SheetError: `empty`; the first record's fault; as `find_columns`; `header_below`: it seems
            to stand below, but what is above may be a customer, or there is another one.
    """
    sample = list(islice(records, HEADER_SOUGHT_IN + _ROWS_SEEN))
    if not sample:
        raise SheetError("empty", file, "the file has no rows", "save it with its rows")
    first = sample[0]
    if first.fault is not None:
        raise SheetError(
            first.fault.code,
            file,
            f"in the row with the columns' names, {first.fault.message}",
            first.fault.remedy,
            first.line,
            unit,
        )
    try:
        header = _header_at(0, sample, file, unit, asked)
    except SheetError as error:
        if error.code == "ambiguous_columns":
            raise
        below = _find_below(sample, file, unit, asked)
        if below is None:
            raise
        return below
    if _is_a_customer(first, header.columns.number, sample):
        seen = Seen(record.cells for record in sample)
        raise no_header(file, seen.with_numbers(len(first.cells)), first.cells, first.line, unit)
    return header


def _header_at(place: int, sample: list[Record], file: str, unit: str, asked: Asked) -> Header:
    header = sample[place]
    seen = Seen(record.cells for record in sample[place + 1 :])
    columns = find_columns(header.cells, file, header.line, unit, asked=asked, seen=seen)
    return Header(tuple(header.cells), columns, place, columns.notes)


def _is_a_customer(first: Record, number: int, sample: list[Record]) -> bool:
    """Whether the first row is no header: a number stands in it, and none stands below its name.

    That name is a label of a customer's then, such as "Mobile".
    """
    return any(map(is_like_a_number, first.cells)) and not Seen(
        record.cells for record in sample[1:]
    ).numbers_in(number)


def _find_below(sample: list[Record], file: str, unit: str, asked: Asked) -> Header | None:
    """Look for it below a title; None if it is nowhere.

    A row within the customers, in which a label such as "Mobile" stands, is none.
    """
    sought = sample[:HEADER_SOUGHT_IN]
    places = [
        place
        for place, record in enumerate(sought)
        if rate_header(record.cells) or (place and _has(record, asked.number))
    ]
    if not places or places == [0] or any(map(is_like_a_number, sample[0].cells)):
        return None
    place = next(place for place in places if place)
    record = sample[place]
    try:
        header = _header_at(place, sample, file, unit, asked)
    except SheetError as error:
        if error.code == "ambiguous_columns":
            raise
        return None
    if not Seen(each.cells for each in sample[place + 1 :]).numbers_in(header.columns.number):
        return None
    is_only_one = places == [place] and record.fault is None and not holds_data(record.cells)
    if not is_only_one or max(map(_filled, sample[:place])) >= _filled(record):
        raise SheetError(
            "header_below",
            file,
            f"the names of the columns seem to be in {unit} {record.line}, but what is above them "
            "may be a customer",
            "move them into the first row; nothing is read until they are there",
            sample[0].line,
            unit,
        )
    note = f"the names of the columns are in {unit} {record.line}; what is above is left out"
    return replace(header, notes=(note, *header.notes))


def _has(record: Record, name: str | None) -> bool:
    return name is not None and name.strip() in map(str.strip, record.cells)


def _filled(record: Record) -> int:
    return sum(bool(cell.strip()) for cell in record.cells)
