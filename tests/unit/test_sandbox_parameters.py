"""What the sandbox says to bodies."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.api import Parameters, read_parameters
from sandbox.signature import Refused
from tests.sandbox_calls import body_for


def refusal(body: bytes) -> str:
    with pytest.raises(Refused) as caught:
        read_parameters(body)
    return caught.value.code


def test_the_body_of_the_reference_page_is_read() -> None:
    body = b'{\n    "CountryCode": "852",\n    "PhoneNum": "18888888888"\n}'

    assert read_parameters(body) == Parameters("852", "18888888888")


@pytest.mark.parametrize("length", [1, 32])
def test_a_number_of_1_to_32_digits_is_read(length: int) -> None:
    assert read_parameters(body_for("5" * length)).number == "852" + "5" * length


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "InvalidParameter"),
        (b"{", "InvalidParameter"),
        (b"\xff\xfe", "InvalidParameter"),
        (b"\xef\xbb\xbf" + body_for("55500000"), "InvalidParameter"),
        (b"CountryCode=852&PhoneNum=55500000", "InvalidParameter"),
        (b'["852", "55500000"]', "InvalidParameter"),
        (b"NaN", "InvalidParameter"),
        (b"[" * 100_000, "InvalidParameter"),
        (b'{"CountryCode": "852", "PhoneNum": "1", "PhoneNum": "2"}', "InvalidParameter"),
        (b'{"CountryCode": 852, "PhoneNum": "55500000"}', "InvalidParameter"),
        (b'{"CountryCode": "852", "PhoneNum": 55500000}', "InvalidParameter"),
        (b'{"CountryCode": "852", "PhoneNum": null}', "InvalidParameter"),
        (b"{}", "MissingParameter"),
        (b'{"CountryCode": "852"}', "MissingParameter"),
        (b'{"PhoneNum": "55500000"}', "MissingParameter"),
        (b'{"CountryCode": "852", "PhoneNum": "1", "Region": ""}', "UnknownParameter"),
        (b'{"countryCode": "852", "PhoneNum": "1"}', "UnknownParameter"),
        (body_for(""), "InvalidParameterValue"),
        (body_for("5" * 33), "InvalidParameterValue"),
        (body_for("5550-0000"), "InvalidParameterValue"),
        (body_for(" 55500000"), "InvalidParameterValue"),
        (body_for("\u0665\u0665\u0665"), "InvalidParameterValue"),
        (body_for("55500000\n"), "InvalidParameterValue"),
        (body_for("55500000", "+852"), "InvalidParameterValue"),
        (body_for("55500000", "00852"), "InvalidParameterValue"),
        (body_for("55500000", ""), "InvalidParameterValue"),
        (body_for("55500000", "7"), "InvalidParameterValue.UnSupportArea"),
        (body_for("55500000", "380"), "InvalidParameterValue.UnSupportArea"),
        (body_for("55500000", "86"), "InvalidParameterValue.UnSupportArea"),
    ],
)
def test_a_wrong_body_gets_the_code_that_fits(body: bytes, code: str) -> None:
    assert refusal(body) == code


@given(st.binary(max_size=200))
def test_no_body_ends_otherwise_than_read_or_refused(body: bytes) -> None:
    with suppress(Refused):
        read_parameters(body)
