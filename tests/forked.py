"""Our programs, started at once: forked from a process that has imported what they need.

A worker or a command spends most of a short life on imports. `Forked` has what our tests use of
`Popen`; the program runs as Python runs it, in a session, folder and environment of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, cast

from demo.world import Process, SandboxProcess, environment_of
from tests.template import MESSAGE

Files = tuple[int | None, int | None, int | None]

_HOUSES = set(environment_of()["PYTHONPATH"].split(os.pathsep))
_IS_MEASURED = any(name.startswith("COVERAGE_") for name in os.environ)
_SHARED = "FORKED_TEMPLATE"
_shared = os.environ.get(_SHARED)


def share_template() -> None:
    """Let all processes that this one starts fork the template that it forks."""
    os.environ[_SHARED] = _template()


def begin(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    files: Files,
    passed: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in Python by its command: `python`, `-W ignore` or `-P` or not, `-m` or `-c`.

    `files` are its standard input, output and error, None for one that is closed; `passed` are
    further ones that keep their numbers.

    One that would import other modules than the template has, or whose lines coverage counts, is
    started as any program is.
    """
    if set(environment["PYTHONPATH"].split(os.pathsep)) == _HOUSES and not _IS_MEASURED:
        given = {number: file for number, file in enumerate(files) if file is not None}
        forked = Forked(command, folder, environment, {**given, **{n: n for n in passed}})
        return cast("subprocess.Popen[bytes]", forked)
    return begin_anew(command, folder, environment, files, passed)


def begin_anew(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    files: Files,
    passed: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start it as any program is: it imports what it needs itself."""
    stdin, stdout, stderr = files
    closing = " ".join(f"{number}>&-" for number, file in enumerate(files) if file is None)
    return subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", *command] if closing else command,
        cwd=folder,
        env=dict(environment),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=passed,
        start_new_session=True,
    )


class Forked:
    """A program that runs in a fork of the template."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        files: Mapping[int, int],
    ) -> None:
        """Start it; `files` are those that it has by its numbers for them."""
        self.args = list(command)
        self.returncode: int | None = None
        self._lock = Lock()
        self._parent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._parent.connect(_template())
        order = json.dumps([list(files), self.args, str(folder), dict(environment)]).encode()
        socket.send_fds(self._parent, [order], list(files.values()))
        self.pid = int(self._parent.recv(MESSAGE))

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout_s: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._parent], [], [], timeout_s)[0]:
                self.returncode = os.waitstatus_to_exitcode(int(self._parent.recv(MESSAGE)))
                self._parent.close()
            return self.returncode


class ForkedProcess(Process):
    """A program of a world."""

    def _start(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: IO[bytes],
    ) -> subprocess.Popen[bytes]:
        with open(os.devnull, "rb") as nothing:
            files = nothing.fileno(), output.fileno(), output.fileno()
            return begin(command, folder, environment, files)


class ForkedSandbox(ForkedProcess, SandboxProcess):
    """The stand-in as a process of its own."""


@cache
def _template() -> str:
    """Start the process that is forked, and return its address; it ends when this one does.

    It costs little before its first order, when it imports what programs need.
    """
    if _shared is not None:
        return _shared
    folder = tempfile.TemporaryDirectory(prefix="sendcode-")
    address = str(Path(folder.name) / "template")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.template", address],
        env=environment_of(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"r", "it ended at once"

    def end() -> None:
        process.communicate()
        folder.cleanup()

    atexit.register(end)
    return address
