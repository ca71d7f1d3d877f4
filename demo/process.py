"""The one process runner: each program in a process group of its own, its output in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from config.settings import Settings

READY_S = 60.0
STOP_S = 30.0
"""More than a worker takes, which hands back what it has in work."""
_TOP = str(Path(__file__).resolve().parent.parent)
_OURS = ("SENDCODE_", "TENCENTCLOUD_", "FLOWER_", "CELERY")
_THE_WAY_OUT = ("_PROXY", "_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


class WorldError(Exception):
    """A part of the world ended, or was not ready in time; the message has the end of its log."""


def environment_of(settings: Settings | None = None, **more: str) -> dict[str, str]:
    """Return a process' environment that has these settings; nothing of ours comes from outside.

    Start the process in a folder without a `.env`: then no real account can get into it.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_OURS) and not name.upper().endswith(_THE_WAY_OUT)
    }
    ours = {
        field.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for field in Settings.model_fields
        if (value := getattr(settings, field, None)) is not None
    }
    # the house is found even where it is not installed
    path = os.pathsep.join(filter(None, (_TOP, os.environ.get("PYTHONPATH"))))
    return {**inherited, **ours, "PYTHONPATH": path, **more}


def wait_until(is_true: Callable[[], object], what: str, patience_s: float = READY_S) -> None:
    """Return once `is_true` returns something true.

    Raises:
        WorldError: it did not within `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while not is_true():
        if time.monotonic() > deadline:
            raise WorldError(f"{what}: not within {patience_s:g} s")
        time.sleep(0.02)


class Process:
    """One program; it ends when the block ends. Ctrl-C in a terminal does not reach it."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        with self.log_file.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def check(self) -> None:
        """Make sure that it is running.

        Raises:
            WorldError: it is not.
        """
        code = self.process.poll()
        if code is not None:
            last_lines = "\n".join(self.log.splitlines()[-20:])
            raise WorldError(f"{self.name} ended with code {code}\n{last_lines}")

    def wait_for(self, text: str, patience_s: float = READY_S) -> Self:
        """Return once `text` is in its output.

        Raises:
            WorldError: it ended before, or did not write it in time.
        """

        def is_there() -> bool:
            if text in self.log:
                return True
            self.check()
            return False

        wait_until(is_there, f"{self.name} ready", patience_s)
        return self

    def wait(self, patience_s: float = STOP_S) -> int:
        """Return its exit code, once it has ended; raise `subprocess.TimeoutExpired` if not."""
        return self.process.wait(patience_s)

    def terminate(self) -> None:
        """Ask it and its children to end, and do not wait."""
        self._signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it as an operator does; return its exit code, -9 if it had to be killed."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            return self.wait()
        self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """End it and its children as a crash would (SIGKILL)."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        """Send a signal to its group; a process that has been waited for gets none."""
        if self.process.poll() is None:
            os.killpg(self.pid, number)
