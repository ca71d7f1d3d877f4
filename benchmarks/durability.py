"""What does it cost at 20/s that Redis has each write on disk before it answers?

The same four workers with `appendfsync always`, `everysec` and `no`. What it costs at an import
is measured by `submit`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import Cell, Report, Table, Target
from benchmarks.steady import FINISHED, NEAR, Steady, jobs_for, sendcode, watch
from benchmarks.traffic import percentile
from benchmarks.world import World, announce

RATE = 20
PROCESSES = 4
FSYNC = ("always", "everysec", "no")
WRITES = 300
PAUSE_S = 0.01
GROWTH_S = 2.0
LEAST_OF_NO = 0.99


@dataclass(frozen=True, slots=True)
class Finding:
    """One setting's run."""

    fsync: str
    steady: Steady
    write_ms: Sequence[float]
    """Round trips of single writes, made beside the workers' own."""
    aof_bytes: float
    """What each request added to the append-only file."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=30, help="watched for each (default: 30)")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure each setting in turn."""
    findings = []
    for fsync in FSYNC:
        announce(f"appendfsync {fsync}: {options.seconds:g} s")
        findings.append(_measure_one(fsync, options.seconds))
    table = Table(
        f"sendcode at {RATE}/s, {PROCESSES} worker processes, {options.seconds:g} s each",
        (
            "appendfsync",
            "goodput %",
            "write p50 ms",
            "write p99 ms",
            "worker CPU ms",
            "server CPU ms",
            "AOF B",
        ),
        [_row(each) for each in findings],
        (
            "write: round trip of one SET, beside the workers' own; the rest is for each request",
            "a power cut loses nothing with always, up to two seconds with everysec",
        ),
    )
    goodput = {each.fsync: each.steady.traffic.goodput for each in findings}
    share = goodput["always"] / goodput["no"]
    target = Target(
        f"always: at least {LEAST_OF_NO:.0%} of the goodput without any syncing",
        f"{share:.1%}",
        share >= LEAST_OF_NO,
    )
    return Report("durability", command, [table], [target])


def _measure_one(fsync: str, seconds: float) -> Finding:
    with World(*NEAR, "--rate-limit", str(RATE), sendcode_rate_limit=RATE) as world:
        world.redis.config_set("appendfsync", fsync)
        with sendcode(world, PROCESSES, jobs_for(RATE, seconds)) as workers:
            steady = watch(world, workers, FINISHED, RATE, seconds)
            aof_bytes = _aof_bytes_each(world)
            write_ms = [_write_ms(world) for _ in range(WRITES)]
        return Finding(fsync, steady, write_ms, aof_bytes)


def _write_ms(world: World) -> float:
    start = time.perf_counter()
    world.redis.set("benchmark", "write")
    took_ms = 1000 * (time.perf_counter() - start)
    time.sleep(PAUSE_S)
    return took_ms


def _aof_bytes_each(world: World) -> float:
    requests, size = world.requests(), _aof_bytes(world)
    time.sleep(GROWTH_S)
    return (_aof_bytes(world) - size) / max(1, world.requests() - requests)


def _aof_bytes(world: World) -> int:
    persistence: Any = world.redis.info("persistence")
    return int(persistence["aof_current_size"])


def _row(finding: Finding) -> list[Cell]:
    steady = finding.steady
    return [
        finding.fsync,
        f"{100 * steady.traffic.goodput:.1f}",
        f"{percentile(finding.write_ms, 0.5):.2f}",
        f"{percentile(finding.write_ms, 0.99):.2f}",
        f"{steady.cpu_ms:.1f}",
        f"{steady.server_ms:.2f}",
        f"{finding.aof_bytes:,.0f}",
    ]
