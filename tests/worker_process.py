"""A real worker as a process of its own: `python -m celery -A worker worker`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from config.settings import Settings
from demo.world import environment_of
from tests.forked import ForkedProcess
from tests.waiting import PATIENCE_S

TOP = Path(__file__).resolve().parent.parent


class WorkerProcess(ForkedProcess):
    """One worker. Its output goes to a file; end it with `stop` or `kill`."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        name: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        celery = (sys.executable, "-m", "celery", "-A", "worker", "worker")
        super().__init__(
            name,
            [*celery, "-n", f"{name}@%h", *options],
            directory,
            environment_of(settings, **(environment or {})),
        )

    def wait_ready(self) -> Self:
        """Return once it takes messages; fail with its output if it ends instead."""
        return self.wait_for(" ready.", PATIENCE_S)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        return super().wait(patience_s)

    def stop(self) -> int:
        """End it as an operator does (SIGTERM); return its exit code, and fail if it hangs."""
        code = super().stop()
        assert code != -signal.SIGKILL, f"the worker did not stop:\n{self.log}"
        return code
