"""Secrets that are replaced in their files, while workers work."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import State
from jobs.phone import PhoneNumber
from producer import send_code
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess

ROWS = 120
"""At the rate of the test, four seconds of work after the first codes."""
SECRETS = {"TENCENTCLOUD_SECRET_ID": "AKIDEXAMPLE", "TENCENTCLOUD_SECRET_KEY": "SECRETEXAMPLE"}


@pytest.fixture
def secrets_in_files(tmp_path: Path) -> dict[str, str]:
    """Return a worker's environment that names files of credentials; they can be replaced."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value, encoding="utf-8")
    files = {f"{name}_FILE": str(tmp_path / name) for name in SECRETS}
    return {**dict.fromkeys(SECRETS, ""), **files}


def replace_secret(folder: Path, name: str, value: str) -> None:
    new = folder / "new"
    new.write_text(value, encoding="utf-8")
    new.replace(folder / name)


@pytest.mark.settings(sendcode_rate_limit=24, sendcode_phone_interval=60, sendcode_http_timeout=5)
def test_credentials_revoked_in_mid_batch_and_replaced_in_their_file_lose_nothing(
    sandbox: Sandbox,
    batches: Batches,
    account: Account,
    start_worker: Callable[..., WorkerProcess],
    secrets_in_files: dict[str, str],
    tmp_path: Path,
) -> None:
    rows = [BatchRow(n, ["x"], PhoneNumber("852", f"9900{n:04d}")) for n in range(ROWS)]
    batches.open("b1", "digest", ["phone"])
    batches.append("b1", 0, rows, last=True)
    workers = [start_worker(**secrets_in_files) for _ in range(2)]
    wait_until(lambda: sandbox.stats(numbers=False)["accepted"] > ROWS // 5, "the first codes")

    sandbox.rotate("AKIDEXAMPLE", "ANOTHERKEY")
    wait_until(lambda: account.state().by == "api", "the halt")
    replace_secret(tmp_path, "TENCENTCLOUD_SECRET_KEY", "ANOTHERKEY")

    wait_until(lambda: (batch := batches.get("b1")) and batch.is_over, "the batch's end")
    batch = batches.get("b1")
    assert batch is not None
    assert batch.counts == {State.SENT: ROWS}
    stats = sandbox.stats()
    assert (stats["accepted"], stats["accepted_numbers"]) == (ROWS, ROWS)
    assert account.state().state == "running"
    for worker in workers:
        assert worker.log.count(" ready.") == 1
        assert "settings read again changed=TENCENTCLOUD_SECRET_KEY" in worker.log
        assert "ANOTHERKEY" not in worker.log


def test_sighup_has_the_settings_read_again_and_ends_nothing(
    settings: Settings,
    sandbox: Sandbox,
    start_worker: Callable[..., WorkerProcess],
    secrets_in_files: dict[str, str],
    tmp_path: Path,
) -> None:
    worker = start_worker(**secrets_in_files)
    sandbox.rotate("AKIDEXAMPLE", "ANOTHERKEY")
    (tmp_path / "TENCENTCLOUD_SECRET_KEY").write_text("ANOTHERKEY", encoding="utf-8")

    worker.process.send_signal(signal.SIGHUP)

    wait_until(lambda: "settings read again" in worker.log, "what the file has")
    assert send_code("852", "99000001", wait=PATIENCE_S, settings=settings).state is State.SENT
    assert worker.stop() == 0
    assert worker.log.count(" ready.") == 1


def test_a_password_of_redis_that_is_replaced_in_its_file_is_used_when_connections_open_anew(
    settings: Settings,
    sandbox: Sandbox,
    redis: Redis,
    start_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
) -> None:
    assert sandbox.url
    user = f"rotating{settings.redis.database}"
    place = f"127.0.0.1:{settings.redis.hosts[0][1]}/{settings.redis.database}"
    url, level = tmp_path / "url", tmp_path / "level"
    url.write_text(f"redis://{user}:first@{place}", encoding="utf-8")
    level.write_text("warning", encoding="utf-8")
    numbers = itertools.count(99000001)

    def send() -> State:
        return send_code("852", f"{next(numbers)}", wait=PATIENCE_S, settings=settings).state

    redis.execute_command("ACL", "SETUSER", user, "on", ">first", "~*", "&*", "+@all")
    try:
        worker = start_worker(
            ready=False,
            SENDCODE_REDIS_URL="",
            SENDCODE_REDIS_URL_FILE=str(url),
            SENDCODE_LOG_LEVEL="",
            SENDCODE_LOG_LEVEL_FILE=str(level),
        )
        assert send() is State.SENT

        redis.execute_command("ACL", "SETUSER", user, ">second", "<first")
        replace_secret(tmp_path, "url", f"redis://{user}:second@{place}")
        redis.execute_command("CLIENT", "KILL", "USER", user)

        assert send() is State.SENT
        wait_until(lambda: "changed=SENDCODE_REDIS_URL" in worker.log, "the file")
        assert "job finished" not in worker.log
        replace_secret(tmp_path, "level", "info")
        wait_until(lambda: send() is State.SENT and "job finished" in worker.log, "the level")
        assert worker.stop() == 0
        assert ":second@" not in worker.log
    finally:
        redis.execute_command("ACL", "DELUSER", user)
