"""The sweep finds every job whose message or worker is gone, and floods nobody."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from config import BATCH_QUEUE, EVENT_QUEUE
from jobs.job import State
from jobs.keys import Keys
from tests.ledger_acts import DEFAULTS, Acts

pytestmark = pytest.mark.settings(**DEFAULTS)

GRACE_MS = 5_000
FEW = 50
"""Jobs that a sweep looks at where a test lets it look at less than `SWEEP_LIMIT`."""


def publish(acts: Acts, *job_ids: str) -> None:
    """Do what a producer does after it has submitted events."""
    for job_id in job_ids:
        acts.redis.lpush(EVENT_QUEUE, job_id)


def submitted_earlier(acts: Acts, by_ms: int, *job_ids: str) -> None:
    """Let jobs have been published so much earlier, so that their time of grace is over."""
    for job_id in job_ids:
        key = acts.keys.job(job_id)
        acts.redis.hset(key, "published", str(int(acts.redis.hget(key, "published") or 0) - by_ms))
        acts.run_out(job_id)


def test_nothing_to_do_is_nothing_found(acts: Acts) -> None:
    assert acts.sweep() == []


def test_a_message_is_missed_when_its_queue_is_empty(acts: Acts) -> None:
    ids = [acts.event(n) for n in range(3)]
    publish(acts, *ids)
    submitted_earlier(acts, GRACE_MS, *ids)
    acts.lose_messages()

    assert sorted(acts.sweep()) == sorted(ids)
    assert acts.sweep() == []


def test_a_batch_s_messages_are_missed_too(acts: Acts) -> None:
    ids = acts.batch(3)
    acts.sweep()
    acts.lose_messages()
    for job_id in ids:
        acts.run_out(job_id)

    assert sorted(acts.sweep()) == ids
    assert acts.redis.llen(BATCH_QUEUE) == 3


def test_a_message_is_not_missed_before_its_time_of_grace_is_over(acts: Acts) -> None:
    job_id = acts.event()

    assert acts.sweep() == []
    assert 4_000 < (acts.due_in_ms(job_id) or 0) <= GRACE_MS


def test_a_message_that_was_overtaken_is_missed_though_the_queue_is_not_empty(acts: Acts) -> None:
    lost, waiting = acts.event(1), acts.event(2)
    submitted_earlier(acts, 3 * GRACE_MS, lost)
    publish(acts, waiting)
    overtaker = acts.event(3)
    acts.claimed(overtaker)

    assert acts.sweep() == [lost]


def test_no_message_is_missed_because_its_queue_is_slow(acts: Acts) -> None:
    ids = [acts.event(n) for n in range(50)]
    publish(acts, *ids)
    submitted_earlier(acts, 3 * GRACE_MS, *ids)

    assert [acts.sweep() for _ in range(3)] == [[], [], []]
    for job_id in ids:
        acts.run_out(job_id)
    acts.claimed(ids[0])

    assert acts.sweep() == []
    assert acts.redis.llen(EVENT_QUEUE) == 49


def test_a_slow_queue_is_looked_at_in_bounded_portions(
    acts: Acts, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.ledger.SWEEP_LIMIT", FEW)
    ids = [acts.event(n) for n in range(FEW + 20)]
    publish(acts, *ids)
    for job_id in ids:
        acts.run_out(job_id)

    youngest: Any = redis.zrange(keys.due("event"), -1, -1, withscores=True)
    last_due = youngest[0][1]

    acts.ledger.sweep()

    assert redis.zcount(keys.due("event"), 0, last_due) == 20
    acts.ledger.sweep()
    assert redis.zcount(keys.due("event"), 0, last_due) == 0


def test_due_events_are_published_in_bounded_portions(
    acts: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.ledger.SWEEP_LIMIT", FEW)
    ids = [acts.event(n) for n in range(FEW + 20)]
    for job_id in ids:
        acts.park(job_id, acts.claimed(job_id))
        acts.run_out(job_id)

    portions = [len(acts.sweep()) for _ in range(3)]

    assert portions == [FEW, 20, 0]


def test_many_sweepers_find_what_one_finds(acts: Acts) -> None:
    ids = [acts.event(n) for n in range(20)]
    for job_id in ids:
        acts.run_out(job_id)

    found = [job_id for _ in range(8) for job_id in acts.sweep()]

    assert sorted(found) == sorted(ids)


def test_a_sweeper_that_dies_before_it_publishes_costs_its_jobs_a_time_of_grace(
    acts: Acts,
) -> None:
    job_id = acts.event()
    acts.run_out(job_id)
    assert len(acts.ledger.sweep()) == 1  # and the process ends here
    assert acts.sweep() == []

    submitted_earlier(acts, GRACE_MS, job_id)

    assert acts.sweep() == [job_id]


@pytest.mark.parametrize("phase", [State.LEASED, State.SENDING])
def test_a_job_whose_lease_ran_out_is_published_whatever_is_in_the_queue(
    phase: State, acts: Acts
) -> None:
    job_id, other = acts.event(1), acts.event(2)
    publish(acts, other)
    token = acts.claimed(job_id) if phase is State.LEASED else acts.begun(job_id)
    acts.run_out(job_id)

    assert acts.sweep() == [job_id]
    assert acts.state(job_id) is State.QUEUED
    assert not acts.finish(job_id, token, State.DEAD, "Some.Code")


def test_a_lease_in_force_is_left_alone(acts: Acts) -> None:
    acts.claimed(acts.event(1))
    acts.begun(acts.event(2))

    assert acts.sweep() == []


def test_a_job_that_only_an_index_names_is_one_dead_letter_and_in_no_index_any_more(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    redis.zadd(keys.due("event"), {"ghost": 1})
    redis.zadd(keys.due("batch"), {"ghost": 1})
    redis.zadd(keys.due("aside"), {"ghost": 1})
    redis.sadd(keys.held, "ghost")

    assert acts.sweep() == []

    assert acts.state("ghost") is State.UNKNOWN
    assert redis.lrange(keys.dead, 0, -1) == ["ghost"]
    assert not redis.exists(keys.due("event"), keys.due("batch"), keys.due("aside"), keys.held)


def test_a_duplicate_message_is_refused_whatever_became_of_the_job(acts: Acts) -> None:
    ids = [acts.event(n) for n in range(4)]
    tokens = [acts.claimed(job_id) for job_id in ids]
    acts.begin(ids[1], tokens[1])
    acts.park(ids[2], tokens[2])
    acts.finish(ids[3], tokens[3])

    verdicts = [acts.claim(job_id)[0].verdict for job_id in ids]

    assert verdicts == ["busy", "busy", "parked", "final"]
    assert acts.finish(ids[0], tokens[0])
    assert acts.finish(ids[1], tokens[1])


def test_a_clock_that_was_set_back_makes_no_storm(acts: Acts, redis: Redis, keys: Keys) -> None:
    """The youngest claimed message is from a future that will not come for an hour."""
    ids = [acts.event(n) for n in range(50)]
    publish(acts, *ids)
    redis.hset(keys.watermark, "event", str(int(redis.time()[0]) * 1000 + 3_600_000))
    acts.claimed(ids[0])
    for job_id in ids[1:]:
        acts.run_out(job_id)

    assert acts.sweep() == []


# after a silence: Redis was away, or no worker was up


def test_after_a_silence_expired_leases_are_left_alone_for_a_moment(acts: Acts) -> None:
    job_id = acts.event()
    acts.sweep()
    token = acts.begun(job_id)
    acts.let_pass(30_000)

    assert acts.sweep() == []

    acts.ledger.renew([(job_id, token)])
    acts.let_pass(6_000)
    assert acts.sweep() == []
    assert acts.finish(job_id, token)


def test_a_lease_that_nobody_renews_in_that_moment_is_lost(acts: Acts) -> None:
    job_id = acts.event()
    acts.sweep()
    acts.begun(job_id)
    acts.let_pass(30_000)
    assert acts.sweep() == []
    acts.let_pass(3_000)
    assert acts.sweep() == []

    acts.let_pass(3_000)

    assert acts.sweep() == [job_id]


def test_where_sweeps_are_always_far_apart_a_lease_is_spared_once_only(acts: Acts) -> None:
    job_id = acts.event()
    acts.sweep()
    acts.begun(job_id)
    acts.let_pass(11_000)
    assert acts.sweep() == []

    acts.let_pass(11_000)

    assert acts.sweep() == [job_id]
