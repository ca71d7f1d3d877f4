"""Which record names the columns, and which columns hold the number.

The names are in the first record, or below a title. They are the contract's, or what people use
instead. A name alone may mislead: an address book has a column "Phone 1 - Type" and one "CC" of
e-mail addresses. So the cells of the first rows count as well. Mobile comes before other phones; a
person may name the column instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from producer.sheet.row import Choice, Note, Record, SheetError, shown
from producer.sheet.spellings import (
    CODE_SPELLINGS,
    COUNTRY_SPELLINGS,
    INTERNATIONAL_SPELLINGS,
    LANDLINE_RANK,
    calling_code_of_country,
    number_rank,
    plain_name,
    words_of,
)

COUNTRY_CODE = "country_code"
PHONE_NUM = "phone_num"
PHONE = "phone"

HEADER_SEARCH_RECORDS = 20
"""How many records at a file's beginning are searched for the names of the columns."""
_SAMPLED_ROWS = 50
"""Rows below the names whose cells are examined."""

_EXPECTED = (
    "name the columns country_code and phone_num, or one column phone with +852… numbers, or "
    "choose the column"
)
_DIGIT = re.compile(r"\d")
_DATE = re.compile(
    r"\D*(?:(?:19|20)\d\d)([-/. ])\d\d?\1\d\d?\D*|\D*\d\d?([-/. ])\d\d?\2(?:19|20)\d\d\D*"
)
_LETTER = re.compile(r"[^\W\d_]")
_MOST_DIGITS_IN_A_NAME = 4
_LEAST_DIGITS_OF_A_NUMBER, _MOST_DIGITS_OF_A_NUMBER = 7, 20
_MOST_DIGITS_OF_A_CODE = 6  # with the zeros of "00852"
_SHOWN_COLUMNS = 200
_SHOWN_CHARS = 30
_ROLE_CODES = {"the phone number": "number", "the country code": "country"}
"""How notes on a role are named."""


@dataclass(frozen=True, slots=True)
class NamedColumns:
    """The columns that a person named, if any."""

    number: str | None = None
    country: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Where in a record the number stands; indexes from 0."""

    number: int
    country: int | None
    """The country's calling code; None if each number begins with its own."""
    country_may_be_residence: bool = False
    """By its name, the country's column may say where a customer lives, not whose number it is: a
    number with "+" does not need it."""
    plus_optional: bool = False
    """By the column's name all numbers are international, with or without a "+"."""
    others: tuple[int, ...] = ()
    """Columns of other phones, which are read where `number` is empty."""
    notes: tuple[Note, ...] = ()
    """Which column was read as what, where its name was not the contract's, and where they are."""


class Sample:
    """The cells of the first rows below a header, column by column."""

    def __init__(self, rows: Iterable[Sequence[str]] = ()) -> None:
        self._rows = [list(row) for row in rows]

    def column(self, index: int) -> list[str]:
        """Return a column's cells that are not empty."""
        return [row[index] for row in self._rows if index < len(row) and row[index].strip()]

    def is_text(self, index: int) -> bool:
        """Return whether a column has cells, and none of them a digit."""
        cells = self.column(index)
        return bool(cells) and not any(map(_DIGIT.search, cells))

    def numbers_in(self, index: int) -> int:
        return sum(map(_is_like_a_number, self.column(index)))

    def may_be_countries(self, index: int) -> bool:
        """Return whether a column is empty, or one of its cells names a country."""
        cells = self.column(index)
        return not cells or any(map(_is_like_a_country, cells))

    def with_numbers(self, width: int) -> list[int]:
        """Return the columns of which most cells are like numbers."""
        return [i for i in range(width) if self.numbers_in(i) * 2 > len(self.column(i))]


