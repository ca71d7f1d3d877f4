"""The bare Celery app with sendcode's HTTP client, which is leaner than `requests` as it comes."""

from __future__ import annotations

import os
from functools import cache

from benchmarks.peers.bare_celery import app
from worker.api import SendVerifyCodeClient
from worker.signing import Credentials


@cache
def _client() -> SendVerifyCodeClient:
    credentials = Credentials(
        os.environ["TENCENTCLOUD_SECRET_ID"], os.environ["TENCENTCLOUD_SECRET_KEY"]
    )
    return SendVerifyCodeClient(os.environ["SENDCODE_ENDPOINT"], credentials, 5)


@app.task(name="lean.send")
def send(country_code: str, phone_num: str) -> str:
    return str(_client().send(country_code, phone_num).verdict.request_id)


publish = send.delay
