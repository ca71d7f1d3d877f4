"""A few of a batch's rows at a time: those that its results have, in the same order."""

from __future__ import annotations

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.job import State
from producer.results import results, rows_page
from tests.ledger_acts import REJECTED, Acts, row


@pytest.fixture
def mixed(acts: Acts, redis: Redis, settings: Settings) -> Acts:
    """A batch with rows in every group: sent, failed, left, kept back, in work, waiting."""
    kept_back = BatchRow(2, ["852", "x"], None, "sent_before", "its number got a code before")
    rows = [row(n) if n % 10 else (REJECTED if n % 20 else kept_back) for n in range(200)]
    acts.batch(rows, name="July")
    for n, job_id in enumerate(acts.sweep()):
        if n % 5 == 0:
            acts.claimed(job_id)
        elif n % 5 == 1:
            acts.park(job_id, acts.claimed(job_id))
        else:
            state = (State.SENT, State.DEAD, State.UNKNOWN)[n % 5 - 2]
            code = "" if state is State.SENT else "InternalError"
            acts.finish(job_id, acts.begun(job_id), state, code)
    dead = DeadLetters(redis, settings)
    dead.drop(Decision("drop", "some", "told"), dead.window(0, 3))
    return acts


def test_page_after_page_shows_the_rows_of_the_results(
    mixed: Acts, redis: Redis, settings: Settings, batches: Batches
) -> None:
    batch = batches.get("b1")
    assert batch is not None

    for only in (None, "sent", "failed", "left", "waiting", "cancelled", "rejected"):
        shown: list[int] = []
        after, is_last = 0, False
        while not is_last:
            page = rows_page(redis, settings, batch, 7, after, only)
            assert len(page.rows) <= 7
            shown += [each.number for each in page.rows]
            after, is_last = page.looked_at, page.is_last

        assert shown == [each.number for each in results(mixed.batches, batch, only)], only


def test_rows_that_never_became_jobs_are_found_in_a_cancelled_batch(
    mixed: Acts, redis: Redis, settings: Settings, batches: Batches
) -> None:
    mixed.batches.steer("b1", "cancel")
    batch = batches.get("b1")
    assert batch is not None

    for only in ("waiting", "cancelled"):
        page = rows_page(redis, settings, batch, 1_000, 0, only)

        assert page.is_last
        found = [each.number for each in results(mixed.batches, batch, only)]
        assert [each.number for each in page.rows] == found, only


def test_a_text_is_found_among_those_that_failed_alone(
    acts: Acts, redis: Redis, settings: Settings, batches: Batches
) -> None:
    rows = [BatchRow(n + 2, [f"Customer {n}"], row(n).phone) for n in range(30)]
    acts.batch(rows)
    for job_id in acts.sweep():
        acts.finish(job_id, acts.begun(job_id), State.DEAD if job_id == "b1-12" else State.SENT)
    batch = batches.get("b1")
    assert batch is not None

    every = rows_page(redis, settings, batch, 50, text="customer 1")
    failed = rows_page(redis, settings, batch, 50, only="failed", text="customer 1")

    assert [each.number for each in every.rows] == [2, *range(11, 21)]
    assert [each.number for each in failed.rows] == [12]