def _is_like_a_number(cell: str) -> bool:
    """Return whether a cell may be a phone number: enough to recognise its column."""
    digits = len(_DIGIT.findall(cell))
    return (
        _LEAST_DIGITS_OF_A_NUMBER <= digits <= _MOST_DIGITS_OF_A_NUMBER
        and len(_LETTER.findall(cell)) <= digits
        and not _DATE.fullmatch(cell)
    )


def _is_like_a_country(cell: str) -> bool:
    digits = len(_DIGIT.findall(cell))
    if digits:
        return digits <= _MOST_DIGITS_OF_A_CODE and "@" not in cell
    return len(cell.strip()) == 2 or calling_code_of_country(cell) is not None  # noqa: PLR2004


def rate_header(header: Sequence[str]) -> int:
    """Return for how many of the two roles a header has a name: 0, 1 or 2."""
    names = map(plain_name, header)
    numbers = any(number_rank(name) is not None for name in header)
    codes = any(name in CODE_SPELLINGS or name in COUNTRY_SPELLINGS for name in names)
    return int(numbers) + int(codes)


def _holds_data(cells: Sequence[str]) -> bool:
    """Return whether a record has a cell with more digits than a column's name has."""
    return any(len(_DIGIT.findall(cell)) > _MOST_DIGITS_IN_A_NAME for cell in cells)


