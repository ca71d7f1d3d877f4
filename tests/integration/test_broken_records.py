"""A job's record that cannot be read is set aside, named, and holds up nobody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from jobs.batches import Batches
from jobs.deadletters import DeadLetters
from jobs.job import NO_NUMBER, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.publish import Publisher
from tests.commands import Command
from tests.ended_jobs import BUSY, DEAD, customers, run_batch
from tests.integration.conftest import PatientSender
from tests.ledger_acts import IN_DOUBT, UNSENT, Acts, number
from tests.ledger_checks import check_ledger
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from worker.background import sweep
from worker.recorder import Ended

UNREADABLE = "Ledger.Unreadable"

BREAKS: dict[str, Callable[[Redis, str], object]] = {
    "its number is gone": lambda redis, key: redis.hdel(key, "cc"),
    "its digits are gone": lambda redis, key: redis.hdel(key, "num"),
    "its number is none": lambda redis, key: redis.hset(key, "num", "many"),
    "its state is gone": lambda redis, key: redis.hdel(key, "state"),
    "its state is none": lambda redis, key: redis.hset(key, "state", "asleep"),
    "its lane is no text": lambda redis, key: redis.hset(key, "lane", b"\xff\xfe"),
    "a count is no number": lambda redis, key: redis.hset(key, "attempts", "several"),
    "a time is no time": lambda redis, key: redis.hset(key, "created", "9" * 40),
    "something else is there": lambda redis, key: redis.delete(key) and redis.rpush(key, "x"),
}


@pytest.fixture(params=BREAKS)
def break_record(
    request: pytest.FixtureRequest, redis: Redis, keys: Keys
) -> Iterator[Callable[[str], None]]:
    broken = []

    def break_it(job_id: str) -> None:
        BREAKS[request.param](redis, keys.job(job_id))
        broken.append(job_id)

    yield break_it
    for job_id in broken:
        redis.delete(keys.unreadable(job_id))


@pytest.fixture
def gone_in_the_end(redis: Redis, keys: Keys) -> Iterator[None]:
    """For tests that only look."""
    yield
    redis.delete(keys.job("b1-2"))


def is_set_aside(acts: Acts, job_id: str) -> bool:
    record = acts.job(job_id)
    kept = acts.redis.exists(acts.keys.unreadable(job_id))
    told = (record.state, record.code, record.flaw, kept)
    return told == (State.UNKNOWN, UNREADABLE, "", 1) and acts.dead() == [job_id]


@pytest.mark.parametrize("lane", ["event", "batch"])
def test_a_worker_that_meets_one_puts_a_dead_letter_in_its_place(
    lane: str, break_record: Callable[[str], None], acts: Acts, sender: PatientSender
) -> None:
    job_id = acts.event() if lane == "event" else acts.batch(1)[0]
    acts.sweep()
    break_record(job_id)

    result = sender.send(job_id)

    assert isinstance(result, Ended)
    assert result.record.code == UNREADABLE
    assert is_set_aside(acts, job_id)
    assert acts.due_in_ms(job_id) is None


@pytest.mark.settings(sendcode_http_timeout=3, sendcode_phone_interval=60)
def test_one_that_breaks_while_its_code_is_sent_holds_no_thread_and_the_answer_is_logged(
    acts: Acts,
    sender: PatientSender,
    sandbox: Sandbox,
    redis: Redis,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.change(answer_ms=1000)
    job_id = acts.event()
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(sender.send(job_id)), daemon=True)
    thread.start()
    wait_until(lambda: sandbox.stats()["requests"] == 1)

    BREAKS["something else is there"](redis, keys.job(job_id))
    thread.join(PATIENCE_S)

    assert [type(each) for each in results] == [Ended]
    assert is_set_aside(acts, job_id)
    lost = next(each for each in caplog.records if "cannot be recorded" in each.message)
    assert lost.__dict__["fields"]["state"] == "sent"
    assert len(lost.__dict__["fields"]["request_id"]) == 36
    redis.delete(keys.unreadable(job_id))


@pytest.mark.parametrize("state", ["queued", "parked", "in doubt"])
def test_no_sweep_stumbles_over_one_and_the_others_go_on(
    state: str,
    break_record: Callable[[str], None],
    acts: Acts,
    publisher: Publisher,
    sender: PatientSender,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, *others = [acts.event(n) for n in range(3)]
    if state != "queued":
        acts.park(broken, acts.begun(broken), 0, IN_DOUBT if state == "in doubt" else UNSENT)
    for job_id in (broken, *others):
        acts.run_out(job_id)
    break_record(broken)

    sweep(acts.ledger, publisher)
    sender.send(broken)
    again = sweep(acts.ledger, publisher)

    assert is_set_aside(acts, broken)
    assert {acts.claim(job_id)[0].verdict for job_id in others} == {"granted"}
    assert again == 0
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert [each.__dict__["fields"]["job_id"] for each in errors] == [broken]
    assert not any(each.exc_info for each in errors)


def test_a_batch_with_one_comes_to_its_end_and_the_row_s_number_is_found_again(
    acts: Acts, sender: PatientSender, batches: Batches, redis: Redis, keys: Keys
) -> None:
    broken, other = acts.batch(2, first=10)
    acts.sweep()
    BREAKS["something else is there"](redis, keys.job(broken))

    sender.send(broken)
    acts.finish(other, acts.begun(other))

    assert acts.job(broken).phone == number(10)
    assert acts.job(broken).batch_id == "b1"
    assert (batch := batches.get("b1"))
    assert (batch.state, batch.counts) == ("done", {"unknown": 1, "sent": 1})


def test_set_aside_twice_is_set_aside_once(
    break_record: Callable[[str], None], acts: Acts, ledger: Ledger
) -> None:
    job_id = acts.event()
    break_record(job_id)

    first, second = ledger.set_aside(job_id), ledger.set_aside(job_id)

    assert first is not None
    assert second is None
    assert ledger.set_aside(acts.event(1)) is None


def test_a_story_with_an_entry_that_cannot_be_read_is_told_without_it(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    redis.hset(keys.job(job_id), mapping={"story:1": "[1,", "story:x": "", "story:2": '["a"]'})

    record = acts.job(job_id)

    assert not record.flaw
    assert {entry.what for entry in record.story} == {"an entry that cannot be read"}


# among the dead letters


@pytest.fixture
def broken_letter(ledger: Ledger, batches: Batches, break_record: Callable[[str], None]) -> str:
    """The second of three dead letters of one code."""
    run_batch(ledger, batches, "b1", customers(3), lambda _: DEAD)
    break_record("b1-2")
    return "b1-2"


@pytest.mark.usefixtures("gone_in_the_end")
def test_all_that_shows_dead_letters_names_it(broken_letter: str, sendcode: Command) -> None:
    listed = sendcode("dead", "list", "--code", BUSY, "--json")
    shown = sendcode("dead", "show", broken_letter)
    told = sendcode("job", "show", broken_letter)
    results = sendcode("batch", "results", "b1")
    exported = sendcode("dead", "export")

    assert (
        listed.exit_code,
        shown.exit_code,
        told.exit_code,
        results.exit_code,
        exported.exit_code,
    ) == (0,) * 5
    assert [job["job_id"] for job in listed.json["jobs"]] == ["b1-1", "b1-2", "b1-3"]
    assert UNREADABLE in shown.out
    assert UNREADABLE in told.out
    assert UNREADABLE in results.out
    assert UNREADABLE in exported.out


@pytest.mark.usefixtures("gone_in_the_end")
def test_a_bulk_requeue_passes_over_it_and_names_it(
    broken_letter: str, sendcode: Command, ledger: Ledger
) -> None:
    requeued = sendcode("dead", "requeue", "--code", BUSY)

    assert requeued.exit_code == 0
    assert "2 requeued" in requeued.out
    assert broken_letter in requeued.err
    assert [getattr(ledger.job(f"b1-{row}"), "state", None) for row in (1, 3)] == [State.PARKED] * 2


def test_it_can_be_dropped_like_others(
    broken_letter: str, sendcode: Command, redis: Redis, keys: Keys
) -> None:
    one = sendcode("dead", "drop", broken_letter, "--reason", "damaged")
    rest = sendcode("dead", "drop", "--all", "--reason", "done")

    assert (one.exit_code, rest.exit_code) == (0, 0)
    assert redis.lrange(keys.dead, 0, -1) == []
    check_ledger(redis, keys)


def test_it_is_sent_again_only_with_a_person_s_word_and_its_number(
    redis: Redis, keys: Keys, acts: Acts, dead: DeadLetters, sendcode: Command
) -> None:
    job_id = acts.event()
    acts.finish(job_id, acts.begun(job_id), State.DEAD, "Some.Code")
    BREAKS["something else is there"](redis, keys.job(job_id))

    refused = sendcode("dead", "requeue", job_id)
    forced = sendcode("dead", "requeue", job_id, "--may-send-twice", "--force")
    given = sendcode("dead", "requeue", job_id, "--may-send-twice", "--phone", "+85251234567")

    assert (refused.exit_code, forced.exit_code, given.exit_code) == (1, 1, 0)
    assert "its number is lost" in forced.err
    assert acts.job(job_id).phone == NO_NUMBER
    assert acts.state(f"{job_id}.r1") is State.PARKED
    assert dead.count() == 0
