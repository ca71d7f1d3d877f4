"""A key that was answered with another event's job for the same number belongs to that job."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from redis import Redis

from config.settings import Settings
from jobs.finding import Finder
from jobs.job import SendCodeJob, event_job_id
from jobs.keys import Keys
from jobs.ledger import Ledger, Submitted
from producer.events import Events, KeyReusedError
from producer.tokens import Tokens
from tests.commands import Command
from tests.ended_jobs import SENT, end, number
from tests.ledger_acts import Acts, number_key
from tests.ledger_checks import all_of
from tests.web_server import WebServer

NUMBER = {"country_code": "852", "phone_num": number(1).phone_num}
CLEAR = "ticket 4711 of a customer"


@pytest.fixture
def web(settings: Settings, redis: Redis) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        _, server.token = Tokens(redis, settings).new("crm", ["send", "read"])
        yield server


def ask(events: Events, key: str, n: int = 1, *, resend: bool = False) -> Submitted:
    return events.accept(SendCodeJob.for_event(number(n), key), "crm", resend=resend)


def end_interval(ledger: Ledger, redis: Redis) -> None:
    """Let the number's code be sent, and its minute be over."""
    (job_id,) = [key.rpartition(":")[2] for key in redis.scan_iter(ledger.keys.job("*"))]
    end(ledger, job_id, SENT)
    redis.hset(number_key(ledger, number(1)), "until", 1)


def test_such_a_key_again_sends_nothing_however_late(
    events: Events, ledger: Ledger, redis: Redis, acts: Acts
) -> None:
    first = ask(events, "shop-1").record
    assert ask(events, "crm-1").is_same_number
    end_interval(ledger, redis)

    again = ask(events, "crm-1")

    assert (again.record.job_id, again.record.state) == (first.job_id, "sent")
    assert (again.is_new, again.is_same_number, again.opens_ms) == (False, True, None)
    assert ask(events, "crm-2").is_new
    assert acts.state(first.job_id) == "sent"


@pytest.mark.parametrize(
    ("n", "terms", "differs"),
    [(2, {}, "number"), (1, {"life_s": 60}, "expires_in"), (1, {"reference": "c"}, "reference")],
)
def test_such_a_key_with_another_number_or_terms_is_refused(
    events: Events, n: int, terms: dict[str, object], differs: str
) -> None:
    first = ask(events, "shop-1").record
    ask(events, "crm-1")

    for resend in (False, True):
        job = SendCodeJob.for_event(number(n), "crm-1", **terms)  # type: ignore[arg-type]
        with pytest.raises(KeyReusedError, match=f"another {differs}") as error:
            events.accept(job, "crm", resend=resend)
        assert error.value.job_id == first.job_id


def test_who_sends_all_the_same_may_use_such_a_key_once(events: Events) -> None:
    ask(events, "shop-1")
    ask(events, "crm-1")

    sent = ask(events, "crm-1", resend=True)

    assert sent.is_new
    assert sent.record.job_id == event_job_id("crm-1")
    for resend in (False, True):
        again = ask(events, "crm-1", resend=resend)
        assert (again.is_new, again.record.job_id) == (False, sent.record.job_id)


def test_over_http_such_a_key_answers_and_is_found_like_any_other(
    web: WebServer, events: Events, ledger: Ledger, redis: Redis, settings: Settings
) -> None:
    first = events.accept(SendCodeJob.for_event(number(1), "shop-1"), "shop").record
    answer = web.call("POST", "/v1/codes", key="crm-1", json=NUMBER)
    assert "Idempotent-Replayed" not in answer.headers
    end_interval(ledger, redis)

    again = web.call("POST", "/v1/codes", key="crm-1", json=NUMBER)
    found = web.call("GET", "/v1/codes", key="crm-1")

    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert (again.json()["same_number"], again.json()["earliest_resend_at"]) == (True, None)
    assert found.status_code == 200
    assert again.json()["job_id"] == found.json()["job_id"] == first.job_id
    assert again.json()["state"] == found.json()["state"] == "sent"
    assert Finder(redis, settings).by_name("crm-1").job_ids == [first.job_id]


def test_a_loop_that_takes_a_new_key_each_time_fills_no_memory(
    events: Events, redis: Redis, keys: Keys
) -> None:
    job_id = ask(events, "shop-1").record.job_id

    for n in range(110):
        assert ask(events, f"crm-{n}").record.job_id == job_id

    assert len(list(redis.scan_iter(keys.bound("*"), 1000))) == 100


def test_such_keys_last_for_the_retention_and_hold_nothing_that_can_be_read(
    events: Events, redis: Redis, keys: Keys, settings: Settings
) -> None:
    ask(events, "shop-1")

    events.accept(SendCodeJob.for_event(number(1), "crm-1", reference=CLEAR), "crm")

    left_ms = redis.pttl(keys.bound(event_job_id("crm-1")))
    assert 0 < left_ms <= settings.retention_ms
    assert CLEAR not in all_of(redis)
    assert number(1).phone_num not in all_of(redis)


def test_a_person_who_is_forgotten_leaves_such_keys_used(
    events: Events,
    ledger: Ledger,
    redis: Redis,
    sendcode: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask(events, "shop-1")
    ask(events, "crm-1")
    end_interval(ledger, redis)

    monkeypatch.setattr("sys.stdin", io.StringIO(f"+852 {number(1).phone_num}\n"))
    assert sendcode("forget", "--yes").exit_code == 0

    assert ledger.records.vault.index("852", number(1).phone_num) not in all_of(redis)
    with pytest.raises(KeyReusedError):
        ask(events, "crm-1")


def test_what_is_purged_takes_such_keys_along(
    events: Events, ledger: Ledger, redis: Redis, keys: Keys, sendcode: Command
) -> None:
    job_id = ask(events, "shop-1").record.job_id
    ask(events, "crm-1")
    end_interval(ledger, redis)
    redis.hincrby(keys.job(job_id), "finished", -8 * 86_400_000)

    assert sendcode("purge", "--older-than", "7d", "--yes", "--json").json["jobs"] == 1

    assert not list(redis.scan_iter(keys.bound("*")))
    assert ask(events, "crm-1").is_new
