"""Test tokens: their jobs end by their numbers, and nothing of them ever reaches the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from config.settings import Settings
from jobs.deadletters import DeadLetter, DeadLetters, Decision
from jobs.job import SendCodeJob
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.mending import Mending
from jobs.publish import Publisher
from jobs.webhooks import Outbox, Webhooks
from producer.tokens import TokenRefusedError, Tokens
from tests.commands import Command
from tests.ledger_acts import number
from tests.receiver import Receiver
from tests.sandbox import Sandbox
from tests.web_server import WebServer
from worker.background import Runtime
from worker.recorder import NotNow
from worker.webhooks import Deliverer

DEAD = {"country_code": "852", "phone_num": "99010001"}
SENT = {"country_code": "852", "phone_num": "55501234"}


@pytest.fixture
def tokens(redis: Redis, settings: Settings) -> Tokens:
    return Tokens(redis, settings)


@pytest.fixture
def web(settings: Settings, tokens: Tokens) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        _, server.token = tokens.new("shop-test", ["test", "read"])
        yield server


def dead_test(ledger: Ledger) -> str:
    """Record a test job that ended badly."""
    job = SendCodeJob.for_event(number(1), "signup-1", is_test=True)
    job_id = ledger.submit(job, token="shop-test").record.job_id
    ledger.client.hset(ledger.keys.job(job_id), "state", "dead")
    return job_id


@pytest.mark.settings(
    sendcode_limit_number="1/d", sendcode_limit_token="1/d", sendcode_budget="1/d"
)
def test_a_test_ends_by_its_number_and_leaves_nothing_but_itself(
    web: WebServer, redis: Redis, keys: Keys
) -> None:
    for key in ("a", "b", "c"):
        answer = web.call("POST", "/v1/codes", key=key, json=SENT)
        assert (answer.status_code, answer.json()["state"]) == (202, "sent")
        assert answer.json()["test"] is True
    dead = web.call("POST", "/v1/codes?wait=10", key="d", json={**DEAD, "reference": "c 1"}).json()

    assert (dead["state"], dead["code"]) == ("dead", "FailedOperation.PhoneBindUpper")
    assert (dead["attempts"], dead["reference"], dead["key"]) == (1, "c 1", "d")
    kept = {key.removeprefix(f"{keys.prefix}:").split(":")[0] for key in redis.scan_iter("*")}
    assert kept - {"tokens", "ledger", "vault"} == {"job", "totals", "actions"}
    assert redis.hgetall(keys.totals) == {"test": "4"}
    assert redis.ttl(keys.job(dead["job_id"])) > 0


def test_the_key_of_a_test_is_its_own_and_answers_again(
    web: WebServer, tokens: Tokens, ledger: Ledger
) -> None:
    _, real = tokens.new("shop", ["send", "read"])
    first = web.call("POST", "/v1/codes", key="signup-1", json=SENT)

    again = web.call("POST", "/v1/codes", key="signup-1", json=SENT)
    other = web.call("POST", "/v1/codes", key="signup-1", json=DEAD)
    sent = web.call("POST", "/v1/codes", token=real, key="signup-1", json=SENT)

    assert (again.status_code, again.json()["job_id"]) == (200, first.json()["job_id"])
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert (sent.status_code, sent.json()["test"], sent.json()["state"]) == (202, False, "queued")
    assert ledger.client.llen(ledger.keys.event_queue) == 1
    found = [
        web.call("GET", "/v1/codes", token=token, key="signup-1").json()["test"]
        for token in (web.token, real)
    ]
    assert found == [True, False]


@pytest.mark.settings(sendcode_countries="65")
def test_a_number_that_no_code_may_go_to_is_refused_to_tests_too(
    web: WebServer, redis: Redis, keys: Keys
) -> None:
    answer = web.call("POST", "/v1/codes", key="a", json=SENT)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "countries")
    assert not redis.exists(keys.quotas)


def test_no_worker_sends_a_test_whatever_became_of_its_record(
    ledger: Ledger, runtime: Runtime, sandbox: Sandbox
) -> None:
    job_id = dead_test(ledger)

    for state in ("queued", "parked", "leased", "sending"):
        ledger.client.hset(ledger.keys.job(job_id), "state", state)
        assert runtime.sender.send(job_id) == NotNow("unreadable")

    assert sandbox.stats()["requests"] == 0


def test_nobody_can_have_a_test_tried_again(
    ledger: Ledger, dead: DeadLetters, sendcode: Command
) -> None:
    job_id = dead_test(ledger)

    by_hand = sendcode("dead", "requeue", job_id, "--yes")
    by_another_way = dead.requeue(
        Decision("requeue", job_id), [DeadLetter(job_id, 0, ledger.job(job_id))]
    )

    assert by_hand.exit_code != 0
    assert [*by_another_way] == ["not dead"]
    assert ledger.job(job_id).state == "dead"  # type: ignore[union-attr]
    assert not [*ledger.client.scan_iter(ledger.keys.due("*"))]


def test_mending_takes_a_test_for_no_dead_letter_and_no_code(
    ledger: Ledger, redis: Redis, keys: Keys, settings: Settings
) -> None:
    dead_test(ledger)
    ledger.submit(SendCodeJob.for_event(number(2), "signup-2", is_test=True))
    redis.delete(keys.totals)

    Mending(redis, settings).mend()

    assert redis.hgetall(keys.totals) == {"test": "2"}
    assert not redis.exists(keys.dead)
    assert not [*redis.scan_iter(keys.due("*")), *redis.scan_iter(f"{keys.prefix}:number:*")]


@pytest.mark.settings(sendcode_webhook_private=True)
def test_the_outcome_of_a_test_is_told_as_one(
    ledger: Ledger, redis: Redis, settings: Settings, celery_app: Celery
) -> None:
    with Receiver() as receiver:
        Webhooks(redis, settings).set("shop-test", receiver.url)
        job = SendCodeJob.for_event(number(1), "signup-1", is_test=True)
        job_id = ledger.submit(job, token="shop-test").record.job_id
        ledger.submit(job, token="shop-test")

        assert ledger.sweep().outcomes == [job_id]
        outbox, publisher = Outbox(redis, settings), Publisher(celery_app)
        Deliverer(outbox, publisher, private_too=True).deliver(job_id)

    (one,) = receiver.received
    assert (one.data["test"], one.data["state"], one.data["key"]) == (True, "sent", "signup-1")


def test_a_test_is_marked_wherever_it_is_looked_at(ledger: Ledger, sendcode: Command) -> None:
    job_id = dead_test(ledger)

    shown = sendcode("job", "show", job_id)

    assert "A test, nothing was sent" in shown.out
    assert "attempts      1 (HTTP calls: 0)" in shown.out
    assert sendcode("job", "show", job_id, "--json").json["story"][0]["what"] == "test"
    assert "test 1" in sendcode("status").out
    assert sendcode("status", "--json").json["totals"] == {"test": 1}


def test_a_test_token_may_send_no_code_and_no_batch(
    tokens: Tokens, sendcode: Command, web: WebServer
) -> None:
    made = sendcode("token", "new", "ci", "--test", "--scope", "send,read", "--json").json

    assert made["scopes"] == ["read", "test"]
    # an earlier release knows no such scope, and so lets it send nothing
    assert "send" not in made["scopes"]
    files = {"file": ("c.csv", b"country_code,phone_num\n852,55501234\n")}
    answer = web.call("POST", "/v1/batches", token=made["token"], files=files)
    assert answer.status_code == 403
    for other in ("send", "batch", "admin"):
        with pytest.raises(TokenRefusedError, match="test token"):
            tokens.new("both", ["test", other])
    assert sendcode("token", "new", "ci", "--test", "--scope", "admin").exit_code == 2


def test_a_test_token_sees_tests_alone(web: WebServer, tokens: Tokens) -> None:
    _, real = tokens.new("shop-test", ["send"])
    _, bare = tokens.new("ci", ["test"])
    paths = [
        web.call("POST", "/v1/codes", token=token, key=key, json=SENT).headers["Location"]
        for token, key in ((real, "a"), (web.token, "a"), (bare, "b"))
    ]

    def statuses(token: str, *paths: str) -> list[int]:
        return [web.call("GET", path, token=token).status_code for path in paths]

    assert statuses(web.token, *paths) == [404, 200, 200]
    assert statuses(bare, *paths) == [404, 404, 200]
    assert statuses(web.token, "/v1/batches", "/v1/batches/may", "/v1/status") == [403] * 3
