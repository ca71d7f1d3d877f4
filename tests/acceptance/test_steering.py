"""Batches steered while real workers send them: acts at once at any size, events go on.

`SENDCODE_HEAVY=1` runs them with 100,000 waiting jobs.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from config.settings import Settings
from jobs.batch import Batch, BatchRow
from jobs.batches import Batches
from jobs.phone import PhoneNumber
from jobs.rows import CHUNK_ROWS
from producer import send_code
from tests.commands import Command
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess

RATE = 10
WAITING = 100_000 if os.environ.get("SENDCODE_HEAVY") else 250
FEED_DEPTH = 2 * RATE
"""Two seconds of work: what may be on its way, besides what the API has not answered yet."""
THREADS = 4
UNDER_WAY = 10
"""Jobs after which a batch is in full swing."""
SMALL = 60
"""Of these, half are more than are on their way: a small batch that waits for no turn is seen."""

# a call that takes a second on a busy machine is no call to try again
pytestmark = pytest.mark.settings(
    sendcode_rate_limit=RATE, sendcode_http_timeout=5, sendcode_phone_interval=60
)

StartWorker = Callable[..., WorkerProcess]


def submit(batches: Batches, batch_id: str, rows: int, prefix: str) -> None:
    batches.open(batch_id, f"digest of {batch_id}", ["country_code", "phone_num"])
    for first in range(0, rows, CHUNK_ROWS):
        chunk = []
        for n in range(first, min(rows, first + CHUNK_ROWS)):
            phone = PhoneNumber("852", f"{prefix}{n:06d}")
            chunk.append(BatchRow(n + 2, ["852", phone.phone_num], phone))
        batches.append(batch_id, first, chunk)
    batches.append(batch_id, rows, [], last=True)


def look(batches: Batches, batch_id: str) -> Batch:
    batch = batches.get(batch_id)
    assert batch is not None
    return batch


def in_work(batch: Batch) -> int:
    return sum(batch.counts.get(state, 0) for state in ("leased", "sending"))


def test_a_pause_acts_at_once_and_an_event_goes_out_meanwhile(
    sandbox: Sandbox,
    settings: Settings,
    sendcode: Command,
    batches: Batches,
    start_worker: StartWorker,
) -> None:
    start_worker("--concurrency", str(THREADS))
    submit(batches, "b1", WAITING, "50")
    wait_until(lambda: look(batches, "b1").finished >= UNDER_WAY, "its first jobs")

    sendcode("batch", "pause", "b1")
    sent_at_pause = look(batches, "b1").finished
    event = send_code("852", "99000001", wait=PATIENCE_S, settings=settings)

    assert event.state.is_sent
    wait_until(lambda: not in_work(look(batches, "b1")), "nothing in work")
    batch = look(batches, "b1")
    assert batch.state == "paused"
    assert batch.finished <= sent_at_pause + FEED_DEPTH + THREADS
    requests = sandbox.stats(numbers=False)["requests"]
    # the sweeper has been round while another event was sent, and fed nothing
    send_code("852", "99000002", wait=PATIENCE_S, settings=settings)
    send_code("852", "99000003", wait=PATIENCE_S, settings=settings)
    assert sandbox.stats(numbers=False)["requests"] == requests + 2

    sendcode("batch", "resume", "b1")
    wait_until(lambda: look(batches, "b1").finished > batch.finished + UNDER_WAY, "more jobs")


def test_a_cancel_acts_at_once_and_every_job_has_its_end(
    sandbox: Sandbox,
    settings: Settings,
    sendcode: Command,
    batches: Batches,
    start_worker: StartWorker,
) -> None:
    start_worker("--concurrency", str(THREADS))
    submit(batches, "b1", WAITING, "50")
    wait_until(lambda: look(batches, "b1").finished >= UNDER_WAY, "its first jobs")

    sendcode("batch", "cancel", "b1", "--yes")
    sent_at_cancel = look(batches, "b1").sent

    wait_until(lambda: look(batches, "b1").is_over, "all ended")
    batch = look(batches, "b1")
    assert sum(batch.counts.values()) == WAITING
    assert set(batch.counts) - {"sent_inferred"} == {
        "sent",
        "cancelled",
    }  # a busy machine answers late
    assert batch.sent <= sent_at_cancel + FEED_DEPTH + THREADS
    stats = sandbox.stats()
    assert sum(stats["accepted_per_number"].values()) == batch.sent
    event = send_code("852", "99000001", wait=PATIENCE_S, settings=settings)
    assert event.state.is_sent


@pytest.mark.usefixtures("sandbox")
def test_a_small_batch_takes_turns_with_a_big_one(
    batches: Batches, start_worker: StartWorker
) -> None:
    start_worker("--concurrency", str(THREADS))
    submit(batches, "big", WAITING, "50")
    wait_until(lambda: look(batches, "big").finished >= UNDER_WAY, "jobs of the big one")
    before = look(batches, "big").finished

    submit(batches, "small", SMALL, "51")
    wait_until(lambda: look(batches, "small").is_over, "the small one")

    small = look(batches, "small")
    ends = [job.finished_ms for _, _, job in batches.rows("big") if job and job.finished_ms]
    meanwhile = sum(end <= (small.finished_ms or 0) for end in ends) - before
    # as many turns each, and what was on its way already, before and behind
    assert SMALL // 2 <= meanwhile <= SMALL + 2 * (FEED_DEPTH + THREADS)


@pytest.mark.usefixtures("sandbox")
def test_a_batch_with_a_pace_of_its_own_leaves_the_rest_to_the_others(
    batches: Batches, start_worker: StartWorker
) -> None:
    start_worker("--concurrency", str(THREADS))
    batches.open("gentle", "digest", ["country_code", "phone_num"], max_rate=2)
    rows = [PhoneNumber("852", f"52{n:06d}") for n in range(60)]
    batches.append(
        "gentle", 0, [BatchRow(n, ["852"], phone) for n, phone in enumerate(rows, 2)], last=True
    )
    submit(batches, "quick", 50, "53")

    wait_until(lambda: look(batches, "quick").is_over, "the quick one")

    gentle, quick = look(batches, "gentle"), look(batches, "quick")
    assert quick.finished_ms is not None
    passed_s = (quick.finished_ms - gentle.created_ms) / 1000
    ends = [job.finished_ms for _, _, job in batches.rows("gentle") if job and job.finished_ms]
    meanwhile = sum(end <= quick.finished_ms for end in ends)
    # a second's worth may be made up for; what was fed last has not ended yet
    assert 0 < meanwhile <= 2 * (passed_s + 2)
