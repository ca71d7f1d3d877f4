"""A Redis that runs, but refuses commands: workers wait for it, and go on by themselves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis

from config import BATCH_QUEUE
from config.settings import Settings
from demo.world import EmbeddedValkey
from producer import send_code
from tests.conftest import QUICK_WORLD
from tests.refusals import REFUSALS, queue_of_another_type
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess
from worker.transport import RECONNECT_S

SIGNS = {"OOM": "error=OOM"}
"""What the log says where messages may still be taken out."""
RECONNECTS = ("Connection to broker lost", "Cannot connect to")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server that a test may break."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def settings(server: EmbeddedValkey, sandbox: Sandbox) -> Settings:
    url = SecretStr(server.url())
    return Settings(**{**QUICK_WORLD, "sendcode_redis_url": url, "sendcode_endpoint": sandbox.url})


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(settings, tmp_path, "w1")
    yield worker.wait_ready()
    worker.kill()


def reconnects(worker: WorkerProcess) -> list[str]:
    return [line for line in worker.log.splitlines() if any(told in line for told in RECONNECTS)]


def stamp(line: str) -> float:
    return datetime.fromisoformat(line.partition(" ")[0]).timestamp()


@pytest.mark.parametrize("code", REFUSALS)
def test_a_worker_outlives_a_redis_that_refuses_what_it_asks(
    code: str, server: EmbeddedValkey, redis: Redis, worker: WorkerProcess, settings: Settings
) -> None:
    sign = SIGNS.get(code, f"RefusedError('{code}')")
    with REFUSALS[code](redis, server.directory):
        if code == "WRONGTYPE":
            wait_until(lambda: not redis.exists(BATCH_QUEUE), "a free place")
        else:
            wait_until(lambda: sign in worker.log, "the refusal in the log")

    sent = send_code("852", "99000001", wait=PATIENCE_S, settings=settings)

    assert sent.state == "sent"
    lifelines = f"{settings.sendcode_key_prefix}:connections:*"
    wait_until(lambda: redis.pubsub_channels(lifelines), "the worker's lifeline, open again")
    assert worker.stop() == 0
    assert "Traceback" not in worker.log
    assert server.password not in worker.log


@pytest.mark.parametrize("code", ["MISCONF", "READONLY"])
def test_it_tries_again_once_a_second_with_one_line_for_each_try(
    code: str, server: EmbeddedValkey, redis: Redis, worker: WorkerProcess
) -> None:
    with REFUSALS[code](redis, server.directory):
        wait_until(lambda: len(reconnects(worker)) >= 4, "four tries")

    tries = reconnects(worker)
    pauses = [later - earlier for earlier, later in itertools.pairwise(map(stamp, tries))]
    assert min(pauses) > 0.9 * RECONNECT_S
    between = worker.log[worker.log.index(tries[0]) : worker.log.index(tries[-1])].splitlines()
    assert [line for line in between if "sendcode.sweeper" not in line] == tries[:-1]


def test_what_lies_in_a_queue_s_place_is_kept_beside_the_quarantine(
    server: EmbeddedValkey, redis: Redis, worker: WorkerProcess
) -> None:
    with queue_of_another_type(redis, server.directory):
        wait_until(lambda: redis.type(BATCH_QUEUE) == "none", "a free place")

    kept = f"sendcode:quarantine:{BATCH_QUEUE}"
    assert redis.get(kept) == "foo"
    assert redis.ttl(kept) > 0
    (entry,) = redis.lrange("sendcode:damage", 0, -1)
    told = f"a string stood where {BATCH_QUEUE} should be: kept as {kept}"
    assert json.loads(entry)["what"] == told
    assert "Traceback" not in worker.log
    assert not reconnects(worker)
