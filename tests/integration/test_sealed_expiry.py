"""When a job expires is sealed with its number: only a person has a code sent after that."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

from config.data_key import new_data_key
from config.settings import Settings
from jobs.batch import BatchRow
from jobs.codes import OwnCode
from jobs.deadletters import DeadLetters, Decision
from jobs.job import Lane, SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.scripts import Script, terms_of
from tests.commands import Command
from tests.integration.conftest import PatientSender
from tests.ledger_acts import Acts
from tests.sandbox import Sandbox
from tests.waiting import wait_until

pytestmark = pytest.mark.settings(sendcode_phone_interval=60, sendcode_http_timeout=10)
GOOD = PhoneNumber("852", "99001111")
"""The sandbox sends to it."""
LIFE_S = 600
SHORT_S, OFF_MS = 10, 500
"""A life, and by how much it may be longer or shorter where clocks differ."""
FAR_MS = 4_000_000_000_000


@dataclass
class Calls:
    """Calls of submit.lua so far, and which of them is delayed by how long."""

    count: int = 0
    delays_s: dict[int, float] = field(default_factory=dict)


def event(acts: Acts) -> str:
    return acts.ledger.submit(SendCodeJob.for_event(GOOD, life_s=LIFE_S)).record.job_id


def older_event(acts: Acts) -> str:
    """An event as a release left it that sealed its life, and not when it is over."""
    job_id, life_ms = event(acts), LIFE_S * 1000
    values: Any = {
        "num": acts.ledger.records.seal(GOOD, job_id, Lane.EVENT, life_ms),
        "life": str(life_ms),
        "not_after": str(acts.job(job_id).created_ms + life_ms),
    }
    acts.redis.hset(acts.keys.job(job_id), mapping=values)
    acts.redis.hdel(acts.keys.job(job_id), "term", "expires_in")
    return job_id


def fed_row(acts: Acts) -> str:
    row = BatchRow(2, [GOOD.country_code, GOOD.phone_num], GOOD)
    (job_id,) = acts.batch([row], expires_ms=FAR_MS)
    assert acts.sweep() == [job_id]
    return job_id


def fail(acts: Acts, job_id: str) -> None:
    acts.finish(job_id, acts.begun(job_id), State.DEAD, "Some.Code", number="open")


MAKE = {"an event": event, "an older release's event": older_event, "a batch's row": fed_row}


@pytest.mark.parametrize("made", MAKE)
@pytest.mark.parametrize("is_lost", [False, True], ids=["is over", "was lost"])
def test_what_a_person_tries_again_is_sent_once_and_in_time_unless_that_is_over(
    made: str,
    is_lost: bool,
    acts: Acts,
    sender: PatientSender,
    sandbox: Sandbox,
    redis: Redis,
    keys: Keys,
    settings: Settings,
) -> None:
    job_id, dead = MAKE[made](acts), DeadLetters(redis, settings)
    fail(acts, job_id)
    was = acts.job(job_id)
    if is_lost:
        redis.hdel(keys.job(job_id), "not_after")
    else:
        redis.hset(keys.job(job_id), "not_after", 1)
    is_in_time = is_lost and made != "an older release's event"  # which sealed no time

    assert dead.requeue(Decision("requeue", job_id), dead.window(0)) == ["done"]

    again = acts.job(job_id)
    ends_ms = was.not_after_ms if is_in_time else None
    assert (again.flaw, again.phone, again.not_after_ms) == ("", GOOD, ends_ms)
    assert again.life_ms == was.life_ms
    assert acts.sweep() == [job_id]
    sender.send(job_id)
    assert acts.state(job_id).is_sent
    assert sandbox.stats()["accepted"] == 1


def test_what_a_person_tries_again_in_time_keeps_its_expiry(
    acts: Acts, redis: Redis, settings: Settings
) -> None:
    job_id, dead = event(acts), DeadLetters(redis, settings)
    fail(acts, job_id)
    was = acts.job(job_id)

    dead.requeue(Decision("requeue", job_id), dead.window(0))

    assert was.not_after_ms
    assert acts.job(job_id).not_after_ms == was.not_after_ms


def test_without_its_key_a_job_whose_time_is_over_stays_a_dead_letter(
    acts: Acts, redis: Redis, keys: Keys, settings: Settings, sendcode: Command
) -> None:
    job_id = event(acts)
    fail(acts, job_id)
    known = settings.sendcode_data_keys
    assert known
    more = SecretStr(f"{new_data_key('k2')},{known.get_secret_value()}")
    other = Ledger(redis, settings.model_copy(update={"sendcode_data_keys": more}))
    term = redis.hget(keys.job(job_id), "term")
    num = other.records.seal(GOOD, job_id, Lane.EVENT, str(term))
    redis.hset(keys.job(job_id), mapping={"num": num, "not_after": 1})

    told = sendcode("dead", "requeue", job_id, "--force")

    assert "sealed under a data key that is not here" in told.out + told.err
    assert acts.state(job_id) is State.DEAD
    assert redis.lrange(keys.dead, 0, -1) == [job_id]


@pytest.mark.parametrize("is_retried", [False, True], ids=["", "that a person tried again"])
def test_an_event_of_a_release_that_sealed_its_life_is_sent_once(
    is_retried: bool, acts: Acts, sender: PatientSender, sandbox: Sandbox
) -> None:
    job_id = older_event(acts)
    if is_retried:  # by that release, after its time
        acts.redis.hdel(acts.keys.job(job_id), "not_after")

    sender.send(job_id)
    sender.send(job_id)

    assert acts.state(job_id).is_sent
    assert sandbox.stats()["accepted"] == 1


@pytest.mark.parametrize("made", ["an event", "a batch's row"])
def test_a_job_without_its_expiry_is_not_sent_until_a_person_tries_it_again(
    made: str,
    acts: Acts,
    sender: PatientSender,
    sandbox: Sandbox,
    redis: Redis,
    settings: Settings,
) -> None:
    job_id, dead = MAKE[made](acts), DeadLetters(redis, settings)
    sealed_for_ms = acts.job(job_id).not_after_ms
    redis.hdel(acts.keys.job(job_id), "not_after")  # by an older release's requeue, or a forger

    sender.send(job_id)

    forged = acts.job(job_id)
    assert (forged.state, forged.code, forged.phone) == (State.UNKNOWN, OwnCode.FORGED, GOOD)
    assert sandbox.stats()["accepted"] == 0
    assert dead.requeue(Decision("requeue", job_id), dead.window(0)) == ["done"]
    assert acts.job(job_id).not_after_ms == sealed_for_ms
    assert acts.sweep() == [job_id]
    sender.send(job_id)
    assert acts.state(job_id).is_sent
    assert sandbox.stats()["accepted"] == 1


def test_an_event_of_a_release_that_sealed_its_life_gets_no_later_expiry(
    acts: Acts, sender: PatientSender, sandbox: Sandbox
) -> None:
    job_id = older_event(acts)
    acts.redis.hincrby(acts.keys.job(job_id), "not_after", 1)

    sender.send(job_id)

    assert acts.job(job_id).code == OwnCode.FORGED
    assert sandbox.stats()["accepted"] == 0


def lives_ms(ledger: Ledger) -> int:
    """Submit an event, and return after how long it expires, on Redis' clock."""
    record = ledger.submit(SendCodeJob.for_event(GOOD, life_s=SHORT_S)).record
    assert (record.flaw, record.life_ms) == ("", SHORT_S * 1000)
    lives_ms = (record.not_after_ms or 0) - record.created_ms
    assert lives_ms <= SHORT_S * 1000 + OFF_MS
    return lives_ms


