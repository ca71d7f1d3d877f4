"""A killed worker's jobs are due within seconds; a worker that is only paused keeps its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from config.redis import connect
from config.settings import Settings
from demo.world import EmbeddedValkey
from jobs.job import Lane, SendCodeJob
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from jobs.server import KILLS, Level, check_rights
from tests.waiting import PATIENCE_S, wait_until
from worker.presence import Leases, Lifeline

pytestmark = pytest.mark.settings(sendcode_lease=30, sendcode_phone_interval=60)
WATCHER = "w0@here/00000000.abcd"
LONG_ENOUGH_S = 3.5
"""More than a killed worker is found after."""


class Worker:
    """A worker as Redis sees it, paused: it holds a lease and a connection, and beats no more."""

    def __init__(self, ledger: Ledger, client: Redis) -> None:
        self.ledger = ledger
        self.leases = Leases()
        self.entry = f"w1@here/{self.leases.process}.abcd"
        channel = f"{ledger.keys.connections}:{self.leases.process}"
        self.lifeline = Lifeline(client, channel)
        job = ledger.submit(SendCodeJob.for_event(PhoneNumber("852", "99000001"))).record
        self.job_id = job.job_id
        assert ledger.claim(self.job_id, self.leases.token()).verdict == "granted"

    def start(self) -> None:
        self.lifeline.keep()
        self.ledger.beat(self.entry)
        self.ledger.beat(WATCHER)


@pytest.fixture
def worker(ledger: Ledger, settings: Settings) -> Iterator[Worker]:
    with closing(connect(settings)) as client:
        yield Worker(ledger, client)


def killed_meanwhile(ledger: Ledger, patience_s: float = LONG_ENOUGH_S) -> dict[str, int]:
    """Watch for so long; return whom that finds killed, with the number of jobs due again."""
    killed: dict[str, int] = {}
    deadline = time.monotonic() + patience_s

    def is_over() -> bool:
        killed.update(ledger.beat(WATCHER).killed)
        return bool(killed) or time.monotonic() > deadline

    wait_until(is_over)
    return killed


def test_the_jobs_of_a_killed_worker_are_due_at_once(ledger: Ledger, worker: Worker) -> None:
    worker.start()
    worker.lifeline.close()  # as its kernel does

    assert killed_meanwhile(ledger, PATIENCE_S) == {worker.entry: 1}
    assert list(ledger.sweep()) == [(Lane.EVENT, worker.job_id)]
    assert ledger.claim(worker.job_id, "another").verdict == "granted"
    assert killed_meanwhile(ledger, 0) == {}


def test_what_a_killed_worker_had_taken_and_not_claimed_yet_is_published_again(
    ledger: Ledger, worker: Worker, publisher: Publisher
) -> None:
    taken, waiting = (
        ledger.submit(SendCodeJob.for_event(PhoneNumber("852", number))).record.job_id
        for number in ("99000002", "99000003")
    )
    publisher.publish([(Lane.EVENT, waiting)])
    worker.start()
    assert list(ledger.sweep()) == []
    worker.lifeline.close()

    assert killed_meanwhile(ledger, PATIENCE_S) == {worker.entry: 1}
    assert {job_id for _, job_id in ledger.sweep()} == {worker.job_id, taken}


def test_a_worker_that_is_paused_keeps_its_jobs(ledger: Ledger, worker: Worker) -> None:
    worker.start()

    assert killed_meanwhile(ledger) == {}
    assert list(ledger.sweep()) == []
    assert ledger.claim(worker.job_id, "another").verdict == "busy"


def test_a_worker_that_lost_its_connection_and_lives_keeps_its_jobs(
    ledger: Ledger, worker: Worker
) -> None:
    worker.start()
    worker.lifeline.close()
    deadline = time.monotonic() + LONG_ENOUGH_S

    while time.monotonic() < deadline:
        ledger.beat(worker.entry)
        assert killed_meanwhile(ledger, 0.5) == {}


def test_a_worker_of_which_no_connection_was_ever_seen_keeps_its_jobs(
    ledger: Ledger, worker: Worker
) -> None:
    ledger.beat(worker.entry)

    assert killed_meanwhile(ledger) == {}


def test_a_worker_that_ended_in_order_is_not_found_killed(
    ledger: Ledger, worker: Worker, redis: Redis, keys: Keys
) -> None:
    worker.start()
    worker.lifeline.close()
    redis.hdel(keys.workers, worker.entry)

    assert killed_meanwhile(ledger) == {}
    assert redis.hkeys(keys.connections) == []


def test_a_lifeline_that_was_cut_is_there_again(
    ledger: Ledger, worker: Worker, redis: Redis
) -> None:
    worker.start()
    channel = f"{ledger.keys.connections}:{worker.leases.process}"

    redis.client_kill_filter(_type="pubsub")

    def is_open() -> bool:
        worker.lifeline.keep()
        return dict(redis.pubsub_numsub(channel))[channel] == 1

    wait_until(is_open)


def test_after_a_restart_of_redis_nobody_counts_as_killed(
    tmp_path: Path, settings: Settings
) -> None:
    with EmbeddedValkey(tmp_path / "valkey", fsync="no") as server:
        other = Settings(**{**settings.model_dump(), "sendcode_redis_url": server.url()})
        with closing(connect(other)) as client, closing(connect(other)) as of_the_worker:
            ledger = Ledger(client, other)
            worker = Worker(ledger, of_the_worker)
            worker.start()

            server.stop()
            server.start()

            assert killed_meanwhile(ledger) == {}
            assert ledger.claim(worker.job_id, "another").verdict == "busy"


def test_where_redis_refuses_the_subscription_leases_run_out_by_themselves(
    ledger: Ledger,
    worker: Worker,
    redis: Redis,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    user = f"narrow-{worker.leases.process}"
    redis.acl_setuser(
        user, enabled=True, nopass=True, keys=["*"], categories=["+@all"], reset_channels=True
    )
    url = settings.redis_url.replace("://:", f"://{user}:")
    narrow = Settings(**{**settings.model_dump(), "sendcode_redis_url": url})

    try:
        with closing(connect(narrow)) as client:
            worker.lifeline = Lifeline(client, f"{ledger.keys.connections}:00")
            worker.start()
            worker.lifeline.keep()
            (finding,) = check_rights(client, narrow, [KILLS])
        assert killed_meanwhile(ledger) == {}
    finally:
        redis.acl_deluser(user)
    assert finding.level is Level.WARN
    assert "the channel sendcode:connections:doctor" in finding.text
    assert finding.remedy == f"ACL SETUSER {user} &sendcode:connections:*"
    assert caplog.text.count("Redis refuses a subscription") == 1
