"""What a job costs beside a bare task of Celery's and of others, with the same HTTP call.

One worker process with the limit lifted and an API that answers at once. All are given their jobs
first; what is measured is the time in between, when each is at full speed. Rounds are in turns, so
that a busy machine is as unfair to one as to another.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import redis

from benchmarks.chart import Bar, bar_chart
from benchmarks.report import Cell, Report, Table, Target
from benchmarks.world import World, announce, usage_of
from demo.world import Process, wait_until

THREADS = 16
BEGIN, END = 0.2, 0.95
"""Shares of the jobs between which is measured."""
LIMITLESS = 10_000
OURS = ("sendcode, a batch", "sendcode, events")
BASE = "Celery"
MOST_CPU, LEAST_SPEED = 1.0, 0.66


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one worker process and of the Redis server, for each job."""

    jobs_per_s: float
    cpu_ms: float
    server_ms: float
    memory_mb: float
    commands: float
    """That the server ran, in scripts too."""


@dataclass(frozen=True, slots=True)
class Contender:
    """How it is given its jobs, and how its worker is started."""

    submit: Callable[[World, int], object]
    command: Sequence[str]


def _peer(module: str, *command: str) -> Contender:
    return Contender(lambda world, jobs: world.publish(module, jobs), command)


def _celery(module: str) -> Contender:
    app = f"benchmarks.peers.{module}"
    threads = ("-P", "threads", "-c", str(THREADS), "-E")
    return _peer(module, "celery", "-A", app, "worker", *threads)


_SENDCODE = ("celery", "-A", "worker", "worker")
CONTENDERS: Mapping[str, Contender] = {
    OURS[0]: Contender(lambda world, jobs: world.submit_batch("b1", jobs), _SENDCODE),
    OURS[1]: _peer("sendcode_events", *_SENDCODE),
    BASE: _celery("bare_celery"),
    "Celery, lean client": _celery("lean_celery"),
    "dramatiq": _peer(
        *("bare_dramatiq", "dramatiq", "benchmarks.peers.bare_dramatiq"),
        *("-p", "1", "-t", str(THREADS)),
    ),
    "huey": _peer(
        *("bare_huey", "huey.bin.huey_consumer", "benchmarks.peers.bare_huey.huey"),
        *("-k", "thread", "-w", str(THREADS)),
    ),
    "rq": _peer("bare_rq", "benchmarks.peers.bare_rq"),
    "taskiq": _peer(
        *("bare_taskiq", "taskiq", "worker", "benchmarks.peers.bare_taskiq:broker"),
        *("-w", "1", "--max-threadpool-threads", str(THREADS)),
    ),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=3000, help="for each (default: 3000)")
    parser.add_argument("--rounds", type=int, default=3, help="the median counts (default: 3)")
    parser.add_argument("--only", help="some of: " + "; ".join(CONTENDERS))


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure all, in turns."""
    names = options.only.split(";") if options.only else list(CONTENDERS)
    runs: dict[str, list[Cost]] = {name: [] for name in names}
    with World(
        *("--rate-limit", "0"), sendcode_rate_limit=LIMITLESS, sendcode_concurrency=THREADS
    ) as world:
        for n in range(options.rounds):
            for name in names:
                announce(f"{name}, round {n + 1} of {options.rounds}")
                runs[name].append(_run(world, CONTENDERS[name], options.jobs))
    costs = {name: _median(each) for name, each in runs.items()}
    table = Table(
        f"{options.jobs:,} jobs through one worker process with {THREADS} threads",
        (
            "",
            "jobs/s",
            "of Celery",
            "CPU ms/job",
            "of Celery",
            "server ms/job",
            "commands/job",
            "memory MB",
        ),
        [_row(name, cost, costs.get(BASE)) for name, cost in costs.items()],
        (
            f"median of {options.rounds} rounds in turns; server: CPU of Redis; commands: all that "
            "it ran, in scripts too",
            "sendcode: with ledger, limiter, journal and recovery; in a batch's row making jobs of "
            "the rows and publishing them, which the others' producers had done before",
            "all: acknowledged when done, results stored, the same signed call; the lean client is "
            "sendcode's own; rq has no threads",
        ),
    )
    chart = bar_chart(
        "CPU of a worker for each job, ms",
        [
            Bar(name, cost.cpu_ms, f"{cost.cpu_ms:.2f} ms, {cost.jobs_per_s:.0f}/s", name in OURS)
            for name, cost in costs.items()
        ],
    )
    return Report("overhead", command, [table], _targets(costs), {"overhead.svg": chart})


def _row(name: str, cost: Cost, base: Cost | None) -> list[Cell]:
    speed = f"{cost.jobs_per_s / base.jobs_per_s:.2f}" if base else None
    cpu = f"{cost.cpu_ms / base.cpu_ms:.2f}" if base else None
    return [
        name,
        round(cost.jobs_per_s),
        speed,
        f"{cost.cpu_ms:.2f}",
        cpu,
        f"{cost.server_ms:.2f}",
        f"{cost.commands:.0f}",
        round(cost.memory_mb),
    ]


def _targets(costs: Mapping[str, Cost]) -> list[Target]:
    base = costs.get(BASE)
    targets = []
    for name in OURS if base else ():
        if base and (cost := costs.get(name)):
            cpu, speed = cost.cpu_ms / base.cpu_ms, cost.jobs_per_s / base.jobs_per_s
            targets += [
                Target(f"{name}: CPU at most {MOST_CPU} x Celery's", f"{cpu:.2f}", cpu <= MOST_CPU),
                Target(
                    f"{name}: jobs/s at least {LEAST_SPEED} x Celery's",
                    f"{speed:.2f}",
                    speed >= LEAST_SPEED,
                ),
            ]
    return targets


def _run(world: World, contender: Contender, jobs: int) -> Cost:
    world.forget()
    contender.submit(world, jobs)
    with world.run("worker", *contender.command) as worker:
        wait_until(lambda: world.requests() >= BEGIN * jobs, f"{worker.name} at work")
        before = _read(world, worker)
        wait_until(lambda: world.requests() >= END * jobs, f"{worker.name} nearly done", 180)
        after = _read(world, worker)
    done = after.requests - before.requests
    return Cost(
        jobs_per_s=done / (after.at - before.at),
        cpu_ms=1000 * (after.cpu_s - before.cpu_s) / done,
        server_ms=1000 * (after.server_s - before.server_s) / done,
        memory_mb=after.memory_bytes / 1e6,
        commands=(after.commands - before.commands) / done,
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    requests: int
    cpu_s: float
    memory_bytes: int
    server_s: float
    commands: int


def _read(world: World, worker: Process) -> _Reading:
    server: redis.Redis = world.redis
    requests, at = world.requests(), time.monotonic()
    usage = usage_of(worker)
    cpu = server.info("cpu")
    calls = sum(each["calls"] for each in server.info("commandstats").values())
    server_s = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
    return _Reading(at, requests, usage.cpu_s, usage.memory_bytes, server_s, calls)


def _median(runs: Sequence[Cost]) -> Cost:
    middle = statistics.median
    return Cost(
        middle(run.jobs_per_s for run in runs),
        middle(run.cpu_ms for run in runs),
        middle(run.server_ms for run in runs),
        middle(run.memory_mb for run in runs),
        middle(run.commands for run in runs),
    )
