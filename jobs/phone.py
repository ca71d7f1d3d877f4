"""A phone number as the API takes it: country code and number, both digits, masked when shown.

Refused are numbers that the vendor's rules exclude (`PhoneNum` is 1 to 32 digits without the
country code; codes 7, 380 and 86 are refused, by the reference of the official SDK) and calling
codes that do not exist. A number that is not in the country's numbering plan is only doubtful: the
metadata ages, and the vendor's answer is the truth. Only the fields themselves, `e164` and
deliberate calls such as `dataclasses.asdict` reveal a full number.

Numbering plans are those of `phonenumbers` (libphonenumber's metadata), compiled once per calling
code: its own `parse` takes about 10 µs per number, a look-up here well under one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, country_code_for_region

from config import SendcodeError

BARRED_COUNTRY_CODES: Final = {
    "7": "Russia and Kazakhstan",
    "380": "Ukraine",
    "86": "mainland China",
}
MAX_COUNTRY_CODE_DIGITS: Final = 4
MAX_PHONE_NUM_DIGITS: Final = 32

_SHOWN_DIGITS = 2
_SHORTEST_SHOWN = 5  # two digits of a shorter number would be most of it

# What only helps the eye: spaces of all kinds, invisible marks that are copied along from a page,
# hyphens and dashes, brackets. Not line breaks, "/", "," or ";", which separate two numbers.
_FORMATTING = re.compile(
    "[ \\t\u00a0\u00ad\u1680\u2000-\u200f\u202a-\u202f\u205f-\u2069\u3000\ufeff"
    "\\-\u2010-\u2015\u2212\u30fc()\\[\\]]+"
)
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # to ASCII
_SHORTEST_LAST_GROUP = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, or doubtful, with a phone number or with its row in a file.

    No text in it holds the full number.

    Attributes:
        code: Its name for programs, as "unknown_country_code".
        message: One sentence for people, without a full stop: "country code 999 does not exist".
        remedy: What to do, without a full stop.
        values: What stands in the message, by name, for words of another language.
    """

    code: str
    message: str
    remedy: str
    values: tuple[tuple[str, str], ...] = ()


