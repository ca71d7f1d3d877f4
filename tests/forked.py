"""Our programs, started at once: forked from a process that has imported what they need.

A worker or a command spends most of a short life on imports, and so would each process that runs
tests, on all tests.
"""

from __future__ import annotations

import atexit
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, cast

from demo.world import Process, SandboxProcess, environment_of
from tests.fork import Forked

Files = tuple[int | None, int | None, int | None]

_HOUSES = set(environment_of()["PYTHONPATH"].split(os.pathsep))
_IS_MEASURED = any(name.startswith("COVERAGE_") for name in os.environ)
_SHARED = "FORKED_TEMPLATE"


def share_template() -> None:
    """Let all processes that this one starts fork the template that it forks."""
    os.environ[_SHARED] = _template()


def fork_of_tests(tests: Iterable[str]) -> str | None:
    """Return how xdist is to start its processes: with these tests, and all they need, imported.

    None if coverage counts lines: it would miss those that run when they are imported.
    """
    if _IS_MEASURED:
        return None
    address = _start_template(os.environ, *tests)
    program = [sys.executable, "-P", str(Path(__file__).with_name("fork.py")), address]
    return f"popen//python={shlex.join(program)}"


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
        files_of_it = {**given, **{n: n for n in passed}}
        forked = Forked(_template(), command, folder, environment, files_of_it)
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
    """Return the address of the process that programs are forked from."""
    return os.environ.get(_SHARED) or _start_template(environment_of())


def _start_template(environment: Mapping[str, str], *tests: str) -> str:
    """Start a process that is forked, and return its address; it ends when this one does."""
    folder = tempfile.TemporaryDirectory(prefix="sendcode-")
    address = str(Path(folder.name) / "template")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.template", address, *tests],
        env={**environment, "PYTHONPATH": environment_of()["PYTHONPATH"]},
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
