"""A Redis that Sentinels watch over: the URL names them, and all parts find the primary."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from redis import Redis, RedisError

from config.names import DEAD_LETTER_QUEUE
from config.redis import connect
from config.settings import Settings
from demo.valkey import EmbeddedValkey, free_port
from jobs.outcome import State
from producer import send_code
from producer.overview import look
from sandbox.client import Sandbox
from tests.conftest import QUICK_WORLD
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess


@pytest.fixture
def sentinel_url(tmp_path: Path) -> Iterator[str]:
    """A primary of its own, and one Sentinel."""
    with EmbeddedValkey(tmp_path / "primary", fsync="no") as primary:
        port, configuration = free_port(), tmp_path / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
            f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
            f"sentinel auth-pass main {primary.password}\n"
        )
        server = psutil.Process(primary.pid).exe()
        sentinel = subprocess.Popen(
            [server, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: knows_its_primary(port), "the Sentinel")
            yield f"sentinel://:{primary.password}@127.0.0.1:{port}/main/0"
        finally:
            sentinel.terminate()
            sentinel.wait(10)


def knows_its_primary(port: int) -> bool:
    with Redis(port=port) as client:
        try:
            return bool(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"))
        except RedisError:
            return False


def test_jobs_are_accepted_sent_and_dead_lettered_behind_sentinels(
    sentinel_url: str, tmp_path: Path
) -> None:
    with Sandbox(rate_limit=200, phone_interval=8) as sandbox:
        settings = Settings(
            **{
                **QUICK_WORLD,
                "sendcode_redis_url": SecretStr(sentinel_url),
                "sendcode_endpoint": sandbox.url,
            }
        )
        worker = WorkerProcess(settings, tmp_path, "w1").wait_ready()
        try:
            sent = send_code("852", "99000001", wait=20, settings=settings)
            dead = send_code("852", "99010001", wait=20, settings=settings)
            with connect(settings) as client:
                seen = look(client, settings)
        finally:
            exit_code = worker.stop()

    assert sent.state is State.SENT
    assert dead.state is State.DEAD
    assert seen.queues[DEAD_LETTER_QUEUE] == 1
    assert exit_code == 0