class ColumnSearch:
    """The search for the columns of number and country code in one header, which is in `line`."""

    def __init__(self, header: Sequence[str], line: int, sample: Sample) -> None:
        self._header = header
        self._names = [plain_name(name) for name in header]
        self._line = line
        self._sample = sample

    def columns(self, asked: NamedColumns) -> Columns:
        """Return the columns that a person named, or that are found.

        Raises:
            SheetError: `no_header`, `no_phone_column`, `ambiguous_columns` or `no_such_column`,
                with the columns found and what is expected.
        """
        number, numbers = self._number(asked.number)
        country, codes = self._country(asked.country, number)
        residence = country is not None and self._names[country] not in CODE_SPELLINGS
        others: tuple[int, ...] = ()
        if asked.number is None and self._names[number] != plain_name(PHONE_NUM):
            rank = self._rank(number)
            others = tuple(i for i in numbers if rank < self._rank(i) < LANDLINE_RANK)
        plus_optional = self._names[number] in INTERNATIONAL_SPELLINGS
        passed_over = [i for i in numbers if i not in others]
        notes = self._notes_on(number, (PHONE_NUM, PHONE), "the phone number", passed_over)
        if others:
            listed = self._listed(others)
            text = f"where it is empty, the number is taken from {listed}, with a doubt"
            notes.append(Note(text, "other_numbers", (("others", listed),)))
        if country is not None:
            notes += self._notes_on(country, (COUNTRY_CODE,), "the country code", codes)
        elif not plus_optional:
            text = "there is no column country_code: each number must begin with + and its code"
            notes.append(Note(text, "no_country_column"))
        return Columns(number, country, residence, plus_optional, others, tuple(notes))

    def _number(self, asked: str | None) -> tuple[int, list[int]]:
        """Return the number's column, and all that might be it, the likeliest first."""
        if asked is not None:
            return self._named(asked, "the phone number", "phone_column"), []
        named = [i for i, name in enumerate(self._header) if number_rank(name) is not None]
        # one that holds labels, or yes and no, does not count beside another one
        found = [i for i in named if not self._sample.is_text(i)] or named
        contract = [i for i in found if self._names[i] == plain_name(PHONE_NUM)]
        best = min(map(self._rank, found), default=0)
        likeliest = contract or [i for i in found if self._rank(i) == best]
        number = self._only(likeliest, "the phone number", "phone_column")
        if number is None:
            raise self._no_number()
        return number, sorted(found, key=self._rank)

    def _country(self, asked: str | None, number: int) -> tuple[int | None, list[int]]:
        """Return the country's column if there is one, and all that are named as codes."""
        if asked is not None:
            return self._named(asked, "the country code", "country_column"), []
        codes = [
            i
            for i, name in enumerate(self._names)
            if name in CODE_SPELLINGS
            and (name == plain_name(COUNTRY_CODE) or self._sample.may_be_countries(i))
        ]
        contract = [i for i in codes if self._names[i] == plain_name(COUNTRY_CODE)]
        named = [i for i, name in enumerate(self._names) if name in COUNTRY_SPELLINGS]
        country = self._only(contract or codes or named, "the country code", "country_column")
        if country is None:  # "Billing country"
            found = [
                i
                for i, name in enumerate(self._header)
                if words_of(name)[-1:] == ["country"]
                and i != number
                and self._sample.may_be_countries(i)
            ]
            country = found[0] if len(found) == 1 else None
        return country, codes

    def _rank(self, index: int) -> int:
        return number_rank(self._header[index]) or 0

    def _named(self, asked: str, role: str, choice: Choice) -> int:
        """Return the column that a person named.

        Raises:
            SheetError: `no_such_column`; `ambiguous_columns` if there are two of that name.
        """
        exact = [i for i, name in enumerate(self._header) if name.strip() == asked.strip()]
        alike = [i for i, name in enumerate(self._names) if name == plain_name(asked)]
        index = self._only(exact or alike, role, choice)
        if index is None:
            listed = self._listed(range(len(self._header)))
            message = f"no column has the name that was chosen for {role}"
            raise self._error("no_such_column", message, f"there are {listed}", choice)
        return index

    def _only(self, found: Sequence[int], role: str, choice: Choice) -> int | None:
        """Return the one column for a role; of several, the one that is not empty.

        Raises:
            SheetError: `ambiguous_columns`: there is more than one.
        """
        if len(found) > 1:
            filled = [i for i in found if self._sample.column(i)]
            found = filled if len(filled) == 1 else found
        if len(found) > 1:
            raise self._error(
                "ambiguous_columns",
                f"more than one column may be {role}: {self._listed(found)}",
                f"rename the others, or {_EXPECTED}",
                choice,
            )
        return found[0] if found else None

    def _no_number(self) -> SheetError:
        filled = self._sample.with_numbers(len(self._header))
        if _holds_data(self._header):
            return _no_header(filled, self._header, self._line)
        hint = f"; numbers seem to be in {self._listed(filled)}" if filled else ""
        listed = self._listed(range(len(self._header)))
        return self._error(
            "no_phone_column",
            f"no column is named as a phone number; found: {listed}{hint}",
            _EXPECTED,
            "phone_column",
        )

    def _error(self, code: str, message: str, remedy: str, choice: Choice) -> SheetError:
        names = {choice: self._header}
        return SheetError(code, message, remedy, self._line, (choice,), names)

    def _notes_on(
        self, index: int, expected: Sequence[str], role: str, passed_over: Iterable[int]
    ) -> list[Note]:
        """Return what a person should know about the column that was taken for a role."""
        name = shown(self._header[index], _SHOWN_CHARS)
        notes = []
        if self._header[index].strip() not in expected:
            code = f"read_as_{_ROLE_CODES[role]}"
            notes.append(Note(f'column "{name}" is read as {role}', code, (("name", name),)))
        others = [each for each in passed_over if each != index]
        if others:
            listed = self._listed(others)
            text, code = f'{role} is taken from "{name}", not {listed}', _ROLE_CODES[role]
            notes.append(Note(text, f"taken_{code}", (("name", name), ("others", listed))))
        return notes

    def _listed(self, found: Sequence[int]) -> str:
        if not found:
            return "none"
        more = f" and {len(found) - _SHOWN_COLUMNS} more" if len(found) > _SHOWN_COLUMNS else ""
        names = [f'"{shown(self._header[i], _SHOWN_CHARS)}"' for i in found[:_SHOWN_COLUMNS]]
        return ", ".join(names) + more


