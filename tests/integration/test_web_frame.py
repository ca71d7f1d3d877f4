"""What holds for every answer of the HTTP API: headers, request ids, and a log without numbers."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
import requests
from pydantic import SecretStr
from redis import Redis

from config.logging import set_up_logging
from config.settings import Settings
from jobs.identity import Identity
from jobs.keys import Keys
from producer.tokens import Tokens
from producer.web.console.frame import asset
from tests.waiting import wait_until
from tests.web_server import WebServer

CANARY = "85255509876"


@pytest.fixture
def web(settings: Settings, redis: Redis) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        _, server.token = Tokens(redis, settings).new("shop", ["admin"])
        yield server


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """What the server has logged, as in production."""
    root, stream = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        set_up_logging("json")
    yield stream.getvalue
    root.handlers[:] = before
    root.setLevel(level)


def answers_of(web: WebServer) -> dict[int, requests.Response]:
    """Return an answer of each kind, by status."""
    found = [
        web.call("GET", "/livez"),
        web.call("GET", "/docs"),
        web.call("POST", "/v1/codes", key="k", json={"phone": "+852 5550 1234"}),
        web.call(
            "POST", "/v1/codes", key="j", data=b"{", headers={"Content-Type": "application/json"}
        ),
        web.call("GET", "/v1/status", token=""),
        web.call("GET", "/v1/codes/ev-0"),
        web.call("DELETE", "/v1/codes"),
        web.call("POST", "/v1/codes", key="j", data=b"x" * 5_000),
        web.call("POST", "/v1/codes", key="j", data=b"x", headers={"Content-Type": "text/csv"}),
        web.call("POST", "/v1/codes", key="j", json={}),
    ]
    return {answer.status_code: answer for answer in found}


def test_every_answer_has_the_security_headers_and_an_id_of_its_own(web: WebServer) -> None:
    answers = answers_of(web)

    assert answers.keys() == {200, 202, 400, 401, 404, 405, 413, 415, 422}
    for status, answer in answers.items():
        headers = answer.headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self'"), status
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
        assert "Server" not in headers
        if status >= 400:
            assert headers["Content-Type"] == "application/problem+json"
    assert len({answer.headers["X-Request-Id"] for answer in answers.values()}) == len(answers)
    assert answers[405].headers["Allow"] == "GET, POST"


def test_an_unexpected_error_is_an_answer_like_any_other_and_tells_nothing(
    web: WebServer, redis: Redis, keys: Keys, log: Callable[[], str]
) -> None:
    redis.hset(keys.batch("broken"), mapping={"state": "running", "header": CANARY + "{"})

    answer = web.call("GET", "/v1/batches/broken")
    logged = log()

    redis.delete(keys.batch("broken"))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Request-Id"] in logged
    assert "JSONDecodeError" in logged
    assert CANARY not in logged + answer.text


def test_the_log_has_the_request_s_id_and_the_token_s_name_but_no_number_key_or_token(
    web: WebServer, log: Callable[[], str]
) -> None:
    secret = f"key-of-{CANARY[:4]}-canary"
    asked = [
        web.call("POST", "/v1/codes", key=secret, json={"phone": f"+{CANARY}"}),
        web.call("POST", "/v1/codes", key=CANARY, json={"phone": f"+{CANARY}"}),
        web.call("GET", f"/v1/codes/{CANARY}?wait={CANARY}"),
        web.call("GET", f"/{CANARY}?phone={CANARY}"),
        web.call("GET", f"/v1/batches/{CANARY}", headers={"X-Number": CANARY, "Referer": CANARY}),
        web.call("GET", "/v1/status", token=f"sct_{CANARY}"),
        web.call("POST", "/v1/batches", files={"file": (f"{CANARY}.csv", f"phone\n+{CANARY}\n")}),
    ]
    # a line follows the answer
    wait_until(lambda: log().count('"message": "request"') == len(asked), "a line for each")
    logged = log()

    lines = [json.loads(line) for line in logged.splitlines()]
    requests_logged = [line for line in lines if line.get("message") == "request"]
    assert [line["request_id"] for line in requests_logged] == [
        answer.headers["X-Request-Id"] for answer in asked
    ]
    assert requests_logged[0]["token"] == "shop"
    assert requests_logged[0]["route"] == "/v1/codes"
    assert requests_logged[2]["route"] == "/v1/codes/{job_id}"
    for word in (CANARY, secret, web.token, "sct_"):
        assert word not in logged


def test_it_is_ready_while_redis_has_the_right_ledger_and_takes_writes(
    web: WebServer, settings: Settings, redis: Redis
) -> None:
    web.call("POST", "/v1/codes", key="k", json={"phone": "+852 5550 1234"})
    assert web.call("GET", "/readyz", token="").status_code == 200

    redis.flushdb()
    emptied = web.call("GET", "/readyz", token="")

    assert emptied.status_code == 503
    assert "ledger" in emptied.json()["detail"]
    assert web.call("GET", "/livez", token="").status_code == 200
    Identity(redis, settings).accept(0)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_may_ask_for_the_head_alone(web: WebServer, path: str) -> None:
    web.call("POST", "/v1/codes", key="k", json={"phone": "+852 5550 1234"})

    answer = web.call("HEAD", path, token="")

    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/codes/"), ("GET", "/v1/batches/"), ("GET", "/batches/")]
)
def test_nobody_is_sent_to_another_host_for_a_slash(web: WebServer, method: str, path: str) -> None:
    answer = web.call(
        method, path, key="k", headers={"Host": "evil.example"}, allow_redirects=False
    )

    assert answer.status_code == 404
    assert "Location" not in answer.headers


def test_it_is_not_ready_without_redis(settings: Settings) -> None:
    gone = {"sendcode_redis_url": SecretStr("redis://127.0.0.1:9/0")}
    with WebServer(settings.model_copy(update=gone)) as web:
        answer = web.call("GET", "/readyz")

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_the_description_and_its_page_come_from_here(web: WebServer) -> None:
    page = web.call("GET", "/docs", token="")
    style = web.call("GET", asset("docs.css"), token="")

    assert "/v1/batches/{batch_id}/results" in page.text
    assert "://" not in page.text
    assert style.headers["Content-Type"].startswith("text/css")
    assert web.call("GET", "/openapi.json", token="").json()["openapi"].startswith("3.1")
