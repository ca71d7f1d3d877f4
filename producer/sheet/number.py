"""A phone number out of the cells of a spreadsheet: damage is named, and repaired without a doubt.

Each cell is judged by itself. A digit is added, moved or dropped only where the numbering plan of
the country leaves one reading; where two are possible the row is refused, because the other reading
may be a stranger's phone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from jobs.phone import (
    BARRED_COUNTRY_CODES,
    DIALLED_ABROAD,
    Fault,
    NumberingPlan,
    PhoneError,
    PhoneNumber,
    area_within_code_1,
    calling_code_of_region,
    is_mobile,
    plan_of,
    readings_of_dialled,
    split_international,
    without_formatting,
    without_international_prefix,
)
from producer.sheet import damage
from producer.sheet.columns import Columns
from producer.sheet.spellings import calling_code_of_country

_CODES_KEPT = 4096
_MOST_DIGITS_OF_A_SPREADSHEET = 15
_DIALLED_FROM_AMERICA_AND_JAPAN = ("011", "010")
_CODE_IN_TEXT = re.compile(r"[+\uff0b]\s?(\d(?:[\d \-]{0,5}\d)?)(?!\d)")


class Reading(NamedTuple):
    """What the cells say: a number, or a fault."""

    phone: PhoneNumber | None
    fault: Fault | None = None
    warnings: tuple[Fault, ...] = ()
    repaired: tuple[Fault, ...] = ()


class _Code(NamedTuple):
    """A country code as a cell gives it."""

    plan: NumberingPlan | None = None
    fault: Fault | None = None
    repaired: tuple[Fault, ...] = ()
    area: str = ""
    """Digits that belong to the number: of "1242" the code is 1 and the area 242."""
    lookouts: tuple[str, ...] = ()
    """Beginnings of a number that ask for a second look."""


_NO_CODE = _Code()


class NumberReader:
    """Reads the number of one row after another; country codes are worked out once each."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._codes: dict[str, _Code] = {}

    def read(self, cells: list[str], numeric: int = 0) -> Reading:
        """Read a record's number.

        Args:
            cells: At least as many as the columns need.
            numeric: Bit n is set if cell n was a number in the file.
        """
        columns = self._columns
        number = cells[columns.number]
        if columns.others and not number.strip():
            return self._read_other(cells, numeric)
        code = _NO_CODE
        if columns.country is not None:
            text = cells[columns.country]
            code = self._codes.get(text) or self._work_out(text)
            plan = code.plan
            if (
                plan is not None
                and number.isascii()
                and number.isdigit()
                and not number.startswith(code.lookouts)
            ):
                if plan.mobile.fullmatch(number):
                    return Reading(PhoneNumber(plan.calling_code, number), repaired=code.repaired)
                if plan.matches(number):
                    phone = PhoneNumber(plan.calling_code, number)
                    return Reading(phone, None, _filled(phone.doubt), code.repaired)
        try:
            return self._look_closer(code, number, bool(numeric >> columns.number & 1))
        except PhoneError as error:
            return Reading(None, error.fault)

    def _read_other(self, cells: list[str], numeric: int) -> Reading:
        """Read the number of another of the row's phones, if it has one."""
        columns = self._columns
        index = next((i for i in columns.others if cells[i].strip()), columns.number)
        other = NumberReader(replace(columns, number=index, plus_optional=False, others=()))
        reading = other.read(cells, numeric)
        if reading.phone is None:
            return reading
        return reading._replace(warnings=(damage.OTHER_COLUMN, *reading.warnings))

    def _work_out(self, text: str) -> _Code:
        code = _code_of(text)
        if len(self._codes) < _CODES_KEPT:
            self._codes[text] = code
        return code

    def _look_closer(self, code: _Code, text: str, numeric: bool) -> Reading:
        digits, repaired = damage.undo(text, numeric=numeric)
        if numeric and len(digits) > _MOST_DIGITS_OF_A_SPREADSHEET:
            raise PhoneError(damage.DIGITS_LOST)
        repairs = [*code.repaired, *repaired]
        international = digits.startswith(("+", "00"))
        if self._columns.plus_optional and not international:
            digits, international = "+" + digits, True
        says_nothing = code.fault is None and code.plan is None
        if international and (
            says_nothing
            or code.fault is damage.COUNTRY_NOT_A_CODE
            or self._columns.country_may_be_residence
        ):
            phone = PhoneNumber.from_international(digits)
            repairs = repaired
        elif code.fault is not None:
            raise PhoneError(code.fault)
        elif international:
            phone = _same_code(code, digits)
            repairs.append(damage.COUNTRY_CODE_REPEATED)
        elif code.plan is not None:
            phone = _in_plan(code.plan, code.area, digits)
        else:
            raise PhoneError(_without_code(digits))
        phone, more = _mend(phone, numeric, "(0)" in "".join(text.split()))
        if damage.has_more_behind(text, phone):
            raise PhoneError(damage.EXTENSION)
        doubt = phone.doubt
        plan = plan_of(phone.country_code)
        if plan is None or plan.matches(phone.phone_num):
            doubt = _perhaps_repeated(phone) or doubt
        else:
            fault = damage.what_it_may_be(text, phone.country_code, damage.DECIMAL in repaired)
            if fault is not None:
                raise PhoneError(fault)
        words = damage.WORDS if damage.WORDS in repaired else None
        doubts = _filled(words, doubt)
        repairs = [each for each in [*repairs, *more] if each is not words]
        return Reading(phone, None, doubts, tuple(dict.fromkeys(repairs)))


