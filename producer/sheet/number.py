"""Reads phone numbers from a spreadsheet's cells; damage is named, and repaired where certain.

First the faults, then `NumberReader`, which reads one row after another, then `extract_digits`,
which takes a number's digits out of what surrounds them.

Each cell is judged by itself. A digit is added, moved or dropped only where the numbering plan of
the country leaves one reading; where two are possible the row is refused, because the other reading
may be a stranger's phone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from jobs.phone import (
    BARRED_COUNTRY_CODES,
    DIALLED_ABROAD,
    NO_PHONE_NUM,
    PHONE_NUM_NOT_DIGITS,
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
from producer.sheet.columns import Columns
from producer.sheet.row import FAULTS
from producer.sheet.spellings import (
    INTERNATIONAL_SPELLINGS,
    NUMBER_SPELLINGS,
    calling_code_of_country,
    plain_name,
)

_CODES_KEPT = 4096
_MOST_DIGITS_OF_A_SPREADSHEET = 15
_DIALLED_FROM_AMERICA_AND_JAPAN = ("011", "010")
_CODE_IN_TEXT = re.compile(r"[+\uff0b]\s?(\d(?:[\d \-]{0,5}\d)?)(?!\d)")


class Reading(NamedTuple):
    """A number, or the fault for which there is none."""

    phone: PhoneNumber | None
    fault: Fault | None = None
    warnings: tuple[Fault, ...] = ()
    repaired: tuple[Fault, ...] = ()


class _Code(NamedTuple):
    """A country code as it was read from a cell."""

    plan: NumberingPlan | None = None
    fault: Fault | None = None
    repaired: tuple[Fault, ...] = ()
    area: str = ""
    """Digits that belong to the number: of "1242" the code is 1 and the area 242."""
    suspicious: tuple[str, ...] = ()
    """First digits of a number with which it must be examined in full."""


_NO_CODE = _Code()


class NumberReader:
    """Reads the number of one row after another; each country code is interpreted once."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._code_of = lru_cache(_CODES_KEPT)(_code_of)

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
            code = self._code_of(cells[columns.country])
            plan = code.plan
            if (
                plan is not None
                and number.isascii()
                and number.isdigit()
                and not number.startswith(code.suspicious)
            ):
                if plan.mobile.fullmatch(number):
                    return Reading(PhoneNumber(plan.calling_code, number), repaired=code.repaired)
                if plan.matches(number):
                    phone = PhoneNumber(plan.calling_code, number)
                    doubts = (phone.doubt,) if phone.doubt is not None else ()
                    return Reading(phone, None, doubts, code.repaired)
        try:
            return self._examine(code, number, bool(numeric >> columns.number & 1))
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
        return reading._replace(warnings=(FAULTS["other_column"], *reading.warnings))

    def _examine(self, code: _Code, text: str, numeric: bool) -> Reading:
        """Read a number that is not plain digits of its country.

        Raises:
            PhoneError: It cannot be read for certain.
        """
        digits, repaired = extract_digits(text, numeric=numeric)
        if numeric and len(digits) > _MOST_DIGITS_OF_A_SPREADSHEET:
            raise PhoneError(FAULTS["digits_lost"])
        repairs = [*code.repaired, *repaired]
        international = digits.startswith(("+", "00"))
        if self._columns.plus_optional and not international:
            digits, international = "+" + digits, True
        if international and (
            code is _NO_CODE
            or code.fault is FAULTS["country_not_a_code"]
            or self._columns.country_may_be_residence
        ):
            phone = PhoneNumber.from_international(digits)
            repairs = repaired
        elif code.fault is not None:
            raise PhoneError(code.fault)
        elif international:
            phone = _same_code(code, digits)
            repairs.append(FAULTS["country_code_repeated"])
        elif code.plan is not None:
            joined = len(digits) in code.plan.lengths and digits.startswith(code.area)
            phone_num = digits if joined or not code.area else code.area + digits
            phone = PhoneNumber.parse(code.plan.calling_code, phone_num)
        else:
            raise PhoneError(_without_code(digits))
        phone, more = _repair(phone, numeric, "(0)" in "".join(text.split()))
        if _has_suffix(text, phone):
            raise PhoneError(FAULTS["extension"])
        doubt = phone.doubt
        plan = plan_of(phone.country_code)
        if plan is None or plan.matches(phone.phone_num):
            doubt = _perhaps_repeated(phone) or doubt
        else:
            fault = _likelier_kind(text, plan, FAULTS["decimal"] in repaired)
            if fault is not None:
                raise PhoneError(fault)
        doubts = [each for each in repaired if each is FAULTS["words_beside"]]
        if doubt is not None:
            doubts.append(doubt)
        repairs = [each for each in [*repairs, *more] if each is not FAULTS["words_beside"]]
        return Reading(phone, None, tuple(doubts), tuple(dict.fromkeys(repairs)))


