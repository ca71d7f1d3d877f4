"""Bounds on spending: no interleaving of callers gets more codes than a quota."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from config.quotas import Limit, read_limits
from config.settings import Settings, SettingsError, load_settings
from jobs.batch import BatchState
from jobs.job import SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.quotas import QuotaExceededError, Quotas, quota_counts
from producer import NumberNotAllowedError, send_code
from producer.events import Events
from producer.tokens import Tokens
from tests.commands import Command
from tests.ledger_acts import Acts, row
from tests.sandbox import Sandbox
from tests.web_server import WebServer
from worker.sender import Sender

MOBILE = "51234567"


def number(n: int) -> PhoneNumber:
    return PhoneNumber("852", str(51230000 + n))


def ask(events: Events, n: int = 0, token: str = "", **options: Any) -> str:
    """Ask for a code; return the job's id, or the rule that refuses it."""
    try:
        job = SendCodeJob.for_event(number(n))
        return events.accept(job, token, **options).record.job_id
    except QuotaExceededError as exc:
        return exc.rule


@pytest.mark.settings(sendcode_limit_number="2/10m")
def test_a_number_gets_no_more_codes_than_its_quota(events: Events) -> None:
    assert [ask(events, resend=True) == "number" for _ in range(4)] == [False, False, True, True]
    assert ask(events, 1) != "number"


@pytest.mark.settings(sendcode_limit_range="3/10m")
def test_numbers_of_one_range_share_its_quota(events: Events) -> None:
    assert [ask(events, n) == "range" for n in range(5)] == [False] * 3 + [True] * 2
    assert ask(events, 10_000) != "range"


@pytest.mark.settings(sendcode_limit_token="1/h", sendcode_budget="3/d")
def test_a_token_and_all_together_have_bounds(events: Events) -> None:
    asked = [ask(events, n, token) for n, token in enumerate(["a", "a", "b", "c", "d", ""])]

    assert [each if each in {"token", "budget"} else "" for each in asked] == [
        *("", "token", "", ""),
        *("budget", "budget"),
    ]


@pytest.mark.settings(sendcode_limit_country="watch:1/h")
def test_a_watched_rule_counts_and_refuses_nothing(
    events: Events, redis: Redis, settings: Settings
) -> None:
    assert all(ask(events, n) != "country" for n in range(3))
    assert quota_counts(redis, settings) == {"country": {"watched": 2}}


@pytest.mark.settings(sendcode_limit_number="1/h", sendcode_trusted="85251230000,8526")
def test_trusted_numbers_have_no_quota(events: Events) -> None:
    assert all(ask(events, resend=True) != "number" for _ in range(5))
    assert [ask(events, 1, resend=True) == "number" for _ in range(2)] == [False, True]


@pytest.mark.settings(sendcode_limit_number="1/h")
def test_a_known_key_costs_nothing_and_a_refusal_binds_no_key(
    settings: Settings, redis: Redis, keys: Keys
) -> None:
    first = send_code("852", MOBILE, key="a", settings=settings)
    assert send_code("852", MOBILE, key="a", settings=settings).job_id == first.job_id
    with pytest.raises(QuotaExceededError) as error:
        send_code("852", MOBILE, key="b", resend=True, settings=settings)

    assert error.value.rule == "number"
    assert 3_500 < error.value.retry_after_s < 3_700
    assert len(list(redis.scan_iter(keys.job("*")))) == 1


def test_a_second_event_for_a_waiting_number_is_the_first_one_s_job(
    events: Events, acts: Acts
) -> None:
    first = events.accept(SendCodeJob.for_event(number(0), "a"))
    again = [events.accept(SendCodeJob.for_event(number(0), f"b{n}")) for n in range(8)]

    assert first.is_new
    assert {each.record.job_id for each in again} == {first.record.job_id}
    assert all(each.is_same_number and not each.is_new for each in again)
    assert events.accept(SendCodeJob.for_event(number(0), "c"), resend=True).is_new
    assert acts.state(first.record.job_id) is State.QUEUED


