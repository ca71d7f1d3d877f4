"""When a job expires is sealed with its number: only a person has a code sent after that."""

from __future__ import annotations

import time
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
from sandbox.client import Sandbox
from tests.commands import Command
from tests.integration.conftest import PatientSender
from tests.ledger_acts import Acts

pytestmark = pytest.mark.settings(sendcode_phone_interval=60, sendcode_http_timeout=10)
GOOD = PhoneNumber("852", "99001111")
"""The sandbox sends to it."""
LIFE_S, HOUR_MS = 600, 3_600_000
FAR_MS = 4_000_000_000_000


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


@pytest.mark.parametrize("is_ahead", [False, True], ids=["behind", "ahead"])
def test_an_event_expires_by_the_clock_of_redis_wherever_the_producer_s_stands(
    is_ahead: bool, acts: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, off_ns = time.time_ns, (1 if is_ahead else -1) * HOUR_MS * 1_000_000
    monkeypatch.setattr(time, "time_ns", lambda: read() + off_ns)

    records = [acts.job(acts.event(n, life_s=LIFE_S)) for n in range(3)]

    for record in records:
        assert record.flaw == ""
        lives_ms = (record.not_after_ms or 0) - record.created_ms
        assert abs(lives_ms - LIFE_S * 1000) < HOUR_MS / 2
