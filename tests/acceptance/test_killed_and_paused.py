"""Another worker goes on with the jobs of one that was killed, and not of one that is paused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import Ledger
from producer import send_code
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

JOBS = 8
LEASE_S = 20
PAUSED_MS = 6_000
"""Twice the time after which a killed worker's jobs are due."""
pytestmark = pytest.mark.settings(
    sendcode_lease=LEASE_S,
    sendcode_http_timeout=12,
    sendcode_phone_interval=60,
    sendcode_sweep_interval=1,
)


class Pair:
    """Two workers in the middle of calls."""

    def __init__(
        self, redis: Redis, keys: Keys, settings: Settings, *workers: WorkerProcess
    ) -> None:
        self.redis = redis
        self.keys = keys
        numbers = [f"9900{n:04d}" for n in range(JOBS)]
        self.jobs = [send_code("852", each, settings=settings).job_id for each in numbers]
        wait_until(lambda: self.leases(State.SENDING).keys() == set(self.jobs), "all calls")
        leases = self.leases(State.SENDING)
        held = {
            name: [job for job, lease in leases.items() if lease.startswith(process)]
            for name, process in self.processes().items()
        }
        self.victim, self.other = sorted(workers, key=lambda each: -len(held[each.name]))
        self.held = {job: leases[job] for job in held[self.victim.name]}
        assert self.held

    def processes(self) -> dict[str, str]:
        """Return each worker's process, as tokens of leases begin."""
        entries: Any = self.redis.hkeys(self.keys.workers)
        names = [each.partition("@")[0] for each in entries]
        return {
            name: each.rpartition("/")[2].partition(".")[0]
            for name, each in zip(names, entries, strict=True)
        }

    def leases(self, state: State) -> dict[str, str]:
        """Return the leases of the jobs in that state."""
        jobs: Any = {job: self.redis.hgetall(self.keys.job(job)) for job in self.jobs}
        return {job: each["lease"] for job, each in jobs.items() if each["state"] == state}

    def beat_ms(self, worker: WorkerProcess) -> int:
        """Return a worker's last sign of life."""
        signs: Any = self.redis.hgetall(self.keys.workers)
        return next(int(at) for each, at in signs.items() if each.startswith(f"{worker.name}@"))


@pytest.fixture
def pair(
    redis: Redis,
    keys: Keys,
    settings: Settings,
    sandbox: Sandbox,
    start_worker: Callable[..., WorkerProcess],
) -> Pair:
    workers = start_worker(), start_worker()
    sandbox.change(answer_ms=3_000)
    return Pair(redis, keys, settings, *workers)


def states(ledger: Ledger, jobs: list[str]) -> list[State]:
    records = [ledger.job(job) for job in jobs]
    return [record.state for record in records if record is not None]


def test_another_worker_goes_on_long_before_the_leases_run_out(
    pair: Pair, ledger: Ledger, sandbox: Sandbox
) -> None:
    pair.victim.kill()

    wait_until(lambda: all(state.is_final for state in states(ledger, pair.jobs)), "the jobs' ends")

    assert {*states(ledger, pair.jobs)} <= {State.SENT, State.SENT_INFERRED}
    assert sandbox.stats()["accepted"] == JOBS
    assert sandbox.stats()["doubled"] == 0
    assert f"others go on with its jobs worker={pair.victim.name}@" in pair.other.log
    assert f"jobs={len(pair.held)}" in pair.other.log


def test_no_work_is_taken_from_a_worker_that_is_paused(
    pair: Pair, ledger: Ledger, sandbox: Sandbox
) -> None:
    os.killpg(pair.victim.pid, signal.SIGSTOP)
    paused_at_ms = pair.beat_ms(pair.victim)
    wait_until(lambda: pair.beat_ms(pair.other) > paused_at_ms + PAUSED_MS)

    wait_until(lambda: pair.leases(State.SENDING) == pair.held, "the end of all that is not held")

    os.killpg(pair.victim.pid, signal.SIGCONT)
    wait_until(lambda: states(ledger, pair.jobs) == [State.SENT] * JOBS, "the jobs' ends")

    assert "was killed" not in pair.other.log
    assert sandbox.stats()["requests"] == JOBS
    assert sandbox.stats()["accepted"] == JOBS


def test_a_worker_started_again_goes_on_with_what_it_held_when_it_was_killed(
    pair: Pair, ledger: Ledger, sandbox: Sandbox, start_worker: Callable[..., WorkerProcess]
) -> None:
    pair.other.kill()
    pair.victim.kill()
    sandbox.change(answer_ms=0)

    third = start_worker()
    wait_until(lambda: all(state.is_final for state in states(ledger, pair.jobs)), "the jobs' ends")

    assert sandbox.stats()["accepted"] == JOBS
    assert sandbox.stats()["doubled"] == 0
    # that is, before the leases ran out
    assert f"others go on with its jobs worker={pair.victim.name}@" in third.log
