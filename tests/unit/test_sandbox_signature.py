"""What the sandbox says to signatures, right and wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandbox.signature import Credentials, Refused, verify
from sandbox.wire import Request
from tests.sandbox_calls import Call, body_for

NOW = 1_551_113_065  # 2019-02-25, the moment of the vendor's example
CALL = Call(
    body=b'{"CountryCode": "852", "PhoneNum": "18888888888"}',
    host="intlpartnersmgt.intl.tencentcloudapi.com",
    timestamp=NOW,
)
GOLDEN = "bd048943c259ee5ecff724bf37d48a93510dfbb0e20b26e1b92a1b42f3bcade9"


def received(call: Call, **headers: str | None) -> Request:
    """The call as it came in; a header of None is left out."""
    sent: dict[str, str | None] = {
        **{name.lower(): value for name, value in call.headers().items()},
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    kept = {name: value for name, value in sent.items() if value is not None}
    return Request("POST", "/", kept, call.body)


def refusal(request: Request, now: float = NOW) -> str:
    with pytest.raises(Refused) as caught:
        verify(request, Credentials(), now)
    return caught.value.code


def test_the_golden_vector_is_accepted() -> None:
    request = received(CALL)
    assert GOLDEN in request.headers["authorization"]

    verify(request, Credentials(), NOW)


def test_one_digit_of_the_golden_vector_changed_is_refused() -> None:
    authorization = CALL.headers()["Authorization"].replace(GOLDEN, "c" + GOLDEN[1:])

    code = refusal(received(CALL, authorization=authorization))

    assert code == "AuthFailure.SignatureFailure"


def test_more_signed_headers_than_needed_are_accepted() -> None:
    names = ("content-type", "host", "x-tc-action")

    verify(received(replace(CALL, signed_headers=names)), Credentials(), NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret_key": "SOMEOTHER"},
        {"signed_host": "intlpartnersmgt.tencentcloudapi.com"},
    ],
    ids=["key", "host"],
)
def test_a_signature_by_another_key_or_for_another_host_is_refused(wrong: dict[str, str]) -> None:
    code = refusal(received(replace(CALL, **wrong)))  # type: ignore[arg-type]

    assert code == "AuthFailure.SignatureFailure"


@pytest.mark.parametrize("token", [None, "ANOTHER"])
def test_temporary_credentials_are_good_with_their_token_alone(token: str | None) -> None:
    temporary = Credentials(token="TEMPORARY")

    verify(received(CALL, x_tc_token="TEMPORARY"), temporary, NOW)
    with pytest.raises(Refused) as caught:
        verify(received(CALL, x_tc_token=token), temporary, NOW)

    assert caught.value.code == "AuthFailure.TokenFailure"


def test_a_token_beside_lasting_credentials_is_refused() -> None:
    assert refusal(received(CALL, x_tc_token="TEMPORARY")) == "AuthFailure.TokenFailure"


@pytest.mark.parametrize(
    "changed", [{"content_type": "application/json; charset=utf-8"}, {"host": "127.0.0.1"}]
)
def test_a_signed_header_changed_on_the_way_is_refused(changed: dict[str, str]) -> None:
    assert refusal(received(CALL, **changed)) == "AuthFailure.SignatureFailure"


def test_a_body_changed_on_the_way_is_refused() -> None:
    request = replace(received(CALL), body=body_for("18888888889"))

    assert refusal(request) == "AuthFailure.SignatureFailure"


def test_a_timestamp_changed_on_the_way_is_refused() -> None:
    request = received(CALL, x_tc_timestamp=str(NOW + 1))

    assert refusal(request) == "AuthFailure.SignatureFailure"


@pytest.mark.parametrize("off", [-300, 300])
def test_a_clock_five_minutes_off_is_still_accepted(off: int) -> None:
    verify(received(CALL), Credentials(), NOW + off)


@pytest.mark.parametrize("off", [-301, 301])
def test_a_clock_more_than_five_minutes_off_is_refused(off: int) -> None:
    assert refusal(received(CALL), NOW + off) == "AuthFailure.SignatureExpire"


def test_an_unknown_secret_id_is_refused() -> None:
    assert refusal(received(replace(CALL, secret_id="AKIDOTHER"))) == "AuthFailure.SecretIdNotFound"


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": "cvm"},
        {"date": "2019-02-26"},
        {"signed_headers": ("content-type",)},
        {"signed_headers": ("host",)},
        {"signed_headers": ("host", "content-type")},
    ],
)
def test_a_credential_scope_or_header_list_that_is_wrong_is_refused(wrong: dict[str, str]) -> None:
    code = refusal(received(replace(CALL, **wrong)))  # type: ignore[arg-type]

    assert code == "AuthFailure.InvalidAuthorization"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "SKIP",
        "Basic QUtJRDpTRUNSRVQ=",
        CALL.headers()["Authorization"].replace("TC3-HMAC-SHA256", "HmacSHA256"),
        CALL.headers()["Authorization"].replace("tc3_request", "aws4_request"),
        CALL.headers()["Authorization"] + ", Signature=00",
        CALL.headers()["Authorization"].replace("content-type;host", "content-type;host;x-tc-none"),
    ],
)
def test_an_authorization_that_is_missing_or_of_another_form_is_refused(
    authorization: str | None,
) -> None:
    code = refusal(received(CALL, authorization=authorization))

    assert code == "AuthFailure.InvalidAuthorization"


def test_a_missing_timestamp_is_a_missing_parameter() -> None:
    assert refusal(received(CALL, x_tc_timestamp=None)) == "MissingParameter"


@pytest.mark.parametrize("stamp", ["", "now", "-1", "1551113065.0", "\u0661\u0662"])
def test_a_timestamp_that_is_no_number_is_an_invalid_parameter(stamp: str) -> None:
    assert refusal(received(CALL, x_tc_timestamp=stamp)) == "InvalidParameter"


def test_the_secret_key_is_in_no_repr() -> None:
    assert "SECRETEXAMPLE" not in repr(Credentials())
