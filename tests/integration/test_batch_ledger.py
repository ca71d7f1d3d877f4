"""Batches in the ledger: rows appended, counted, looked at again."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batch import Batch
from jobs.batches import BatchCancelledError, Batches, BatchGoneError
from jobs.deadletters import DeadLetters, Decision
from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import Ending, Ledger
from tests.ended_jobs import BUSY, DEAD, SENT, customers, end, end_event, number, run_batch
from tests.ledger_acts import number_key

HEADER = ["name", "country_code", "phone_num"]


def look(batches: Batches, batch_id: str = "b1") -> Batch:
    batch = batches.get(batch_id)
    assert batch is not None
    return batch


def test_a_chunk_sent_twice_is_appended_once(batches: Batches) -> None:
    batches.open("b1", "digest", HEADER)
    batches.append("b1", 0, customers(10))

    have = batches.append("b1", 0, customers(10))

    assert have == 10
    assert look(batches).total == 10


def test_chunks_that_overlap_complete_each_other(batches: Batches) -> None:
    batches.open("b1", "digest", HEADER)
    batches.append("b1", 0, customers(10))

    batches.append("b1", 4, customers(16, first=5), last=True)

    rows = [row.cells[0] for _, row, _ in batches.rows("b1")]
    assert rows == [f"Customer {n}" for n in range(1, 21)]


def test_a_chunk_that_would_leave_a_gap_is_refused(batches: Batches) -> None:
    batches.open("b1", "digest", HEADER)

    with pytest.raises(BatchGoneError):
        batches.append("b1", 5, customers(5, first=6))

    assert look(batches).total == 0


def test_a_batch_that_was_cancelled_takes_no_more_rows(batches: Batches) -> None:
    batches.open("b1", "digest", HEADER)
    batches.append("b1", 0, customers(2))
    batches.steer("b1", "cancel")

    with pytest.raises(BatchCancelledError):
        batches.append("b1", 2, customers(2, first=3), last=True)

    batch = look(batches)
    assert (batch.accepted, batch.counts) == (2, {"cancelled": 2})


def test_a_batch_is_importing_until_its_last_row_is_there(batches: Batches) -> None:
    batches.open("b1", "digest", HEADER)
    batches.append("b1", 0, customers(2))
    assert look(batches).phase == "importing"

    batches.append("b1", 2, [], last=True)

    assert look(batches).phase == "running"


def test_the_rate_counts_what_ended_lately(
    ledger: Ledger, batches: Batches, redis: Redis, keys: Keys
) -> None:
    run_batch(ledger, batches, "b1", customers(30), lambda _: SENT)
    assert look(batches).rate > 0
    values: Any = redis.hgetall(keys.batch("b1"))
    # 100 jobs, evenly in 15 s, of which the fading count keeps the share 1 - 1/e
    now = int(values["pace_at"])
    redis.hset(keys.batch("b1"), mapping={"pace": "63.212", "pace_from": now - 15_000})

    rate = look(batches).rate

    # some milliseconds have passed since, no more than 15 s
    assert 2.0 < rate < 6.7


def test_codes_are_counted_of_what_failed_only(ledger: Ledger, batches: Batches) -> None:
    proved = Ending(
        State.SENT_INFERRED, "FailedOperation.SendVerifyCodeLimit60", "", "req", "closed"
    )

    run_batch(ledger, batches, "b1", customers(3), lambda row: DEAD if row == 2 else proved)

    assert look(batches).by_code == {BUSY: 1}


def test_a_batch_of_which_nothing_has_ended_has_no_rate(batches: Batches) -> None:
    batches.open("b1", "digest", HEADER)

    assert look(batches).rate == 0


def test_a_row_whose_job_was_forgotten_is_not_shown_as_waiting(
    ledger: Ledger, batches: Batches, redis: Redis, keys: Keys
) -> None:
    run_batch(ledger, batches, "b1", customers(3), lambda _: SENT)
    redis.delete(keys.job("b1-2"))

    records = [record for _, _, record in batches.rows("b1")]

    assert [record.state if record else None for record in records] == [
        State.SENT,
        None,
        State.SENT,
    ]


def test_a_row_that_was_not_fed_yet_is_shown_as_waiting(batches: Batches) -> None:
    batches.open("b1", "digest", HEADER)
    batches.append("b1", 0, customers(2))

    records = [record for _, _, record in batches.rows("b1")]

    assert [record.state if record else None for record in records] == [State.QUEUED] * 2


def test_a_number_s_record_remembers_the_codes_sent_to_it(ledger: Ledger, redis: Redis) -> None:
    end_event(ledger, 7, SENT)

    record: Any = redis.hgetall(number_key(ledger, number(7)))

    assert record["codes"] == "1"
    assert int(record["sent"]) > 0
    # longer than the interval: until the job itself is forgotten
    assert redis.ttl(number_key(ledger, number(7))) > 86_400


def test_a_refused_number_is_open_again_and_remembers_nothing(ledger: Ledger, redis: Redis) -> None:
    end_event(ledger, 7, DEAD)

    assert not redis.exists(number_key(ledger, number(7)))


def test_a_later_attempt_does_not_make_a_number_forget_the_codes_sent_to_it(
    ledger: Ledger, redis: Redis, batches: Batches
) -> None:
    end_event(ledger, 7, SENT)
    key = number_key(ledger, number(7))
    redis.hset(key, "until", 0)  # the interval is over
    batches.open("b1", "digest", HEADER)
    batches.append("b1", 0, customers(1, first=7), last=True)
    ledger.sweep()

    end(ledger, "b1-1", DEAD)

    assert redis.hget(key, "codes") == "1"
    assert redis.hget(key, "until") is None
    assert redis.ttl(key) > 86_400


def test_a_cancel_ends_any_number_of_fed_jobs_a_few_hundred_at_a_time(
    ledger: Ledger, batches: Batches, redis: Redis, settings: Settings
) -> None:
    run_batch(ledger, batches, "b1", customers(510))
    dead = DeadLetters(redis, settings)
    while letters := dead.window(0):
        dead.requeue(Decision("requeue", "all"), letters, first_ms=dead.now_ms() + 60_000)
    redis.config_resetstat()

    assert batches.steer("b1", "cancel") == ("running", "cancelled")

    batch = look(batches)
    assert batch.counts == {"cancelled": 510}
    assert batch.is_over
    calls = redis.info("commandstats")["cmdstat_srandmember"]["calls"]
    assert calls == 3, "500, 10, and one that found none"
