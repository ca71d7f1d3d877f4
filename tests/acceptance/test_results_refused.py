"""A result backend that takes no results costs neither a job nor a worker's thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import State
from jobs.phone import PhoneNumber
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

ROWS = 20
THREADS = 2


@pytest.fixture
def redis_url(redis_url: str) -> str:
    """As a user from whom rights are taken away while the worker runs."""
    client: Redis = Redis.from_url(redis_url)
    client.acl_setuser(
        "resultless",
        enabled=True,
        passwords=["+resultless"],
        categories=["+@all"],
        channels=["*"],
        keys=["*"],
        reset=True,
    )
    client.close()
    place = redis_url.rpartition("@")[2]
    return f"redis://resultless:resultless@{place}"


def test_jobs_are_sent_on_and_on_though_no_result_can_be_stored(
    settings: Settings,
    sandbox: Sandbox,
    batches: Batches,
    redis: Redis,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    assert "resultless" in settings.redis_url
    worker = start_worker("--concurrency", str(THREADS))
    no_results = ("sendcode:*", "send-code.*", "_kombu*", "unacked*", "*pidbox*", "celeryev*")
    redis.acl_setuser("resultless", reset_keys=True, enabled=True, keys=list(no_results))
    rows = [
        BatchRow(n, ["x"], PhoneNumber("852", f"{'9900' if n % 4 else '9901'}{n:04d}"))
        for n in range(ROWS)
    ]
    batches.open("b1", "digest", ["phone"])

    batches.append("b1", 0, rows, last=True)

    wait_until(lambda: (batch := batches.get("b1")) and batch.is_over, "the batch's end")
    batch = batches.get("b1")
    assert batch is not None
    assert batch.counts == {State.SENT: 15, State.DEAD: 5}
    assert sandbox.stats()["requests"] == ROWS
    assert worker.stop() == 0
    # at least: a message that is delivered twice sends nothing, but has two results
    assert worker.log.count("result not stored; the ledger has it") >= ROWS