def _no_header(filled: Sequence[int], first: Sequence[str], line: int) -> SheetError:
    """Return the error for a file whose first row is a customer already.

    `filled` are the columns that hold numbers in the rows below.
    """
    columns = filled or [i for i, cell in enumerate(first) if _is_like_a_number(cell)]
    where = " and ".join(f"column {i + 1}" for i in columns[:3])
    return SheetError(
        "no_header",
        "the first row holds data, not the names of the columns"
        + (f"; numbers seem to be in {where}" if where else ""),
        "put a row above it that names the columns, such as country_code and phone_num, or phone "
        "for numbers with +852…",
        line,
    )


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns, and where they are."""

    names: tuple[str, ...]
    columns: Columns
    records_above: int = 0


def find_header(records: Iterable[Record], unit: str, asked: NamedColumns) -> Header:
    """Find the names of the columns among the first records.

    Args:
        records: All of the file, from its start.
        unit: What a record's line counts: "line", or "row" of a workbook.
        asked: The columns that a person named.

    Raises:
        SheetError: `empty`; the first record's fault; as `ColumnSearch.columns`; `header_below`: it
            seems to be below, but what is above may be a customer, or there is another one.
    """
    sample = list(islice(records, HEADER_SEARCH_RECORDS + _SAMPLED_ROWS))
    if not sample:
        raise SheetError("empty", "the file has no rows", "save it with its rows")
    first = sample[0]
    if first.fault is not None:
        raise SheetError(
            first.fault.code,
            f"in the row with the columns' names, {first.fault.message}",
            first.fault.remedy,
            first.line,
        )
    try:
        header = _header_at(0, sample, asked)
    except SheetError as error:
        if error.code == "ambiguous_columns":
            raise
        found = _find_below(sample, unit, asked)
        if found is None:
            raise
        return found
    # a number in the first row and none below: then the column's name is a label such as "Mobile"
    below = _below(sample, 0)
    if any(map(_is_like_a_number, first.cells)) and not below.numbers_in(header.columns.number):
        filled = _below(sample, -1).with_numbers(len(first.cells))
        raise _no_header(filled, first.cells, first.line)
    return header


def _below(records: list[Record], place: int) -> Sample:
    return Sample(record.cells for record in records[place + 1 :])


def _header_at(place: int, sample: list[Record], asked: NamedColumns) -> Header:
    header = sample[place]
    below = _below(sample, place)
    columns = ColumnSearch(header.cells, header.line, below).columns(asked)
    return Header(tuple(header.cells), columns, place)


def _find_below(sample: list[Record], unit: str, asked: NamedColumns) -> Header | None:
    """Return the header below a title, or None.

    A customer's row that holds a label such as "Mobile" is not a header.
    """
    searched = sample[:HEADER_SEARCH_RECORDS]
    places = [
        place
        for place, record in enumerate(searched)
        if rate_header(record.cells)
        or (
            place
            and asked.number is not None
            and asked.number.strip() in map(str.strip, record.cells)
        )
    ]
    if not places or places == [0] or any(map(_is_like_a_number, sample[0].cells)):
        return None
    place = next(place for place in places if place)
    record = sample[place]
    try:
        header = _header_at(place, sample, asked)
    except SheetError as error:
        if error.code == "ambiguous_columns":
            raise
        return None
    if not _below(sample, place).numbers_in(header.columns.number):
        return None
    is_only_one = places == [place] and record.fault is None and not _holds_data(record.cells)
    if not is_only_one or max(map(_filled, sample[:place])) >= _filled(record):
        raise SheetError(
            "header_below",
            f"the names of the columns seem to be in {unit} {record.line}, but what is above them "
            "may be a customer",
            "move them into the first row; nothing is read until they are there",
            sample[0].line,
        )
    text = f"the names of the columns are in {unit} {record.line}; what is above is left out"
    note = Note(text, "header_below", (("line", str(record.line)),))
    columns = replace(header.columns, notes=(note, *header.columns.notes))
    return replace(header, columns=columns)


def _filled(record: Record) -> int:
    return sum(bool(cell.strip()) for cell in record.cells)
