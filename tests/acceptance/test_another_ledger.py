"""Redis is emptied, put back or exchanged for a replica, under real workers and real commands."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from config.redis import connect
from config.settings import Settings
from demo.world import EmbeddedValkey
from jobs.batches import Batches
from jobs.identity import state_file
from jobs.keys import Keys
from tests.commands import Command
from tests.files import customer, write_csv
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

ROWS = 30
Begin = Callable[[float], WorkerProcess]
pytestmark = pytest.mark.settings(
    sendcode_rate_limit=15,
    sendcode_phone_interval=5,
    sendcode_http_timeout=0.5,
    sendcode_lease=1,
    sendcode_sweep_interval=0.2,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server whose data can be copied and put back."""
    with EmbeddedValkey(tmp_path / "server", fsync="no") as server:
        yield server


@pytest.fixture
def redis_url(server: EmbeddedValkey) -> str:
    return server.url()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "june.csv", [customer(n) for n in range(1, ROWS + 1)])


def accepted(sandbox: Sandbox) -> int:
    return int(sandbox.stats()["accepted"])


def is_over(batches: Batches) -> bool:
    return (batch := batches.get("june")) is not None and batch.is_over


def flagged(batches: Batches) -> set[str]:
    return {
        record.phone.e164.lstrip("+")
        for _, _, record in batches.rows("june")
        if record and record.possible_duplicate
    }


def doubled(sandbox: Sandbox) -> set[str]:
    counts = sandbox.stats()["accepted_per_number"]
    return {number for number, count in counts.items() if count > 1}


@pytest.fixture
def begin(
    sandbox: Sandbox, sendcode: Command, file: Path, start_worker: Callable[..., WorkerProcess]
) -> Begin:
    """Submit the file, and return the worker that has sent such a share of it."""

    def begin(share: float) -> WorkerProcess:
        worker = start_worker()
        assert sendcode("batch", "submit", file, "--id", "june").exit_code == 0
        wait_until(lambda: accepted(sandbox) >= ROWS * share, f"{share:.0%} of the run")
        return worker

    return begin


def copy(server: EmbeddedValkey, folder: Path) -> Path:
    """Take a copy of the data as a backup would, while the server runs."""
    return Path(shutil.copytree(server.directory / "appendonlydir", folder / "copy"))


def put_back(server: EmbeddedValkey, backup: Path) -> None:
    server.kill()
    shutil.rmtree(server.directory / "appendonlydir")
    shutil.copytree(backup, server.directory / "appendonlydir")
    server.start()


def test_after_a_flush_neither_the_file_nor_an_event_is_sent_again_until_a_person_accepts(
    sandbox: Sandbox,
    sendcode: Command,
    batches: Batches,
    redis: Redis,
    file: Path,
    start_worker: Callable[..., WorkerProcess],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    worker = start_worker()
    assert sendcode("batch", "submit", file, "--id", "june").exit_code == 0
    wait_until(lambda: accepted(sandbox) >= ROWS // 2, "half of the run")

    redis.flushall()
    submitted = sendcode("batch", "submit", file, "--id", "june")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a machine that saw nothing"))
    wait_until(lambda: "nothing is sent" in worker.log, "the worker's line about it")
    before = accepted(sandbox)
    elsewhere = sendcode("batch", "submit", file, "--id", "june")
    event = sendcode("send", "--country-code", "852", "--phone", "51234567")
    late = start_worker(XDG_STATE_HOME=str(tmp_path / "a second one"))

    for refused in (submitted, elsewhere, event):
        assert refused.exit_code == (4 if refused is event else 1)
        assert "the ledger is refused, and nothing is sent: it is empty" in refused.err
    assert accepted(sandbox) == before < ROWS
    assert sendcode("ledger", "accept", "--yes").exit_code == 0
    assert sendcode("batch", "submit", file, "--id", "june").exit_code == 0
    wait_until(lambda: is_over(batches), "the second run's end")
    assert doubled(sandbox)
    assert doubled(sandbox) <= flagged(batches)
    wait_until(lambda: "sending goes on" in worker.log, "the worker's line about the end")
    assert "nothing is sent" in late.log


def test_a_copy_of_half_a_run_that_is_put_back_later_doubles_nobody_unflagged(
    sandbox: Sandbox,
    settings: Settings,
    sendcode: Command,
    server: EmbeddedValkey,
    file: Path,
    begin: Begin,
    start_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
) -> None:
    worker = begin(1 / 3)
    backup = copy(server, tmp_path)
    copied_at = time.time()
    wait_until(lambda: accepted(sandbox) >= ROWS * 2 // 3, "two thirds of the run")
    kept = state_file(settings)
    assert kept is not None
    wait_until(lambda: kept.stat().st_mtime > copied_at, "what the worker knows, on disk")
    worker.stop()
    before = accepted(sandbox)
    put_back(server, backup)

    with connect(settings) as redis:
        batches = Batches(redis, settings)
        redis.hincrby(Keys("sendcode").ledger, "at", -60_000)  # as if it had been a minute
        second = start_worker()
        wait_until(lambda: "nothing is sent" in second.log, "the worker's line about it")
        submitted = sendcode("batch", "submit", file, "--id", "june")
        assert "it is an older copy" in submitted.err
        assert "it is an older copy" in sendcode("status").out
        assert "FAIL  the ledger is refused" in sendcode("doctor").out
        assert accepted(sandbox) == before

        assert sendcode("ledger", "accept", "--yes").exit_code == 0
        wait_until(lambda: is_over(batches), "the batch's end")
        assert doubled(sandbox)
        assert doubled(sandbox) <= flagged(batches)


def test_a_replica_that_is_a_moment_behind_takes_over_and_sending_goes_on(
    sandbox: Sandbox,
    settings: Settings,
    server: EmbeddedValkey,
    begin: Begin,
    tmp_path: Path,
) -> None:
    worker = begin(1 / 4)
    backup, at_copy = copy(server, tmp_path), accepted(sandbox)
    wait_until(lambda: accepted(sandbox) >= at_copy + 5, "some more")

    put_back(server, backup)

    with connect(settings) as redis:
        batches = Batches(redis, settings)
        wait_until(lambda: is_over(batches), "the batch's end")
        assert doubled(sandbox) <= flagged(batches)
        assert len(flagged(batches)) < ROWS
    assert "Redis has forgotten the last attempts" in worker.log
    assert "nothing is sent" not in worker.log
