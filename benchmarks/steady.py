"""Watches workers that send at a steady rate: what arrived at the API, and what it cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.tap import Tap
from benchmarks.traffic import Traffic, jain, traffic_between
from benchmarks.world import World, usage_of
from demo.world import Process, wait_until
from jobs.keys import Keys
from jobs.scripts import Script

NEAR = ("--latency-ms", "40", "--answer-ms", "40")
"""A sandbox that is 80 ms away, there and back."""
FINISHED = "job finished"
"""What a sendcode worker logs once for each job."""
WARM_UP_S = 5.0
TAP_S = 5.0
SPARE = 1.3


@dataclass(frozen=True, slots=True)
class Steady:
    """What was measured; costs are for each request."""

    traffic: Traffic
    cpu_ms: float
    """Of all worker processes."""
    server_ms: float
    """Of Redis."""
    trips: float
    """Redis round trips of the workers."""
    scripts: Counter[str]
    """How often each script was called for a request, by SHA-1."""
    fairness: float
    """Jain's index between the processes."""
    stamped_late_ms: float
    """How late the sandbox stamped an arrival at worst, as this machine was busy."""


def jobs_for(rate: float, seconds: float) -> int:
    """Return more jobs than can be done while they are watched."""
    return round(rate * (seconds + TAP_S + 2 * WARM_UP_S) * SPARE)


def watch(
    world: World,
    workers: Sequence[Process],
    mark: str,
    rate: float,
    seconds: float,
    *,
    skip_s: float = WARM_UP_S,
) -> Steady:
    """Watch for `seconds`, `skip_s` after the first request; `mark` is logged for each request."""
    wait_until(world.requests, f"{workers[0].name} at work")
    first = world.sandbox.stats(numbers=False, arrivals=True)["arrivals"][0][0]
    start, end = first + skip_s, first + skip_s + seconds
    time.sleep(max(0, start - time.monotonic()))
    counts = [worker.log.count(mark) for worker in workers]
    cpu_s, server_s = _cpu(workers), _server_cpu(world)
    time.sleep(max(0, end - time.monotonic()))
    cpu_s, server_s = _cpu(workers) - cpu_s, _server_cpu(world) - server_s
    shares = [worker.log.count(mark) - count for worker, count in zip(workers, counts, strict=True)]
    tapped, trips, scripts = _tap(world)
    stats = world.sandbox.stats(numbers=False, arrivals=True)
    traffic = traffic_between(stats, start, end, rate)
    requests = max(1, traffic.requests)
    return Steady(
        traffic,
        cpu_ms=1000 * cpu_s / requests,
        server_ms=1000 * server_s / requests,
        trips=trips / tapped,
        scripts=Counter({sha: calls / tapped for sha, calls in scripts.items()}),
        fairness=jain(shares),
        stamped_late_ms=stats["worst_lag_ms"],
    )


@contextmanager
def sendcode(world: World, processes: int, jobs: int) -> Iterator[Sequence[Process]]:
    """Run workers with a batch to send."""
    with ExitStack() as stack:
        workers = [stack.enter_context(world.worker(f"w{n}")) for n in range(processes)]
        for worker in workers:
            worker.wait_for(" ready.")
        world.submit_batch("b1", jobs)
        yield workers


def slot_trips(world: World, steady: Steady) -> float:
    """Return the limiter's round trips for each request of sendcode."""
    keys = Keys(world.settings.sendcode_key_prefix)
    scripts: list[Any] = [
        Script(world.redis, keys, name, "worker") for name in ("pace", "arrived", "slow_down")
    ]
    return sum(steady.scripts[script.sha] for script in scripts)


def _tap(world: World) -> tuple[int, int, Counter[str]]:
    requests = world.requests()
    with Tap(world.settings.redis_url) as tap:
        time.sleep(TAP_S)
    return max(1, world.requests() - requests), tap.round_trips, tap.scripts


def _cpu(workers: Sequence[Process]) -> float:
    return sum(usage_of(worker).cpu_s for worker in workers)


def _server_cpu(world: World) -> float:
    cpu = world.redis.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
