"""`sendcode demo`: it keeps its promises, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from demo.world import environment_of
from tests.commands import SENDCODE
from tests.files import read_csv
from tests.forked import begin, share_template
from tests.waiting import PATIENCE_S, wait_until

ROWS = 65
"""Enough for one row of each kind, and some ordinary ones."""


@dataclass
class Running:
    """A demo that was started; what it says is in files."""

    process: subprocess.Popen[bytes]
    folder: Path
    out: Path
    err: Path

    def has_said(self, words: str) -> bool:
        assert self.process.poll() is None or words in self.err.read_text(), self.err.read_text()
        return words in self.err.read_text()

    def left(self) -> list[str]:
        """Processes that work in its folder or were told of it."""
        place = str(self.folder)
        return [
            " ".join(each.info["cmdline"] or [])
            for each in psutil.process_iter(["pid", "cmdline", "cwd", "status"])
            if each.info["pid"] != self.process.pid
            and each.info["status"] != psutil.STATUS_ZOMBIE
            and (
                (each.info["cwd"] or "").startswith(place)
                or any(place in part for part in each.info["cmdline"] or [])
            )
        ]


Start = Callable[..., Running]
DEMO = (*SENDCODE, "demo")
FORKING = (sys.executable, "-P", "-m", "tests.forking_demo")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a demo; whatever becomes of the test, it ends.

    Its programs are forked, too, unless the command itself is the point.
    """
    share_template()
    started: list[subprocess.Popen[bytes]] = []

    def start_demo(*options: str, command: Sequence[str] = FORKING, **environment: str) -> Running:
        folder, out, err = tmp_path / "demo", tmp_path / "out", tmp_path / "err"
        with out.open("wb") as results, err.open("wb") as talk, open(os.devnull, "rb") as nothing:
            process = begin(
                [*command, "--directory", str(folder), *options],
                tmp_path,
                {**environment_of(), **environment},
                (nothing.fileno(), results.fileno(), talk.fileno()),
            )
        started.append(process)
        return Running(process, folder, out, err)

    yield start_demo
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_S)


def test_it_keeps_every_promise_and_says_so(start: Start) -> None:
    # what is set for a real account must not come into it
    demo = start("--rows", str(ROWS), "--json", TENCENTCLOUD_TOKEN="real", SENDCODE_RATE_LIMIT="1")

    assert demo.process.wait(PATIENCE_S) == 0, demo.err.read_text()

    told = json.loads(demo.out.read_text())
    assert told["all_kept"] is True
    assert told["rows"] == sum(told["states"].values()) == ROWS
    assert {"sent", "sent_inferred", "dead", "unknown", "rejected"} <= set(told["states"])
    assert {
        "InvalidParameterValue.UnSupportArea",
        "FailedOperation.PhoneBindUpper",
        "FailedOperation.SendVerifyCodeLimit",
    } <= set(told["dead_by_code"])
    assert told["doubles"] == 0
    assert told["most_in_a_second"] > 0
    assert told["events"] == 5
    assert "Every event's outcome reached the webhook, signed" in {
        each["promise"] for each in told["promises"]
    }
    check_results(demo.folder)
    check_what_is_said(demo)
    assert demo.left() == []


def check_results(folder: Path) -> None:
    rows = read_csv(folder / "results.csv")
    assert len(rows) == len(read_csv(folder / "customers.csv")) == ROWS
    by_prefix = {row["phone_num"][:4]: row for row in rows if row["phone_num"].startswith("99")}
    assert all(row["status"] for row in rows)
    for prefix, status in {
        "9930": "sent",  # InternalError, not sent at first
        "9931": "sent_inferred",  # InternalError, though it was sent
        "9933": "sent",  # a dropped connection
        "9905": "sent",  # its interval was waited out
        "9908": "dead",
    }.items():
        assert by_prefix[prefix]["status"] == status, by_prefix[prefix]
    assert by_prefix["9908"]["request_id"]