@pytest.mark.settings(sendcode_countries="852, +65")
def test_only_the_countries_that_are_named_get_codes(settings: Settings) -> None:
    with pytest.raises(NumberNotAllowedError, match="SENDCODE_COUNTRIES"):
        send_code("+44 7400 123456", settings=settings)

    assert send_code("852", MOBILE, settings=settings).state is State.QUEUED


@pytest.mark.parametrize(
    ("phone", "kind"),
    [
        ("+85221234567", "landline"),
        ("+448001111111", "toll-free"),
        ("+449098790000", "premium-rate"),
        ("+870773111632", "satellite"),
        ("+85251234567", ""),
        ("+12015550123", ""),
    ],
)
@pytest.mark.settings(sendcode_line_types="refuse")
def test_lines_that_get_no_code_are_refused(settings: Settings, phone: str, kind: str) -> None:
    quotas = Quotas(settings)
    parsed = PhoneNumber.from_international(phone)

    if not kind:
        assert quotas.check(parsed) == ""
        return
    with pytest.raises(NumberNotAllowedError, match=kind):
        quotas.check(parsed)


@pytest.mark.parametrize(
    "text", ["5", "5/", "5/10x", "0/10m", "5/0m", "5/32d", "watch:", "5/10m;1/d", "", "-1/m"]
)
def test_a_limit_that_makes_no_sense_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="must"):
        read_limits(text)
    if text:
        monkeypatch.setenv("SENDCODE_LIMIT_NUMBER", text)
        with pytest.raises(SettingsError, match="SENDCODE_LIMIT_NUMBER: must"):
            load_settings(None)


def test_limits_are_read_as_they_are_written() -> None:
    limits = read_limits("5/10m, 10/d")

    assert limits == (Limit(5, 600, False), Limit(10, 86_400, False))
    assert [str(each) for each in (*limits, *read_limits("watch:7/36h"))] == [
        *("5/10m", "10/d"),
        "watch:7/36h",
    ]


@pytest.mark.settings(
    sendcode_limit_range="50/10m", sendcode_limit_number="off", sendcode_rate_limit=20
)
def test_many_callers_at_once_get_no_more_of_a_range_than_its_quota(
    events: Events, redis: Redis, keys: Keys
) -> None:
    with ThreadPoolExecutor(16) as pool:
        rules = list(pool.map(lambda n: ask(events, n), range(500)))

    assert sum(rule != "range" for rule in rules) == 50
    assert len(list(redis.scan_iter(keys.job("*"), count=1_000))) == 50


