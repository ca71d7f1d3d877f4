"""A program in a fork of a template (tests/template.py), for the process that starts it.

`python fork.py TEMPLATE -c ...` stands where `python -c ...` would, and ends as it does. xdist
starts its processes by that: it imports little.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

MESSAGE = 1 << 17
"""Bytes: more than an environment and a command line are."""


class Forked:
    """A program that runs in a fork of the template, as Python runs it.

    It has a session, folder and environment of its own; this has what our tests use of `Popen`.
    """

    def __init__(
        self,
        template: str,
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
        self._parent.connect(template)
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


if __name__ == "__main__":
    template, *options = sys.argv[1:]
    streams = {number: number for number in range(3)}
    program = Forked(template, [sys.executable, *options], Path.cwd(), os.environ, streams)
    sys.exit(program.wait())