def check_console(demo: Running) -> None:
    """Sign in as it says; a busy machine may not answer in time at first."""
    found = re.search(r"console: (\S+)  user (\w+)  password (\w+)", demo.err.read_text())
    assert found is not None
    url, name, password = found.groups()

    def is_let_in() -> bool:
        with requests.Session() as session:
            page = session.get(f"{url}/login", timeout=30)
            token = re.search(r'name="csrf" value="(\w+)"', page.text)
            login = {"csrf": token[1] if token else "", "name": name, "password": password}
            home = session.post(f"{url}/login", data=login, timeout=30)
        return (home.status_code, home.url) == (200, f"{url}/")

    wait_until(is_let_in, "the console's home page")


def check_what_is_said(demo: Running) -> None:
    said = demo.err.read_text()
    login = r"http://127\.0\.0\.1:\d+  user demo  password \w+"
    assert re.search(f"console: {login}", said)
    assert re.search(f"Flower: {login}", said)
    assert f"file, results and logs: {demo.folder}" in said
    assert f"{ROWS} rows" in said
    for log in demo.folder.glob("*.log"):
        assert "Traceback" not in log.read_text(), log


def test_ctrl_c_while_it_starts_leaves_no_process_behind(start: Start) -> None:
    demo = start(command=DEMO)
    wait_until(lambda: demo.has_said("starting Valkey"), "the start")

    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(PATIENCE_S) == 130
    assert demo.left() == []
    assert demo.err.read_text().endswith("sendcode: interrupted\n")


def test_sigterm_ends_it_in_order_and_more_of_it_cuts_nothing_short(start: Start) -> None:
    demo = start()
    wait_until(lambda: demo.has_said(" sent, "), "the batch at work")

    demo.process.terminate()
    wait_until(lambda: demo.has_said("ending all"), "the end")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        demo.process.send_signal(number)

    assert demo.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert demo.left() == []
    said = f"no process was left behind; files are in {demo.folder}\nsendcode: ended by a signal\n"
    assert demo.err.read_text().endswith(said)
    for worker in ("worker-1", "worker-2"):
        assert "Warm shutdown" in (demo.folder / f"{worker}.log").read_text()


def test_killed_it_leaves_nothing_for_long(start: Start) -> None:
    demo = start()
    wait_until(lambda: demo.has_said("accepted"), "the batch")

    demo.process.kill()
    demo.process.wait()

    wait_until(lambda: not demo.left(), "its processes' end")


def test_kept_it_runs_until_ctrl_c(start: Start) -> None:
    demo = start("--rows", "1", "--keep")
    # its only row waits out an interval
    wait_until(lambda: demo.has_said("press Ctrl-C to end it"), "the report")
    assert len(demo.left()) >= 5
    check_console(demo)

    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(PATIENCE_S) == 0
    assert demo.left() == []
    assert "promise" in demo.out.read_text()


def test_a_process_that_dies_is_told_with_the_end_of_its_log(start: Start) -> None:
    demo = start()
    wait_until(lambda: demo.has_said("accepted"), "the batch")
    log = str(demo.folder / "worker-1.log")
    workers = [
        each
        for each in psutil.process_iter(["cwd", "open_files"])
        if each.info["cwd"] == str(demo.folder)
        and log in {file.path for file in each.info["open_files"] or ()}
    ]

    for worker in workers:
        worker.kill()

    assert demo.process.wait(PATIENCE_S) == 1
    assert "sendcode: worker-1 ended with code -9" in demo.err.read_text()
    assert demo.left() == []
    assert "Traceback" not in demo.err.read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--directory", "."), "is not empty; name a new folder"),
        (("--directory", "customers.csv"), "customers.csv is a file; name a new folder"),
        (("--directory", "customers.csv/a"), "is a file; name a new folder"),
        (("--rows", "0"), "for help"),
    ],
)
def test_what_makes_no_sense_is_refused_with_exit_code_2(
    words: tuple[str, ...], complaint: str, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "customers.csv").touch()

    demo = start(*words)

    assert demo.process.wait(PATIENCE_S) == 2
    assert demo.out.read_text() == ""
    assert complaint in demo.err.read_text()


def test_its_help_calls_it_by_the_name_it_was_called_by(start: Start) -> None:
    demo = start("--help", command=DEMO)

    assert demo.process.wait(PATIENCE_S) == 0
    assert "Usage: sendcode demo" in demo.out.read_text()
    assert demo.err.read_text() == ""
