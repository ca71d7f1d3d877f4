"""Which columns hold the number: by the contract's names, or by what people call them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from producer.sheet.problem import SheetError, shown
from producer.sheet.spellings import (
    CODE_SPELLINGS,
    COUNTRY_SPELLINGS,
    INTERNATIONAL_SPELLINGS,
    NUMBER_SPELLINGS,
    plain_name,
    without_counter,
)

COUNTRY_CODE = "country_code"
PHONE_NUM = "phone_num"
PHONE = "phone"

HEADER_SOUGHT_IN = 20
"""Records at a file's beginning among which the names of the columns may stand."""

_EXPECTED = "name the columns country_code and phone_num, or one column phone with +852… numbers"

_NUMBERS = NUMBER_SPELLINGS | INTERNATIONAL_SPELLINGS
_DIGIT = re.compile(r"\d")
_MOST_DIGITS_IN_A_NAME = 4
_SHOWN_COLUMNS = 20
_SHOWN_CHARS = 30


@dataclass(frozen=True, slots=True)
class Columns:
    """Where in a record the number stands; indexes from 0."""

    number: int
    country: int | None
    """The country's calling code; None if each number brings its own."""
    country_may_be_residence: bool = False
    """The country's column is named so that it may say where a customer lives, not whose number it
    is: a number with "+" does not care for it."""
    plus_optional: bool = False
    """By the column's name all numbers are international, whether they show a "+" or not."""
    notes: tuple[str, ...] = ()
    """What was taken for what, where a name was not the contract's."""


def rate_header(header: Sequence[str]) -> int:
    """How many of the two roles are found in a header: 0, 1 or 2."""
    names = [plain_name(name) for name in header]
    numbers = bool(_number_columns(names))
    codes = any(name in CODE_SPELLINGS or name in COUNTRY_SPELLINGS for name in names)
    return int(numbers) + int(codes)


def holds_data(cells: Sequence[str]) -> bool:
    """Whether a record has a cell with more digits than a column's name has."""
    return any(len(_DIGIT.findall(cell)) > _MOST_DIGITS_IN_A_NAME for cell in cells)


def find_columns(header: Sequence[str], file: str, line: int, unit: str = "line") -> Columns:
    """Find the columns of number and country code.

    Raises:
        SheetError: `no_header`, `no_phone_column` or `ambiguous_columns`, with the columns found
            and what is expected.
    """
    names = [plain_name(name) for name in header]
    numbers = _number_columns(names)
    number = _pick(
        numbers,
        header,
        (PHONE_NUM, PHONE),
        ("the phone number", file, line, unit),
    )
    if number is None:
        raise _no_number(header, file, line, unit)
    codes = [i for i, n in enumerate(names) if n in CODE_SPELLINGS]
    country = _pick(
        codes,
        header,
        (COUNTRY_CODE,),
        ("the country code", file, line, unit),
    )
    residence = False
    if country is None:
        country = _pick(
            [i for i, n in enumerate(names) if n in COUNTRY_SPELLINGS],
            header,
            (),
            ("the country code", file, line, unit),
        )
        residence = country is not None
    plus_optional = names[number] in INTERNATIONAL_SPELLINGS
    notes = [*_note(header[number], (PHONE_NUM, PHONE), "the phone number")]
    if country is not None:
        notes += _note(header[country], (COUNTRY_CODE,), "the country code")
    elif not plus_optional:
        notes.append("there is no column country_code: each number must begin with + and its code")
    notes += _aside(numbers, number, header, "the phone number")
    notes += _aside(codes, country, header, "the country code")
    return Columns(number, country, residence, plus_optional, tuple(notes))


def _number_columns(names: Sequence[str]) -> list[int]:
    """Which names are a number's; those with a counter, as "phone1", only if there is no other."""
    return [index for index, name in enumerate(names) if name in _NUMBERS] or [
        index for index, name in enumerate(names) if without_counter(name) in _NUMBERS
    ]


def _pick(
    found: Sequence[int],
    header: Sequence[str],
    preferred: Sequence[str],
    told: tuple[str, str, int, str],
) -> int | None:
    """The one column of a role: by the contract's name, or because there is only one."""
    for name in preferred:
        exact = [index for index in found if plain_name(header[index]) == plain_name(name)]
        if exact:
            found = exact
            break
    if len(found) > 1:
        what, file, line, unit = told
        raise SheetError(
            "ambiguous_columns",
            file,
            f"more than one column may be {what}: {_listed([header[i] for i in found])}",
            f"{_EXPECTED}; rename the others",
            line,
            unit,
        )
    return found[0] if found else None


def _no_number(header: Sequence[str], file: str, line: int, unit: str) -> SheetError:
    if holds_data(header):
        return SheetError(
            "no_header",
            file,
            "the first row holds data, not the names of the columns",
            f"put a row with names above it: {_EXPECTED}",
            line,
            unit,
        )
    return SheetError(
        "no_phone_column",
        file,
        f"no column is named as a phone number; found: {_listed(header)}",
        _EXPECTED,
        line,
        unit,
    )


def _note(name: str, expected: Sequence[str], what: str) -> list[str]:
    return (
        []
        if name.strip() in expected
        else [f'column "{shown(name, _SHOWN_CHARS)}" is read as {what}']
    )


def _aside(found: Sequence[int], taken: int | None, header: Sequence[str], what: str) -> list[str]:
    others = [header[index] for index in found if index != taken]
    if taken is None or not others:
        return []
    return [f'{what} is taken from "{shown(header[taken], _SHOWN_CHARS)}", not {_listed(others)}']


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return ", ".join(f'"{shown(name, _SHOWN_CHARS)}"' for name in names[:_SHOWN_COLUMNS]) + more
