"""What every measurement runs in: a Valkey, a sandbox and a folder of its own, gone afterwards."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from shutil import rmtree
from typing import Any

import psutil

from demo.world import Process, SandboxProcess, WorldError
from demo.world import World as DemoWorld
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.phone import PhoneNumber
from jobs.rows import CHUNK_ROWS
from tests.network import FAR, Network

COUNTRY = "852"
PUBLISH_S = 300.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used up, and hold."""

    cpu_s: float
    memory_bytes: int
    """Proportional set size (resident where the system does not tell): shared pages are shared."""


def usage_of(process: Process) -> Usage:
    """Return what a process and all its children use."""
    cpu_s, memory = 0.0, 0
    head = psutil.Process(process.pid)
    for each in (head, *head.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            cpu_s += times.user + times.system
            full = each.memory_full_info()
            memory += getattr(full, "pss", full.rss)
    return Usage(cpu_s, memory)


class World(DemoWorld):
    """The demo's world with what measurements do in it."""

    def __init__(
        self, *sandbox_options: str, network: Network | None = None, **settings: Any
    ) -> None:
        """Prepare it; `sandbox_options` are those of `python -m sandbox`, `settings` ours.

        The sandbox is on the far side of `network`, if there is one.
        """
        if network is not None:
            sandbox_options = (*sandbox_options, "--host", FAR)
        super().__init__(settings, sandbox_options=sandbox_options)
        self._network = network
        self.environment: dict[str, str] = {}
        """Variables of the processes that differ from the settings."""

    def start(self, name: str, command: Sequence[str], **environment: str) -> Process:
        return super().start(name, command, **{**self.environment, **environment})

    def _start_sandbox(self) -> SandboxProcess:
        with self._network.far_side() if self._network else nullcontext():
            return super()._start_sandbox()

    def publish(self, peer: str, jobs: int) -> dict[str, float]:
        """Publish jobs for a peer of `benchmarks.peers`; return what that took (see there)."""
        with self.run(f"publish-{peer}", "benchmarks.peers.publish", peer, str(jobs)) as publisher:
            if publisher.wait(PUBLISH_S):
                raise WorldError(f"publishing for {peer} failed:\n{publisher.log[-2000:]}")
            took: dict[str, float] = json.loads(publisher.log.splitlines()[-1])
        return took

    def forget(self) -> None:
        """Empty the server and the sandbox, for the next one to be measured."""
        self.redis.execute_command("FLUSHALL", "SYNC")  # freed before its memory is measured
        rmtree(self.state_home, ignore_errors=True)
        self.sandbox.reset()

    def submit_batch(self, batch_id: str, rows: int, *, first: int = 0) -> None:
        """Put a batch into the ledger."""
        batches = Batches(self.redis, self.settings)
        batches.open(batch_id, f"digest of {batch_id}", ["country_code", "phone_num"])
        for start in range(0, rows, CHUNK_ROWS):
            numbers = [number(first + n) for n in range(start, min(rows, start + CHUNK_ROWS))]
            chunk = [
                BatchRow(line, (COUNTRY, each), PhoneNumber(COUNTRY, each))
                for line, each in enumerate(numbers, start + 2)
            ]
            batches.append(batch_id, start, chunk, last=start + len(chunk) == rows)


def number(n: int) -> str:
    """Return the n-th number, fictional and as long as a real one."""
    return f"{50_000_000 + n:08d}"


def announce(text: str) -> None:
    """Write to stderr what is being measured: results alone go to stdout."""
    sys.stderr.write(f"{text}\n")
