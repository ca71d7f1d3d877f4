"""What the ledger makes of a job whose worker, or whose Redis, was gone for a while."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from config import EVENT_QUEUE
from config.celery import make_celery
from config.settings import Settings
from jobs.batches import Batches
from jobs.job import Lane, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.publish import Publisher
from tests.ledger_acts import DEFAULTS, IN_DOUBT, MARGIN_MS, NOTHING, UNSENT, Acts, row

pytestmark = pytest.mark.settings(**DEFAULTS)

INTERVAL_MS = 60_000
LATE_MS = INTERVAL_MS - MARGIN_MS + 1
"""So long after an attempt a probe would no longer prove anything; a refusal still would."""


def taken_over(acts: Acts, aged_ms: int = 0) -> tuple[str, str, str]:
    """A job in doubt whose lease ran out and that another worker claimed; give both tokens."""
    job_id = acts.event()
    before = acts.begun(job_id)
    acts.run_out(job_id)
    acts.age_doubt(job_id, aged_ms)
    acts.sweep()
    return job_id, before, acts.claimed(job_id)


def put_in_front(acts: Acts, job_id: str) -> None:
    """Have the job's worker die, and nothing else claimed so far."""
    acts.begun(job_id)
    acts.redis.delete(acts.keys.watermark)
    acts.run_out(job_id)
    assert acts.sweep() == [job_id]


@pytest.mark.parametrize("state", [State.SENT, State.SENT_INFERRED])
def test_that_a_code_was_sent_is_recorded_also_for_a_worker_that_lost_the_job(
    state: State, acts: Acts
) -> None:
    job_id, before, after = taken_over(acts)

    assert acts.finish(job_id, before, state)

    assert acts.state(job_id) is state
    assert acts.begin(job_id, after).kind == "lost"
    assert not acts.finish(job_id, after)
    assert acts.dead() == []


@pytest.mark.parametrize("state", [State.DEAD, State.UNKNOWN])
def test_any_other_end_is_for_the_worker_that_has_the_job(state: State, acts: Acts) -> None:
    job_id, before, _ = taken_over(acts)

    assert not acts.finish(job_id, before, state)

    assert acts.state(job_id) is State.LEASED


def test_that_a_code_was_sent_does_not_make_a_job_of_none(acts: Acts, redis: Redis) -> None:
    assert not acts.finish("ev-00000000000000000000", "t", State.SENT)
    assert redis.dbsize() == 0


