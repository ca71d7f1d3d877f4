"""A real worker as a process of its own: `python -m celery -A worker worker`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from pydantic import SecretStr

from config.settings import Settings
from tests.waiting import wait_until

TOP = Path(__file__).resolve().parent.parent
STOP_S = 30.0


def environment_of(settings: Settings, **more: str) -> dict[str, str]:
    """Give a process' environment that says these settings; nothing of ours comes from outside.

    Start the process in a folder without a `.env`, with the project's folder on its path.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("SENDCODE_", "TENCENTCLOUD_", "CELERY", "FLOWER"))
    }
    said = {
        field.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for field in Settings.model_fields
        if (value := getattr(settings, field)) is not None
    }
    return {**inherited, **said, "PYTHONPATH": str(TOP), **more}


class WorkerProcess:
    """One worker. Its output goes to a file; end it with `stop` or `kill`."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        name: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_file = directory / f"{name}.log"
        self._output: IO[bytes] = self.log_file.open("wb")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "worker",
                "worker",
                "-n",
                f"{name}@%h",
                *options,
            ],
            cwd=directory,
            env=environment_of(settings, **(environment or {})),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self) -> WorkerProcess:
        """Return once it takes messages; fail with its output if it ends instead."""

        def is_ready() -> bool:
            assert self.process.poll() is None, f"the worker ended at once:\n{self.log}"
            return " ready." in self.log

        wait_until(is_ready, f"worker {self.name} ready", 30)
        return self

    def wait(self, patience_s: float = STOP_S) -> int:
        """Give its exit code, once it has ended."""
        code = self.process.wait(patience_s)
        self._output.close()
        return code

    def stop(self) -> int:
        """End it as an operator does (SIGTERM); give its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the worker did not stop:\n{self.log}") from None

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
