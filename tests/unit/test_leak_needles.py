"""Does the search for leaks find what it is looking for, in every form?"""

from __future__ import annotations

import base64
import zlib

import pytest

from tests.leaks.needles import KEY, NAME, NAME_MARK, NUMBER, Needles, canaries

CANARIES = canaries(["9900", "9901", "9932"] * 100)
NUMBERS = [each.phone.phone_num for each in CANARIES]
NEEDLES = Needles({NUMBER: NUMBERS, NAME: [NAME_MARK], KEY: ["a-key/of+the=account?"]})
TEXT = NUMBERS[123]


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("plain", TEXT.encode()),
        ("plain", f"+852{TEXT}.".encode()),
        ("reversed", TEXT[::-1].encode()),
        ("hex", TEXT.encode().hex().encode()),
        ("UTF-16", TEXT.encode("utf-16-le")),
        ("UTF-16", TEXT.encode("utf-16-be")),
        ("base64, 0 before it", base64.b64encode(TEXT.encode())),
        ("base64, 0 before it", base64.b64encode(b"abc" + TEXT.encode() + b"x")),
        ("base64, 1 before it", base64.b64encode(b"a" + TEXT.encode() + b"xy")),
        ("base64, 2 before it", base64.b64encode(b"ab" + TEXT.encode())),
        ("base64, 2 before it", base64.urlsafe_b64encode(b"abcde" + TEXT.encode() + b"\xff")),
        ("integer", int(TEXT).to_bytes(8, "little")),
    ],
)
def test_a_number_is_found_in_each_form(form: str, data: bytes) -> None:
    assert NEEDLES.find(b"\x00 before" + data + b"after") == {f"number, {form}": 1}


def test_names_and_keys_are_found_and_named_as_such() -> None:
    hay = f'{{"name": "{CANARIES[7].name}"}} a-key/of+the=account?'.encode()

    assert NEEDLES.find(hay) == {"name, plain": 1, "key, plain": 1}
    assert NEEDLES.find(hay, {NUMBER}) == {}


def test_each_of_several_is_counted() -> None:
    assert NEEDLES.find("\n".join(NUMBERS).encode()) == {"number, plain": 300}


def test_what_is_no_canary_is_not_found() -> None:
    other = canaries(["9900"] * 500)[400].phone.phone_num
    noise = b"".join(zlib.crc32(str(n).encode()).to_bytes(4, "big") for n in range(20_000))

    assert NEEDLES.find(other.encode() + noise + noise.hex().encode()) == {}
    assert NEEDLES.find(str(list(range(10**12, 10**12 + 10**9, 4 * 10**4 + 1))).encode()) == {}
