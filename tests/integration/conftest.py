"""Acts on a real ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.deadletters import DeadLetters
from jobs.job import Lane
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.scripts import time_us
from producer import events
from tests.ledger_acts import Acts
from tests.ledger_checks import check_ledger
from worker.background import Runtime
from worker.limiter import Limiter
from worker.recorder import Ended, NotNow
from worker.sender import Sender


@pytest.fixture
def acts(ledger: Ledger, batches: Batches, redis: Redis, keys: Keys) -> Iterator[Acts]:
    """All that can be done to the ledger; whatever the test did, it must be consistent then."""
    yield Acts(ledger, batches, redis, keys)
    check_ledger(redis, keys)


@pytest.fixture
def first_code() -> Iterator[None]:
    """Let no `send_code` of this process have read the environment before, or for later tests."""
    events._forget_connections()
    yield
    events._forget_connections()


@pytest.fixture
def dead(redis: Redis, settings: Settings) -> DeadLetters:
    return DeadLetters(redis, settings)


@pytest.fixture
def runtime(settings: Settings, celery_app: Celery, redis: Redis, keys: Keys) -> Iterator[Runtime]:
    """What a worker process has, in this one; its limiter has been running for a while."""
    now_us = time_us(redis.time())
    warm = Limiter(redis, settings, lambda _: None)
    slot = warm.take(Lane.EVENT)
    redis.hset(keys.pace, "next_us", now_us)
    redis.hset(keys.pace_ring, str(slot.number % slot.per_window), f"{slot.number}:0")
    runtime = Runtime(settings, celery_app)
    yield runtime
    runtime.sender._client.close()
    runtime.ledger.client.close()


class PatientSender:
    """A worker's sender that is asked again where this machine was too busy for its slots."""

    def __init__(self, sender: Sender, acts: Acts) -> None:
        self._sender = sender
        self._acts = acts

    def send(self, job_id: str) -> Ended | NotNow:
        for _ in range(20):
            result = self._sender.send(job_id)
            if not (isinstance(result, NotNow) and result.reason == "not yet"):
                break
            self._acts.run_out(job_id)
        return result


@pytest.fixture
def sender(
    runtime: Runtime, ledger: Ledger, batches: Batches, redis: Redis, keys: Keys
) -> PatientSender:
    return PatientSender(runtime.sender, Acts(ledger, batches, redis, keys))