@hypothesis_settings(max_examples=30)
@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=60),
    limit=st.integers(1, 5),
)
def test_in_no_span_are_more_codes_than_the_quota_whenever_they_are_asked_for(
    events: Events, redis: Redis, keys: Keys, steps: list[tuple[int, int]], limit: int
) -> None:
    """Time goes by in that the codes counted so far move into the past."""
    for key in redis.scan_iter(keys.quota("*")):
        redis.delete(key)
    span_s, width_ms = 60, 1_000
    quotas = Quotas(events.settings.model_copy(update={"sendcode_limit_range": f"{limit}/60s"}))
    ledger = events._ledger
    now_s, accepted = 0, deque[int]()
    for pause_s, tries in steps:
        now_s += pause_s
        for key in redis.scan_iter(keys.quota("*")):
            counts: Any = redis.hgetall(key)
            moved = {int(bucket) - pause_s * 1_000 // width_ms: n for bucket, n in counts.items()}
            redis.delete(key)
            redis.hset(key, mapping={str(bucket): n for bucket, n in moved.items()})
            redis.expire(key, 100)
        for _ in range(tries):
            job = SendCodeJob.for_event(number(0))
            full = sum(at > now_s - span_s - 2 for at in accepted) >= limit
            with suppress(QuotaExceededError) if full else nullcontext():
                found = quotas.of(job.phone, "", ledger.records.vault.index)
                ledger.submit(job, [quota for quota in found if quota.rule == "range"])
                accepted.append(now_s)
        assert all(
            sum(start <= at < start + span_s for at in accepted) <= limit for start in accepted
        )


@pytest.fixture
def web(settings: Settings, redis: Redis) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        _, server.token = Tokens(redis, settings).new("shop", ["send"])
        yield server


@pytest.mark.settings(sendcode_limit_token="1/h")
def test_over_http_a_spent_quota_is_a_429_that_names_the_rule_and_when_to_come_back(
    web: WebServer,
) -> None:
    body = {"country_code": "852", "phone_num": MOBILE}
    assert web.call("POST", "/v1/codes", key="a", json=body).status_code == 202

    answer = web.call("POST", "/v1/codes", key="b", json={**body, "resend": True})

    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 3_500
    assert (answer.json()["code"], answer.json()["rule"]) == ("quota_exceeded", "token")
    again = web.call("POST", "/v1/codes", key="c", json=body)
    assert again.status_code == 200
    assert again.json()["same_number"] is True


@pytest.mark.settings(sendcode_line_types="refuse")
def test_over_http_a_landline_is_refused_by_its_field(web: WebServer) -> None:
    answer = web.call("POST", "/v1/codes", key="a", json={"phone": "+85221234567"})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "line_types"


@pytest.mark.settings(sendcode_limit_number="1/h")
def test_what_was_refused_is_shown(sendcode: Command) -> None:
    words = ("send", "--country-code", "852", "--phone", MOBILE, "--resend", "--json")
    assert sendcode(*words, "--reference", "c 1").json["reference"] == "c 1"

    refused = sendcode(*words)

    assert refused.exit_code == 3
    assert refused.json["error"] == "quota_exceeded"
    assert refused.json["rule"] == "number"
    (row,) = (each for each in sendcode("quota", "status", "--json").json if each["refused"])
    assert row == {"rule": "number", "limits": "1/h", "refused": 1, "watched": 0}
    assert sendcode("status", "--json").json["quota_refusals"] == {"number": 1}
    assert "number 1" in sendcode("status").out


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("--phone", "12"), 2, "no_country_code"),
        (("--phone", "+85251234567", "--key", " "), 2, "invalid_request"),
    ],
)
def test_errors_of_send_are_json_where_json_is_asked_for(
    sendcode: Command, words: tuple[str, ...], code: int, error: str
) -> None:
    ran = sendcode("send", *words, "--json")

    assert (ran.exit_code, ran.json["error"]) == (code, error)


@pytest.mark.settings(sendcode_limit_number="2/10m", sendcode_limit_range="off")
def test_the_rules_can_be_tried_on_past_triggers(sendcode: Command, tmp_path: Path) -> None:
    file = tmp_path / "past.csv"
    times = ["00:00", "00:05", "00:09", "00:10", "00:16"]
    lines = [f"2026-11-01T10:{at[3:]}:01,+85251234567" for at in times]
    file.write_text("at,phone\n" + "\n".join(lines) + "\n")

    assert sendcode("quota", "simulate", file, "--json").json == {
        "rows": 5,
        "refused": {"number": 1},
    }
    file.write_text("at,phone\nyesterday,+85251234567\n")
    assert "line 2: at is no time" in sendcode("quota", "simulate", file).err


@pytest.mark.settings(sendcode_budget="3/h", sendcode_trusted="85251230007")
def test_a_spent_budget_pauses_a_batch_and_loses_no_row(
    acts: Acts, redis: Redis, settings: Settings, sendcode: Command
) -> None:
    acts.batch([row(n) for n in range(8)])

    acts.sweep()
    batch = acts.batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.bound, batch.fed) == (BatchState.PAUSED, "budget", 3)
    assert "bound on spending `budget`" in sendcode("batch", "status", "b1").err

    for key in redis.scan_iter(Keys(settings.sendcode_key_prefix).quota("*")):
        redis.delete(key)  # an hour later
    acts.batches.steer("b1", "resume")
    acts.sweep()
    batch = acts.batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.fed) == (BatchState.PAUSED, 6)


