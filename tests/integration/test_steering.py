"""Pausing, resuming and cancelling a batch, with its jobs in every state that a job can have."""

from __future__ import annotations

import json
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import pytest
from redis import Redis

from config.settings import Settings
from jobs.actions import recent_actions
from jobs.batch import Batch
from jobs.batches import Batches
from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.scripts import time_ms
from tests.ledger_acts import DEFAULTS, IN_DOUBT, Acts, row

pytestmark = pytest.mark.settings(**DEFAULTS)

Order = Literal["pause", "resume", "cancel"]


@dataclass
class Mixed:
    """A batch with one job in each state that a fed job can have, and many that wait."""

    queued: str
    leased: str
    sending: str
    parked: str
    parked_due: str
    parked_in_doubt: str
    queued_in_doubt: str
    sent: str
    dead: str
    leased_token: str
    sending_token: str
    accepted: int


@pytest.fixture
def mixed(acts: Acts) -> Mixed:
    ids = acts.batch(300)
    acts.sweep()
    # these come to be due first, before anything else is; the sweep publishes only what may be
    acts.begun(ids[6])
    acts.run_out(ids[6])
    assert ids[6] in acts.sweep()
    leased_token = acts.claimed(ids[1])
    sending_token = acts.begun(ids[2])
    acts.park(ids[3], acts.claimed(ids[3]))
    acts.park(ids[4], acts.claimed(ids[4]))
    acts.run_out(ids[4])
    acts.park(ids[5], acts.begun(ids[5]), left=IN_DOUBT)
    acts.finish(ids[7], acts.begun(ids[7]))
    acts.finish(ids[8], acts.begun(ids[8]), State.DEAD, "Some.Code")
    return Mixed(
        queued=ids[0],
        leased=ids[1],
        sending=ids[2],
        parked=ids[3],
        parked_due=ids[4],
        parked_in_doubt=ids[5],
        queued_in_doubt=ids[6],
        sent=ids[7],
        dead=ids[8],
        leased_token=leased_token,
        sending_token=sending_token,
        accepted=300,
    )


def look(batches: Batches) -> Batch:
    batch = batches.get("b1")
    assert batch is not None
    return batch


def test_orders_that_mean_nothing_change_nothing(batches: Batches, acts: Acts) -> None:
    acts.batch(1)

    assert batches.steer("nobody", "pause") is None
    assert batches.steer("b1", "resume") == ("running", "running")
    assert batches.steer("b1", "cancel") == ("running", "cancelled")
    assert batches.steer("b1", "resume") == ("cancelled", "cancelled")
    assert batches.steer("b1", "pause") == ("cancelled", "cancelled")


