"""Numbering plans: which country calling codes exist, and what their numbers look like.

The figures are those of `phonenumbers` (libphonenumber's metadata), read per calling code and kept:
its own `parse` takes about 10 µs per number, a look-up here well under one. Plans change while a
release of the metadata grows old, so a plan is evidence for a warning or a repair, never on its own
a reason to refuse a number; that a calling code exists at all is taken from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, country_code_for_region

_LONGEST_CALLING_CODE = 3  # ITU-T E.164: one to three digits, and no code begins with another one


@dataclass(frozen=True, slots=True)
class NumberingPlan:
    """The numbers of one calling code, without the code itself.

    Attributes:
        calling_code: Digits, as "852".
        lengths: Digits that a number may have.
        trunk_prefix: What callers inside the country dial first ("0" in Germany), or "".
        pattern: What any number of the plan looks like; loose, but it knows leading digits.
    """

    calling_code: str
    lengths: frozenset[int]
    trunk_prefix: str
    pattern: re.Pattern[str]

    def matches(self, phone_num: str) -> bool:
        return len(phone_num) in self.lengths and self.pattern.fullmatch(phone_num) is not None


@lru_cache(maxsize=1024)
def plan_of(calling_code: str) -> NumberingPlan | None:
    """The plan of a calling code, or None if no such code exists.

    Where regions share a code, the main region's plan stands for all: its general pattern takes in
    the others' numbers (checked over all of the metadata by the tests).
    """
    if not (calling_code.isascii() and calling_code.isdigit()) or calling_code[0] == "0":
        return None
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(calling_code))
    if regions is None:
        return None
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), regions[0])
    if metadata is None or metadata.general_desc is None:
        return None
    general = metadata.general_desc
    return NumberingPlan(
        calling_code=calling_code,
        lengths=frozenset(general.possible_length),
        trunk_prefix=metadata.national_prefix or "",
        pattern=re.compile(general.national_number_pattern or ""),
    )


def split_international(digits: str) -> tuple[NumberingPlan, str] | None:
    """Split digits that begin with a calling code; None if they begin with none that exists.

    There is never more than one way: calling codes are prefix-free.
    """
    for length in range(1, _LONGEST_CALLING_CODE + 1):
        plan = plan_of(digits[:length]) if len(digits) >= length else None
        if plan is not None:
            return plan, digits[length:]
    return None


def calling_code_of_region(region: str) -> str | None:
    """The calling code of a region by its two letters (ISO 3166), as "HK" -> "852"."""
    code = country_code_for_region(region.upper())
    return str(code) if code else None


def is_mobile(calling_code: str, phone_num: str) -> bool:
    """Whether a number is one of the mobile numbers of any region with that calling code.

    Where mobile and fixed numbers look alike, as in North America, both are.
    """
    return any(pattern.fullmatch(phone_num) for pattern in _mobile_patterns(calling_code))


@lru_cache(maxsize=256)
def _mobile_patterns(calling_code: str) -> tuple[re.Pattern[str], ...]:
    code = int(calling_code)
    found = []
    for region in COUNTRY_CODE_TO_REGION_CODE.get(code, ()):
        metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
        mobile = metadata.mobile if metadata is not None else None
        if mobile is not None and mobile.national_number_pattern:
            found.append(re.compile(mobile.national_number_pattern))
    return tuple(found)


@lru_cache(maxsize=1024)
def area_within_code_1(code: str) -> str | None:
    """The area code that tables of dialling codes join to the 1 before it: "1242" -> "242".

    Only for countries other than the United States and Canada, whose area codes nobody writes so.
    """
    if len(code) != len("1242") or not code.startswith("1"):
        return None
    for region in COUNTRY_CODE_TO_REGION_CODE[1]:
        metadata = PhoneMetadata.metadata_for_region(region)
        leading = metadata.leading_digits if metadata is not None else None
        if leading and re.fullmatch(leading, code[1:]):
            return code[1:]
    return None
