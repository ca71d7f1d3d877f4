"""A worker that is told to stop finishes what is under way, hands the rest back, and ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import State
from jobs.keys import Keys
from jobs.phone import PhoneNumber
from tests.ledger_checks import check_ledger
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

ROWS = 30
IN_WORK = {State.LEASED, State.SENDING}
# one kind that waits between tries, one that waits for its interval, and ordinary ones
PREFIXES = ("9920", "9905", "9900", "9900", "9900")


@pytest.mark.parametrize("remapped", ["", "SIGQUIT"])
@pytest.mark.settings(
    sendcode_rate_limit=10,
    sendcode_backoff=1,
    sendcode_http_timeout=2,  # a sandbox on a busy machine is no lost answer
    sendcode_phone_interval=12,
)
def test_sigterm_hands_back_all_that_was_not_sent(
    sandbox: Sandbox,
    redis: Redis,
    keys: Keys,
    batches: Batches,
    start_worker: Callable[..., WorkerProcess],
    remapped: str,
) -> None:
    sandbox.change(answer_ms=300)
    rows = [
        BatchRow(n, ["x"], PhoneNumber("852", f"{PREFIXES[n % 5]}{n:04d}")) for n in range(ROWS)
    ]
    batches.open("b1", "digest", ["phone"])
    batches.append("b1", 0, rows, last=True)
    first = start_worker(REMAP_SIGTERM=remapped)
    wait_until(lambda: sandbox.stats()["requests"] >= 10)

    code = first.stop()

    seen = check_ledger(redis, keys)
    assert code == 0  # it is 1 where a worker does not end in time
    assert {job["state"] for job in seen.jobs.values()}.isdisjoint(IN_WORK)
    # those that stood in line for a slot; its last sweep may have published them again
    assert [job for job in seen.jobs.values() if job["tries"] == "0" and "by" in job]
    assert "Traceback" not in first.log

    start_worker()
    wait_until(lambda: (batch := batches.get("b1")) and batch.is_over, "the batch's end")

    batch = batches.get("b1")
    assert batch is not None
    assert batch.counts == {State.SENT: ROWS}
    stats = sandbox.stats()
    assert (stats["accepted"], stats["doubled"]) == (ROWS, 0)


def test_an_idle_worker_ends_at_once_and_signs_off(
    sandbox: Sandbox, redis: Redis, keys: Keys, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker()
    wait_until(lambda: redis.hlen(keys.workers) == 1)

    assert worker.stop() == 0

    assert redis.hlen(keys.workers) == 0
    assert sandbox.stats()["requests"] == 0


@pytest.mark.settings(sendcode_rate_limit=10, sendcode_phone_interval=60, sendcode_http_timeout=5)
def test_a_roll_out_while_the_queues_are_emptied_loses_and_doubles_nothing(
    sandbox: Sandbox,
    redis: Redis,
    keys: Keys,
    batches: Batches,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    rows = [BatchRow(n, ["x"], PhoneNumber("852", f"9900{n:04d}")) for n in range(3 * ROWS)]
    batches.open("b1", "digest", ["phone"])
    batches.append("b1", 0, rows, last=True)
    few = ("--concurrency", "4")  # so that most of what is on its way lies in the queue
    worker = start_worker(*few)
    for enough in (ROWS // 2, ROWS):
        wait_until(lambda enough=enough: sandbox.stats()["requests"] >= enough)  # type: ignore[misc]
        assert redis.delete(keys.batch_queue), "nothing lay there"
        former, worker = worker, start_worker(*few)
        assert former.stop() == 0

    wait_until(lambda: (batch := batches.get("b1")) and batch.is_over, "the batch's end")

    batch = batches.get("b1")
    assert batch is not None
    assert batch.counts == {State.SENT: 3 * ROWS}
    stats = sandbox.stats()
    assert (stats["accepted"], stats["doubled"]) == (3 * ROWS, 0)
