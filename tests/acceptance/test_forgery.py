"""A small `python -m tests.forgery`: garbage and forgeries among good jobs, and a real worker."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from redis import Redis

from config.settings import Settings
from tests.forgery import INTERVAL_S, RATE, Forger, attack, check
from tests.sandbox import Sandbox
from tests.worker_process import WorkerProcess


@pytest.mark.settings(
    sendcode_rate_limit=RATE, sendcode_phone_interval=INTERVAL_S, sendcode_lease=2
)
def test_among_forgeries_all_good_jobs_are_sent_once_and_nothing_else(
    redis: Redis,
    settings: Settings,
    sandbox: Sandbox,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    worker = start_worker()
    forger = Forger(redis, settings, random.Random(7))

    attack(forger, good=30, messages=100, records=100)

    check(forger, sandbox)
    assert worker.stop() == 0
    assert "Traceback" not in worker.log
    redis.delete(*map(forger.keys.job, forger.forged))  # what nobody looked at any more