@pytest.mark.settings(sendcode_budget="3/h")
def test_a_budget_holds_for_batches_whichever_worker_sweeps(
    acts: Acts, redis: Redis, keys: Keys, settings: Settings, sendcode: Command
) -> None:
    other = Ledger(redis, settings.model_copy(update={"sendcode_budget": "off"}))
    acts.sweep()
    acts.batch(8)

    other.sweep()

    batch = acts.batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.bound, batch.fed) == (BatchState.PAUSED, "budget", 3)
    assert other.is_bound_by_others
    assert not acts.ledger.is_bound_by_others
    warned = next(
        each for each in sendcode("doctor", "--json").json["findings"] if each["name"] == "bounds"
    )
    assert "budget 3/h | none" in warned["text"]

    redis.hset(keys.spending, "budget,3,3600000,0;", 1)  # a minute after that worker's last sweep
    acts.batches.steer("b1", "resume")
    other.sweep()

    batch = acts.batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.fed) == (BatchState.RUNNING, 8)
    assert not other.is_bound_by_others


@pytest.mark.settings(sendcode_budget="5/h")
@pytest.mark.parametrize(("others", "fed"), [("2/h", 2), ("7/h,4/d", 4), ("watch:2/h", 5)])
def test_of_different_budgets_the_strictest_of_each_span_holds(
    others: str, fed: int, acts: Acts, redis: Redis, settings: Settings
) -> None:
    Ledger(redis, settings.model_copy(update={"sendcode_budget": others})).sweep()
    acts.batch(8)

    acts.sweep()

    batch = acts.batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.bound, batch.fed) == (BatchState.PAUSED, "budget", fed)


@pytest.mark.settings(sendcode_countries="65")
def test_a_worker_sends_nothing_to_a_country_that_is_not_named(
    ledger: Ledger, sender: Sender, sandbox: Sandbox
) -> None:
    job_id = ledger.submit(SendCodeJob.for_event(number(0))).record.job_id

    sender.send(job_id)

    record = ledger.job(job_id)
    assert record is not None
    assert (record.state, record.code) == (State.DEAD, "Quota.Country")
    assert sandbox.stats()["requests"] == 0


def test_an_event_that_is_over_too_soon_does_not_stand_for_a_later_one(
    events: Events, redis: Redis, keys: Keys
) -> None:
    first = events.accept(SendCodeJob.for_event(number(0), "a", 60)).record.job_id
    redis.hincrby(keys.job(first), "not_after", -1_000)

    later = events.accept(SendCodeJob.for_event(number(0), "b", 60))
    sooner = events.accept(SendCodeJob.for_event(number(0), "c", 30))
    lasting = events.accept(SendCodeJob.for_event(number(0), "d"))

    assert later.is_new
    assert sooner.record.job_id == later.record.job_id
    assert lasting.is_new


@pytest.mark.settings(sendcode_countries="65", sendcode_trusted="85251230000")
def test_a_trusted_number_is_sent_to_whatever_its_country(
    events: Events, sender: Sender, sandbox: Sandbox
) -> None:
    job_id = events.accept(SendCodeJob.for_event(number(0))).record.job_id

    sender.send(job_id)

    assert sandbox.stats()["accepted"] == 1


@pytest.mark.settings(sendcode_line_types="off")
def test_another_backend_s_key_and_reference_are_not_shown(
    web: WebServer, redis: Redis, settings: Settings
) -> None:
    _, other = Tokens(redis, settings).new("other", ["send"])
    body = {"country_code": "852", "phone_num": MOBILE, "reference": "customer 1"}
    web.call("POST", "/v1/codes", key="mine", json=body)

    answer = web.call("POST", "/v1/codes", token=other, key="theirs", json=body)

    assert answer.json()["same_number"] is True
    assert (answer.json()["key"], answer.json()["reference"]) == (None, None)
