"""Our programs, started at once: forked from a process that has imported what they need.

A worker or a command spends most of a short life on imports. `Forked` has what our tests use of
`Popen`; the program runs as Python runs it, in a session, folder and environment of its own.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, cast

from demo.world import environment_of

_MESSAGE = 1 << 17
"""Bytes: more than an environment and a command line are."""
_MOST_FILES = 8
_BEYOND = 100
"""More than the number of any file that a child is to have."""
_PATH = environment_of()["PYTHONPATH"]
_IS_MEASURED = any(name.startswith("COVERAGE_") for name in os.environ)
_NEEDED = (
    *("celery.apps.worker", "celery.backends.redis", "celery.bin.celery", "kombu.transport.redis"),
    "flower.command",
    *("worker.app", "rich.console", "rich.progress", "rich.table"),
    *(f"producer.cli.{name}" for name in ("commands", "batch", "batch_check", "batch_submit")),
    *(f"producer.cli.{name}" for name in ("dead", "job", "system")),
)


def begin(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    files: tuple[int, int, int],
    passed: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in Python by its command: `python`, `-W ignore` or `-P` or not, `-m` or `-c`.

    `files` are its standard input, output and error, `passed` further ones that keep their numbers.
    One that would import other modules than the template has, or whose lines coverage counts, is
    started as any program is.
    """
    if environment["PYTHONPATH"] == _PATH and not _IS_MEASURED:
        forked = Forked(
            command, folder, environment, {**dict(enumerate(files)), **{n: n for n in passed}}
        )
        return cast("subprocess.Popen[bytes]", forked)
    return begin_anew(command, folder, environment, files, passed)


def begin_anew(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    files: tuple[int, int, int],
    passed: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start it as any program is: it imports what it needs itself."""
    stdin, stdout, stderr = files
    return subprocess.Popen(
        command,
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
        self.pid = int(self._parent.recv(_MESSAGE))

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
                self.returncode = os.waitstatus_to_exitcode(int(self._parent.recv(_MESSAGE)))
                self._parent.close()
            return self.returncode


@cache
def _template() -> str:
    """Start the process that is forked, and return its address; it ends when this one does."""
    folder = tempfile.TemporaryDirectory(prefix="sendcode-")
    address = str(Path(folder.name) / "template")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.forked", address],
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


def _serve(address: str) -> tuple[Any, list[int]]:
    """Fork for each order; return the order in the child, and the files that came with it."""
    children: dict[int, socket.socket] = {}
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake.fileno())
    os.write(1, b"r")
    while True:
        ready = select.select([listener.fileno(), ended.fileno(), 0], [], [])[0]
        if 0 in ready:
            os._exit(0)
        if ended.fileno() in ready:
            ended.recv(_MESSAGE)
            while children and (child := os.waitpid(-1, os.WNOHANG))[0]:
                with children.pop(child[0]) as caller, suppress(OSError):  # it may be gone
                    caller.send(str(child[1]).encode())
        if listener.fileno() in ready:
            caller, _ = listener.accept()
            order, files, _, _ = socket.recv_fds(caller, _MESSAGE, _MOST_FILES)
            if not (pid := os.fork()):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.setsid()
                caller.send(str(os.getpid()).encode())
                for each in (listener, ended, wake, caller, *children.values()):
                    each.close()
                return json.loads(order), files
            for file in files:
                os.close(file)
            children[pid] = caller


def _open_streams() -> None:
    """Open the standard streams as Python does when it starts, for what they are now."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        template = getattr(sys, name)
        stream = open(  # noqa: SIM115 (as long as the process)
            number,
            "w" if number else "r",
            buffering=1 if name == "stderr" or os.isatty(number) else -1,
            encoding=template.encoding,
            errors=template.errors,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(command: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv[:] = command
    options = command[1:]
    if options[:2] == ["-W", "ignore"]:
        warnings.simplefilter("ignore")
        del options[:2]
    if options[0] == "-P":
        del options[0]
    else:
        sys.path.insert(0, folder)
    kind, what, *words = options
    sys.argv[:] = [kind, *words]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = ModuleType("__main__")
        exec(what, vars(sys.modules["__main__"]))  # noqa: S102 (what `python -c` does)


def main() -> None:
    # what is loaded stays: no child looks through it for garbage, or copies it by that
    gc.disable()
    for name in _NEEDED:
        import_module(name)
    gc.freeze()
    gc.enable()
    (numbers, *order), files = _serve(sys.argv[1])
    beyond = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _BEYOND) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(beyond, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    _open_streams()
    _run(*order)


if __name__ == "__main__":
    main()
