"""`sendcode batch submit` killed (SIGKILL) at random rows, and run again: one row each."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

from config.settings import Settings
from demo.world import EmbeddedValkey, environment_of
from jobs.batches import Batches
from jobs.keys import Keys
from tests.commands import SENDCODE, run, start
from tests.faults.proxy import ProxyProcess
from tests.files import customer, write_csv
from tests.forked import begin
from tests.waiting import PATIENCE_S, wait_until

ROWS = 2_000
KILLS = 5
WORDS = ("batch", "submit", "customers.csv", "--id", "b1")


@pytest.fixture
def far_away(settings: Settings, valkey: EmbeddedValkey) -> Iterator[Settings]:
    """The same Redis some 60 ms away: chunks do not all arrive between two looks at them."""
    with ProxyProcess(valkey.port) as proxy:
        proxy.order("delay 0.03")
        url = settings.redis_url.replace(f":{valkey.port}/", f":{proxy.port}/")
        yield settings.model_copy(update={"sendcode_redis_url": SecretStr(url)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_csv(tmp_path / "customers.csv", [customer(n) for n in range(1, ROWS + 1)])
    return tmp_path


def rows_there(redis: Redis, keys: Keys) -> int:
    total: Any = redis.hget(keys.batch("b1"), "total")
    return int(total or 0)


def import_killed_at(rows: int, settings: Settings, folder: Path, redis: Redis, keys: Keys) -> None:
    """Import until so many rows are in the ledger, and kill the process then."""
    with open(os.devnull, "r+b") as nowhere:
        files = nowhere.fileno(), nowhere.fileno(), nowhere.fileno()
        process = begin([*SENDCODE, *WORDS], folder, environment_of(settings), files)
    wait_until(
        lambda: process.poll() is not None or rows_there(redis, keys) >= rows, f"{rows} rows"
    )
    process.kill()
    process.wait()


def test_an_import_killed_again_and_again_is_one_batch_with_each_row_once(
    settings: Settings,
    far_away: Settings,
    redis: Redis,
    keys: Keys,
    batches: Batches,
    folder: Path,
) -> None:
    chance = random.Random(1)
    there, cut_off = 0, 0
    for _ in range(KILLS):
        rows = there + chance.randrange(1, ROWS // KILLS)
        import_killed_at(rows, far_away, folder, redis, keys)
        assert rows_there(redis, keys) >= there, "rows were lost"
        there = rows_there(redis, keys)
        cut_off += 0 < there < ROWS
    assert cut_off, "no kill came in time"

    ran = run(settings, *WORDS, "--json", cwd=folder)

    assert ran.exit_code == 0
    assert (ran.json["total"], ran.json["accepted"], ran.json["state"]) == (ROWS, ROWS, "running")
    names = [row.cells[0] for _, row, _ in batches.rows("b1")]
    assert names == [f"Customer {n}" for n in range(1, ROWS + 1)]


def test_killed_while_the_file_is_read_nothing_was_written(
    settings: Settings, redis: Redis, folder: Path
) -> None:
    process = start(settings, "batch", "submit", "-", cwd=folder, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write((folder / "customers.csv").read_text("utf-8"))
    process.stdin.flush()  # and no end: it waits for more

    process.kill()
    process.communicate()

    assert redis.dbsize() == 0


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    settings: Settings, far_away: Settings, redis: Redis, keys: Keys, folder: Path
) -> None:
    process = start(far_away, *WORDS, cwd=folder)
    wait_until(lambda: process.poll() is not None or rows_there(redis, keys) > 0, "a row")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)

    was_through = rows_there(redis, keys) == ROWS  # before the signal came
    again = run(settings, *WORDS, "--json", cwd=folder)

    if not was_through:
        assert process.returncode == 130
        assert "go on with the same command: sendcode batch submit customers.csv --id b1" in err
    assert "Traceback" not in err
    assert again.json["total"] == ROWS


def test_ctrl_c_while_watching_leaves_the_batch_running(
    settings: Settings, batches: Batches, folder: Path
) -> None:
    run(settings, *WORDS, cwd=folder)
    process = start(settings, "batch", "status", "b1", "--watch", cwd=folder)
    assert process.stderr is not None
    assert f"batch b1: 0 of {ROWS:,}" in process.stderr.readline()

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert "look again: sendcode batch status b1 --watch" in err
    batch = batches.get("b1")
    assert batch is not None
    assert batch.state == "running"
