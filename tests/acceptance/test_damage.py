"""A quick `make faults` of the ledger's keys, with two real workers under load.

Each key is damaged in one way here; in all ways by `make faults`, and in test_mending.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from config.settings import Settings
from demo.world import SandboxProcess
from jobs import keys as named
from tests.faults.damage import ASIDE, DAMAGES, TARGETS, UNUSED, Damaging
from tests.forked import ForkedSandbox
from tests.waiting import PATIENCE_S
from tests.worker_process import WorkerProcess

RATE = 100
LOAD_RATE = 8
INTERVAL_S = 6
PARTS = 3


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    """The sandbox as a process of its own: what it counts as too many must not be its own delay."""
    options = ("--rate-limit", str(RATE), "--phone-interval", str(INTERVAL_S))
    with ForkedSandbox(*options, folder=tmp_path) as server:
        yield server


@pytest.mark.settings(
    sendcode_rate_limit=RATE,
    sendcode_sweep_interval=0.2,
    sendcode_phone_interval=INTERVAL_S,
    sendcode_http_timeout=0.5,
    sendcode_lease=1.2,
    sendcode_concurrency=8,
)
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_key_is_damaged_sending_goes_on_or_says_why_not(
    part: int,
    redis: Redis,
    settings: Settings,
    sandbox: SandboxProcess,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    here = Damaging(redis, settings, sandbox, goes_on_s=PATIENCE_S)
    here.add_load(chunks=8, rate=LOAD_RATE)
    for _ in range(2):
        start_worker()

    damages = {
        name: DAMAGES[n // PARTS % len(DAMAGES)]
        for n, name in enumerate(TARGETS)
        if n % PARTS == part
    }
    together = UNUSED | ASIDE
    for name, damage in damages.items():
        if name not in together:
            here.damage(name, damage)
    here.damage_at_once({name: how for name, how in damages.items() if name in together})

    here.check()


def test_no_key_is_left_out() -> None:
    names = {*named._NAMES, *named._BY_ID} - {"unreadable", "due", "ended"}

    assert names == {name for name in TARGETS if not name.startswith("due:")}
