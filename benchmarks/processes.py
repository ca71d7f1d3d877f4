"""Processes that a benchmark starts, measures and ends: each by its id, none by its name."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

READY_S = 60.0
STOP_S = 20.0


class BenchmarkError(Exception):
    """A measurement could not be made; says what did not come true."""


def wait_until(is_true: Callable[[], object], what: str, patience_s: float = READY_S) -> None:
    """Return once `is_true` gives something true.

    Raises:
        BenchmarkError: it did not within `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while not is_true():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what}: not within {patience_s:g} s")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used up, and hold."""

    cpu_s: float
    memory_bytes: int
    """Proportional set size (resident where the system does not tell): shared pages are shared."""


class Running:
    """A process that runs until the block ends; its output goes to a file."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        with self.log_file.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we end it when it is over
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
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> None:
        """Return once `text` is in its output.

        Raises:
            BenchmarkError: it ended before, or did not write it.
        """

        def is_there() -> bool:
            if text in self.log:
                return True
            if self.process.poll() is not None:
                raise BenchmarkError(f"{self.name} ended at once:\n{self.log[-2000:]}")
            return False

        wait_until(is_there, f"{self.name} ready")

    def usage(self) -> Usage:
        """Look at it and all its children."""
        cpu_s, memory = 0.0, 0
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                cpu_s += times.user + times.system
                full = process.memory_full_info()
                memory += getattr(full, "pss", full.rss)
        return Usage(cpu_s, memory)

    def stop(self) -> None:
        """End it in order, and its children; whoever is left after a while is killed."""
        family = self._family()
        if self.process.poll() is None:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        self._kill(family)

    def kill(self) -> None:
        """End it and its children as a crash would."""
        self._kill(self._family())

    def _kill(self, family: Sequence[psutil.Process]) -> None:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def _family(self) -> list[psutil.Process]:
        try:
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