def _without_code(digits: str) -> Fault:
    """Return why a number that has no country code cannot be read."""
    for prefix in _DIALLED_FROM_AMERICA_AND_JAPAN:
        split = (
            split_international(digits.removeprefix(prefix)) if digits.startswith(prefix) else None
        )
        if split is not None and split[0].is_mobile(split[1]):
            return DIALLED_ABROAD
    return FAULTS["no_country_code"]


def _same_code(code: _Code, digits: str) -> PhoneNumber:
    """Return a number in international form, whose code must be the one beside it."""
    if digits.startswith("00"):
        for plan, phone_num in readings_of_dialled(digits):
            if plan is code.plan and phone_num.startswith(code.area):
                return PhoneNumber.parse(plan.calling_code, phone_num)
    number = PhoneNumber.from_international(digits)
    is_its_code = code.plan is not None and number.country_code == code.plan.calling_code
    if not is_its_code or not number.phone_num.startswith(code.area):
        raise PhoneError(FAULTS["country_codes_differ"])
    return number


def _repair(
    phone: PhoneNumber, numeric: bool, has_bracketed_zero: bool
) -> tuple[PhoneNumber, list[Fault]]:
    """Repair a number that its country does not have, if the result is one that it has."""
    plan = plan_of(phone.country_code)
    digits = phone.phone_num
    if plan is None or plan.matches(digits):
        return phone, []
    trunk, code = plan.trunk_prefix or "0" * has_bracketed_zero, plan.calling_code
    if trunk and digits.startswith(trunk) and plan.matches(digits.removeprefix(trunk)):
        return PhoneNumber(code, digits.removeprefix(trunk)), [FAULTS["trunk_prefix"]]
    rest = digits
    for dialled in ("", *_DIALLED_FROM_AMERICA_AND_JAPAN):
        rest = digits.removeprefix(dialled + code)
        if rest != digits and is_mobile(code, rest):
            return PhoneNumber(code, rest), [FAULTS["country_code_repeated"]]
    if digits.startswith(code):
        rest = digits.removeprefix(code)
        if trunk and rest.startswith(trunk) and is_mobile(code, rest.removeprefix(trunk)):
            repairs = [FAULTS["country_code_repeated"], FAULTS["trunk_prefix"]]
            return PhoneNumber(code, rest.removeprefix(trunk)), repairs
    if len(digits) not in plan.lengths and plan.matches("0" + digits):
        if not numeric:
            raise PhoneError(FAULTS["leading_zero_lost"])
        return PhoneNumber(plan.calling_code, "0" + digits), [FAULTS["leading_zero_restored"]]
    return phone, []


def _perhaps_repeated(phone: PhoneNumber) -> Fault | None:
    """Return a doubt about a number that would also be one without its first digits."""
    code, digits = phone.country_code, phone.phone_num
    rest = digits.removeprefix(code)
    if rest != digits and is_mobile(code, rest) and not is_mobile(code, digits):
        return FAULTS["country_code_perhaps_repeated"]
    return None


def _code_of(text: str) -> _Code:
    try:
        if _is_empty(text):
            return _NO_CODE
        digits, repaired = _code_digits(text)
        area = area_within_code_1(digits) or ""
        if area:
            digits = "1"
            repaired = [*repaired, FAULTS["area_in_code"]]
        if plan_of(digits) is None or digits in BARRED_COUNTRY_CODES:
            PhoneNumber.parse(digits, "0")  # refuses it with the reason
    except PhoneError as error:
        return _Code(fault=error.fault)
    plan = plan_of(digits)
    if plan is None:
        return _Code(fault=FAULTS["country_not_a_code"])
    suspicious = ("",) if area else tuple({"0", plan.calling_code, plan.trunk_prefix or "0"})
    return _Code(plan, None, tuple(repaired), area, suspicious)


def _code_digits(text: str) -> tuple[str, list[Fault]]:
    """Return the digits of a country code: "852.0", "HK", "Hong Kong", "Hong Kong (+852)"."""
    plain = without_formatting(text).strip("'")
    if sum(c.isalpha() for c in plain) > 1:  # a single one may be the E of 8.52E+02
        named = _CODE_IN_TEXT.findall(text)
        if len(named) == 1:
            return without_formatting(named[0]), [FAULTS["code_within_text"]]
        is_region = len(plain) == 2 and plain.isascii()  # noqa: PLR2004 - ISO 3166
        found = (calling_code_of_region(plain) if is_region else None) or calling_code_of_country(
            text
        )
        if found is None:
            raise PhoneError(FAULTS["country_not_a_code"])
        return found, [FAULTS["region"]]
    try:
        digits, repaired = extract_digits(text)
    except PhoneError as error:
        raise PhoneError(FAULTS["country_not_a_code"]) from error
    digits = without_international_prefix(digits)
    if len(digits) > len("1242"):
        raise PhoneError(FAULTS["country_code_length"])
    return digits, [fault for fault in repaired if fault is not FAULTS["formatting"]]


