"""Does anything grow while a worker sends for a long time, and its connections are reset?

One worker sends batches at a lifted limit; each minute all its connections to Redis are reset. What
it holds is sampled: memory, descriptors, threads, how many messages it may prefetch, and the keys
of Redis that are not of single jobs or numbers.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from statistics import mean
from typing import Any

import psutil

from benchmarks.report import Report, Table, Target
from benchmarks.world import World, announce
from config.celery import make_celery
from demo.world import Process, WorldError, wait_until
from jobs.batches import Batches
from jobs.keys import Keys
from tests.faults.proxy import ProxyProcess

RATE, MINUTES = 300, 10
MOST_MINUTES = 600
RESET_EVERY_S = 60.0
SAMPLE_EVERY_S = 10.0
AHEAD_S = 5
"""A batch is submitted when the one before has so many seconds of work left."""
_OF_JOBS = (
    "job",
    "number",
    "asked",
    "celery-task-meta",
    "batch",
    "rows",
    "cells",
    "counts",
    "content",
)
"""Kinds of keys of which there is one for each job, number or batch, for as long as it is kept."""
MOST_GROWTH = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """What the worker and Redis hold at one time."""

    at_s: float
    sent: int
    memory_mb: float
    descriptors: int
    threads: int
    keys: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=RATE, help=f"per second (default: {RATE})")
    minutes = f"how long (default: {MINUTES}, at most {MOST_MINUTES})"
    parser.add_argument("--minutes", type=float, default=MINUTES, help=minutes)
    parser.add_argument("--jobs", type=int, help="end sooner, when so many were submitted")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Let one worker work for so long, and compare its beginning with its end."""
    minutes = min(options.minutes, MOST_MINUTES)
    most = options.jobs or round(60 * minutes * options.rate)
    with (
        World("--rate-limit", "0", sendcode_rate_limit=options.rate) as world,
        ProxyProcess(world.valkey.port) as proxy,
    ):
        place = f"127.0.0.1:{proxy.port}/0"
        world.environment["SENDCODE_REDIS_URL"] = f"redis://:{world.valkey.password}@{place}"
        worker = world.worker("w1")
        announce(f"{minutes:g} min at {options.rate}/s, {most:,} jobs at most, a reset each minute")
        began = _prefetch(world)
        samples, resets = _run(world, worker, proxy, options.rate, minutes * 60, most)
        prefetch = began, _prefetch(world)
        doubled = world.sandbox.stats(numbers=False)["doubled"]
    return _report(command, samples, resets, prefetch, doubled)


def _run(
    world: World, worker: Process, proxy: ProxyProcess, rate: int, seconds: float, most: int
) -> tuple[list[Sample], int]:
    batches, samples, resets, submitted, number = (
        Batches(world.redis, world.settings),
        list[Sample](),
        0,
        0,
        0,
    )
    sent_key = Keys(world.settings.sendcode_key_prefix).totals

    def sent() -> int:
        return int(world.redis.hget(sent_key, "sent") or 0)

    began = time.monotonic()
    while (at_s := time.monotonic() - began) < seconds and submitted < most:
        if submitted - sent() < AHEAD_S * rate:
            number += 1
            world.submit_batch(f"b{number}", 10 * rate, first=submitted)
            submitted += 10 * rate
        if at_s > (resets + 1) * RESET_EVERY_S:
            proxy.order("reset")
            resets += 1
        if at_s >= len(samples) * SAMPLE_EVERY_S:
            worker.check()
            samples.append(_sample(world, worker, at_s, sent()))
        time.sleep(0.5)
    wait_until(lambda: not batches.under_way(), "the last batch's end", 60 + 60 * AHEAD_S)
    if sent() != submitted:
        raise WorldError(f"{submitted} jobs, and {sent()} were sent")
    samples.append(_sample(world, worker, time.monotonic() - began, sent()))
    return samples, resets


def _sample(world: World, worker: Process, at_s: float, sent: int) -> Sample:
    process = psutil.Process(worker.pid)
    kinds: Counter[str] = Counter()
    prefix = Keys(world.settings.sendcode_key_prefix).prefix
    for key in world.redis.scan_iter(count=5_000):
        kind = key.removeprefix(f"{prefix}:").partition(":")[0]
        kinds["of jobs" if kind.startswith(_OF_JOBS) else "other"] += 1
    with process.oneshot():
        return Sample(
            at_s,
            sent,
            process.memory_info().rss / 1e6,
            process.num_fds(),
            process.num_threads(),
            kinds["other"],
        )


def _prefetch(world: World) -> int:
    """Return how many messages the worker may hold, as it says itself."""
    app = make_celery(world.settings)
    try:
        stats: Any = None
        for _ in range(10):
            with suppress(OSError):
                stats = stats or app.control.inspect(timeout=3).stats()
        if not stats:
            raise WorldError("the worker does not say what it prefetches")
        return int(next(iter(stats.values()))["prefetch_count"])
    finally:
        app.close()


def _report(
    command: str, samples: list[Sample], resets: int, prefetch: tuple[int, int], doubled: int
) -> Report:
    third = max(1, len(samples) // 3)
    figures = ("memory_mb", "descriptors", "threads", "keys")
    means = {
        name: tuple(
            mean(getattr(each, name) for each in part)
            for part in (samples[third : 2 * third], samples[-third:])
        )
        for name in figures
    }
    means["prefetch"] = (float(prefetch[0]), float(prefetch[1]))
    growth = {name: (after - before) / before for name, (before, after) in means.items()}
    step = max(1, len(samples) // 10)
    table = Table(
        f"one worker, {samples[-1].sent:,} jobs, {resets} resets of all its connections",
        ("after s", "sent", "memory MB", "descriptors", "threads", "other keys"),
        [
            [f"{s.at_s:.0f}", s.sent, f"{s.memory_mb:.1f}", s.descriptors, s.threads, s.keys]
            for s in samples[::step]
        ],
        (f"prefetch: {prefetch[0]} at the beginning, {prefetch[1]} at the end",),
    )
    targets = [
        Target(
            f"{name} grows by less than {MOST_GROWTH:.0%} from the second third to the last",
            f"{share:+.1%}",
            share < MOST_GROWTH,
        )
        for name, share in growth.items()
    ]
    targets.append(Target("no number got two codes", f"{doubled} did", not doubled))
    return Report("soak", command, [table], targets)
