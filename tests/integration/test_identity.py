"""A ledger that is not the one that was known: emptied, exchanged, older, or a moment behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from jobs.deadletters import DeadLetters, Decision
from jobs.identity import LedgerRefusedError
from jobs.job import SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.scripts import time_ms
from producer import RedisUnavailableError, send_code
from tests.commands import Command
from tests.files import customer, write_csv
from tests.ledger_acts import DEFAULTS, NOTHING, Acts, number

pytestmark = pytest.mark.settings(**DEFAULTS)

Process = Callable[..., Ledger]


@pytest.fixture
def process(redis: Redis, settings: Settings, tmp_path: Path) -> Process:
    """Start another process on this machine, or on one with another `home`: its ledger."""

    def start(home: str = "home", *, is_worker: bool = True) -> Ledger:
        ledger = Ledger(redis, settings, tmp_path / home / "ledger.json")
        if is_worker:
            ledger.identity.work()
        return ledger

    return start


def event(serial: int = 0, key: str | None = None) -> SendCodeJob:
    return SendCodeJob.for_event(number(serial), key)


def empty(redis: Redis, _: Keys) -> None:
    redis.flushdb()


def exchange(redis: Redis, keys: Keys) -> None:
    redis.flushdb()
    born = time_ms(redis.time())
    redis.hset(keys.ledger, mapping={"id": "0" * 16, "born": born, "at": born, "counter": 1})


def age(redis: Redis, keys: Keys, ms: int = 60_000) -> None:
    """Have the ledger be what it was so long ago."""
    redis.hincrby(keys.ledger, "at", -ms)
    redis.hincrby(keys.ledger, "counter", -1)


LOSSES = {"empty": empty, "foreign": exchange, "older": age}


def test_a_first_use_of_an_empty_redis_needs_no_ceremony(process: Process) -> None:
    worker = process()

    assert worker.submit(event()).is_new
    assert len(worker.sweep()) == 0
    assert worker.identity.ask().born_ms is not None


@pytest.mark.parametrize("loss", LOSSES)
def test_whoever_saw_another_ledger_refuses_this_one_and_warns_all_others(
    process: Process, redis: Redis, keys: Keys, loss: str
) -> None:
    worker = process()
    worker.sweep()
    LOSSES[loss](redis, keys)

    with pytest.raises(LedgerRefusedError, match="ledger accept"):
        worker.sweep()

    stranger = process("another machine")
    with pytest.raises(LedgerRefusedError, match="ledger accept"):
        stranger.submit(event())
    with pytest.raises(LedgerRefusedError):
        stranger.sweep()
    assert stranger.claim("ev-1", "t").verdict == "refused"


@pytest.mark.parametrize("loss", ["empty", "older"])
def test_a_process_that_was_started_later_knows_by_the_state_file(
    process: Process, redis: Redis, keys: Keys, loss: str
) -> None:
    process().sweep()
    LOSSES[loss](redis, keys)

    with pytest.raises(LedgerRefusedError):
        process(is_worker=False).submit(event())
    assert redis.hget(keys.ledger, "refused") == loss


def test_a_state_file_of_another_server_under_this_address_stops_its_own_machine_alone(
    process: Process, redis: Redis, keys: Keys
) -> None:
    process("laptop", is_worker=False).submit(event())
    exchange(redis, keys)

    with pytest.raises(LedgerRefusedError, match=r"remove .*ledger\.json"):
        process("laptop", is_worker=False).submit(event())

    assert process("server").submit(event(1)).is_new
    assert process("server").identity.ask().refused == ""


@pytest.mark.parametrize("loss", LOSSES)
def test_accepting_lets_everybody_go_on_and_flags_what_may_have_been_sent(
    acts: Acts, process: Process, redis: Redis, keys: Keys, loss: str
) -> None:
    worker, other = process(), process("another machine")
    before = worker.submit(event(1)).record.job_id
    other.sweep()
    worker.sweep()
    LOSSES[loss](redis, keys)
    for each in (worker, other):
        with pytest.raises(LedgerRefusedError):
            each.sweep()

    accepted = process(is_worker=False).identity.accept(24)

    assert accepted.refused == loss
    worker.sweep()
    other.sweep()
    after = other.submit(event(2)).record.job_id
    for job_id in (before, after):
        if acts.ledger.job(job_id):
            acts.begun(job_id)
            assert acts.job(job_id).possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == ("2" if loss == "older" else "1")


def test_what_is_submitted_once_the_hours_are_over_is_not_flagged(
    acts: Acts, process: Process, redis: Redis, keys: Keys
) -> None:
    worker = process()
    worker.sweep()
    empty(redis, keys)

    worker.identity.accept(0)

    job_id = worker.submit(event()).record.job_id
    acts.begun(job_id)
    assert not acts.job(job_id).possible_duplicate


def test_rows_of_an_accepted_older_batch_are_flagged_when_they_are_sent(
    acts: Acts, process: Process, redis: Redis, keys: Keys
) -> None:
    (job_id,) = acts.batch(1)
    worker = process()
    worker.identity.ask()
    age(redis, keys)
    worker.identity.accept(24)

    acts.sweep()
    acts.finish(job_id, acts.begun(job_id))

    assert acts.state(job_id) is State.SENT
    assert acts.job(job_id).possible_duplicate


def test_a_dead_letter_that_is_tried_again_after_an_acceptance_is_flagged(
    acts: Acts, dead: DeadLetters, process: Process, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    acts.finish(job_id, acts.begun(job_id), State.DEAD, "InternalError")
    worker = process()
    worker.sweep()
    age(redis, keys)
    worker.identity.accept(24)

    dead.requeue(Decision("requeue", "all"), dead.window(0))
    acts.run_out(job_id)
    acts.sweep()
    acts.begun(job_id)

    assert acts.job(job_id).possible_duplicate


def test_a_failover_that_forgets_a_moment_stops_nobody(
    process: Process, redis: Redis, keys: Keys
) -> None:
    worker, other = process(), process("another machine")
    for each in (worker, other, worker):
        each.sweep()
    age(redis, keys, 2_000)

    worker.sweep()
    other.sweep()

    assert worker.identity.ask().refused == ""
    assert worker.submit(event()).is_new


def test_attempts_that_a_failover_forgot_are_flagged_when_they_are_made_again(
    acts: Acts, process: Process, redis: Redis, keys: Keys
) -> None:
    worker, other = process(), process("another machine")
    worker.sweep()
    ids = [acts.event(serial) for serial in (1, 2)]
    replica: Any = redis.dump(keys.job(ids[1]))
    for serial, job_id in enumerate(ids, 1):
        token = acts.claimed(job_id)
        begun = worker.begin(job_id, token, 1, 500, NOTHING)
        worker.identity.attempted(begun.count, number(serial))
    # the second attempt had not reached the replica
    redis.restore(keys.job(ids[1]), 0, replica, replace=True)
    redis.set(keys.attempts(worker.identity.process), 1, ex=60)

    assert worker.claim(ids[1], "t").verdict == "refused"
    due = worker.sweep()

    assert due.forgotten == 1
    acts.free_number(number(2))
    token = acts.claimed(ids[1])
    assert other.begin(ids[1], token, 1, 500, NOTHING).kind == "first"
    assert acts.job(ids[1]).possible_duplicate
    assert not acts.job(ids[0]).possible_duplicate


def test_an_attempt_whose_begin_had_its_answer_lost_is_known_by_its_number_all_the_same(
    acts: Acts, process: Process
) -> None:
    worker = process()
    job_id = acts.event()
    token = acts.claimed(job_id)

    begun, again = (worker.begin(job_id, token, 1, 500, NOTHING) for _ in range(2))

    assert begun.count == 1
    assert again == begun


def test_a_worker_without_work_keeps_the_count_of_its_attempts(
    acts: Acts, process: Process, redis: Redis, keys: Keys
) -> None:
    worker = process()
    worker.sweep()
    job_id = acts.event()
    begun = worker.begin(job_id, acts.claimed(job_id), 1, 500, NOTHING)
    worker.identity.attempted(begun.count, number())
    redis.expire(keys.attempts(worker.identity.process), 60)

    worker.sweep()

    assert redis.ttl(keys.attempts(worker.identity.process)) > 3_600


def test_two_deployments_on_one_redis_do_not_know_of_each_other(
    process: Process, redis: Redis, keys: Keys, settings: Settings
) -> None:
    other = Ledger(redis, settings.model_copy(update={"sendcode_key_prefix": "other"}))
    process().sweep()
    other.sweep()

    for key in redis.keys(f"{keys.prefix}:*"):
        redis.delete(key)

    other.sweep()
    assert other.identity.ask().refused == ""
    with pytest.raises(LedgerRefusedError):
        process().sweep()


def test_a_state_file_that_cannot_be_written_or_read_stops_nothing(
    redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("no folder")
    broken = tmp_path / "broken.json"
    broken.write_text('{"seen": 7}')

    unkept = Ledger(redis, settings, tmp_path / "taken" / "ledger.json")
    unkept.sweep()

    assert "ledger.json cannot be written (" in unkept.identity.unkept
    Ledger(redis, settings, broken).sweep()


def test_doctor_warns_where_nothing_can_be_kept(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "taken"))
    sendcode("send", "--country-code", "852", "--phone", "51234567")

    doctor = sendcode("doctor")

    assert "WARN  what this machine has seen of the ledger is not kept" in doctor.out
    assert "set XDG_STATE_HOME" in doctor.out


def test_a_key_of_a_wrong_type_is_refused_and_can_be_accepted(
    process: Process, redis: Redis, keys: Keys
) -> None:
    redis.set(keys.ledger, "garbage")
    worker = process()

    with pytest.raises(LedgerRefusedError, match="does not hold what it should"):
        worker.sweep()
    worker.identity.accept(24)

    worker.sweep()


def test_send_code_refuses_an_emptied_ledger_with_the_error_that_backends_know(
    settings: Settings, redis: Redis, keys: Keys
) -> None:
    send_code("852", "51234567", settings=settings)
    empty(redis, keys)

    with pytest.raises(RedisUnavailableError, match="it is empty"):
        send_code("852", "51234567", settings=settings)


def test_submit_status_doctor_and_accept_say_what_happened_and_what_to_do(
    sendcode: Command, redis: Redis, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "a.csv", [customer(1), customer(2)])
    assert sendcode("batch", "submit", file).exit_code == 0
    assert sendcode("status", "--json").json["ledger"]["state"] == "known"
    redis.flushdb()

    submitted = sendcode("batch", "submit", file)
    checked = sendcode("batch", "check", file)
    status = sendcode("status")
    doctor = sendcode("doctor")
    unasked = sendcode("ledger", "accept")
    accepted = sendcode("ledger", "accept", "--yes", "--reason", "flushed by mistake")
    again = sendcode("batch", "submit", file)

    assert submitted.exit_code == 1
    assert submitted.err.count("\n") == 1
    assert "the ledger is refused, and nothing is sent: it is empty" in submitted.err
    assert "the one known here was alive until" in submitted.err
    assert "sendcode ledger accept" in submitted.err
    assert "only the file is checked" in checked.err
    assert "the ledger is refused" in checked.err
    assert "the ledger is refused" in status.out
    assert "running" not in status.out
    assert "FAIL  the ledger is refused" in doctor.out
    assert unasked.exit_code == 2
    assert "--yes confirms it" in unasked.err
    assert accepted.exit_code == 0
    assert "flushed by mistake" in sendcode("actions").out
    assert again.exit_code == 0
    assert "old (since" in sendcode("status").out