_PLACEHOLDERS = frozenset(
    {"n/a", "na", "nan", "null", "none", "nil", "nul", "tbd", "unknown", "-", "--", "/", "?", "無"}
    | {"无", "空", "暂无", "没有", "\\n", "x", "xx", "xxx"}
)
_APOSTROPHES = "'`\u00b4\u2018\u2019\uff07"
_ERROR = re.compile(r"#(?:N/A|REF!|VALUE!|NAME\?|DIV/0!|NULL!|NUM!|SPILL!|CALC!|[A-Z]+!|#*)", re.I)
_EXPONENT = re.compile(r"\+?(\d)(?:[.,](\d+))?[eE]\+?(\d{1,3})")
_DECIMAL = re.compile(r"(\+?\d[\d \u00a0]*)[.,]0{1,2}")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_DATE = re.compile(
    r"(?:19|20)\d\d([-/.])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?:[ T]\d\d?:\d\d.*)?"
    r"|(?:0?[1-9]|[12]\d|3[01])([-/.])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d"
    r"|\d{1,2}[-/ ](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*(?:[-/ ]\d{2,4})?",
    re.I,
)
_BETWEEN_NUMBERS = re.compile(
    r"[/;,|&\r\n\t\v\f\x85\u2028\u2029\u3001\uff0c\uff1b\uff0f]|\b(?:or|and|und|et)\b|或|和"
)
_EXTENSION = re.compile(
    r"\d\s*[,;]?\s*(?:ext\.?|extension|x|#|分机|分機|内线|內線|转|轉)\s*[:.=]?\s*\d+", re.I
)
_SUFFIXED = re.compile(r"(.*\d)\s*(?:\(\d{1,3}\)|[\-\u2010-\u2015\u2212]\s*\d{1,3})")
_GROUPED = re.compile(r"[()\-\u2010-\u2015\u2212]")
_MINUS = re.compile(r"(?:[\-\u2010-\u2015\u2212\uff0d]\s*)+[\d(+\uff10-\uff19]")
_BELOW_ONE = re.compile(r"0[.,]\d*[1-9]\d*(?:[eE]-?\d+)?")
_DECIMAL_POINT = re.compile(r"[^.]*\.[^.]*")
_DIGITS_OF_A_NUMBER = 5
_LABELS = NUMBER_SPELLINGS | INTERNATIONAL_SPELLINGS | {"sms", "smsto", "callto"}
# What is an address of one mobile number, country code first, by its form.
_ADDRESSES = (
    re.compile(r"(\d{7,15})@(?:s\.whatsapp\.net|c\.us)", re.I),
    re.compile(
        r"(?:https?://)?(?:(?:www\.)?wa\.me/|(?:api|web)\.whatsapp\.com/send/?\?phone=)"
        r"(?:\+|%2b)?(\d{7,15})(?:[/?&#].*)?",
        re.I,
    ),
    re.compile(r"sips?:(\+\d{7,15})@[^@\s]+", re.I),
)
_SLASHED = re.compile(r"([+(]{0,2}\d[\d ()\-]{1,10})[/\uff0f] ?(\d[\d \-]{3,})")
_DIGITS_BEFORE_A_SLASH = 5  # of an area code; three more with a country code
_NO_NUMBER = r"([^\d+\uff0b]*)"
_ONE_NUMBER = re.compile(
    _NO_NUMBER
    + r"([+\uff0b(]?\s?[+\uff0b(]?\d[\d \u00a0()\[\].\-\u2010-\u2015\u2212]{5,}\d)"
    + _NO_NUMBER
)


def extract_digits(text: str, *, numeric: bool = False) -> tuple[str, list[Fault]]:
    """Return a cell's digits, perhaps with "+" in front, and what was left out to get them.

    No digit is changed. What was left out may be a doubt: `words_beside`.

    Args:
        text: The cell.
        numeric: It is a number in the file, so a dot in it is a decimal point.

    Raises:
        PhoneError: With what happened to the number, if its digits are lost or not certain.
    """
    repaired: list[Fault] = []
    plain = text.strip()
    if plain[:1] in _APOSTROPHES and plain.strip(_APOSTROPHES):
        plain = plain.strip(_APOSTROPHES + " ")
        repaired.append(FAULTS["apostrophe"])
    if _is_empty(plain):
        raise PhoneError(NO_PHONE_NUM)
    if _MINUS.match(plain):
        raise PhoneError(FAULTS["computed"])
    plain = _whole_number(plain, repaired)
    if (numeric and ("." in plain or "e-" in plain.lower())) or _BELOW_ONE.fullmatch(plain):
        raise PhoneError(FAULTS["fraction"])
    digits = without_formatting(plain)
    if digits.startswith(("++", "+00")):  # no country code begins with 0
        digits = "+" + digits.lstrip("+0")
    if not digits.removeprefix("+").isdigit() or not digits.isascii():
        digits, left_out = _number_within(plain)
        return digits, [*repaired, left_out]
    if _DATE.fullmatch(plain):
        raise PhoneError(FAULTS["date"])
    if not digits.strip("0"):
        raise PhoneError(FAULTS["zero"])
    if digits != plain:
        repaired.append(FAULTS["formatting"])
    return digits, repaired