class PhoneError(SendcodeError, ValueError):
    """Not a phone number that can be sent to; `fault` says why, without the number."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault

    @property
    def code(self) -> str:
        return self.fault.code

    def __str__(self) -> str:
        return f"{self.fault.message}: {self.fault.remedy}"


@dataclass(frozen=True, slots=True, repr=False)
class PhoneNumber:
    """A number that the API may be asked to text; `repr` and `str` show it masked.

    `parse` and `from_international` refuse what cannot be sent to. The constructor checks the shape
    alone, for numbers that were accepted before, as in the ledger: they must stay readable when a
    calling code is abolished.

    Attributes:
        country_code: 1 to 4 digits.
        phone_num: 1 to 32 digits, without the country code.
    """

    country_code: str
    phone_num: str

    def __post_init__(self) -> None:
        """Raise `not_digits`, `country_code_length` or `phone_num_length`."""
        country_code, phone_num = self.country_code, self.phone_num
        if not (country_code.isascii() and country_code.isdigit()):
            raise PhoneError(_COUNTRY_CODE_NOT_DIGITS)
        if not (phone_num.isascii() and phone_num.isdigit()):
            raise PhoneError(PHONE_NUM_NOT_DIGITS)
        if len(country_code) > MAX_COUNTRY_CODE_DIGITS:
            raise PhoneError(_COUNTRY_CODE_LENGTH)
        if len(phone_num) > MAX_PHONE_NUM_DIGITS:
            raise PhoneError(_PHONE_NUM_LENGTH)

    @classmethod
    def parse(cls, country_code: str, phone_num: str) -> PhoneNumber:
        """Read a number given in two parts, as people write them: spaces, dashes, brackets.

        Both parts may be in full-width digits; the code may come as "+852" or "00852". No digit of
        the number is ever changed, added or left out.

        Raises:
            PhoneError: Nothing can be sent to it.
        """
        if not (country_code.isascii() and country_code.isdigit() and country_code[0] != "0"):
            country_code = without_international_prefix(without_formatting(country_code))
        if not (phone_num.isascii() and phone_num.isdigit()):
            phone_num = without_formatting(phone_num)
        if not country_code:
            raise PhoneError(_NO_COUNTRY_CODE)
        if not phone_num:
            raise PhoneError(NO_PHONE_NUM)
        if phone_num[0] == "+":
            raise PhoneError(_TWO_COUNTRY_CODES)
        number = cls(country_code, phone_num)
        if country_code in BARRED_COUNTRY_CODES:
            raise PhoneError(_barred(country_code))
        if plan_of(country_code) is None:
            raise PhoneError(_unknown_country_code(country_code))
        return number

    @classmethod
    def from_international(cls, text: str) -> PhoneNumber:
        """Read a number that begins with "+" or "00" and its country code: "+852 1888 8888 88".

        Raises:
            PhoneError: Nothing can be sent to it; `no_country_code`: the text begins with neither;
                `dialled_abroad`: it may begin with 001, as dialled for a call abroad.
        """
        text = without_formatting(text)
        if not text:
            raise PhoneError(NO_PHONE_NUM)
        if not text.startswith(("+", "00")):
            raise PhoneError(_NO_COUNTRY_CODE)
        digits = without_international_prefix(text)
        if not (digits.isascii() and digits.isdigit()):
            raise PhoneError(PHONE_NUM_NOT_DIGITS)
        if text.startswith("+"):
            split = split_international(digits)
            found = [split] if split is not None else []
        else:
            found = readings_of_dialled(text)
        if not found:
            raise PhoneError(_unknown_country_code(digits[:3]))
        if len(found) > 1:
            raise PhoneError(DIALLED_ABROAD)
        plan, phone_num = found[0]
        return cls.parse(plan.calling_code, phone_num)

    @property
    def masked(self) -> str:
        """The country code and the last two digits, for people and logs: "+852 ******88"."""
        shown = self.phone_num[-_SHOWN_DIGITS:] if len(self.phone_num) >= _SHORTEST_SHOWN else ""
        return f"+{self.country_code} ******{shown}"

    @property
    def e164(self) -> str:
        """The full number, "+85251234567", for keys and comparison: never log or show it."""
        return f"+{self.country_code}{self.phone_num}"

    @property
    def doubt(self) -> Fault | None:
        """Why an SMS may not arrive: by the numbering plan it is not a mobile number.

        That is not a reason to refuse it: the vendor's own example is not in the plan either.
        """
        plan = plan_of(self.country_code)
        if plan is None or plan.is_mobile(self.phone_num):
            return None
        kind = plan.other_kind(self.phone_num)
        if kind is not None:
            return _not_mobile(self.country_code, kind)
        if len(self.phone_num) in plan.lengths:
            return _not_in_plan(self.country_code, len(self.phone_num))
        return _implausible_length(self.country_code, len(self.phone_num), plan.lengths)

    def __repr__(self) -> str:
        return self.masked

    __str__ = __repr__


def without_formatting(text: str) -> str:
    """Return a number without what only helps the eye, and with foreign digits as plain ones.

    Anything else stays, and so does a leading "+".
    """
    plain = text.strip().translate(_FULL_WIDTH)
    if not plain.isascii():
        plain = "".join(str(unicodedata.decimal(c, c)) for c in plain)
    plain = _FORMATTING.sub("", plain)
    # dots as in "6.12.34.56.78" go, but not a spreadsheet's decimal point, as in "85251234567.0"
    first, *groups = plain.split(".")
    several = len(groups) > 1 and all(len(group) > 1 for group in groups)
    one = len(groups) == 1 and len(groups[0]) >= _SHORTEST_LAST_GROUP and groups[0].strip("0") != ""
    return first + "".join(groups) if several or one else plain


def without_international_prefix(text: str) -> str:
    """Return a number without "+" or "00" in front.

    A single zero stays: "020" is an area code, and Egypt has 20.
    """
    return text.removeprefix("+") if text.startswith("+") else text.removeprefix("00")


_NO_COUNTRY_CODE = Fault(
    "no_country_code",
    "the country code is missing",
    "give it in the column country_code, or write the number as +852… with its country code",
)
NO_PHONE_NUM = Fault("no_phone_num", "the phone number is missing", "fill it in")
DIALLED_ABROAD = Fault(
    "dialled_abroad",
    "the number begins with what is dialled for a call abroad, such as 001 or 011, and may be read "
    "in two ways",
    "write it with + and its country code, such as +65…",
)
_COUNTRY_CODE_NOT_DIGITS = Fault(
    "not_digits",
    "the country code holds something other than digits",
    "write it as digits, such as 852",
)
PHONE_NUM_NOT_DIGITS = Fault(
    "not_digits",
    "the phone number holds something other than digits",
    "write one number, digits only",
)
_COUNTRY_CODE_LENGTH = Fault(
    "country_code_length",
    f"the country code has more than {MAX_COUNTRY_CODE_DIGITS} digits",
    "write the country code alone, such as 852, and the number in its own column",
)
_PHONE_NUM_LENGTH = Fault(
    "phone_num_length",
    f"the phone number has more than {MAX_PHONE_NUM_DIGITS} digits",
    "write one number only",
)
_TWO_COUNTRY_CODES = Fault(
    "two_country_codes",
    "the phone number brings a country code of its own",
    "write it without +, as the country code is given beside it",
)


def _barred(country_code: str) -> Fault:
    where = BARRED_COUNTRY_CODES[country_code]
    return Fault(
        "barred_country_code",
        f"the API sends no codes to country code {country_code} ({where})",
        "use a number of another country",
        (("country_code", country_code),),
    )


def _unknown_country_code(country_code: str) -> Fault:
    return Fault(
        "unknown_country_code",
        f"no country has the calling code {country_code}",
        "correct the country code, such as 852 for Hong Kong",
        (("country_code", country_code),),
    )


def _implausible_length(country_code: str, digits: int, lengths: frozenset[int]) -> Fault:
    if digits < min(lengths):
        code, what = "too_short", "too short"
    elif digits > max(lengths):
        code, what = "too_long", "too long"
    else:
        code, what = "unusual_length", "of an unusual length"
    return Fault(
        code,
        f"a number of {digits} digits is {what} for country code {country_code}, "
        f"whose numbers have {_spans(sorted(lengths))}",
        "check it with the customer",
        (
            ("country_code", country_code),
            ("digits", str(digits)),
            ("lengths", ", ".join(map(str, sorted(lengths)))),
        ),
    )


@lru_cache(maxsize=1024)
def _not_mobile(country_code: str, kind: str) -> Fault:
    return Fault(
        "not_mobile",
        f"by the numbering plan of country code {country_code} this is a {kind}, and a code comes "
        "by SMS",
        "ask the customer for a mobile number",
        (("country_code", country_code),),
    )


@lru_cache(maxsize=1024)
def _not_in_plan(country_code: str, digits: int) -> Fault:
    return Fault(
        "not_in_plan",
        f"country code {country_code} has no numbers of {digits} digits that begin like this one",
        "check it with the customer, digit by digit",
        (("country_code", country_code), ("digits", str(digits))),
    )


def _spans(lengths: list[int]) -> str:
    """Return [5, 6, 7, 9] as "5 to 7 or 9"."""
    spans: list[list[int]] = []
    for length in lengths:
        if spans and length == spans[-1][1] + 1:
            spans[-1][1] = length
        else:
            spans.append([length, length])
    return " or ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)


_NO_REGION = ("001",)  # of calling codes that belong to no country: satellites, international 800
_NEVER = re.compile(r"(?!)")
_KINDS = {
    "fixed_line": "landline",
    "toll_free": "toll-free number",
    "premium_rate": "premium-rate number",
    "shared_cost": "shared-cost number",
    "voip": "internet telephone",
    "personal_number": "number that is forwarded",
    "pager": "pager",
    "uan": "company's number for the whole country",
    "voicemail": "mailbox",
}
_LONGEST_CALLING_CODE = 3  # ITU-T E.164: one to three digits, and no code begins with another one


@dataclass(frozen=True, slots=True)
class NumberingPlan:
    """The numbers of one calling code, without the code itself.

    Attributes:
        calling_code: Digits, as "852".
        lengths: How many digits a number may have.
        trunk_prefix: What callers inside the country dial first ("0" in Germany), or "".
        pattern: Matches all numbers of the plan, and some others: it checks leading digits.
        mobile: Matches mobile numbers. Where these look like landlines, as in North America, a
            number is both.
        others: A pattern for each other kind, with its name for people.
    """

    calling_code: str
    lengths: frozenset[int]
    trunk_prefix: str
    pattern: re.Pattern[str]
    mobile: re.Pattern[str]
    others: tuple[tuple[str, re.Pattern[str]], ...]

    def matches(self, phone_num: str) -> bool:
        return len(phone_num) in self.lengths and self.pattern.fullmatch(phone_num) is not None

    def is_mobile(self, phone_num: str) -> bool:
        return self.mobile.fullmatch(phone_num) is not None

    def other_kind(self, phone_num: str) -> str | None:
        """Return what kind of number it is if not mobile, such as "landline", if any."""
        return next((kind for kind, like in self.others if like.fullmatch(phone_num)), None)


@lru_cache(maxsize=1024)
def plan_of(calling_code: str) -> NumberingPlan | None:
    """Return the plan of a calling code, or None if no such code exists.

    Where regions share a code, the main region's general pattern matches the others' numbers, too
    (a test checks all metadata). The patterns of mobile numbers, landlines and so on are joined.
    """
    if not (calling_code.isascii() and calling_code.isdigit()) or calling_code[0] == "0":
        return None
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(calling_code))
    if regions is None:
        return None
    found = [
        PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region)
        for region in regions
    ]
    metadata = found[0]
    if metadata is None or metadata.general_desc is None:
        return None
    general = metadata.general_desc
    kinds = _KINDS if regions != _NO_REGION else {**_KINDS, "mobile": "satellite phone"}
    return NumberingPlan(
        calling_code=calling_code,
        lengths=frozenset(general.possible_length),
        trunk_prefix=metadata.national_prefix or "",
        pattern=re.compile(general.national_number_pattern or ""),
        mobile=_any_of(found, "mobile") if regions != _NO_REGION else _NEVER,
        others=tuple((name, _any_of(found, kind)) for kind, name in kinds.items()),
    )


def _any_of(found: list[PhoneMetadata | None], kind: str) -> re.Pattern[str]:
    """Return a pattern for numbers of a kind in any of the regions."""
    patterns = [
        description.national_number_pattern
        for metadata in found
        if (description := getattr(metadata, kind, None)) and description.national_number_pattern
    ]
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else _NEVER


def split_international(digits: str) -> tuple[NumberingPlan, str] | None:
    """Split digits at the end of their calling code; None if they begin with none that exists.

    No calling code begins with another one, so there is one way at most.
    """
    for length in range(1, _LONGEST_CALLING_CODE + 1):
        plan = plan_of(digits[:length]) if len(digits) >= length else None
        if plan is not None:
            return plan, digits[length:]
    return None


def readings_of_dialled(digits: str) -> list[tuple[NumberingPlan, str]]:
    """Return all ways to read digits that begin with 00, each as `split_international` does.

    From most countries 00 is dialled before the country code. From Singapore, Hong Kong, Korea,
    Thailand and others it is 001, from Australia 0011: 001 65 8234 5678 is a number in Singapore,
    or +1 658 234 5678 in Jamaica. Other prefixes, such as 002, are not considered: most numbers
    that are written with 00 would then have two readings.
    """
    first = split_international(digits.removeprefix("00"))
    found = [first] if first is not None and first[0].matches(first[1]) else []
    for prefix in ("001", "0011"):
        rest = digits.removeprefix(prefix)
        split = split_international(rest) if rest != digits else None
        if split is not None and (split[0].is_mobile(split[1]) or split[0].other_kind(split[1])):
            found.append(split)
    return found or ([first] if first is not None else [])


def calling_code_of_region(region: str) -> str | None:
    """Return the calling code of a region by its two letters (ISO 3166), as "HK" -> "852"."""
    code = country_code_for_region(region.upper())
    return str(code) if code else None


def is_mobile(calling_code: str, phone_num: str) -> bool:
    """Return whether a number is a mobile one of any region with that calling code."""
    plan = plan_of(calling_code)
    return plan is not None and plan.is_mobile(phone_num)


@lru_cache(maxsize=1024)
def area_within_code_1(code: str) -> str | None:
    """Return the area code that is joined to a 1 in tables of dialling codes: "1242" -> "242".

    None for the United States and Canada, whose area codes are not written like that.
    """
    if len(code) != len("1242") or not code.startswith("1"):
        return None
    for region in COUNTRY_CODE_TO_REGION_CODE[1]:
        metadata = PhoneMetadata.metadata_for_region(region)
        leading = metadata.leading_digits if metadata is not None else None
        if leading and re.fullmatch(leading, code[1:]):
            return code[1:]
    return None
