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
        lengths: Digits that a number may have.
        trunk_prefix: What callers inside the country dial first ("0" in Germany), or "".
        pattern: What any number of the plan looks like; loose, but it knows leading digits.
        mobile: What mobile numbers look like. Where they look like landlines, as in North America,
            they are both.
        others: The same for each other kind, by its name for people.
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
        """What a number is that is not mobile, as "landline"; None if no number is like it."""
        return next((kind for kind, like in self.others if like.fullmatch(phone_num)), None)


@lru_cache(maxsize=1024)
def plan_of(calling_code: str) -> NumberingPlan | None:
    """The plan of a calling code, or None if no such code exists.

    Where regions share a code, the main region's plan stands for all: its general pattern takes in
    the others' numbers (checked over all of the metadata by the tests). What is mobile, and what a
    landline, is taken from all of them.
    """
    if not (calling_code.isascii() and calling_code.isdigit()) or calling_code[0] == "0":
        return None
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(calling_code))
    if regions is None:
        return None
    found = [_metadata(calling_code, region) for region in regions]
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
        others=tuple((told, _any_of(found, kind)) for kind, told in kinds.items()),
    )


def _metadata(calling_code: str, region: str) -> PhoneMetadata | None:
    return PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region)


def _any_of(found: list[PhoneMetadata | None], kind: str) -> re.Pattern[str]:
    """What numbers of a kind look like in any of the regions."""
    patterns = [
        description.national_number_pattern
        for metadata in found
        if (description := getattr(metadata, kind, None)) and description.national_number_pattern
    ]
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else _NEVER


def split_international(digits: str) -> tuple[NumberingPlan, str] | None:
    """Split digits that begin with a calling code; None if they begin with none that exists.

    There is never more than one way: calling codes are prefix-free.
    """
    for length in range(1, _LONGEST_CALLING_CODE + 1):
        plan = plan_of(digits[:length]) if len(digits) >= length else None
        if plan is not None:
            return plan, digits[length:]
    return None


def readings_of_dialled(digits: str) -> list[tuple[NumberingPlan, str]]:
    """All ways to read digits that begin with 00, as `split_international` gives one.

    From most countries 00 is dialled before the country code. From Singapore, Hong Kong, Korea,
    Thailand and others it is 001, from Australia 0011: 001 65 8234 5678 is a number in Singapore,
    or +1 658 234 5678 in Jamaica. What is dialled elsewhere, such as 002, would make most numbers
    that are written with 00 look like two.
    """
    first = split_international(digits.removeprefix("00"))
    found = [first] if first is not None and first[0].matches(first[1]) else []
    for prefix in ("001", "0011"):
        split = (
            split_international(digits.removeprefix(prefix)) if digits.startswith(prefix) else None
        )
        if split is not None and (split[0].is_mobile(split[1]) or split[0].other_kind(split[1])):
            found.append(split)
    return found or ([first] if first is not None else [])


def calling_code_of_region(region: str) -> str | None:
    """The calling code of a region by its two letters (ISO 3166), as "HK" -> "852"."""
    code = country_code_for_region(region.upper())
    return str(code) if code else None


def is_mobile(calling_code: str, phone_num: str) -> bool:
    """Whether a number is one of the mobile numbers of any region with that calling code."""
    plan = plan_of(calling_code)
    return plan is not None and plan.is_mobile(phone_num)


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
