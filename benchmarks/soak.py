"""Does anything grow while workers send for a long time, and their connections are reset?

Two workers send batches at a lifted limit; each minute all their connections to Redis are reset.
What they hold together is sampled: memory, descriptors, threads, how many messages they may
prefetch, and the keys of Redis that are not of single jobs, numbers, batches or spans of time.
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
WORKERS = 2
"""One is bound by its core at about 170/s."""
MOST_MINUTES = 600
RESET_EVERY_S = 60.0
SAMPLE_EVERY_S = 60.0  # it reads the name of every key
AHEAD_S = 5
"""A batch is submitted when the one before has so many seconds of work left."""
_EXPIRING = (
    "job",
    "number",
    "asked",
    "celery-task-meta",
    "batch",
    "rows",
    "cells",
    "counts",
    "content",
    "ends",
)
"""Kinds of keys of which there is one for each job, number, batch or span of ten minutes."""
MOST_GROWTH = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """What the workers together and Redis hold at one time."""

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
    """Let the workers work for so long, and compare their beginning with their end."""
    minutes = min(options.minutes, MOST_MINUTES)
    most = options.jobs or round(60 * minutes * options.rate)
    with (
        World("--rate-limit", "0", sendcode_rate_limit=options.rate) as world,
        ProxyProcess(world.valkey.port) as proxy,
    ):
        place = f"127.0.0.1:{proxy.port}/0"
        world.environment["SENDCODE_REDIS_URL"] = f"redis://:{world.valkey.password}@{place}"
        workers = [world.worker(f"w{n + 1}") for n in range(WORKERS)]
        announce(f"{minutes:g} min at {options.rate}/s, {most:,} jobs at most, a reset each minute")
        began = _prefetch(world)
        samples, resets = _run(world, workers, proxy, options.rate, minutes * 60, most)
        prefetch = began, _prefetch(world)
        doubled = world.sandbox.stats(numbers=False)["doubled"]
    return _report(command, samples, resets, prefetch, doubled)


def _run(
    world: World,
    workers: list[Process],
    proxy: ProxyProcess,
    rate: int,
    seconds: float,
    most: int,
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
            for worker in workers:
                worker.check()
            samples.append(_sample(world, workers, at_s, sent()))
        time.sleep(0.5)
    wait_until(lambda: not batches.under_way(), "the last batch's end", 60 + 60 * AHEAD_S)
    if sent() != submitted:
        raise WorldError(f"{submitted} jobs, and {sent()} were sent")
    samples.append(_sample(world, workers, time.monotonic() - began, sent()))
    return samples, resets


def _sample(world: World, workers: list[Process], at_s: float, sent: int) -> Sample:
    kinds: Counter[str] = Counter()
    prefix = Keys(world.settings.sendcode_key_prefix).prefix
    for key in world.redis.scan_iter(count=5_000):
        kind = key.removeprefix(f"{prefix}:").partition(":")[0]
        kinds["expiring" if kind.startswith(_EXPIRING) else "other"] += 1
    processes = [psutil.Process(worker.pid) for worker in workers]
    return Sample(
        at_s,
        sent,
        sum(process.memory_info().rss for process in processes) / 1e6,
        sum(process.num_fds() for process in processes),
        sum(process.num_threads() for process in processes),
        kinds["other"],
    )


def _prefetch(world: World) -> int:
    """Return how many messages the workers may hold, as they say themselves."""
    app = make_celery(world.settings)
    try:
        for _ in range(10):
            with suppress(OSError):
                stats: dict[str, Any] = app.control.inspect(timeout=3).stats() or {}
                if len(stats) == WORKERS:
                    return sum(int(each["prefetch_count"]) for each in stats.values())
        raise WorldError("the workers do not say what they prefetch")
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
        f"{WORKERS} workers, {samples[-1].sent:,} jobs, {resets} resets of all its connections",
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
