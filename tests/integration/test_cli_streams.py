"""Standard streams that are closed, full or not read: a clear line, the right exit code."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import Settings
from demo.process import environment_of
from jobs.batches import Batches
from jobs.ledger import Ledger
from tests.commands import SENDCODE, Ran
from tests.ended_jobs import customers, run_batch
from tests.files import customer, write_csv

RESULTS = [
    ("batch", "check", "customers.csv", "--json"),
    ("batch", "list"),
    ("batch", "results", "b1"),
    ("batch", "results", "b1", "--json"),
    ("dead", "export"),
    ("status",),
]


@pytest.fixture
def folder(tmp_path: Path, ledger: Ledger, batches: Batches) -> Path:
    write_csv(tmp_path / "customers.csv", [customer(1)])
    run_batch(ledger, batches, "b1", customers(2))
    return tmp_path


def run_with(
    redirection: str, words: tuple[str, ...], settings: Settings, folder: Path, **more: str
) -> Ran:
    """Run a command as `sendcode WORDS REDIRECTION` in a shell."""
    ran = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *SENDCODE, *words],
        cwd=folder,
        env={**environment_of(settings), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def test_without_standard_input_a_file_is_read_all_the_same(
    settings: Settings, folder: Path
) -> None:
    words = ("batch", "submit", "customers.csv", "--dry-run")

    assert run_with("<&-", words, settings, folder).exit_code == 0


@pytest.mark.parametrize("verb", ["check", "submit"])
def test_without_standard_input_there_is_none_to_read(
    settings: Settings, folder: Path, verb: str
) -> None:
    ran = run_with("<&-", ("batch", verb, "-"), settings, folder)

    assert ran.exit_code == 2
    assert "there is no standard input" in ran.err


def test_without_standard_input_nobody_is_asked(settings: Settings, folder: Path) -> None:
    ran = run_with("<&-", ("batch", "cancel", "b1"), settings, folder)

    assert ran.err == "sendcode: batch b1 is done: nothing to cancel\n"


@pytest.mark.parametrize("words", RESULTS, ids=" ".join)
def test_results_that_nobody_wants_are_no_defect(
    settings: Settings, folder: Path, words: tuple[str, ...]
) -> None:
    ran = run_with(">&-", words, settings, folder)

    assert ran.exit_code == 0
    assert "sendcode: " not in ran.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", RESULTS, ids=" ".join)
def test_results_that_find_no_room_are_told_as_such(
    settings: Settings, folder: Path, words: tuple[str, ...], unbuffered: str
) -> None:
    ran = run_with(">/dev/full", words, settings, folder, PYTHONUNBUFFERED=unbuffered)

    assert ran.exit_code == 1
    complaints = [line for line in ran.err.splitlines() if not line.startswith("no worker")]
    assert complaints[-1:] == ["sendcode: standard output: no space left on device"]
    assert "Exception ignored" not in ran.err


def test_results_on_a_terminal_have_no_progress_bar_among_them(
    settings: Settings, folder: Path
) -> None:
    terminal, its_end = pty.openpty()
    subprocess.run(
        [*SENDCODE, "batch", "results", "b1"],
        cwd=folder,
        env={**environment_of(settings), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=its_end,
        stderr=its_end,
        check=True,
    )
    os.close(its_end)
    told = os.read(terminal, 1 << 16).decode("utf-8-sig")
    os.close(terminal)

    assert "\x1b" not in told
    assert told.count("\n") == 3


CTRL_C_WHILE_LOADING = """
import os, signal, sys

class Presser:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Presser())
from producer.cli import main
main()
"""


def test_ctrl_c_before_anything_is_loaded_leaves_no_traceback(
    settings: Settings, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-P", "-c", CTRL_C_WHILE_LOADING, "status"],
        cwd=tmp_path,
        env=environment_of(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (-signal.SIGINT, "")


def test_a_reader_that_has_had_enough_is_no_fault_to_speak_of(
    settings: Settings, folder: Path
) -> None:
    ran = run_with("| true", ("batch", "results", "b1", "--json"), settings, folder)

    assert ran.err == ""