def test_each_order_that_did_something_is_recorded_with_who_gave_it(
    batches: Batches, acts: Acts, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    acts.batch(1)
    for order in ("pause", "pause", "resume", "cancel", "cancel"):
        batches.steer("b1", order)

    actions = [json.loads(text) for text in redis.lrange(keys.actions, 0, -1)]

    orders = ["cancel", "resume", "pause", "submit"]
    assert [action["what"] for action in actions] == [f"batch {order}" for order in orders]
    assert {action["about"] for action in actions} == {"b1"}
    assert {action["by"] for action in actions} == {f"somebody@{socket.gethostname()}"}


# pause


def test_a_pause_stops_the_feed_and_takes_back_what_nobody_works_on(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    assert batches.steer("b1", "pause") == ("running", "paused")

    assert acts.claim(mixed.queued)[0].verdict in {"paused", "parked"}
    assert acts.state(mixed.queued) is State.PARKED
    swept = acts.sweep()
    assert set(swept) <= {mixed.parked_in_doubt, mixed.queued_in_doubt}
    assert look(batches).state == "paused"


def test_a_pause_lets_calls_under_way_and_jobs_in_doubt_go_on(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    batches.steer("b1", "pause")

    assert acts.finish(mixed.sending, mixed.sending_token)
    assert acts.begin(mixed.queued_in_doubt, acts.claimed(mixed.queued_in_doubt)).kind == "probe"
    acts.run_out(mixed.parked_in_doubt)
    assert acts.sweep() == [mixed.parked_in_doubt]
    assert acts.begin(mixed.parked_in_doubt, acts.claimed(mixed.parked_in_doubt)).kind == "probe"


def test_a_job_that_waits_for_its_slot_during_a_pause_stays_until_the_resume(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    batches.steer("b1", "pause")
    assert acts.begin(mixed.leased, mixed.leased_token).kind == "wait"
    acts.park(mixed.leased, mixed.leased_token, 1)
    acts.run_out(mixed.leased)

    swept_paused = acts.sweep()
    batches.steer("b1", "resume")
    swept = [*acts.sweep(), *acts.sweep()]

    assert mixed.leased not in swept_paused
    assert mixed.leased in swept


def test_a_resume_brings_back_all_that_was_stopped_and_no_more(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    before = look(batches).counts
    batches.steer("b1", "pause")
    acts.sweep()

    assert batches.steer("b1", "resume") == ("paused", "running")

    swept = acts.sweep()
    assert mixed.queued in swept
    assert mixed.parked_due in swept
    assert mixed.parked not in swept
    assert acts.state(mixed.parked) is State.PARKED
    assert acts.due_in_ms(mixed.parked) is not None
    assert sum(look(batches).counts.values()) == sum(before.values())


def test_pausing_and_resuming_again_and_again_loses_nothing(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    for _ in range(5):
        batches.steer("b1", "pause")
        acts.sweep()
        batches.steer("b1", "resume")
        acts.sweep()

    finish_all(acts, batches, mixed)

    counts = look(batches).counts
    assert counts == {"sent": mixed.accepted - 1, "dead": 1}


def test_a_pause_touches_no_other_batch_and_no_event(acts: Acts, batches: Batches) -> None:
    acts.batch(10)
    other = acts.batch(10, "other", first=100)
    event = acts.event(500)

    batches.steer("b1", "pause")

    assert acts.sweep() == other
    assert acts.claim(event)[0].verdict == "granted"
    assert acts.claim(other[0])[0].verdict == "granted"


# cancel


def test_a_cancel_ends_all_that_is_not_in_work_or_in_doubt(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    assert batches.steer("b1", "cancel") == ("running", "cancelled")

    for job_id in (mixed.queued, mixed.parked, mixed.parked_due):
        assert acts.state(job_id) is State.CANCELLED
    batch = look(batches)
    assert batch.counts["cancelled"] == mixed.accepted - 6
    assert not batch.is_over


def test_a_cancel_lets_calls_under_way_and_jobs_in_doubt_come_to_their_end(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    batches.steer("b1", "cancel")

    assert acts.begin(mixed.leased, mixed.leased_token).kind == "over"
    acts.finish(mixed.sending, mixed.sending_token)
    for job_id in (mixed.queued_in_doubt, mixed.parked_in_doubt):
        acts.run_out(job_id)
        acts.sweep()
        token = acts.claimed(job_id)
        assert acts.begin(job_id, token).kind == "probe"
        acts.finish(job_id, token, State.SENT_INFERRED)

    batch = look(batches)
    assert batch.is_over
    assert Counter(batch.counts) == {
        "sent": 2,
        "sent_inferred": 2,
        "dead": 1,
        "cancelled": mixed.accepted - 5,
    }


def test_a_job_that_is_parked_after_the_cancel_is_cancelled_when_it_is_due(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    batches.steer("b1", "cancel")
    acts.park(mixed.leased, mixed.leased_token, 1)
    acts.run_out(mixed.leased)

    acts.sweep()

    assert acts.state(mixed.leased) is State.CANCELLED


def test_a_job_whose_worker_died_before_it_sent_is_cancelled_too(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    batches.steer("b1", "cancel")
    acts.run_out(mixed.leased)

    assert mixed.leased not in acts.sweep()

    assert acts.state(mixed.leased) is State.CANCELLED


def test_a_cancel_does_the_same_to_a_paused_batch(
    mixed: Mixed, acts: Acts, batches: Batches
) -> None:
    batches.steer("b1", "pause")
    acts.sweep()

    assert batches.steer("b1", "cancel") == ("paused", "cancelled")

    assert look(batches).counts["cancelled"] == mixed.accepted - 6
    assert acts.state(mixed.queued) is State.CANCELLED


def test_a_batch_without_jobs_in_work_is_over_as_soon_as_it_is_cancelled(
    acts: Acts, batches: Batches
) -> None:
    acts.batch(500)
    acts.sweep()

    batches.steer("b1", "cancel")

    batch = look(batches)
    assert batch.is_over
    assert batch.counts == {"cancelled": 500}
    assert batch.finished_ms is not None


def test_a_cancelled_batch_gives_its_room_to_others(acts: Acts, batches: Batches) -> None:
    acts.batch(100)
    acts.sweep()
    other = acts.batch(100, "other", first=200)
    assert acts.sweep() == []

    batches.steer("b1", "cancel")

    assert acts.sweep() == other[:40]


@pytest.mark.parametrize("order", ["pause", "cancel"])
def test_an_order_costs_the_same_for_tens_of_thousands_of_waiting_rows(
    order: Order, acts: Acts, batches: Batches, redis: Redis
) -> None:
    encoded = [row(n).encode() for n in range(2_000)]
    batches.open("b1", "digest", ["cc", "num"])
    for first in range(0, 20_000, 2_000):
        batches.append("b1", first, encoded)
    acts.sweep()
    before = redis.info("stats")["total_commands_processed"]

    batches.steer("b1", order)

    assert redis.info("stats")["total_commands_processed"] - before < 2_000


def finish_all(acts: Acts, batches: Batches, mixed: Mixed) -> None:
    acts.finish(mixed.leased, mixed.leased_token)
    acts.finish(mixed.sending, mixed.sending_token)
    for job_id in (mixed.parked, mixed.parked_in_doubt):
        acts.run_out(job_id)
    while not look(batches).is_over:
        acts.sweep()
        for job_id in acts.published():
            claim, token = acts.claim(job_id)
            if claim.verdict == "granted":
                acts.begin(job_id, token)
                acts.finish(job_id, token)


# one waiting job cancelled by a person


@pytest.mark.parametrize("kind", ["an event", "a parked job", "a published row", "a row to come"])
def test_a_person_can_cancel_any_single_job_that_waits(
    kind: str, acts: Acts, ledger: Ledger, redis: Redis, settings: Settings
) -> None:
    if kind == "an event":
        job_id = acts.event()
    else:
        job_id, *_ = acts.batch(3, first=10)
        if kind != "a row to come":
            acts.sweep()
        if kind == "a parked job":
            acts.park(job_id, acts.claimed(job_id))

    assert ledger.cancel(job_id, "asked for") == "cancelled"

    swept = [*acts.sweep(), *acts.published()]
    assert acts.state(job_id) is State.CANCELLED
    assert acts.claim(job_id)[0].verdict == "final"
    assert kind == "a published row" or job_id not in swept
    entry = acts.job(job_id).story[-1]
    assert (entry.what, entry.note) == ("cancel", "asked for")
    (action,) = recent_actions(redis, settings, 1)
    assert (action.what, action.about, action.reason) == ("job cancel", job_id, "asked for")


def test_a_batch_goes_on_without_the_row_that_was_cancelled(acts: Acts, batches: Batches) -> None:
    first, second = acts.batch(2, first=10)
    acts.ledger.cancel(second)
    acts.sweep()
    acts.finish(first, acts.begun(first))
    acts.sweep()

    assert (batch := batches.get("b1"))
    assert (batch.state, batch.counts) == ("done", {"sent": 1, "cancelled": 1})
    assert [record and record.state for _, _, record in batches.rows("b1")] == [
        State.SENT,
        State.CANCELLED,
    ]


def test_a_row_cancelled_first_and_with_its_batch_then_counts_once(
    acts: Acts, batches: Batches
) -> None:
    _, second = acts.batch(2, first=10)
    acts.ledger.cancel(second)

    batches.steer("b1", "cancel")

    assert (batch := batches.get("b1"))
    assert batch.counts == {"cancelled": 2}


def test_what_is_in_work_in_doubt_or_over_is_not_cancelled(acts: Acts, ledger: Ledger) -> None:
    in_work, in_doubt, over = (acts.event(n) for n in range(3))
    acts.claimed(in_work)
    acts.park(in_doubt, acts.begun(in_doubt), 0, IN_DOUBT)
    acts.finish(over, acts.begun(over))

    replies = [ledger.cancel(job_id) for job_id in (in_work, in_doubt, over, "nobody", "b9-1")]

    assert replies == ["in work", "in doubt", "sent", "absent", "absent"]


# undo


def test_an_undo_cancels_a_batch_of_which_nothing_became_a_job(
    acts: Acts, batches: Batches, redis: Redis, settings: Settings
) -> None:
    acts.batch(3, starts_ms=time_ms(redis.time()) + 60_000)
    assert acts.sweep() == []

    assert batches.steer("b1", "undo", "ann") == ("running", "cancelled")

    undone = look(batches)
    assert (undone.state, undone.fed, undone.cancelled, undone.is_over) == ("cancelled", 0, 3, True)
    action = recent_actions(redis, settings, 1)[0]
    assert (action.what, action.about, action.by) == ("batch undo", "b1", "ann")
    assert batches.steer("b1", "resume") == ("cancelled", "cancelled")
    assert acts.sweep() == []


def test_an_undo_comes_too_late_once_a_row_became_a_job(acts: Acts, batches: Batches) -> None:
    acts.batch(100)
    fed = acts.sweep()

    assert batches.steer("b1", "undo") == ("running", "running")

    assert fed
    assert look(batches).state == "running"
    assert look(batches).cancelled == 0


def test_a_content_whose_batch_was_undone_may_become_another_batch(
    acts: Acts, batches: Batches
) -> None:
    acts.batch(3)
    batches.steer("b1", "undo")

    _, is_new = batches.open("b2", "digest of b1", ["cc", "num"])

    assert is_new
