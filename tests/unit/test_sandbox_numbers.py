"""The table of magic numbers: complete, and usable in a spreadsheet."""

from __future__ import annotations

import phonenumbers
import pytest

from sandbox.numbers import (
    BEHAVIOURS,
    MAGIC_NUMBERS,
    Delivery,
    behaviour_named,
    magic_for,
)
from tests.sandbox import number_for

# Every row of the verdict table that a number can bring about; a refused connection cannot.
VERDICT_TABLE = [
    "ServiceUnavailable",
    "OperationDenied.ServiceBusy",
    "ResourceUnavailable",
    "ResourceInsufficient",
    "InternalError",
    "RequestLimitExceeded",
    "FailedOperation.SendVerifyCodeLimit60",
    "FailedOperation.SendVerifyCodeLimit",
    "FailedOperation.PhoneBindUpper",
    "InvalidParameter",
    "InvalidParameterValue",
    "InvalidParameterValue.UnSupportArea",
    "MissingParameter",
    "UnknownParameter",
    "AuthFailure.SignatureExpire",
    "AuthFailure.SignatureFailure",
    "UnauthorizedOperation",
    "IpInBlacklist",
    "IpNotInWhitelist",
    "ActionOffline",
    "InvalidAction",
    "NoSuchProduct",
    "NoSuchVersion",
    "UnsupportedOperation",
    "InvalidRequest",
    "RequestSizeLimitExceeded",
    "LimitExceeded",
    "FailedOperation.NeverHeardOf",
]


def test_each_prefix_is_four_digits_and_stands_once() -> None:
    prefixes = [row.prefix for row in MAGIC_NUMBERS]

    assert len(set(prefixes)) == len(prefixes)
    assert all(len(each) == 4 and each.startswith("99") and each.isdigit() for each in prefixes)


@pytest.mark.parametrize("country_code", ["852", "65"])
def test_magic_numbers_are_possible_but_nobody_has_one(country_code: str) -> None:
    for row in MAGIC_NUMBERS:
        number = phonenumbers.parse(f"+{country_code}{row.prefix}0042")

        assert phonenumbers.is_possible_number(number), row
        assert not phonenumbers.is_valid_number(number), row


def test_each_code_of_the_verdict_table_has_a_number() -> None:
    assert {*VERDICT_TABLE} <= {behaviour_named(row.behaviour).code for row in MAGIC_NUMBERS}


def test_each_way_of_delivery_has_a_number() -> None:
    assert {*Delivery} <= {behaviour_named(row.behaviour).delivery for row in MAGIC_NUMBERS}


def test_an_ordinary_number_is_not_magic() -> None:
    assert magic_for("51234567") is None
    assert magic_for("18888888888") is None
    assert magic_for("9901") is None  # too short to be meant


def test_a_magic_number_may_be_longer_than_eight_digits() -> None:
    row = magic_for("9901000012345")

    assert row is not None
    assert row.behaviour == "FailedOperation.PhoneBindUpper"


def test_numbers_are_made_by_behaviour_and_serial() -> None:
    assert number_for("FailedOperation.PhoneBindUpper", 7) == "99010007"
    assert number_for("ServiceUnavailable", 7, prefix="9922") == "99220007"
    with pytest.raises(LookupError, match="name the prefix"):
        number_for("ServiceUnavailable")


def test_a_behaviour_is_a_known_name_or_any_code() -> None:
    assert behaviour_named("hang-up-after") is BEHAVIOURS["hang-up-after"]
    assert behaviour_named("FailedOperation.Whatever1").code == "FailedOperation.Whatever1"
    with pytest.raises(ValueError, match="neither a behaviour"):
        behaviour_named("whatever")
