"""A rolling upgrade from a release that kept numbers in the clear, under load.

That one reads version 1 of the ledger alone, so it stands still once the new one has written.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from demo.accounting import most_allowed
from demo.world import SandboxProcess, environment_of
from jobs.batches import Batches
from jobs.keys import Keys
from jobs.scripts import WRITES
from tests.commands import run_program
from tests.files import customer, write_csv
from tests.forked import ForkedSandbox
from tests.waiting import wait_until
from tests.worker_process import TOP, WorkerProcess

BEFORE = "b7972c109ec38a3176aa32486fa7f689073f6dca"
"""The last commit that sealed nothing."""
ROWS = {"may": 90, "june": 36, "july": 24}
EVENTS = 10
ALL = sum(ROWS.values()) + 2 * EVENTS
RATE, INTERVAL_S = 20, 30
RATE_BEFORE = 8
"""At this rate the old workers have ten seconds of work when the new ones are started."""
OK, BUSY_ONCE, LOST_ONCE = "9900", "9920", "9936"
"""Magic numbers: sent at once; refused twice by a busy service; sent, but the answer is lost."""

Release = Path
Start = Callable[[Release], WorkerProcess]


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The tree of the release before, from this repository's history."""
    archive = subprocess.run(
        ["git", "-C", str(TOP), "archive", BEFORE],  # noqa: S607 (whichever git there is)
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(
            f"NOT TESTED: two releases on one Redis, as commit {BEFORE} is not in the history "
            "that is here (a shallow clone? git fetch --unshallow)"
        )
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tree:
        tree.extractall(folder)  # noqa: S202 (git made it; Python 3.11.2 knows no filter)
    return folder


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    """The sandbox as a process of its own: its stamps must not wait for this one."""
    options = ("--rate-limit", str(RATE), "--phone-interval", str(INTERVAL_S))
    with ForkedSandbox(*options, folder=tmp_path) as server:
        yield server


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Start a worker of a release; it need not be ready when the call returns."""
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def start(release: Release) -> WorkerProcess:
            rate = RATE if release == TOP else RATE_BEFORE
            environment = {**path_to(release), "SENDCODE_RATE_LIMIT": str(rate)}
            worker = WorkerProcess(settings, tmp_path, f"w{next(numbers)}", environment=environment)
            stack.callback(worker.kill)
            return worker

        yield start


def path_to(release: Release) -> dict[str, str]:
    return {"PYTHONPATH": str(release)}


def run(settings: Settings, release: Release, program: str, *, folder: Path) -> None:
    """Run a program in Python with a release's modules."""
    environment = environment_of(settings, **path_to(release))
    ran = run_program([sys.executable, "-P", "-c", program], environment, cwd=folder)
    assert ran.exit_code == 0, ran.err


def send_events(first: int) -> str:
    return (
        "from producer import send_code\n"
        f"for n in range({first}, {first + EVENTS}):\n"
        "    for _ in range(2):  # the second finds the first\n"
        "        send_code('852', f'9900{n:04}', key=str(n))\n"
    )


@pytest.mark.settings(
    sendcode_rate_limit=RATE,
    sendcode_phone_interval=INTERVAL_S,
    sendcode_lease=2,
    sendcode_backoff=0.2,
)
def test_a_rolling_upgrade_loses_and_doubles_nothing_and_seals_all_numbers(
    before: Release,
    start: Start,
    settings: Settings,
    sandbox: SandboxProcess,
    batches: Batches,
    redis: Redis,
    keys: Keys,
    tmp_path: Path,
) -> None:
    now = TOP

    def submit(release: Release, batch_id: str, first: int, then: str = "") -> None:
        kinds = [OK] * 10 + [BUSY_ONCE, LOST_ONCE]
        rows = [customer(n, kinds[n % len(kinds)]) for n in range(first, first + ROWS[batch_id])]
        file = write_csv(tmp_path / f"{batch_id}.csv", rows)
        words = ["sendcode", "batch", "submit", str(file), "--id", batch_id]
        program = (
            "import sys\n"
            "import producer, worker\n"
            "from producer.cli import main\n"
            f"for each in producer, worker: assert each.__file__.startswith({f'{release}/'!r})\n"
            f"sys.argv = {words}\n"
            "try:\n"
            "    main()\n"
            "except SystemExit as exc:\n"
            "    assert not exc.code\n"
        )
        run(settings, release, program + then, folder=tmp_path)

    def accepted() -> int:
        return int(sandbox.stats(numbers=False)["accepted"])

    def reach(count: int) -> None:
        wait_until(lambda: accepted() >= count, f"{count} sent")

    def is_over(batch_id: str) -> bool:
        return (batch := batches.get(batch_id)) is not None and batch.is_over

    old = [start(before), start(before)]
    submit(before, "may", 1, then=send_events(9_000))
    reach(10)
    # forwards, one worker after the other, the second without a word of warning
    new = [start(now), start(now)]
    wait_until(lambda: all("nothing is sent" in each.log for each in old), "them standing still")
    assert not is_over("may"), "they stood still when all was sent"
    new[0].wait_ready()
    new[1].wait_ready()
    with ThreadPoolExecutor() as side:
        produced = side.submit(submit, now, "june", 5_001, then=send_events(9_500))
        assert old[0].stop() == 0
        old[1].kill()
        # they had a minute to finish what they held
        redis.hincrby(keys.ledger, "raised_at", -60_000)
        wait_until(lambda: redis.hget(keys.ledger, "upgraded") == str(WRITES), "the upgrade")
        produced.result()
    submit(now, "july", 6_001)
    # and no way back
    late = start(before)
    assert late.wait() == 2
    assert "start the release that the other processes run" in late.log
    for batch_id in ROWS:
        wait_until(partial(is_over, batch_id), f"the end of {batch_id}")
    wait_until(lambda: accepted() >= ALL, "the events")

    stats = sandbox.stats()
    assert stats["most_in_any_second"] <= most_allowed(stats, RATE)
    assert set(stats["accepted_per_number"].values()) == {1}
    assert len(stats["accepted_per_number"]) == ALL
    for batch_id, rows in ROWS.items():
        batch: Any = batches.get(batch_id)
        assert (batch.sent, batch.accepted) == (rows, rows)
        assert batch.possible_duplicates == 0
    for worker in (*new, *old):
        assert "Traceback" not in worker.log
    assert any("ledger upgraded" in worker.log for worker in new)
    for key in redis.scan_iter(keys.job("*")):
        assert ":" in str(redis.hget(key, "num"))
    digests = {key.removeprefix(keys.number("")) for key in redis.scan_iter(keys.number("*"))}
    assert len(digests) == ALL
    assert {len(digest) for digest in digests} == {22}
