"""Which record holds the names of the columns: the first one, or the one below a title."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from producer.sheet.columns import (
    HEADER_SOUGHT_IN,
    Columns,
    find_columns,
    holds_data,
    rate_header,
)
from producer.sheet.problem import SheetError
from producer.sheet.row import Record


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns, and where they stand."""

    names: tuple[str, ...]
    columns: Columns
    records_above: int = 0
    notes: tuple[str, ...] = ()


def find_header(records: Iterable[Record], file: str, unit: str) -> Header:
    """Find it among the first records.

    Args:
        records: All of the file, from the start at each iteration.
        file: What people know the file by.
        unit: What a record's line counts: "line", or "row" of a workbook.

    Raises:
        SheetError: `empty`; the first record's fault; as `find_columns`; `header_below`: it seems
            to stand below, but what is above may be a customer, or there is another one.
    """
    first = next(iter(records), None)
    if first is None:
        raise SheetError("empty", file, "the file has no rows", "save it with its rows")
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
        columns = find_columns(first.cells, file, first.line, unit)
    except SheetError as error:
        if error.code == "ambiguous_columns":
            raise
        below = _find_below(list(islice(records, HEADER_SOUGHT_IN)), file, unit)
        if below is None:
            raise
        return below
    return Header(tuple(first.cells), columns, 0, columns.notes)


def _find_below(first: list[Record], file: str, unit: str) -> Header | None:
    """Look for it below a title; None if it is nowhere."""
    places = [place for place, record in enumerate(first) if rate_header(record.cells)]
    if not places or places == [0]:
        return None
    place = next(place for place in places if place)
    header = first[place]
    is_only_one = places == [place] and header.fault is None and not holds_data(header.cells)
    if not is_only_one or max(map(_filled, first[:place])) >= _filled(header):
        raise SheetError(
            "header_below",
            file,
            f"the names of the columns seem to be in {unit} {header.line}",
            "delete what is above them",
            first[0].line,
            unit,
        )
    columns = find_columns(header.cells, file, header.line, unit)
    note = f"the names of the columns are in {unit} {header.line}; what is above is left out"
    return Header(tuple(header.cells), columns, place, (note, *columns.notes))


def _filled(record: Record) -> int:
    return sum(bool(cell.strip()) for cell in record.cells)
