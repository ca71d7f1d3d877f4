"""Does the rate hold with 1 to 8 worker processes at 20, 100 and 400 requests a second?

The API is 80 ms away, there and back. The cost of a slot is that of one request.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from benchmarks.report import Cell, Report, Table, Target
from benchmarks.steady import FINISHED, NEAR, Steady, jobs_for, sendcode, slot_trips, watch
from benchmarks.world import World, announce

RATES = "20,100,400"
PROCESSES = "1,2,4,8"


@dataclass(frozen=True, slots=True)
class Finding:
    """One number of workers at one rate."""

    rate: int
    processes: int
    steady: Steady
    slot_trips: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=15, help="watched for each (default: 15)")
    parser.add_argument("--rates", default=RATES, help=f"per second (default: {RATES})")
    parser.add_argument("--processes", default=PROCESSES, help=f"workers (default: {PROCESSES})")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure each rate with each number of workers."""
    findings = []
    for rate in map(int, options.rates.split(",")):
        for processes in map(int, options.processes.split(",")):
            announce(f"{rate}/s, {processes} workers: {options.seconds:g} s")
            findings.append(_measure_one(rate, processes, options.seconds))
    table = Table(
        f"sendcode for {options.seconds:g} s each, 80 ms there and back",
        (
            "rate/s",
            "workers",
            "goodput %",
            "above",
            "most in 1 s",
            "slot trips",
            "all trips",
            "worker CPU ms",
            "server CPU ms",
            "Jain",
        ),
        [_row(each) for each in findings],
        (
            "trips: Redis round trips for each request, of the limiter and of all; CPU: of all "
            "workers, and of Redis, for each request",
            "all processes, Redis and the sandbox included, share this machine's cores",
        ),
    )
    above = sum(each.steady.traffic.above for each in findings)
    targets = [Target("never above the limit", f"{above} requests above", above == 0)]
    return Report("scale", command, [table], targets)


def _measure_one(rate: int, processes: int, seconds: float) -> Finding:
    with World(*NEAR, "--rate-limit", str(rate), sendcode_rate_limit=rate) as world:
        with sendcode(world, processes, jobs_for(rate, seconds)) as workers:
            steady = watch(world, workers, FINISHED, rate, seconds)
        return Finding(rate, processes, steady, slot_trips(world, steady))


def _row(finding: Finding) -> list[Cell]:
    steady, traffic = finding.steady, finding.steady.traffic
    return [
        str(finding.rate),
        finding.processes,
        f"{100 * traffic.goodput:.1f}",
        traffic.above,
        traffic.most,
        f"{finding.slot_trips:.2f}",
        f"{steady.trips:.1f}",
        f"{steady.cpu_ms:.1f}",
        f"{steady.server_ms:.2f}",
        f"{steady.fairness:.3f}",
    ]
