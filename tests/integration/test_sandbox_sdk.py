"""The vendor's own client against the sandbox: a caller that nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.intlpartnersmgt.v20220928.intlpartnersmgt_client import IntlpartnersmgtClient
from tencentcloud.intlpartnersmgt.v20220928.models import SendVerifyCodeRequest

from sandbox.numbers import MAGIC_NUMBERS
from sandbox.signature import Credentials
from tests.sandbox import Sandbox, number_for

# From Python 3.12 on; the SDK takes its date from datetime.utcfromtimestamp.
pytestmark = pytest.mark.filterwarnings("ignore:.*utcfromtimestamp:DeprecationWarning")

CODES = [row for row in MAGIC_NUMBERS if row.behaviour[0].isupper()]
LIMIT_60 = "FailedOperation.SendVerifyCodeLimit60"


class SdkClient:
    """The official client, told to call the sandbox."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def send(self, phone_num: str, country_code: str = "852") -> str:
        """Make the call; returns the RequestId, raises what the SDK raises."""
        request = SendVerifyCodeRequest()
        request.CountryCode = country_code
        request.PhoneNum = phone_num
        return str(self._client.SendVerifyCode(request).RequestId)

    def code_of(self, phone_num: str, country_code: str = "852") -> str | None:
        """The error code that the SDK sees; None for success."""
        try:
            assert self.send(phone_num, country_code)
        except TencentCloudSDKException as exc:
            return str(exc.get_code())
        return None

    def call(self, action: str, **parameters: object) -> Any:
        """A call that the SDK does not check."""
        return self._client.call_json(action, parameters)


@contextmanager
def sdk_client(
    sandbox: Sandbox,
    *,
    secret_id: str = "AKIDEXAMPLE",
    secret_key: str = "SECRETEXAMPLE",
    token: str | None = None,
    timeout_s: float = 20,
) -> Iterator[SdkClient]:
    http = HttpProfile(
        protocol="http", endpoint=urlsplit(sandbox.url).netloc, reqTimeout=timeout_s, keepAlive=True
    )
    client = IntlpartnersmgtClient(
        Credential(secret_id, secret_key, token), "", ClientProfile(httpProfile=http)
    )
    try:
        yield SdkClient(client)
    finally:
        client.request.conn._session.close()  # the SDK offers no way to close it


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(rate_limit=0) as sandbox:
        yield sandbox


@pytest.fixture
def sdk(sandbox: Sandbox) -> Iterator[SdkClient]:
    sandbox.reset()
    with sdk_client(sandbox) as client:
        yield client


def test_the_sdk_sends_a_code(sandbox: Sandbox, sdk: SdkClient) -> None:
    request_id = sdk.send("18888888888")

    assert len(request_id) == 36
    assert sandbox.stats()["accepted_per_number"] == {"85218888888888": 1}


def test_the_sdk_sees_the_code_of_a_magic_number(sdk: SdkClient, subtests: pytest.Subtests) -> None:
    for row in CODES:
        with subtests.test(f"{row.prefix}-{row.behaviour}"):
            assert sdk.code_of(f"{row.prefix}0001") == row.behaviour


@pytest.mark.parametrize("country_code", ["7", "380", "86"])
def test_the_sdk_sees_that_a_country_is_barred(sdk: SdkClient, country_code: str) -> None:
    assert sdk.code_of("55500000", country_code) == "InvalidParameterValue.UnSupportArea"


def test_the_sdk_sees_the_interval_of_a_number(sdk: SdkClient) -> None:
    assert [sdk.code_of("51230000"), sdk.code_of("51230000")] == [None, LIMIT_60]


def test_the_sdk_sees_the_rate_limit() -> None:
    with Sandbox(rate_limit=0.01) as strict, sdk_client(strict) as client:
        assert client.code_of("51230001") is None
        assert client.code_of("51230002") == "RequestLimitExceeded"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"secret_key": "WRONG"}, "AuthFailure.SignatureFailure"),
        ({"secret_id": "AKIDOTHER"}, "AuthFailure.SecretIdNotFound"),
    ],
)
def test_the_sdk_with_wrong_credentials_is_refused(
    sandbox: Sandbox, wrong: dict[str, str], code: str
) -> None:
    with sdk_client(sandbox, **wrong) as client:  # type: ignore[arg-type]
        assert client.code_of("51230000") == code


def test_the_sdk_with_the_token_of_its_credentials_is_let_in() -> None:
    with Sandbox(credentials=Credentials(token="temporary")) as sandbox:
        with sdk_client(sandbox, token="temporary") as client:
            assert client.code_of("51230000") is None
        with sdk_client(sandbox, token="of another") as client:
            assert client.code_of("51230000") == "AuthFailure.TokenFailure"


@pytest.mark.parametrize("skew_s", [-400, 400])
def test_the_sdk_on_a_machine_with_a_wrong_clock_is_refused(skew_s: int) -> None:
    with Sandbox(clock_skew_s=skew_s) as sandbox, sdk_client(sandbox) as client:
        assert client.code_of("51230000") == "AuthFailure.SignatureExpire"


@pytest.mark.parametrize(
    ("action", "parameters", "code"),
    [
        ("SendVerifyCode", {"CountryCode": "852"}, "MissingParameter"),
        (
            "SendVerifyCode",
            {"CountryCode": "852", "PhoneNum": "51230000", "Extra": "1"},
            "UnknownParameter",
        ),
        ("SendVerifyCode", {"CountryCode": "852", "PhoneNum": 51230000}, "InvalidParameter"),
        ("QueryCustomersCredit", {}, "InvalidAction"),
    ],
)
def test_the_sdk_with_wrong_parameters_or_another_action_is_refused(
    sdk: SdkClient, action: str, parameters: dict[str, object], code: str
) -> None:
    with pytest.raises(TencentCloudSDKException) as caught:
        sdk.call(action, **parameters)

    assert caught.value.get_code() == code
    assert caught.value.get_request_id()


@pytest.mark.parametrize(
    "behaviour", ["hang-up-after", "reset-after", "bad-gateway-after", "truncated-after"]
)
def test_the_sdk_sees_a_network_error_though_the_code_was_sent(
    sandbox: Sandbox, sdk: SdkClient, behaviour: str
) -> None:
    prefixes = {"hang-up-after": "9934"}
    number = number_for(behaviour, prefix=prefixes.get(behaviour))

    with pytest.raises(Exception):  # noqa: B017, PT011 - of four kinds, all of them the SDK's
        sdk.send(number)

    assert sandbox.number(f"852{number}")["accepted"] == 1
    assert sdk.code_of(number) == LIMIT_60
