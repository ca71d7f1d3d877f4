"""Workers that start at once: forked from a process that has imported what they need.

A worker spends two thirds of a short life on imports. `Forked` has what our tests use of `Popen`;
the program itself runs as `python -m celery` does, in a session, folder and environment of its own.
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
from pathlib import Path
from threading import Lock

_MESSAGE = 1 << 17
"""Bytes: more than an environment and a command line are."""


class Forked:
    """A Python module that runs as a program; stdin is empty, all that it writes goes to a file."""

    def __init__(
        self, module: str, *words: str, folder: Path, environment: Mapping[str, str], output: int
    ) -> None:
        self.args: Sequence[str] = [module, *words]
        self.returncode: int | None = None
        self._lock = Lock()
        self._parent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._parent.connect(_template())
        order = json.dumps([module, words, str(folder), dict(environment)]).encode()
        socket.send_fds(self._parent, [order], [output])
        self.pid = int(self._parent.recv(_MESSAGE))

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

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
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.read(1) == b"r", "it ended at once"

    def end() -> None:
        process.communicate()
        folder.cleanup()

    atexit.register(end)
    return address


def _serve(address: str) -> tuple[str, list[str], str, dict[str, str], int]:
    """Fork for each order; return in the child what it is to run."""
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
            order, (output,), _, _ = socket.recv_fds(caller, _MESSAGE, 1)
            if not (pid := os.fork()):
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGCHLD, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                os.setsid()
                caller.send(str(os.getpid()).encode())
                for each in (listener, ended, wake, caller, *children.values()):
                    each.close()
                return (*json.loads(order), output)
            os.close(output)
            children[pid] = caller


def main() -> None:
    import celery.apps.worker  # noqa: PLC0415 (of the template alone)
    import celery.backends.redis  # noqa: PLC0415
    import celery.bin.celery  # noqa: F401, PLC0415
    import kombu.transport.redis  # noqa: F401, PLC0415

    import worker.app  # noqa: F401, PLC0415

    module, words, folder, environment, output = _serve(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, output, output)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(output)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    sys.argv[1:] = words
    sys.orig_argv[1:] = ["-m", module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
