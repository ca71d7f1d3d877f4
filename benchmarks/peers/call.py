"""The HTTP call of every peer: signed, with `requests`, one session for each thread."""

from __future__ import annotations

import json
import os
import threading
import time

import requests

from worker.signing import Credentials, Signer

_local = threading.local()


def call_api(country_code: str, phone_num: str) -> str:
    """Send one code; return the answer's RequestId, or the API's error code."""
    session, signer = _session_and_signer()
    body = json.dumps({"CountryCode": country_code, "PhoneNum": phone_num}).encode()
    response = session.post(
        os.environ["SENDCODE_ENDPOINT"] + "/",
        data=body,
        headers=signer.headers(body, int(time.time())),
        timeout=5,
    )
    response.raise_for_status()
    answer = response.json()["Response"]
    if "Error" in answer:
        return str(answer["Error"]["Code"])
    return str(answer["RequestId"])


def _session_and_signer() -> tuple[requests.Session, Signer]:
    if not hasattr(_local, "own"):
        session = requests.Session()
        session.trust_env = False  # as ours: without it each call costs half a millisecond more
        session.verify = os.environ.get("SENDCODE_CA_BUNDLE") or True
        session.headers.update(
            {
                "X-TC-Action": "SendVerifyCode",
                "X-TC-Version": "2022-09-28",
                "X-TC-Language": "en-US",
            }
        )
        endpoint = os.environ["SENDCODE_ENDPOINT"]
        credentials = Credentials(
            os.environ["TENCENTCLOUD_SECRET_ID"], os.environ["TENCENTCLOUD_SECRET_KEY"]
        )
        _local.own = session, Signer(credentials, endpoint.partition("://")[2])
    return _local.own  # type: ignore[no-any-return]