def test_after_a_silence_a_worker_that_lives_can_keep_its_leases(
    acts: Acts, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    acts.sweep()
    acts.run_out(job_id)
    redis.hset(keys.sweeps, "at", "1")

    found = acts.sweep()

    assert found == []
    assert ledger.renew([(job_id, token)]) == []
    redis.hset(keys.sweeps, "patient_until", "1")
    assert acts.sweep() == []
    assert acts.finish(job_id, token)


def test_after_a_silence_the_job_of_a_dead_worker_waits_half_a_lease_longer(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    acts.begun(job_id)
    acts.sweep()
    acts.run_out(job_id)
    redis.hset(keys.sweeps, "at", "1")

    acts.sweep()

    due_in_ms = acts.due_in_ms(job_id)
    assert due_in_ms is not None
    assert 4_000 < due_in_ms <= 5_000
    redis.hset(keys.sweeps, "patient_until", "1")
    acts.run_out(job_id)
    assert acts.sweep() == [job_id]


def test_a_job_that_was_in_work_goes_in_front(acts: Acts, ledger: Ledger) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    acts.begun(job_id)
    acts.run_out(job_id)

    due = ledger.sweep()

    assert due == [("event", job_id)]
    assert due.urgent == {job_id}


def test_a_job_parked_without_a_doubt_stands_in_line(acts: Acts, ledger: Ledger) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    acts.park(job_id, acts.begun(job_id), left=UNSENT)
    acts.run_out(job_id)

    due = ledger.sweep()

    assert due == [("batch", job_id)]
    assert due.urgent == set()


def test_a_message_put_in_front_does_not_make_those_behind_it_look_lost(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    waiting, killed = acts.event(1), acts.event(2)
    put_in_front(acts, killed)
    redis.lpush(EVENT_QUEUE, waiting)
    redis.hincrby(keys.job(waiting), "published", -60_000)

    acts.claimed(killed)
    acts.run_out(waiting)

    assert acts.sweep() == []


def test_a_message_put_in_front_is_missed_when_one_behind_it_was_claimed(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    killed, later = acts.event(1), acts.event(2)
    put_in_front(acts, killed)
    redis.hincrby(keys.job(killed), "published", -60_000)
    acts.run_out(killed)
    assert acts.sweep() == []

    acts.claimed(later)
    acts.run_out(killed)

    assert acts.sweep() == [killed]


def test_a_worker_s_transport_puts_urgent_messages_in_front(
    settings: Settings, redis: Redis
) -> None:
    app = make_celery(settings, broker_transport="worker.transport:Transport")

    Publisher(app).publish([(Lane.EVENT, "ev-1"), (Lane.EVENT, "ev-2")])
    Publisher(app).publish([(Lane.EVENT, "ev-3")], {"ev-3"})
    app.pool.force_close_all()
    app.close()

    messages = [json.loads(text) for text in redis.lrange(EVENT_QUEUE, 0, -1)]
    assert [message["headers"]["id"] for message in messages] == ["ev-2", "ev-1", "ev-3"]


def test_a_late_try_counts_as_a_possible_duplicate(acts: Acts, redis: Redis, keys: Keys) -> None:
    job_id, _, token = taken_over(acts, LATE_MS)

    assert acts.begin(job_id, token).kind == "late"
    acts.finish(job_id, token)

    assert acts.job(job_id).possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == "1"


def test_a_late_try_that_is_refused_proves_the_one_before_and_doubles_nothing(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    job_id, _, token = taken_over(acts, LATE_MS)
    assert acts.begin(job_id, token).kind == "late"

    acts.finish(job_id, token, State.SENT_INFERRED, left=UNSENT)

    assert not acts.job(job_id).possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == "0"


@pytest.mark.parametrize("aged_ms", [LATE_MS, INTERVAL_MS + MARGIN_MS + 1])
def test_a_resend_that_sent_nothing_leaves_the_job_as_it_was(
    aged_ms: int, acts: Acts, redis: Redis, keys: Keys
) -> None:
    job_id, _, token = taken_over(acts, aged_ms)
    kind = acts.begin(job_id, token).kind
    assert kind in {"late", "resend"}

    acts.park(job_id, token, left=UNSENT)

    record = acts.job(job_id)
    assert record.in_doubt
    assert not record.possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == "0"
    acts.run_out(job_id)
    assert acts.begin(job_id, acts.claimed(job_id)).kind == kind


def test_the_interval_counts_from_the_slot_in_which_the_request_leaves(
    acts: Acts, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    token = acts.claimed(job_id)
    seconds, _ = redis.time()
    slot_ms = seconds * 1000 + 20_000

    ledger.begin(job_id, token, 1, 20_000 + MARGIN_MS, NOTHING, slot_ms)

    assert redis.hget(keys.job(job_id), "doubt") == str(slot_ms)
    acts.age_doubt(job_id, INTERVAL_MS)
    assert acts.begin(job_id, token, IN_DOUBT).kind == "probe"


def test_an_import_that_was_cut_off_is_completed_though_some_of_its_jobs_have_ended(
    acts: Acts, batches: Batches
) -> None:
    rows = [row(serial) for serial in range(3)]
    batches.open("b1", "digest", ["cc", "num"])
    batches.append("b1", 0, rows[:2])
    for job_id in acts.sweep():
        acts.finish(job_id, acts.begun(job_id))

    _, is_new = batches.open("b1", "digest", ["cc", "num"])
    have = batches.append("b1", 0, rows, last=True)

    assert not is_new
    assert have == 3
    assert acts.sweep() == ["b1-3"]
