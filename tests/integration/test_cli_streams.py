"""Standard streams that are closed, full or not read: a clear line, the right exit code."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from redis import Redis

from config import EVENT_QUEUE
from config.settings import Settings
from demo.world import environment_of
from jobs.batches import Batches
from jobs.ledger import Ledger
from tests.commands import SENDCODE, Ran, run
from tests.ended_jobs import DEAD, customers, end_event, run_batch
from tests.files import customer, write_csv
from tests.forked import begin, begin_anew
from tests.waiting import PATIENCE_S, wait_until

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


TELL_STREAMS = """
import os, sys
streams = [
    s and (s.encoding, s.errors, s.line_buffering, s.write_through, s.newlines, type(s.buffer))
    for s in (sys.stdin, sys.stdout, sys.stderr)
]
with open(TOLD, "w") as told:
    print(streams, min(told.fileno(), 3), sys.__stdin__ is sys.stdin, file=told)
"""


@pytest.mark.parametrize(
    ("closed", "unbuffered"), [(None, ""), (None, "1"), (0, ""), (1, "1"), (2, "")]
)
def test_a_forked_program_has_the_streams_that_python_gives_one_when_it_starts(
    tmp_path: Path, closed: int | None, unbuffered: str
) -> None:
    environment = environment_of(PYTHONUNBUFFERED=unbuffered)
    told = []
    for starts in (begin, begin_anew):
        file = tmp_path / starts.__name__
        program = TELL_STREAMS.replace("TOLD", repr(str(file)))
        with open(os.devnull, "r+b") as nothing:
            stdin, stdout, stderr = (
                None if number == closed else nothing.fileno() for number in range(3)
            )
            command = [sys.executable, "-P", "-c", program]
            process = starts(command, tmp_path, environment, (stdin, stdout, stderr))
            assert process.wait(PATIENCE_S) == 0
        told.append(file.read_text())

    assert told[0] == told[1]


def run_without(stream: int, words: tuple[str, ...], settings: Settings, folder: Path) -> Ran:
    """Run a command of which this standard stream is closed."""
    with (
        open(os.devnull, "rb") as nothing,
        (folder / "out").open("wb") as out,
        (folder / "err").open("wb") as err,
    ):
        stdin, stdout, stderr = (
            None if number == stream else file.fileno()
            for number, file in enumerate((nothing, out, err))
        )
        files = stdin, stdout, stderr
        process = begin([*SENDCODE, *words], folder, environment_of(settings), files)
        exit_code = process.wait(PATIENCE_S)
    return Ran(exit_code, (folder / "out").read_text(), (folder / "err").read_text())


def test_without_standard_input_a_file_is_read_all_the_same(
    settings: Settings, folder: Path
) -> None:
    words = ("batch", "submit", "customers.csv", "--dry-run")

    assert run_without(0, words, settings, folder).exit_code == 0


@pytest.mark.parametrize("verb", ["check", "submit"])
def test_without_standard_input_there_is_none_to_read(
    settings: Settings, folder: Path, verb: str
) -> None:
    ran = run_without(0, ("batch", verb, "-"), settings, folder)

    assert ran.exit_code == 2
    assert "there is no standard input" in ran.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("+852 5123 4567", ()),
        ("51234567", ("--country-code", "852")),
        ("51234567", ("--country-code", "852", "--phone", "-")),
    ],
)
def test_send_reads_the_number_where_no_process_list_shows_it(
    text: str, words: tuple[str, ...], settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    ran = run(settings, "send", *words, cwd=tmp_path, typed=f"{text}\n")

    assert ran.exit_code == 0
    record = ledger.job(ran.out.split()[0])
    assert record is not None
    assert record.phone.e164 == "+85251234567"
    assert "51234567" not in ran.out + ran.err


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("", "must be one line with one phone number, not 0 lines"),
        (None, "must be one line with one phone number, not 0 lines"),
        ("+85251234567\n+85251234568\n", "one phone number, not 2 lines"),
        ("51234567\n", "the country code is missing"),
    ],
)
def test_send_reads_one_number_and_no_more(
    typed: str | None, complaint: str, settings: Settings, tmp_path: Path
) -> None:
    if typed is None:
        ran = run_without(0, ("send",), settings, tmp_path)
    else:
        ran = run(settings, "send", cwd=tmp_path, typed=typed)

    assert ran.exit_code == 2
    assert complaint in ran.err
    assert "5123456" not in ran.err


def test_a_dead_letter_s_corrected_number_is_read_there_too(
    settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    job_id = end_event(ledger, 1, DEAD).job_id
    words = ("dead", "requeue", job_id, "--phone", "-")

    ran = run(settings, *words, cwd=tmp_path, typed="+852 5123 4567\n")

    assert ran.exit_code == 0
    corrected = ledger.job(f"{job_id}.r1")
    assert corrected is not None
    assert corrected.phone.e164 == "+85251234567"


def test_a_number_typed_at_a_terminal_is_not_shown(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    terminal, its_end = pty.openpty()
    with open(os.devnull, "wb") as nothing:
        files = its_end, nothing.fileno(), its_end
        process = begin([*SENDCODE, "send"], tmp_path, environment_of(settings), files)
    wait_until(lambda: not termios.tcgetattr(its_end)[3] & termios.ECHO, "a hidden prompt")
    os.write(terminal, b"+852 5123 4567\n")

    assert process.wait(PATIENCE_S) == 0
    os.close(its_end)
    said = os.read(terminal, 4096)
    os.close(terminal)
    assert b"Phone number (what you type stays hidden):" in said
    assert b"5123" not in said
    assert redis.llen(EVENT_QUEUE) == 1


def test_without_standard_input_nobody_is_asked(settings: Settings, folder: Path) -> None:
    ran = run_without(0, ("batch", "cancel", "b1"), settings, folder)

    assert ran.err == "sendcode: batch b1 is done: nothing to cancel\n"


@pytest.mark.parametrize("words", RESULTS, ids=" ".join)
def test_results_that_nobody_wants_are_no_defect(
    settings: Settings, folder: Path, words: tuple[str, ...]
) -> None:
    ran = run_without(1, words, settings, folder)

    assert ran.exit_code == 0
    assert "sendcode: " not in ran.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [*((words, "") for words in RESULTS), *((words, "1") for words in RESULTS[1:4])],
)
def test_results_that_find_no_room_are_told_as_such(
    settings: Settings, folder: Path, words: tuple[str, ...], unbuffered: str
) -> None:
    environment = environment_of(settings, PYTHONUNBUFFERED=unbuffered)
    with open("/dev/full", "r+b", buffering=0) as full, (folder / "err").open("wb") as err:
        files = full.fileno(), full.fileno(), err.fileno()
        process = begin([*SENDCODE, *words], folder, environment, files)
        exit_code = process.wait(PATIENCE_S)
    said = (folder / "err").read_text()

    assert exit_code == 1
    complaints = [line for line in said.splitlines() if not line.startswith("no worker")]
    assert complaints[-1:] == ["sendcode: standard output: no space left on device"]
    assert "Exception ignored" not in said


def shown(settings: Settings, folder: Path, *words: str) -> tuple[int, str]:
    """Run a command whose results go to a terminal; give its code and what is seen there."""
    terminal, its_end = pty.openpty()
    environment = environment_of(settings, TERM="xterm")
    try:
        with open(os.devnull, "rb") as nothing:
            files = nothing.fileno(), its_end, its_end
            code = begin([*SENDCODE, *words], folder, environment, files).wait(PATIENCE_S)
        os.close(its_end)
        return code, os.read(terminal, 1 << 16).decode("utf-8-sig")
    finally:
        os.close(terminal)


def test_results_on_a_terminal_have_no_progress_bar_among_them(
    settings: Settings, folder: Path
) -> None:
    code, told = shown(settings, folder, "batch", "results", "b1", "--reveal")

    assert code == 0
    assert "\x1b" not in told
    assert told.count("\n") == 3


@pytest.mark.parametrize(
    "words",
    [
        ("batch", "results", "b1"),
        ("batch", "results", "b1", "--json"),
        ("batch", "check", "customers.csv", "--output", "-"),
        ("dead", "export"),
        ("batch", "results", "b1", "--reveal", "--format", "xlsx"),
    ],
    ids=" ".join,
)
def test_full_numbers_are_shown_on_a_terminal_only_if_asked_for(
    settings: Settings, folder: Path, words: tuple[str, ...]
) -> None:
    code, told = shown(settings, folder, *words)

    assert code == 2
    assert "--output FILE" in told
    assert "99000001" not in told


def test_what_a_customer_s_cell_holds_steers_no_terminal(settings: Settings, folder: Path) -> None:
    odd = folder / "odd.csv"
    odd.write_text("name,phone\n\x1b]0;owned\x07 \u202egnp \x9b2J,+85251234567\n")
    submitted = run(settings, "batch", "submit", odd, "--id", "odd", "--yes", cwd=folder)

    _, as_csv = shown(settings, folder, "batch", "results", "odd", "--reveal")
    _, as_json = shown(settings, folder, "batch", "results", "odd", "--reveal", "--json")

    assert submitted.exit_code == 0
    for told in (as_csv, as_json):
        assert "+85251234567" in told
        assert "\\u001b]0;owned\\u0007 \\u202egnp \\u009b2J" in told
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(told)


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
    reader, its_end = os.pipe()
    os.close(reader)
    with open(os.devnull, "rb") as nothing, (folder / "err").open("wb") as err:
        words = ("batch", "results", "b1", "--json")
        files = nothing.fileno(), its_end, err.fileno()
        begin([*SENDCODE, *words], folder, environment_of(settings), files).wait(PATIENCE_S)
    os.close(its_end)

    assert (folder / "err").read_text() == ""