def _filled(*doubts: Fault | None) -> tuple[Fault, ...]:
    return tuple(doubt for doubt in doubts if doubt is not None)


def _without_code(digits: str) -> Fault:
    """Return why a number that has no country code cannot be read."""
    for prefix in _DIALLED_FROM_AMERICA_AND_JAPAN:
        split = (
            split_international(digits.removeprefix(prefix)) if digits.startswith(prefix) else None
        )
        if split is not None and split[0].is_mobile(split[1]):
            return DIALLED_ABROAD
    return damage.NO_COUNTRY_CODE


def _same_code(code: _Code, digits: str) -> PhoneNumber:
    """Return a number in international form, whose code must be the one beside it."""
    if digits.startswith("00"):
        for plan, phone_num in readings_of_dialled(digits):
            if plan is code.plan and phone_num.startswith(code.area):
                return PhoneNumber.parse(plan.calling_code, phone_num)
    number = PhoneNumber.from_international(digits)
    if code.plan is None or number.country_code != code.plan.calling_code:
        raise PhoneError(damage.CODES_DIFFER)
    if not number.phone_num.startswith(code.area):
        raise PhoneError(damage.CODES_DIFFER)
    return number


def _in_plan(plan: NumberingPlan, area: str, digits: str) -> PhoneNumber:
    """Return a number that stands beside its country code; an area may stand with the code."""
    if not area:
        return PhoneNumber.parse(plan.calling_code, digits)
    if len(digits) in plan.lengths and digits.startswith(area):
        return PhoneNumber.parse(plan.calling_code, digits)
    return PhoneNumber.parse(plan.calling_code, area + digits)


def _mend(
    phone: PhoneNumber, numeric: bool, has_bracketed_zero: bool
) -> tuple[PhoneNumber, list[Fault]]:
    """Undo what makes a number one that its country does not have, if it has the result."""
    plan = plan_of(phone.country_code)
    digits = phone.phone_num
    if plan is None or plan.matches(digits):
        return phone, []
    trunk, code = plan.trunk_prefix or "0" * has_bracketed_zero, plan.calling_code
    if trunk and digits.startswith(trunk) and plan.matches(digits.removeprefix(trunk)):
        return PhoneNumber(code, digits.removeprefix(trunk)), [damage.TRUNK_PREFIX]
    rest = digits
    for dialled in ("", *_DIALLED_FROM_AMERICA_AND_JAPAN):
        rest = digits.removeprefix(dialled + code)
        if rest != digits and is_mobile(code, rest):
            return PhoneNumber(code, rest), [damage.COUNTRY_CODE_REPEATED]
    if digits.startswith(code):
        rest = digits.removeprefix(code)
        if trunk and rest.startswith(trunk) and is_mobile(code, rest.removeprefix(trunk)):
            repairs = [damage.COUNTRY_CODE_REPEATED, damage.TRUNK_PREFIX]
            return PhoneNumber(code, rest.removeprefix(trunk)), repairs
    if len(digits) not in plan.lengths and plan.matches("0" + digits):
        if not numeric:
            raise PhoneError(damage.LEADING_ZERO_LOST)
        return PhoneNumber(plan.calling_code, "0" + digits), [damage.LEADING_ZERO_RESTORED]
    return phone, []


def _perhaps_repeated(phone: PhoneNumber) -> Fault | None:
    """Return a doubt about a number that its country has without its first digits, too."""
    code, digits = phone.country_code, phone.phone_num
    rest = digits.removeprefix(code)
    if rest != digits and is_mobile(code, rest) and not is_mobile(code, digits):
        return damage.CODE_PERHAPS_REPEATED
    return None


def _code_of(text: str) -> _Code:
    try:
        if damage.is_nothing(text):
            return _NO_CODE
        digits, repaired = _code_digits(text)
        area = area_within_code_1(digits) or ""
        if area:
            digits = "1"
            repaired = [*repaired, damage.AREA_IN_CODE]
        if plan_of(digits) is None or digits in BARRED_COUNTRY_CODES:
            PhoneNumber.parse(digits, "0")  # refuses it with the reason
    except PhoneError as error:
        return _Code(fault=error.fault)
    plan = plan_of(digits)
    if plan is None:
        return _Code(fault=damage.COUNTRY_NOT_A_CODE)
    lookouts = ("",) if area else tuple({"0", plan.calling_code, plan.trunk_prefix or "0"})
    return _Code(plan, None, tuple(repaired), area, lookouts)


def _code_digits(text: str) -> tuple[str, list[Fault]]:
    """Return the digits of a country code: "852.0", "HK", "Hong Kong", "Hong Kong (+852)"."""
    plain = without_formatting(text).strip("'")
    if sum(c.isalpha() for c in plain) > 1:  # a single one may be the E of 8.52E+02
        named = _CODE_IN_TEXT.findall(text)
        if len(named) == 1:
            return without_formatting(named[0]), [damage.CODE_WITHIN_TEXT]
        is_region = len(plain) == 2 and plain.isascii()  # noqa: PLR2004 - ISO 3166
        found = (calling_code_of_region(plain) if is_region else None) or calling_code_of_country(
            text
        )
        if found is None:
            raise PhoneError(damage.COUNTRY_NOT_A_CODE)
        return found, [damage.REGION]
    try:
        digits, repaired = damage.undo(text)
    except PhoneError as error:
        raise PhoneError(damage.COUNTRY_NOT_A_CODE) from error
    digits = without_international_prefix(digits)
    if len(digits) > len("1242"):
        raise PhoneError(damage.NUMBER_AS_CODE)
    return digits, [fault for fault in repaired if fault is not damage.FORMATTING]
