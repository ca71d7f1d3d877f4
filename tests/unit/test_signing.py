from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from unittest import mock

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from tencentcloud.common.credential import Credential
from tencentcloud.common.http.request import RequestInternal
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.intlpartnersmgt.v20220928.intlpartnersmgt_client import IntlpartnersmgtClient

from worker.api import TC3Auth
from worker.signing import Credentials, Signer, canonical_request, utc_date

GOLDEN_TIME = 1551113065
GOLDEN_HOST = "intlpartnersmgt.intl.tencentcloudapi.com"
GOLDEN_BODY = b'{"CountryCode": "852", "PhoneNum": "18888888888"}'
GOLDEN_SIGNATURE = "bd048943c259ee5ecff724bf37d48a93510dfbb0e20b26e1b92a1b42f3bcade9"
GOLDEN_CREDENTIALS = Credentials("AKIDEXAMPLE", "SECRETEXAMPLE")
DAY_S = 86_400

times = st.integers(min_value=0, max_value=4_102_444_800)  # 1970 to 2100
hosts = st.from_regex(r"[a-z0-9]{1,20}(\.[a-z0-9-]{1,20}){0,3}(:[1-9][0-9]{0,4})?", fullmatch=True)
# The SDK writes JSON in ASCII: any text goes, lone surrogates included.
texts = st.text(st.characters(), max_size=40)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)


class OfficialRequest:
    """What the vendor's own client would send."""

    def __init__(
        self, params: dict[str, str], host: str, timestamp: int, credentials: Credentials
    ) -> None:
        client = IntlpartnersmgtClient(
            Credential(credentials.secret_id, credentials.secret_key, credentials.token),
            "",
            ClientProfile(httpProfile=HttpProfile(endpoint=host)),
        )
        request = RequestInternal(host, "POST", "/", header={})
        with mock.patch("tencentcloud.common.abstract_client.time.time", return_value=timestamp):
            client._build_req_with_tc3_signature("SendVerifyCode", params, request)
        self.body: bytes = request.data.encode()
        self.headers: dict[str, str] = request.header


def test_golden_vector_is_reproduced() -> None:
    signer = Signer(GOLDEN_CREDENTIALS, GOLDEN_HOST)

    header = signer.authorization(GOLDEN_BODY, GOLDEN_TIME)

    assert header == (
        "TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/2019-02-25/intlpartnersmgt/tc3_request, "
        f"SignedHeaders=content-type;host, Signature={GOLDEN_SIGNATURE}"
    )


def test_canonical_request_is_the_documented_text() -> None:
    assert canonical_request("host:8080", b"") == (
        "POST\n/\n\ncontent-type:application/json\nhost:host:8080\n\ncontent-type;host\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")
@given(st.dictionaries(texts, texts, max_size=4), hosts, times, keys, keys, st.none() | keys)
def test_signature_is_that_of_the_official_client(
    params: dict[str, str], host: str, timestamp: int, key_id: str, key: str, token: str | None
) -> None:
    credentials = Credentials(key_id, key, token)
    official = OfficialRequest(params, host, timestamp, credentials)
    auth = TC3Auth(credentials, host, clock=lambda: timestamp)

    ours = auth(requests.Request("POST", "http://any/", data=official.body).prepare())

    for name in ("Authorization", "Content-Type", "Host", "X-TC-Timestamp", "X-TC-Token"):
        assert ours.headers.get(name) == official.headers.get(name), name
    assert ours.body == json.dumps(params).encode()


@given(st.lists(times, min_size=1, max_size=8))
def test_one_signer_over_many_days_signs_as_a_fresh_one_does(timestamps: list[int]) -> None:
    signer = Signer(GOLDEN_CREDENTIALS, GOLDEN_HOST)

    for timestamp in timestamps:
        fresh = Signer(GOLDEN_CREDENTIALS, GOLDEN_HOST)
        assert signer.authorization(GOLDEN_BODY, timestamp) == fresh.authorization(
            GOLDEN_BODY, timestamp
        )


def test_date_changes_at_midnight_utc() -> None:
    midnight = 17_954 * DAY_S

    assert (utc_date(midnight - 1), utc_date(midnight)) == ("2019-02-26", "2019-02-27")


def test_credentials_show_nothing_of_themselves() -> None:
    shown = repr(Credentials("AKIDEXAMPLE", "SECRETEXAMPLE", "TOKENEXAMPLE"))

    assert shown == "Credentials(***)"


class Clock:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def timestamp_of(auth: TC3Auth) -> int:
    signed = auth(requests.Request("POST", "http://host/", data=b"{}").prepare())
    return int(signed.headers["X-TC-Timestamp"])


def date_header(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize("ahead_s", [3600, -3600, 86_400 * 365])
def test_clock_is_corrected_by_the_date_of_an_answer(ahead_s: int) -> None:
    clock = Clock(1_700_000_000.9)
    auth = TC3Auth(GOLDEN_CREDENTIALS, GOLDEN_HOST, clock)

    auth.correct_clock(date_header(1_700_000_000 + ahead_s))

    assert timestamp_of(auth) == 1_700_000_000 + ahead_s


def test_second_correction_replaces_the_first() -> None:
    clock = Clock(1_700_000_000)
    auth = TC3Auth(GOLDEN_CREDENTIALS, GOLDEN_HOST, clock)
    auth.correct_clock(date_header(1_700_003_600))
    clock.seconds = 1_700_003_600  # somebody has set our clock right

    auth.correct_clock(date_header(1_700_003_600))

    assert timestamp_of(auth) == 1_700_003_600


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "yesterday",
        "Mon, 32 Foo 20244 99:99:99 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",  # a server without a clock of its own
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 04 Nov 2024 08:08:30 +99999999999999",
        "\udcff\x00",
    ],
)
def test_unusable_date_leaves_the_clock_alone(header: str | None) -> None:
    auth = TC3Auth(GOLDEN_CREDENTIALS, GOLDEN_HOST, Clock(1_700_000_000))

    auth.correct_clock(header)

    assert auth.offset_s == 0


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "HKT-8")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_date_without_a_zone_is_taken_for_utc() -> None:
    auth = TC3Auth(GOLDEN_CREDENTIALS, GOLDEN_HOST, Clock(1_700_000_000))

    auth.correct_clock("Mon, 04 Nov 2024 08:08:30 -0000")

    assert timestamp_of(auth) == 1_730_707_710


def test_a_fingerprint_tells_credentials_apart_and_nothing_about_them() -> None:
    same, again = (
        Credentials("AKIDEXAMPLE", "SECRETEXAMPLE"),
        Credentials("AKIDEXAMPLE", "SECRETEXAMPLE"),
    )
    others = [
        Credentials("AKIDOTHER", "SECRETEXAMPLE"),
        Credentials("AKIDEXAMPLE", "SECRETOTHER"),
        Credentials("AKIDEXAMPLE", "SECRETEXAMPLE", "TOKEN"),
    ]

    marks = {each.fingerprint for each in (same, again, *others)}

    assert same.fingerprint == again.fingerprint
    assert len(marks) == 4
    assert all(re.fullmatch(r"[0-9a-f]{8}", mark) for mark in marks)
