"""Reads the body of a SendVerifyCode request, strictly: two strings and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sandbox import codes
from sandbox.codes import Refused

# Source: the official SDK's description of the request (the reference page names no limits).
BARRED_COUNTRIES: Final = frozenset(("7", "380", "86"))
_PHONE_NUM: Final = re.compile(r"[0-9]{1,32}")
_COUNTRY_CODE: Final = re.compile(r"[1-9][0-9]{0,3}")
_NAMES: Final = ("CountryCode", "PhoneNum")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Whom to send a code: digits only."""

    country_code: str
    phone_num: str

    @property
    def number(self) -> str:
        """Both together, the digits of the international form: one name per telephone."""
        return self.country_code + self.phone_num


def read_parameters(body: bytes) -> Parameters:
    """The parameters in `body`.

    Raises:
        Refused: InvalidParameter, UnknownParameter, MissingParameter or InvalidParameterValue.
    """
    try:
        document = json.loads(
            body.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise Refused(codes.INVALID_PARAMETER, "The body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise Refused(codes.INVALID_PARAMETER, "The body is not a JSON object.")
    for name in document:
        if name not in _NAMES:
            raise Refused(codes.UNKNOWN_PARAMETER, "The body has a parameter that is not known.")
    for name in _NAMES:
        if name not in document:
            raise Refused(codes.MISSING_PARAMETER, f"The parameter {name} is missing.")
        if not isinstance(document[name], str):
            raise Refused(codes.INVALID_PARAMETER, f"The parameter {name} is not a string.")
    country_code, phone_num = document["CountryCode"], document["PhoneNum"]
    if not _COUNTRY_CODE.fullmatch(country_code):
        raise Refused(codes.INVALID_VALUE, "CountryCode is not a country code.")
    if not _PHONE_NUM.fullmatch(phone_num):
        raise Refused(codes.INVALID_VALUE, "PhoneNum is not 1 to 32 digits.")
    if country_code in BARRED_COUNTRIES:
        raise Refused(codes.UNSUPPORTED_AREA)
    return Parameters(country_code, phone_num)


def _without_doubles(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name stands twice")
    return document


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
