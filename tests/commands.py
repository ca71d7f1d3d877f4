"""The command line as a person types it, run in this process or as one of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from demo.world import environment_of
from producer.cli import console
from producer.cli.commands import app
from tests.forked import begin
from tests.waiting import PATIENCE_S

SENDCODE = (sys.executable, "-P", "-c", "from producer.cli import main; main()")
"""The command line as a process of its own; its words follow."""
SEND = ("send", "--country-code", "852", "--phone", "51234567")


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code, its results and its talk."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ran]


class InThisProcess:
    """Runs commands here, with the environment of a test's settings: quick."""

    def __init__(
        self,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        environment = environment_of(settings)
        for name in os.environ.keys() - environment.keys():
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COLUMNS", "160")
        # a console keeps the width that it was made with, perhaps by another test
        console.results.cache_clear()

    def __call__(self, *words: str | Path) -> Ran:
        arguments = [str(word) for word in words]
        self._monkeypatch.setattr("sys.argv", ["sendcode", *arguments])
        self._capsys.readouterr()
        code: Any = 0
        try:
            console.run(lambda: app(arguments, prog_name="sendcode"))
        except SystemExit as exc:
            code = exc.code
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code or 0, captured.out, captured.err)


def start(
    settings: Settings, *words: str | Path, cwd: Path, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [*SENDCODE, *map(str, words)],
        cwd=cwd,
        env=environment_of(settings, COLUMNS="160"),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_terminal(
    settings: Settings, *words: str | Path, cwd: Path, typed: str = "", columns: int = 160
) -> tuple[int, str]:
    """Run a command as a person at a terminal who types `typed`; give its code and the screen."""
    terminal, its_end = pty.openpty()
    os.write(terminal, typed.encode())
    process = begin(
        [*SENDCODE, *map(str, words)],
        cwd,
        environment_of(settings, COLUMNS=str(columns), TERM="xterm"),
        (its_end, its_end, its_end),
    )
    os.close(its_end)
    screen = b""
    with suppress(OSError):  # its end was closed
        while part := os.read(terminal, 1 << 16):
            screen += part
    os.close(terminal)
    return process.wait(PATIENCE_S), screen.decode()


def run(
    settings: Settings,
    *words: str | Path,
    cwd: Path,
    patience_s: float = PATIENCE_S,
    typed: str = "",
) -> Ran:
    """Run a command as a process of its own; `typed` is all of its standard input."""
    environment = environment_of(settings, COLUMNS="160")
    command = [*SENDCODE, *map(str, words)]
    return run_program(command, environment, cwd=cwd, patience_s=patience_s, typed=typed)


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    cwd: Path,
    patience_s: float = PATIENCE_S,
    typed: str = "",
) -> Ran:
    """Run a program in Python, as `forked.begin` starts it."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(typed.encode())
        given.seek(0)
        files = given.fileno(), out.fileno(), err.fileno()
        code = begin(command, cwd, environment, files).wait(patience_s)
        for file in (out, err):
            file.seek(0)
        ran = Ran(code, out.read().decode(), err.read().decode())
    assert "Traceback" not in ran.err
    return ran
