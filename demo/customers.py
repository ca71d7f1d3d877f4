"""The demo's customers: a CSV file with every kind of ending that the stand-in of the API knows.

What a number does is the stand-in's own table (`sandbox.numbers`); here is only which of its
numbers take part, and the rows that nobody could send.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.numbers import MAGIC_NUMBERS

HEADER = ("customer", "country_code", "phone_num", "what the stand-in does")
ORDINARY = "9900"
EVENTS_FROM = 9_000
"""The first serial of the events' numbers, which are ordinary ones, too."""
_ACCOUNT_WIDE = range(9971, 9990)
"""Answers that halt the whole account: one such number would try it again and again."""
_SLOWEST = ("9906", "9905", "9903", "9921", "9922", "9902", "9904")
"""These wait for their number's interval, or long: they come first, so that all end early."""
_NOTES = {row.prefix: row.note for row in MAGIC_NUMBERS}
_COUNTRY_CODES = ("852", "65")
_INVALID = (
    ("86", "13000000000", "is not asked: the country is barred"),
    ("+7", "9000000000", "is not asked: the country is barred"),
    ("380", "500000000", "is not asked: the country is barred"),
    ("999", "99000000", "is not asked: no such country"),
    ("852", "9900-ABCD", "is not asked: letters"),
    ("852", "", "is not asked: no number"),
    ("", "99000000", "is not asked: no country"),
    ("852", "9" * 33, "is not asked: too many digits"),
)


@dataclass(frozen=True, slots=True)
class Customer:
    """One row of the file."""

    name: str
    country_code: str
    phone_num: str
    behaviour: str

    @property
    def digits(self) -> str:
        """The number in international form, as the stand-in counts it."""
        return f"{self.country_code}{self.phone_num}"


def make_customers(rows: int, seed: int = 1) -> list[Customer]:
    """Make so many rows: first those that take long, then one of each kind among ordinary ones."""
    slow = [_number_with(prefix) for prefix in _SLOWEST][:rows]
    others = [
        _number_with(prefix)
        for prefix in _NOTES
        if prefix not in {ORDINARY, *_SLOWEST} and int(prefix) not in _ACCOUNT_WIDE
    ]
    mixed = [*others, *_INVALID][: rows - len(slow)]
    mixed += [
        (_COUNTRY_CODES[n % 2], f"{ORDINARY}{n:04d}", _NOTES[ORDINARY])
        for n in range(rows - len(slow) - len(mixed))
    ]
    random.Random(seed).shuffle(mixed)  # noqa: S311 (the same file for everybody)
    return [
        Customer(f"Customer {n:03d}", *number) for n, number in enumerate(slow + mixed, start=1)
    ]


def event_numbers(count: int) -> Iterator[tuple[str, str]]:
    """Yield ordinary numbers that no customer has."""
    for n in range(count):
        yield "852", f"{ORDINARY}{EVENTS_FROM + n}"


def write_csv(path: Path, customers: list[Customer]) -> None:
    """Write them as a spreadsheet program would."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(
            (each.name, each.country_code, each.phone_num, each.behaviour) for each in customers
        )


def _number_with(prefix: str) -> tuple[str, str, str]:
    return _COUNTRY_CODES[0], f"{prefix}0001", _NOTES[prefix]