def _is_empty(text: str) -> bool:
    """Return whether a cell is empty, or holds what people and programs write for that."""
    plain = text.strip()
    return not without_formatting(plain) or plain.casefold() in _PLACEHOLDERS


def _likelier_kind(text: str, plan: NumberingPlan, decimal_left_out: bool) -> Fault | None:
    """Return what a text more likely is, if the number read from it is one that nobody can have."""
    parts = [without_formatting(part).removeprefix("+") for part in text.split()]
    if sum(plan.matches(part.removeprefix(plan.calling_code)) for part in parts) > 1:
        return FAULTS["several_numbers"]
    if _SLASHED.fullmatch(text.strip()):
        return _other_kind(text)
    is_fraction = _DECIMAL_POINT.fullmatch(text.strip()) is not None  # or it groups digits
    return FAULTS["fraction"] if is_fraction and not decimal_left_out else None


def _has_suffix(text: str, phone: PhoneNumber) -> bool:
    """Return whether "(2)" or "-1" at the end is not part of the number.

    The numbering plan has the number without it.
    """
    found = _SUFFIXED.fullmatch(text.strip())
    plan = plan_of(phone.country_code)
    if found is None or plan is None:
        return False
    rest = without_international_prefix(without_formatting(found[1]))
    ways = {rest, rest.removeprefix(phone.country_code)}
    ways |= {way.removeprefix(plan.trunk_prefix) for way in ways}
    if not any(map(plan.matches, ways)):
        return False
    return not plan.matches(phone.phone_num) or _GROUPED.search(found[1]) is None


def _whole_number(plain: str, repaired: list[Fault]) -> str:
    """Return plain digits for the ways in which a spreadsheet writes a whole number."""
    exponent = _EXPONENT.fullmatch(plain)
    if exponent is not None:
        digits = exponent[1] + (exponent[2] or "")
        if len(digits) != int(exponent[3]) + 1 or not digits[1:].strip("0"):
            raise PhoneError(FAULTS["scientific"])
        repaired.append(FAULTS["exponent"])
        return digits
    decimal = _DECIMAL.fullmatch(plain)
    if decimal is not None:
        repaired.append(FAULTS["decimal"])
        return decimal[1]
    if _THOUSANDS.fullmatch(plain):
        repaired.append(FAULTS["thousands"])
        return plain.replace(",", "")
    return plain


def _number_within(plain: str) -> tuple[str, Fault]:
    """Return the digits of the one number within a text, and what was left out for it.

    Raises:
        PhoneError: With what the text is, if it does not hold one number for certain.
    """
    for pattern in _ADDRESSES:
        found = pattern.fullmatch(plain)
        if found is not None:
            return "+" + found[1].removeprefix("+"), FAULTS["prefix"]
    slashed = _SLASHED.fullmatch(plain)
    if slashed is not None:
        area = without_formatting(slashed[1])
        if len(area) <= _DIGITS_BEFORE_A_SLASH + 4 * area.startswith("+"):
            return area + without_formatting(slashed[2]), FAULTS["formatting"]
    fault = _other_kind(plain)
    found = _ONE_NUMBER.fullmatch(plain) if fault is PHONE_NUM_NOT_DIGITS else None
    if found is None:
        raise PhoneError(fault)
    before, number, after = found.groups()
    digits = without_formatting(number)
    word = plain_name(before + after)
    if word in _LABELS or not word:
        return digits, FAULTS["prefix"]
    if not digits.startswith("+"):
        raise PhoneError(fault)
    return digits, FAULTS["words_beside"]


def _other_kind(plain: str) -> Fault:
    """Return what a text that is not a number looks like."""
    if _ERROR.fullmatch(plain):
        return FAULTS["spreadsheet_error"]
    if _DATE.fullmatch(plain):
        return FAULTS["date"]
    if _EXTENSION.search(plain):
        return FAULTS["extension"]
    parts = _BETWEEN_NUMBERS.split(plain)
    if sum(sum(c.isdigit() for c in part) >= _DIGITS_OF_A_NUMBER for part in parts) > 1:
        return FAULTS["several_numbers"]
    return PHONE_NUM_NOT_DIGITS
