from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.codes import Kind, OwnCode
from worker.verdict import judge_body, judge_status


def answer(**response: object) -> bytes:
    return json.dumps({"Response": response}).encode()


def refusal(code: object, message: object = "no", request_id: object = "abc") -> bytes:
    return answer(Error={"Code": code, "Message": message}, RequestId=request_id)


def test_request_id_without_error_means_sent() -> None:
    verdict = judge_body(answer(RequestId="8f5c2c1e-0d4c-4f5e-8a2e-7d1f33b0a1c9"))

    assert verdict.kind is Kind.SENT
    assert (verdict.code, verdict.message) == ("", "")
    assert verdict.request_id == "8f5c2c1e-0d4c-4f5e-8a2e-7d1f33b0a1c9"


def test_error_is_judged_by_its_code_and_not_by_its_message() -> None:
    verdict = judge_body(refusal("FailedOperation.PhoneBindUpper", "InternalError, try again"))

    assert verdict.kind is Kind.PERMANENT
    assert verdict.code == "FailedOperation.PhoneBindUpper"
    assert verdict.message == "InternalError, try again"
    assert verdict.request_id == "abc"


def test_error_without_request_id_is_judged_all_the_same() -> None:
    verdict = judge_body(answer(Error={"Code": "ServiceUnavailable"}))

    assert (verdict.kind, verdict.request_id) == (Kind.TRANSIENT, None)


@pytest.mark.parametrize("request_id", [None, "", 7, ["abc"]])
def test_neither_error_nor_readable_request_id_is_ambiguous(request_id: object) -> None:
    verdict = judge_body(answer(RequestId=request_id))

    assert (verdict.kind, verdict.code) == (Kind.AMBIGUOUS, OwnCode.WRONG_SHAPE)


@pytest.mark.parametrize(
    "error",
    [
        None,
        "InternalError",
        [],
        {},
        {"Message": "no code"},
        {"Code": None},
        {"Code": 17},
        {"Code": ""},
        {"Code": "two words"},
        {"Code": "Line\nBreak"},
        {"Code": "=cmd()"},
        {"Code": "FailedOperation.85218888888888"},
        {"Code": "A" * 200},
        {"Code": "ÄÖÜ"},
    ],
)
def test_error_without_a_readable_code_is_ambiguous(error: object) -> None:
    verdict = judge_body(answer(Error=error, RequestId="abc"))

    assert (verdict.kind, verdict.code) == (Kind.AMBIGUOUS, OwnCode.WRONG_SHAPE)
    assert verdict.request_id == "abc"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", OwnCode.NOT_JSON),
        (b"<html><body>502</body></html>", OwnCode.NOT_JSON),
        (b'{"Response": {"RequestId": "a', OwnCode.NOT_JSON),
        (b"\xff\xfe\x00\xd8", OwnCode.NOT_JSON),
        (b"[" * 60_000, OwnCode.NOT_JSON),
        (b"9" * 10_000, OwnCode.NOT_JSON),
        (b"[]", OwnCode.WRONG_SHAPE),
        (b"null", OwnCode.WRONG_SHAPE),
        (b'"Response"', OwnCode.WRONG_SHAPE),
        (b"{}", OwnCode.WRONG_SHAPE),
        (b'{"Response": null}', OwnCode.WRONG_SHAPE),
        (b'{"Response": []}', OwnCode.WRONG_SHAPE),
        (b'{"RequestId": "abc"}', OwnCode.WRONG_SHAPE),
    ],
)
def test_body_that_is_no_answer_is_ambiguous(body: bytes, code: OwnCode) -> None:
    verdict = judge_body(body)

    assert (verdict.kind, verdict.code) == (Kind.AMBIGUOUS, code)


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode))
def test_no_body_raises_or_counts_as_sent_without_a_request_id(body: bytes) -> None:
    verdict = judge_body(body)

    assert verdict.kind is Kind.AMBIGUOUS or b"Response" in body


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (204, OwnCode.HTTP_STATUS),
        (301, OwnCode.REDIRECT),
        (307, OwnCode.REDIRECT),
        (404, OwnCode.HTTP_STATUS),
        (429, OwnCode.HTTP_STATUS),
        (500, OwnCode.HTTP_STATUS),
        (503, OwnCode.HTTP_STATUS),
    ],
)
def test_http_status_other_than_200_is_ambiguous(status: int, code: OwnCode) -> None:
    verdict = judge_status(status)

    assert verdict is not None
    assert (verdict.kind, verdict.code) == (Kind.AMBIGUOUS, code)


def test_status_200_decides_nothing() -> None:
    assert judge_status(200) is None


@pytest.mark.parametrize(
    "number",
    [
        "18888888888",
        "+85218888888888",
        "+852 1888 888 8888",
        "(852) 18-888-888-888",
        "188.8888.8888",
        "188/8888/8888",
        "188_8888_8888",
        "188,888,888,88",
        "188:8888:8888",
        "188*8888*8888",
        "188\u20118888\u20138888",  # hyphens of other lengths
        "1\u200b8\u200b8\u200b88888888",  # blanks of no width
        "188\u202c8888\u202d8888",  # changes of the writing direction
        "１８８８８８８８８８８",  # noqa: RUF001 - full-width digits
    ],
)
def test_number_repeated_by_the_server_is_not_passed_on(number: str) -> None:
    verdict = judge_body(refusal("InvalidParameterValue", f"PhoneNum {number} is not valid"))

    assert "[number] is not valid" in verdict.message
    assert not any(char.isdigit() for char in verdict.message)


def test_message_cannot_steer_a_terminal_or_break_a_log_line() -> None:
    verdict = judge_body(refusal("InternalError", "a\x1b[2Jb\r\nc\u202ed\u2028e\ud800f  "))

    assert verdict.message == "a [2Jb  c d e f"


@pytest.mark.parametrize(("message", "shown"), [(None, ""), ({"a": 1}, ""), ("x" * 900, "x" * 300)])
def test_odd_message_is_shown_as_far_as_it_is_text(message: object, shown: str) -> None:
    assert judge_body(refusal("InternalError", message)).message == shown


def test_odd_request_id_is_made_safe_to_show() -> None:
    verdict = judge_body(answer(RequestId="=a\n\x1b" + "b" * 200))

    assert verdict.request_id == "?a??" + "b" * 124
