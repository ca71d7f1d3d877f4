"""All that is kept goes by Redis' clock, whatever the clocks of laptops and workers show."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from demo.world import environment_of
from jobs.actions import recent_actions
from jobs.batches import Batches
from jobs.job import State
from jobs.ledger import Ledger
from jobs.scripts import time_ms
from tests.commands import run_program
from tests.files import customer, write_csv
from tests.forked import ForkedProcess
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until

_OTHER_CLOCK = """
import gc, sys, time, types
_time, _time_ns = time.time, time.time_ns
def _wrong(): return _time() + {offset_s}
def _wrong_ns(): return _time_ns() + {offset_s} * 10**9
for _module in list(sys.modules.values()):  # who has imported it by name has it, too
    for _name, _value in list(vars(_module).items()):
        if _module.__name__ != "__main__" and (_value is _time or _value is _time_ns):
            setattr(_module, _name, _wrong if _value is _time else _wrong_ns)
gc.unfreeze()  # or it does not name what the template had
for _each in gc.get_objects():  # and who has it by default
    _named = type(_each) is types.FunctionType and _each.__kwdefaults__ or {{}}
    _named.update({{_name: _wrong for _name, _value in _named.items() if _value is _time}})
"""
_COMMAND = "from producer.cli import main; main()"
_CELERY = "sys.argv[0] = 'celery'; from celery.__main__ import main; main()"
NO_SUCH_COUNTRY = "99010001"
"""A number that the stand-in refuses for good."""


@pytest.fixture(params=[-600, 600], ids=["slow", "fast"])
def clock_off(request: pytest.FixtureRequest) -> str:
    """What makes the clock of a process ten minutes wrong that runs it first."""
    return _OTHER_CLOCK.format(offset_s=request.param)


def ms_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


def story(ledger: Ledger) -> list[str]:
    job = ledger.job("b1-2")
    return [entry.what for entry in job.story] if job else []


def test_a_laptop_and_a_worker_ten_minutes_off_change_no_time_that_is_kept(
    clock_off: str,
    sandbox: Sandbox,
    settings: Settings,
    redis: Redis,
    ledger: Ledger,
    batches: Batches,
    tmp_path: Path,
) -> None:
    environment = environment_of(settings)
    rows = [customer(1), customer(2)]
    rows[1][2] = NO_SUCH_COUNTRY
    file = write_csv(tmp_path / "a.csv", rows)
    before_ms = time_ms(redis.time())

    def run(*words: str | Path) -> Any:
        command = [sys.executable, "-P", "-c", clock_off + _COMMAND, *map(str, words), "--json"]
        ran = run_program(command, environment, cwd=tmp_path)
        assert ran.exit_code == 0, ran.err
        return ran.json

    def now(at: float) -> bool:
        return before_ms - 1 <= at <= time_ms(redis.time()) + 1

    batch = run("batch", "submit", file, "--id", "b1", "--yes", "--expires-in", "5min")
    celery = [sys.executable, "-c", clock_off + _CELERY, "-A", "worker", "worker", "-n", "w1@%h"]
    with ForkedProcess("w1", celery, tmp_path, environment) as worker:
        worker.wait_for(" ready.", PATIENCE_S)
        wait_until(lambda: (batch := batches.get("b1")) and batch.is_over, "the batch's end")
        run("dead", "requeue", "b1-2", "--force")
        wait_until(lambda: story(ledger)[-2:] == ["requeue", "attempt"], "the second answer")
        run("halt", "--yes")
        run("resume")

    assert now(ms_of(batch["expires_at"]) - 300_000)
    sent, dead = ledger.job("b1-1"), ledger.job("b1-2")
    assert sandbox.stats()["codes"]["AuthFailure.SignatureExpire"], "the worker's clock is right"
    assert sent is not None
    assert dead is not None
    assert sent.state is State.SENT
    assert all(now(entry.at_ms) for entry in (*sent.story, *dead.story))
    actions = recent_actions(redis, settings, 10)
    assert len(actions) >= 3
    assert all(now(action.at_ms) for action in actions)
    assert all(now(ms_of(action["at"])) for action in run("actions"))
