"""`sendcode worker` and `sendcode sandbox` as processes: they become the program itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from config.names import EVENT_QUEUE
from config.settings import Settings
from demo.process import environment_of
from jobs.keys import Keys
from producer import send_code
from sandbox.client import Sandbox
from tests.commands import SENDCODE
from tests.waiting import wait_until


@contextmanager
def running(
    settings: Settings, folder: Path, *words: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command; what it says goes to a file."""
    said = folder / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [*SENDCODE, *words],
            cwd=folder,
            env=environment_of(settings),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, said
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


def ready(said: Path) -> bool:
    return " ready." in said.read_text()


@pytest.mark.usefixtures("sandbox")
def test_a_worker_has_the_name_threads_and_queues_that_were_asked_for(
    settings: Settings, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    options = ("--name", "only-events", "--concurrency", "3", "--queues", EVENT_QUEUE)
    with running(settings, tmp_path, "worker", *options) as (process, said):
        wait_until(lambda: ready(said), "the worker", 30)
        wait_until(lambda: redis.hlen(keys.workers), "its sign of life")

        record = send_code("852", "99000001", wait=20, settings=settings)
        process.terminate()

        assert process.wait(30) == 0
    assert record.state == "sent"
    assert "only-events@" in said.read_text()
    assert "concurrency: 3 " in said.read_text()
    assert "send-code.batch" not in said.read_text()
    assert redis.hlen(keys.workers) == 0


@pytest.mark.usefixtures("sandbox")
def test_a_workers_start_warns_by_name_of_a_redis_that_can_forget(
    settings: Settings, tmp_path: Path
) -> None:
    with running(settings, tmp_path, "worker") as (process, said):
        wait_until(lambda: "Redis is not as it must be" in said.read_text(), "the warning", 30)
        process.terminate()
        process.wait(30)

    warnings = [line for line in said.read_text().splitlines() if "not as it must be" in line]
    assert len(warnings) == 1  # the tests' server runs with fsync="no" and is well otherwise
    assert "check=appendfsync" in warnings[0]
    assert "set appendfsync always" in warnings[0]


def test_a_config_module_in_the_current_folder_is_not_taken_for_ours(
    settings: Settings, sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "config.py").write_text("raise SystemExit('the wrong config')\n")

    with running(settings, tmp_path, "worker") as (process, said):
        wait_until(lambda: ready(said) or process.poll() is not None, "the worker", 30)

        assert process.poll() is None, said.read_text()
    assert sandbox.url == settings.sendcode_endpoint


def test_the_sandbox_is_the_sandbox_with_all_its_options(
    settings: Settings, tmp_path: Path
) -> None:
    with running(settings, tmp_path, "sandbox", "--port", "0", "--rate-limit", "7") as (
        process,
        said,
    ):
        wait_until(lambda: said.read_text().endswith("\n"), "its address")
        told = json.loads(said.read_text())
        process.terminate()

        assert process.wait(10) == 0
    assert told["url"].startswith("http://127.0.0.1:")
    assert told["pid"] == process.pid
