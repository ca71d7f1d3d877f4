"""How many codes one `sendcode web` accepts, beside a FastAPI handler with a plain `apply_async`.

Both get the same requests over the same number of connections, each as soon as the one before is
answered, in turns, so that a busy machine is as unfair to one as to the other. No worker runs: what
is measured is the way in.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import Cell, Report, Table, Target
from benchmarks.tap import Tap
from benchmarks.traffic import percentile
from benchmarks.world import World, announce, usage_of
from demo.world import WorldError, wait_until
from producer.tokens import Tokens
from tests.web_process import WebProcess

OURS, PEER = "sendcode web", "FastAPI, apply_async"
PEER_COMMAND = (sys.executable, "-m", "uvicorn", "benchmarks.peers.fastapi_celery:app")
CONNECTIONS = 16
SECONDS, ROUNDS = 8.0, 3
SHORT_S = 2.0
"""Of the run that warms up, and of the one whose commands are counted."""
ROUND_NUMBERS = 100_000
"""Numbers apart, so that no key and no number comes twice."""
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """By one process in one run."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Of the process, for each request."""
    server_ms: float
    """Of Redis."""


class Caller:
    """Calls one server, with numbers of its own each time."""

    def __init__(self, world: World, token: str) -> None:
        self._world = world
        self._token = token
        self._runs = 0

    def call(self, url: str, seconds: float) -> list[float]:
        """Send as many requests as are answered; return the seconds that each took.

        Raises:
            WorldError: one was not accepted.
        """
        self._runs += 1
        words = (url, str(CONNECTIONS), str(seconds), str(self._runs * ROUND_NUMBERS))
        module = "benchmarks.peers.callers"
        with self._world.run("callers", module, *words, TOKEN=self._token) as callers:
            callers.wait(seconds + PATIENCE_S)
            log = callers.log
        found: Any = (
            json.loads(log.splitlines()[-1]) if log.endswith("}\n") else {"failed": log[-2000:]}
        )
        if found["failed"]:
            raise WorldError(f"not accepted: {found['failed']}")
        took: list[float] = found["took"]
        return took


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=float, default=SECONDS, help=f"of each run (default: {SECONDS:g})")
    add("--rounds", type=int, default=ROUNDS, help=f"the median counts (default: {ROUNDS})")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure both, in turns."""
    runs: dict[str, list[Accepted]] = {OURS: [], PEER: []}
    with World() as world:
        _, token = Tokens(world.redis, world.settings).new("bench", ["send"])
        caller = Caller(world, token)
        servers = {
            OURS: WebProcess(world, "web"),
            PEER: WebProcess(world, "peer", PEER_COMMAND, TOKEN=token),
        }
        for server in servers.values():
            wait_until(lambda server=server: server.answers, "the servers")  # type: ignore[misc]
            caller.call(server.url, SHORT_S)
        for n in range(options.rounds):
            for name, server in servers.items():
                announce(f"{name}, round {n + 1} of {options.rounds}")
                runs[name].append(_run(world, caller, server, options.seconds))
        commands = {name: _commands(world, caller, server) for name, server in servers.items()}
    found = {name: _median(each) for name, each in runs.items()}
    table = Table(
        f"One process, {CONNECTIONS} connections, {options.seconds:g} s",
        ("", "accepted/s", "p50 ms", "p99 ms", "CPU ms", "server ms", "commands"),
        [_row(name, each, commands[name]) for name, each in found.items()],
        (
            f"median of {options.rounds} rounds in turns; CPU: of the process, server: of Redis, "
            "for each request; commands: that it sends to Redis, in fewer round trips",
            "sendcode: each has a record, an idempotency key, bounds on spending, a token that is "
            "looked up; the peer has none of them, and a message in the queue likewise",
            "Redis syncs each write before it answers",
        ),
    )
    return Report("triggers", command, [table], _targets(found))


def _run(world: World, caller: Caller, server: WebProcess, seconds: float) -> Accepted:
    before, server_before = usage_of(server.process).cpu_s, _server_s(world)
    took = caller.call(server.url, seconds)
    cpu_s = usage_of(server.process).cpu_s - before
    server_s = _server_s(world) - server_before
    return Accepted(
        per_s=len(took) / seconds,
        p50_ms=1000 * percentile(took, 0.5),
        p99_ms=1000 * percentile(took, 0.99),
        cpu_ms=1000 * cpu_s / len(took),
        server_ms=1000 * server_s / len(took),
    )


def _commands(world: World, caller: Caller, server: WebProcess) -> float:
    with Tap(world.settings.redis_url) as tap:
        took = caller.call(server.url, SHORT_S)
    return tap.round_trips / len(took)


def _server_s(world: World) -> float:
    cpu = world.redis.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _median(runs: Sequence[Accepted]) -> Accepted:
    middle = statistics.median
    return Accepted(
        middle(run.per_s for run in runs),
        middle(run.p50_ms for run in runs),
        middle(run.p99_ms for run in runs),
        middle(run.cpu_ms for run in runs),
        middle(run.server_ms for run in runs),
    )


def _row(name: str, each: Accepted, commands: float) -> list[Cell]:
    times = [f"{ms:.1f}" for ms in (each.p50_ms, each.p99_ms)]
    costs = [f"{ms:.2f}" for ms in (each.cpu_ms, each.server_ms)]
    return [name, round(each.per_s), *times, *costs, f"{commands:.1f}"]


def _targets(found: dict[str, Accepted]) -> list[Target]:
    ours, peer = found[OURS], found[PEER]
    return [
        Target(
            f"accepted/s at least that of {PEER}",
            f"{ours.per_s / peer.per_s:.2f} times",
            ours.per_s >= peer.per_s,
        ),
        Target(
            f"p99 at most that of {PEER}",
            f"{ours.p99_ms / peer.p99_ms:.2f} times",
            ours.p99_ms <= peer.p99_ms,
        ),
    ]
