"""A customer's row as a person may see it: the columns that name the customer, and masked numbers.

A customer's own number of seven digits or more, in a column of its own, is shown: it says who is
meant. So is all other text, but for what may be a phone number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from jobs.masking import without_numbers
from jobs.phone import PhoneNumber
from producer.sheet.spellings import (
    CODE_SPELLINGS,
    COUNTRY_SPELLINGS,
    number_rank,
    plain_name,
    spellings,
    words_of,
)

MOST_NAMING = 3
_NO_DIGIT = re.compile(r"\D")
_SHOWN_DIGITS = 2
_IDS, _NAMES = spellings("customer_id"), spellings("customer_name")
_PART_OF_A_NAME = re.compile(r"\bname\b|姓名|名字|名称|名稱|联系人|聯絡人|聯繫人")
"""In a longer header: "Partner name", "商户名称 Merchant"."""
_PERHAPS_IDS, _RUNNING = spellings("perhaps_id"), spellings("row")
"""The former are as often a running number; taken where nothing else names a customer."""


def naming_columns(header: Sequence[str], besides: Collection[int | None] = ()) -> list[int]:
    """Return the columns that say who a customer is, three at most; else the first other column.

    A running number never does, nor do the columns in `besides`: those of number and country.
    """
    others = [
        i
        for i, name in enumerate(header)
        if i not in besides and number_rank(name) is None and not _is_of_rows_or_countries(name)
    ]
    named = [i for i in others if _names_customers(header[i])]
    with_ids = [i for i in others if i in named or plain_name(header[i]) in _IDS]
    perhaps = [i for i in others if plain_name(header[i]) in _PERHAPS_IDS]
    # of many such columns the names are the ones to keep
    chosen = with_ids if len(with_ids) <= MOST_NAMING else named or with_ids
    return chosen[:MOST_NAMING] or perhaps[:1] or others[:1]


def _names_customers(name: str) -> bool:
    return (
        plain_name(name) in _NAMES or _PART_OF_A_NAME.search(" ".join(words_of(name))) is not None
    )


def _is_of_rows_or_countries(name: str) -> bool:
    plain = plain_name(name)
    return name.strip() == "#" or plain in _RUNNING | CODE_SPELLINGS | COUNTRY_SPELLINGS


class Shown:
    """Shows the cells of one file's rows."""

    def __init__(self, header: Sequence[str], number_column: str = "") -> None:
        """Take the header, and the name of the number's column if a person chose it."""
        self._numbers = {
            i
            for i, name in enumerate(header)
            if number_rank(name) is not None or (number_column and name.strip() == number_column)
        }

    def cells(self, cells: Sequence[str], phone: PhoneNumber | None) -> list[str]:
        """Return the cells with all phone numbers in them masked."""
        return [self._cell(i, cell, phone) for i, cell in enumerate(cells)]

    def _cell(self, index: int, cell: str, phone: PhoneNumber | None) -> str:
        digits = _NO_DIGIT.sub("", cell)
        if len(digits) <= _SHOWN_DIGITS:
            return cell
        is_number = index in self._numbers or (phone is not None and phone.phone_num in digits)
        if is_number:
            return f"******{digits[-_SHOWN_DIGITS:]}"
        return cell if cell.isalnum() else without_numbers(cell)