@pytest.fixture
def calls(acts: Acts, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts the submissions that Redis is asked for, and delays some on their way there."""
    event(acts)  # from now on Redis knows the script
    heard, client = Calls(), acts.ledger.client
    execute: Any = client.execute_command
    sha = Script(client, acts.keys, "submit", terms=terms_of(acts.ledger.settings)).sha

    def delayed(*command: Any, **more: Any) -> Any:
        if command[:2] == ("EVALSHA", sha):
            heard.count += 1
            time.sleep(heard.delays_s.get(heard.count, 0))
        return execute(*command, **more)

    monkeypatch.setattr(client, "execute_command", delayed)
    return heard


@pytest.mark.parametrize("off_s", [-3600, -2, -0.6, 0.6, 2, 3600])
def test_an_event_expires_by_the_clock_of_redis_wherever_the_producer_s_stands(
    off_s: float, acts: Acts, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, off_ns = time.time_ns, round(off_s * 1e9)
    monkeypatch.setattr(time, "time_ns", lambda: read() + off_ns)

    def is_right_at_once() -> bool:
        calls.count = 0
        return abs(lives_ms(acts.ledger) - SHORT_S * 1000) <= OFF_MS and calls.count == 1

    is_right_at_once()  # the first time it asks for the difference
    # a machine that hangs just then learns it anew
    wait_until(lambda: is_right_at_once() and is_right_at_once())


@pytest.mark.parametrize(
    ("off_s", "delays_s"), [(0, {1: 1.1}), (3600, {2: 1.1}), (0, {1: 1.1, 2: 1.1})], ids=str
)
def test_an_event_lives_as_long_as_asked_for_where_redis_hangs_for_a_moment(
    off_s: int,
    delays_s: dict[int, float],
    acts: Acts,
    calls: Calls,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, calls.delays_s = time.time_ns, delays_s
    monkeypatch.setattr(time, "time_ns", lambda: read() + off_s * 10**9)

    def is_right() -> bool:
        calls.count = 0
        ledger = Ledger(acts.ledger.client, settings)  # which does not know the difference
        return lives_ms(ledger) >= SHORT_S * 1000 - OFF_MS

    wait_until(is_right)  # a machine that hangs, too, has it expire earlier


def test_an_event_expires_early_but_never_late_where_redis_hangs_each_time(
    acts: Acts, calls: Calls, settings: Settings
) -> None:
    calls.delays_s = {1: 0.7, 2: 1.4, 3: 0.7}

    def is_early() -> bool:
        calls.count = 0
        found_ms = lives_ms(Ledger(acts.ledger.client, settings))
        return found_ms < SHORT_S * 1000 - OFF_MS and calls.count == 3

    wait_until(is_early)
