"""How much of the account's limit is used, and whether it is ever passed.

Four worker processes send for a minute against a sandbox that is 40 ms away and answers after
another 40 ms, once with even and once with jittering ways.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.chart import Bar, bar_chart
from benchmarks.report import Cell, Report, Table, Target
from benchmarks.steady import FINISHED, NEAR, Steady, jobs_for, sendcode, slot_trips, watch
from benchmarks.world import World, tell
from demo.world import Process

RATE = 20
PROCESSES = 4
OURS = "sendcode"
LEAST_GOODPUT = 0.985
LEAST_WITH_JITTER = 0.96
MOST_TRIPS = 2.5
LEAST_FAIRNESS = 0.99


@dataclass(frozen=True, slots=True)
class Contender:
    """How a limiter is put to work; `mark` is logged once for each request."""

    run: Callable[[World, int], AbstractContextManager[Sequence[Process]]]
    mark: str
    trips: Callable[[World, Steady], float | None]
    """The limiter's own round trips for a request; None where it makes none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One limiter's minute."""

    name: str
    jitter_ms: float
    seen: Steady
    limiter_trips: float | None


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60, help="watched for each (default: 60)")
    parser.add_argument("--jitter-ms", default="0,5", help="mean one-way jitters (default: 0,5)")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="some of the limiters")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure each limiter with each jitter."""
    findings = []
    for jitter_ms in map(float, options.jitter_ms.split(",")):
        for name in options.only.split(","):
            tell(f"{name}, jitter {jitter_ms:g} ms: {options.seconds:g} s")
            findings.append(_measure_one(name, jitter_ms, options.seconds))
    table = Table(
        f"{RATE}/s for {options.seconds:g} s, {PROCESSES} worker processes, 80 ms there and back",
        (
            "",
            "jitter ms",
            "goodput %",
            "above",
            "most in 1 s",
            "refused %",
            "limiter trips",
            "all trips",
            "CPU ms",
            "Jain",
        ),
        [_row(each) for each in findings],
        (
            "goodput: accepted requests as a share of the limit; above: requests beyond the "
            f"{RATE}th in the second that ends with them, as the API counts",
            "jitter: mean of what is added at random to each way to the API",
            "trips: Redis round trips for each request, of the limiter and of all that the worker "
            "does (sendcode and Celery run a whole job, the others only call)",
            "CPU ms: of all worker processes, for each request; Jain: fairness between processes",
        ),
    )
    charts = {"rate.svg": _chart(findings)}
    return Report("rate", command, [table], _targets(findings), charts)


def _measure_one(name: str, jitter_ms: float, seconds: float) -> Finding:
    contender = CONTENDERS[name]
    options = (*NEAR, "--jitter-ms", str(jitter_ms), "--rate-limit", str(RATE))
    with World(*options, sendcode_rate_limit=RATE) as world:
        with contender.run(world, jobs_for(RATE, seconds)) as workers:
            seen = watch(world, workers, contender.mark, RATE, seconds)
        return Finding(name, jitter_ms, seen, contender.trips(world, seen))


def _row(finding: Finding) -> list[Cell]:
    seen, traffic, trips = finding.seen, finding.seen.traffic, finding.limiter_trips
    return [
        finding.name,
        f"{finding.jitter_ms:g}",
        f"{100 * traffic.goodput:.1f}",
        traffic.above,
        traffic.most,
        f"{100 * traffic.refused / max(1, traffic.requests):.1f}",
        None if trips is None else f"{trips:.2f}",
        f"{seen.trips:.1f}",
        f"{seen.cpu_ms:.1f}",
        f"{seen.fairness:.3f}",
    ]


def _targets(findings: Sequence[Finding]) -> list[Target]:
    targets = []
    for finding in findings:
        if finding.name != OURS:
            continue
        least = LEAST_WITH_JITTER if finding.jitter_ms else LEAST_GOODPUT
        seen, traffic, trips = finding.seen, finding.seen.traffic, finding.limiter_trips or 0
        with_jitter = f"jitter {finding.jitter_ms:g} ms"
        targets += [
            Target(
                f"{with_jitter}: at least {least:.1%} of {RATE}/s, none above",
                f"{traffic.goodput:.1%}, {traffic.above} above",
                traffic.goodput >= least and not traffic.above,
            ),
            Target(
                f"{with_jitter}: at most {MOST_TRIPS} limiter round trips for each request",
                f"{trips:.2f}",
                trips <= MOST_TRIPS,
            ),
            Target(
                f"{with_jitter}: Jain's index at least {LEAST_FAIRNESS}",
                f"{seen.fairness:.4f}",
                seen.fairness >= LEAST_FAIRNESS,
            ),
        ]
    return targets


def _chart(findings: Sequence[Finding]) -> str:
    bars = [
        Bar(
            f"{each.name}, jitter {each.jitter_ms:g} ms",
            100 * each.seen.traffic.goodput,
            f"{100 * each.seen.traffic.goodput:.1f} %, {each.seen.traffic.above} above the limit",
            each.name == OURS,
        )
        for each in findings
    ]
    return bar_chart(f"Share of {RATE} requests a second that was used", bars, mark=100)


@contextmanager
def _celery(world: World, jobs: int) -> Iterator[Sequence[Process]]:
    """Celery's `rate_limit` counts in each worker: each gets its share."""
    app = "benchmarks.peers.rate_limited_celery"
    options = ("-P", "threads", "-c", "8", "-E", "-l", "INFO")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                world.run(
                    f"w{n}",
                    *("celery", "-A", app, "worker", "-n", f"w{n}@%h", *options),
                    RATE_EACH=f"{RATE / PROCESSES:g}/s",
                )
            )
            for n in range(PROCESSES)
        ]
        for worker in workers:
            worker.wait_for(" ready.")
        world.publish("rate_limited_celery", jobs)
        yield workers


@contextmanager
def _paced(world: World, name: str) -> Iterator[Sequence[Process]]:
    command = ("benchmarks.peers.paced", name, str(RATE))
    with ExitStack() as stack:
        workers = [stack.enter_context(world.run(f"p{n}", *command)) for n in range(PROCESSES)]
        for worker in workers:
            worker.wait_for("ready")
        yield workers


def _library(name: str) -> Contender:
    return Contender(
        lambda world, _jobs: _paced(world, name), "sent\n", lambda _world, seen: seen.trips
    )


CONTENDERS: Mapping[str, Contender] = {
    OURS: Contender(lambda world, jobs: sendcode(world, PROCESSES, jobs), FINISHED, slot_trips),
    "pyrate-limiter": _library("pyrate-limiter"),
    "limits": _library("limits"),
    "throttled-py": _library("throttled-py"),
    "fixed-window": _library("fixed-window"),
    "celery-rate-limit": Contender(_celery, "succeeded in", lambda _world, _seen: None),
}
