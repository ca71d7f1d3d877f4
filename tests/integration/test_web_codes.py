"""`POST /v1/codes` and `GET /v1/codes/{job_id}`, with a real server and a real Valkey."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

from config import EVENT_QUEUE
from config.settings import Settings
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.scripts import time_us
from producer.events import send_code
from producer.tokens import Tokens
from producer.web.app import ANSWER_S
from sendcode_client import Client
from tests.commands import Command
from tests.integration.conftest import PatientSender
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.web_server import WebServer

FROM_TO = ("estimated_send_at", "created_at")
NUMBER = {"country_code": "852", "phone_num": "55501234"}


@pytest.fixture
def tokens(redis: Redis, settings: Settings) -> Tokens:
    return Tokens(redis, settings)


@pytest.fixture
def web(settings: Settings, tokens: Tokens) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        _, server.token = tokens.new("shop", ["send", "read"])
        yield server


def test_a_code_is_accepted_recorded_and_published(web: WebServer, ledger: Ledger) -> None:
    answer = web.call("POST", "/v1/codes", key="signup-1", json={**NUMBER, "reference": "c 1"})

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/codes/{job['job_id']}"
    assert (job["state"], job["reference"], job["key"]) == ("queued", "c 1", "signup-1")
    assert NUMBER["phone_num"] not in answer.text
    assert job["estimated_send_at"] is not None
    record = ledger.job(job["job_id"])
    assert record is not None
    assert record.phone.phone_num == NUMBER["phone_num"]
    assert ledger.client.llen(ledger.keys.event_queue) == 1


def test_the_same_key_again_is_the_same_job_and_sends_nothing(
    web: WebServer, ledger: Ledger
) -> None:
    first = web.call("POST", "/v1/codes", key="signup-1", json=NUMBER)

    again = web.call("POST", "/v1/codes", key="signup-1", json=NUMBER)

    assert again.status_code == 200
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["job_id"] == first.json()["job_id"]
    assert ledger.client.llen(ledger.keys.event_queue) == 1


def test_a_number_in_a_reference_is_kept_masked_and_the_same_call_is_the_same_job(
    web: WebServer, ledger: Ledger
) -> None:
    body = {**NUMBER, "reference": "call +852 6123 4567"}

    first = web.call("POST", "/v1/codes", key="signup-1", json=body)
    again = web.call("POST", "/v1/codes", key="signup-1", json=body)

    assert first.json()["reference"] == again.json()["reference"] == "call ******67"
    assert (first.status_code, again.status_code) == (202, 200)
    record = ledger.keys.job(first.json()["job_id"])
    assert ledger.client.hget(record, "reference") == "call ******67"
    ledger.client.hset(record, "reference", body["reference"])  # as an older release did
    assert web.call("POST", "/v1/codes", key="signup-1", json=body).status_code == 200


@pytest.mark.parametrize(
    "other",
    [
        {"country_code": "852", "phone_num": "55501235"},
        {**NUMBER, "expires_in": 60},
        {**NUMBER, "reference": "another"},
    ],
)
def test_a_key_with_another_number_or_terms_is_refused(
    web: WebServer, other: dict[str, Any]
) -> None:
    job_id = web.call("POST", "/v1/codes", key="signup-1", json=NUMBER).json()["job_id"]

    answer = web.call("POST", "/v1/codes", key="signup-1", json=other)

    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["job_id"]) == ("key_reused", job_id)
    assert "5550123" not in answer.text


def test_a_key_is_one_key_through_every_door(
    web: WebServer, settings: Settings, sendcode: Command
) -> None:
    job_id = web.call("POST", "/v1/codes", key="signup-1", json=NUMBER).json()["job_id"]

    by_python = send_code("852", NUMBER["phone_num"], key="signup-1", settings=settings)
    by_command = sendcode(
        *("send", "--country-code", "852", "--phone", NUMBER["phone_num"]),
        *("--key", "signup-1", "--json"),
    )

    assert by_python.job_id == job_id
    assert by_command.json["job_id"] == job_id


def test_one_key_from_many_callers_at_once_is_one_job(web: WebServer, ledger: Ledger) -> None:
    def call(_: int) -> tuple[int, str]:
        answer = web.call("POST", "/v1/codes", key="signup-1", json=NUMBER)
        return answer.status_code, answer.json()["job_id"]

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(call, range(100)))

    assert len({job_id for _, job_id in answers}) == 1
    assert [status for status, _ in answers].count(202) == 1
    assert ledger.client.llen(ledger.keys.event_queue) == 1


@pytest.mark.parametrize(
    ("key", "body", "field"),
    [
        ("k", {}, "phone"),
        ("k", {"phone": "+852 55501234", **NUMBER}, "phone"),
        ("k", {"phone": "12"}, "phone"),
        ("k", {"country_code": "7", "phone_num": "9161234567"}, "phone_num"),
        ("k", {**NUMBER, "expires_in": 0}, "expires_in"),
        ("k", {**NUMBER, "reference": "x" * 201}, "reference"),
        ("k", {**NUMBER, "reference": "for 5550-1234"}, "reference"),
        ("k", {**NUMBER, "unknown": 1}, "unknown"),
        ("k", {**NUMBER, "expires_in": True}, "expires_in"),
        ("k", {**NUMBER, "expires_in": "60"}, "expires_in"),
        ("k", {**NUMBER, "resend": "yes"}, "resend"),
        ("for-85255501234", NUMBER, "Idempotency-Key"),
        ("x" * 201, NUMBER, "idempotency-key"),
        ("", NUMBER, "idempotency-key"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field_and_binds_no_key(
    web: WebServer, ledger: Ledger, key: str, body: dict[str, Any], field: str
) -> None:
    answer = web.call("POST", "/v1/codes", key=key, json=body)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert "55501234" not in answer.text.replace("-", "")
    assert not list(ledger.client.scan_iter(ledger.keys.job("*")))
    if key == "k":
        assert web.call("POST", "/v1/codes", key=key, json=NUMBER).status_code == 202


def test_a_caller_that_waits_is_answered_when_the_job_ends(
    sandbox: Sandbox, web: WebServer, sender: PatientSender, ledger: Ledger
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(web.call, "POST", "/v1/codes?wait=30", key="signup-1", json=NUMBER)
        wait_until(lambda: ledger.client.llen(ledger.keys.event_queue) == 1)
        (job_key,) = ledger.client.scan_iter(ledger.keys.job("*"))
        sender.send(job_key.removeprefix(ledger.keys.job("")))
        answer = waiting.result(timeout=PATIENCE_S)

    assert answer.json()["state"] == "sent"
    shown = web.call("GET", answer.headers["Location"])
    assert shown.json()["state"] == "sent"
    assert sandbox.number("85255501234")["accepted"] == 1


@pytest.mark.settings(sendcode_rate_limit=200)
def test_the_estimate_follows_the_rate_that_is_used_now(
    web: WebServer, redis: Redis, keys: Keys
) -> None:
    redis.rpush(EVENT_QUEUE, *["a message"] * 100)
    now_us = time_us(redis.time())

    def ahead_s(key: str) -> float:
        body = {**NUMBER, "resend": True}
        job = web.call("POST", "/v1/codes", key=key, json=body).json()
        sent, made = (datetime.fromisoformat(job[name]) for name in FROM_TO)
        return (sent - made).total_seconds()

    assert 0.4 < ahead_s("a") < 5
    redis.hset(
        keys.pace,
        mapping={"level": 1, "level_at_us": now_us, "level_holds_s": 60},
    )
    assert ahead_s("b") > 90


def test_a_caller_that_waited_for_long_learns_when_its_code_will_be_sent(
    settings: Settings, tokens: Tokens
) -> None:
    _, token = tokens.new("shop", ["send"])
    with WebServer(settings, answer_s=1) as server:

        def is_told() -> bool:
            path = "/v1/codes?wait=1.5"
            answer = server.call("POST", path, token=token, key="a", json=NUMBER)
            told = answer.json()
            is_accepted = (answer.status_code, told.get("state")) in {
                (202, "queued"),
                (200, "queued"),
            }
            return is_accepted and told["estimated_send_at"] is not None

        wait_until(is_told)  # at once, but for a busy machine that needs a second for Redis


def test_a_job_that_does_not_exist_is_not_found(web: WebServer) -> None:
    answer = web.call("GET", "/v1/codes/ev-0000")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_only_a_known_token_with_the_scope_gets_in(web: WebServer, tokens: Tokens) -> None:
    _, reader = tokens.new("reader", ["read"])
    _, admin = tokens.new("boss", ["admin"])

    def status(token: str) -> int:
        return web.call("POST", "/v1/codes", token=token, key="k", json=NUMBER).status_code

    assert status("") == 401
    assert status("sct_wrong") == 401
    assert status("Basic") == 401
    assert status(reader) == 403
    assert status(admin) == 202


def test_a_token_that_may_only_send_sees_what_became_of_its_codes(
    web: WebServer, tokens: Tokens
) -> None:
    _, sender = tokens.new("sender", ["send"])
    other = {"phone": "+85255501235"}
    theirs = web.call("POST", "/v1/codes", key="theirs", json=other).json()["job_id"]

    def status(job_id: str) -> int:
        return web.call("GET", f"/v1/codes/{job_id}", token=sender).status_code

    with Client(web.url, sender) as client:
        mine = client.send_code("852", NUMBER["phone_num"], key="mine", wait=0.1)
        assert client.get("mine") is not None
    assert (status(mine.job_id), status(theirs)) == (200, 404)

    same = web.call("POST", "/v1/codes", token=sender, key="same", json=other)

    assert same.json()["job_id"] == theirs
    assert status(theirs) == 200


def test_another_token_s_key_and_reference_are_shown_to_an_admin_alone(
    web: WebServer, tokens: Tokens
) -> None:
    _, reader = tokens.new("crm", ["send", "read"])
    _, admin = tokens.new("boss", ["admin"])
    body = {**NUMBER, "reference": "customer 1"}
    path = web.call("POST", "/v1/codes", key="mine", json=body).headers["Location"]

    shown = [web.call("GET", path, token=each).json() for each in (web.token, reader, admin)]

    names = [(each["key"], each["reference"]) for each in shown]
    assert names == [("mine", "customer 1"), (None, None), ("mine", "customer 1")]


def test_a_revoked_token_is_refused_at_once(web: WebServer, tokens: Tokens) -> None:
    assert web.call("GET", "/v1/codes/ev-0000").status_code == 404

    tokens.revoke("shop")

    assert web.call("GET", "/v1/codes/ev-0000").status_code == 401


def test_a_body_over_four_kilobytes_is_refused(web: WebServer) -> None:
    answer = web.call("POST", "/v1/codes", key="k", data=b"x" * 5_000)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    answer = web.call("POST", "/v1/codes", key="k", data=iter([b"x" * 3_000] * 2))

    assert answer.status_code == 413


@pytest.mark.parametrize("body", [b"{", b'{"phone": "\xff"}', b"[" * 4_000])
def test_a_body_that_is_no_json_is_malformed(web: WebServer, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}

    answer = web.call("POST", "/v1/codes", key="k", data=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("silent", [False, True])
def test_without_redis_nothing_is_accepted_and_the_caller_knows_when_to_try_again(
    settings: Settings, silent: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1] if silent else 9
        settings = settings.model_copy(
            update={"sendcode_redis_url": SecretStr(f"redis://127.0.0.1:{port}/0")}
        )
        with WebServer(settings, ANSWER_S) as web:
            answer = web.call("POST", "/v1/codes", token="sct_any", key="k", json=NUMBER)

    assert answer.status_code == 503
    assert answer.elapsed.total_seconds() < 10  # three tries of 5 s each are not waited for
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["code"] == "unavailable"


def test_a_token_is_made_listed_and_revoked_on_the_command_line(
    sendcode: Command, redis: Redis, keys: Keys
) -> None:
    made = sendcode("token", "new", "shop", "--scope", "send,read", "--json").json

    assert made["token"].startswith("sct_")
    assert made["token"] not in str(redis.hgetall(keys.tokens))
    assert [each["scopes"] for each in sendcode("token", "list", "--json").json] == [
        ["read", "send"]
    ]
    sendcode("token", "new", "shop")
    assert "has 2 tokens already" in sendcode("token", "new", "shop").err
    sendcode("token", "revoke", made["id"], "--yes")
    assert len(sendcode("token", "list", "--json").json) == 1
    assert [each["what"] for each in sendcode("actions", "--json").json][:3] == [
        "token revoke",
        "token new",
        "token new",
    ]
