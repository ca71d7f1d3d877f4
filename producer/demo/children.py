"""The demo's processes: started with a log each, and none of them left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from producer.demo.interrupts import Interrupts

PATIENCE_S = 12.0
"""For all together, between SIGTERM and SIGKILL: a worker hands back what it has in work."""


class ChildEndedError(Exception):
    """A process that was to go on has ended; the message has the end of its log."""


class Keeper:
    """Ends the processes that it was told of, should the demo die without doing so itself."""

    def __init__(self, environment: Mapping[str, str], interrupts: Interrupts) -> None:
        self._environment = environment
        self._interrupts = interrupts

    def __enter__(self) -> Self:
        with self._interrupts.held():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "producer.demo.keeper"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it may outlive the demo, and holds no pipe of its open
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go; it ends what it still knows of."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(PATIENCE_S)

    def look_after(self, pid: int) -> None:
        self._tell(f"+{pid}")

    def forget(self, pid: int) -> None:
        self._tell(f"-{pid}")

    def _tell(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is not None and self._process.poll() is None:
            stdin.write(f"{line}\n".encode())
            stdin.flush()


class Children:
    """Processes in sessions of their own, so that Ctrl-C in a terminal reaches the demo alone.

    They end when the block ends; if the demo is killed, its keeper ends them.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        keeper: Keeper,
        interrupts: Interrupts,
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._keeper = keeper
        self._interrupts = interrupts
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log_of(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def start(self, name: str, command: list[str], **environment: str) -> None:
        """Start a process; its output goes to its log."""
        with self._interrupts.held(), self.log_of(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self._directory,
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running[name] = process
            self._keeper.look_after(process.pid)

    def check(self) -> None:
        """Make sure that all are running.

        Raises:
            ChildEndedError: one is not.
        """
        for name, process in self._running.items():
            code = process.poll()
            if code is not None:
                raise ChildEndedError(f"{name} ended with code {code}\n{self._last_lines(name)}")

    def stop(self) -> None:
        """End all in order: SIGTERM, patience, SIGKILL."""
        running, self._running = self._running, {}
        for process in running.values():
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        for process in running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
            self._keeper.forget(process.pid)

    def _last_lines(self, name: str, count: int = 5) -> str:
        text = self.log_of(name).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-count:])


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the process' group; one that has been waited for gets none."""
    if process.poll() is None:
        os.killpg(process.pid, number)
