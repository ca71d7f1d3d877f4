"""A worker's output: where it goes, and that nothing in the worker waits for its reader."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from redis import Redis

from config.settings import Settings
from demo.world import environment_of, free_port
from jobs.batches import Batches
from jobs.job import State
from jobs.keys import Keys
from producer import send_code
from tests.commands import Command, run_program
from tests.ended_jobs import customers
from tests.forked import begin
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess

CELERY = (sys.executable, "-m", "celery")
ROWS = 40
SPEAK_IN_MANY_WAYS = """
import faulthandler, os, sys, threading
from worker.output import Output

Output(lambda lines: f"{lines} dropped")
line = "x" * 99
for number in range(10_000):
    print(line, flush=True)                      # what goes through Python's files
    os.write(1, f"{line}\\n".encode())           # what goes past them
    if number % 100 == 0:
        faulthandler.dump_traceback(all_threads=True)
os.write(int(sys.argv[1]), b"all is said")
"""


@contextmanager
def unread() -> Iterator[tuple[int, int]]:
    """A pipe that is full, and that nobody reads."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    try:
        while True:
            os.write(sink, b"." * 99 + b"\n")
    except BlockingIOError:
        os.set_blocking(sink, True)
    try:
        yield source, sink
    finally:
        os.close(source)
        os.close(sink)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_worker_whose_log_nobody_reads_sends_is_alive_and_ends(
    form: str,
    settings: Settings,
    sandbox: Sandbox,
    batches: Batches,
    sendcode: Command,
    tmp_path: Path,
) -> None:
    environment = environment_of(settings, SENDCODE_LOG_FORMAT=form)
    with unread() as (_, sink), open(os.devnull, "rb") as nothing:
        command = [*CELERY, "-A", "worker", "worker", "-n", "w1@here"]
        worker = begin(command, tmp_path, environment, (nothing.fileno(), sink, sink))
        try:
            batches.open("b1", "digest", ["phone"])
            batches.append("b1", 0, customers(ROWS), last=True)
            wait_until(lambda: (batch := batches.get("b1")) and batch.is_over, "the batch's end")
            for _ in range(5):
                worker.send_signal(signal.SIGUSR1)  # writes what all threads do
                time.sleep(0.01)
            record = send_code("852", "99000001", wait=PATIENCE_S, settings=settings)
            shown = sendcode("status").out
            worker.terminate()
            code = worker.wait(settings.sendcode_http_timeout + 10)
        finally:
            worker.kill()
            worker.wait()

    assert sandbox.stats()["accepted"] == ROWS + 1
    assert record.state is State.SENT
    assert "1 alive: w1@here" in shown
    assert code == 0


def test_flower_answers_and_ends_although_nobody_reads_its_log(
    settings: Settings, tmp_path: Path
) -> None:
    port = free_port()

    def answers() -> bool:
        try:
            return bool(requests.get(f"http://127.0.0.1:{port}/healthcheck", timeout=1).ok)
        except requests.RequestException:
            return False

    with unread() as (_, sink), open(os.devnull, "rb") as nothing:
        command = [*CELERY, "-A", "worker", "flower", f"--port={port}", "--address=127.0.0.1"]
        files = nothing.fileno(), sink, sink
        flower = begin(command, tmp_path, environment_of(settings), files)
        try:
            wait_until(answers, "Flower")
            flower.terminate()
            flower.wait(PATIENCE_S)
        finally:
            flower.kill()
            flower.wait()


def test_what_is_dropped_is_counted_in_its_place(tmp_path: Path) -> None:
    told, tell = os.pipe()
    with unread() as (source, sink), (tmp_path / "stderr").open("wb") as stderr:
        speaker = subprocess.Popen(
            [sys.executable, "-c", SPEAK_IN_MANY_WAYS, str(tell)],
            env=environment_of(),
            stdout=sink,
            stderr=stderr,
            pass_fds=[tell],
        )
        assert os.read(told, 100) == b"all is said"
        os.dup2(tell, sink)
        with os.fdopen(os.dup(source), encoding="ascii") as reader:
            lines = reader.read().splitlines()

    assert speaker.wait(PATIENCE_S) == 0
    os.close(tell)
    os.close(told)
    counts = [int(line.split()[0]) for line in lines if line.endswith(" dropped")]
    assert counts
    assert lines.count("x" * 99) + sum(counts) == 20_000
    assert "dump_traceback" not in "".join(lines)
    assert (tmp_path / "stderr").read_text().count("most recent call first") >= 100


def test_celery_multi_logs_to_its_file_at_its_level_and_follows_it(
    settings: Settings, sandbox: Sandbox, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    assert sandbox.url
    log = tmp_path / "w1.log"
    environment = environment_of(settings)

    def multi(order: str) -> None:
        files = ("--pidfile=%n.pid", "--logfile=%n.log", "--loglevel=INFO")
        ran = run_program(
            [*CELERY, "multi", order, "w1", "-A", "worker", *files], environment, cwd=tmp_path
        )
        assert ran.exit_code == 0, ran

    multi("start")
    try:
        wait_until(lambda: log.exists() and " ready." in log.read_text(), "the worker")
        log.rename(tmp_path / "w1.log.1")
        send_code("852", "99000001", settings=settings)
        wait_until(lambda: log.exists() and "job finished" in log.read_text(), "the new file")
    finally:
        multi("stopwait")

    assert "[config]" in (tmp_path / "w1.log.1").read_text()
    assert "Warm shutdown" in log.read_text()
    assert redis.hlen(keys.workers) == 0


def test_a_worker_logs_at_the_level_that_was_asked_for(
    redis: Redis, keys: Keys, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker("--loglevel", "ERROR", ready=False)
    wait_until(lambda: redis.hlen(keys.workers), "the worker")

    assert worker.stop() == 0

    assert "INFO" not in worker.log
    assert "WARNING" not in worker.log


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("-P", "prefork"), "--pool: "),
        (("--autoscale", "9,3"), "--autoscale: "),
        (("-c", "5000"), "--concurrency: must be a number of threads, 1 to 1,000"),
        (("-c", "auto"), "--concurrency: "),
        (("--purge",), "--purge: "),
        (("--beat",), "--beat: "),
        (("--time-limit", "5"), "--time-limit: "),
        (("--max-tasks-per-child", "5"), "--max-tasks-per-child: "),
        (("-O", "fair"), "--optimization: "),
        (("--logfile", "no/such/folder/log"), "--logfile: no/such/folder/log cannot be written"),
        (("--detach",), "--detach: nobody would see its log; add --logfile"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_option_of_celery_s_that_would_have_no_effect_is_refused(
    words: tuple[str, ...], complaint: str, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker(*words, ready=False)

    assert worker.wait() == 2

    assert re.search(f"^sendcode: {complaint}", worker.log, re.MULTILINE)
    assert "Traceback" not in worker.log
