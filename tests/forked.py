"""Our programs, started at once: forked from a process that has imported what they need.

A worker or a command spends most of a short life on imports. `Forked` has what our tests use of
`Popen`; the program runs as Python runs it, in a session, folder and environment of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
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
) -> subprocess.Popen[bytes]:
    """Start a program in Python by its command: `python`, perhaps `-P`, then `-m` or `-c`.

    `files` are its standard input, output and error, and no terminals. One that would import other
    modules than the template has, or whose lines coverage counts, is started as any program is.
    """
    if environment["PYTHONPATH"] == _PATH and not _IS_MEASURED:
        return cast("subprocess.Popen[bytes]", Forked(command, folder, environment, files))
    stdin, stdout, stderr = files
    return subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


class Forked:
    """A program that runs in a fork of the template."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        files: tuple[int, int, int],
    ) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._lock = Lock()
        self._parent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._parent.connect(_template())
        order = json.dumps([self.args, str(folder), dict(environment)]).encode()
        socket.send_fds(self._parent, [order], files)
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
    """Fork for each order; return in the child what it is to run, and its files."""
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
            order, files, _, _ = socket.recv_fds(caller, _MESSAGE, 3)
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


def _run(command: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv[:] = command
    options = command[1:]
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
    for name in _NEEDED:
        import_module(name)
    order, files = _serve(sys.argv[1])
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    _run(*order)


if __name__ == "__main__":
    main()
