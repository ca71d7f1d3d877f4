"""How much of the account's limit is used, and whether it is ever passed.

Four worker processes send from a cold start, for a minute from the first request on, to APIs that
work on each request for a while before they answer: the four of README, or any condition of
`benchmarks.conditions` (`--api lognormal300+queue5,close200`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.chart import Bar, bar_chart
from benchmarks.conditions import FOUR_APIS, HARDER, Condition, NotMeasuredError
from benchmarks.report import Cell, Report, Table, Target
from benchmarks.steady import FINISHED, Steady, jobs_for, sendcode, slot_trips, watch
from benchmarks.world import World, announce
from demo.world import Process

RATE = 20
PROCESSES = 4
OURS = "sendcode"
PEERS_API = "lognormal300"
NEAR_REDIS_MS, SHORT_JITTER_MS = 30, 5
MOST_TRIPS = 1.3
LEAST_FAIRNESS = 0.99


@dataclass(frozen=True, slots=True)
class Contender:
    """How a limiter is put to work; `mark` is logged once for each request."""

    run: Callable[[World, int, int], AbstractContextManager[Sequence[Process]]]
    """With so many processes, and jobs."""
    mark: str
    trips: Callable[[World, Steady], float | None]
    """The limiter's own round trips for a request; None where it makes none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One limiter's minute."""

    name: str
    condition: Condition
    after_s: float
    steady: Steady
    limiter_trips: float | None


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=float, default=60, help="watched for each (default: 60)")
    add(
        "--after",
        type=lambda text: sorted(map(float, text.split(","))),
        default="0",
        help="seconds from the first request to the watching; several in one run: 0,600",
    )
    add(
        "--api",
        type=Condition.several,
        default=",".join(FOUR_APIS),
        help=f"conditions, parts joined by + (default: {','.join(FOUR_APIS)})",
    )
    add(
        "--hard",
        action="store_const",
        dest="api",
        const=Condition.several(",".join(HARDER)),
        help=f"the harder conditions: {','.join(HARDER)}",
    )
    add(
        "--only",
        help=f"some of the limiters, under each condition (default: {OURS}; under "
        f"{PEERS_API} all: {','.join(CONTENDERS)})",
    )
    add("--workers", type=int, default=PROCESSES, help=f"processes (default: {PROCESSES})")
    add("--concurrency", help="threads of each sendcode worker (default: its own)")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure each limiter under each condition."""
    findings = []
    missing: dict[str, str] = {}
    for condition in options.api:
        default = ",".join(CONTENDERS) if condition.name == PEERS_API else OURS
        for name in (options.only or default).split(","):
            announce(f"{name}, {condition.name}: {options.seconds:g} s")
            try:
                findings += _measure_one(name, condition, options)
            except NotMeasuredError as exc:
                missing[condition.name] = f"{condition.name} is not measured here: {exc}"
    table = Table(
        f"{RATE}/s for {options.seconds:g} s, {options.workers} worker processes",
        (
            "",
            "the API works, ms",
            "from, s",
            "goodput %",
            "above",
            "most in 1 s",
            "refused %",
            "limiter trips",
            "all trips",
            "CPU ms",
            "Jain",
            "late ms",
        ),
        [_row(each) for each in findings],
        (
            "from: after the first request; 0 is a cold start",
            "goodput: accepted requests as a share of what the account allows; above: requests "
            "beyond that in the second that ends with them, as the API counts",
            "lognormal: median, sigma 0.6; +queue5: each request waits 5 ms on average "
            "(exponential) in front of the counting; +end: counted when the work is done",
            "close200: each connection is closed after its answer, a new one takes 200 ms; "
            "allows18: the account allows 18/s, not 20; redis30: Redis is 30 ms away",
            "trips: Redis round trips for each request, of the limiter and of all that the worker "
            "does (sendcode and Celery run a whole job, the others only call)",
            "packets5: packets to and from the API are delayed by 5 ms on average (exponential), "
            "and overtake each other; 1 % are lost",
            "CPU ms: of all worker processes, for each request; Jain: fairness between processes; "
            "late: how late the busy machine stamped an arrival at worst",
            *missing.values(),
        ),
    )
    is_hard = [each.name for each in options.api] == list(HARDER)
    charts = {} if is_hard else {"rate.svg": _chart(findings)}
    return Report("rate-hard" if is_hard else "rate", command, [table], _targets(findings), charts)


def _measure_one(name: str, condition: Condition, options: argparse.Namespace) -> list[Finding]:
    contender = CONTENDERS[name]
    with condition.world(RATE) as world:
        if options.concurrency:
            world.environment["SENDCODE_CONCURRENCY"] = options.concurrency
        jobs = jobs_for(RATE, options.after[-1] + options.seconds)
        with contender.run(world, options.workers, jobs) as workers:
            found = []
            for after_s in options.after:
                allowed = condition.allowed or RATE
                steady = watch(
                    world, workers, contender.mark, allowed, options.seconds, skip_s=after_s
                )
                trips = contender.trips(world, steady)
                found.append(Finding(name, condition, after_s, steady, trips))
        return found


def _row(finding: Finding) -> list[Cell]:
    steady, traffic, trips = finding.steady, finding.steady.traffic, finding.limiter_trips
    return [
        finding.name,
        finding.condition.name,
        f"{finding.after_s:g}",
        f"{100 * traffic.goodput:.1f}",
        traffic.above,
        traffic.most,
        f"{100 * traffic.refused / max(1, traffic.requests):.1f}",
        None if trips is None else f"{trips:.2f}",
        f"{steady.trips:.1f}",
        f"{steady.cpu_ms:.1f}",
        f"{steady.fairness:.3f}",
        f"{steady.stamped_late_ms:.0f}",
    ]


def _targets(findings: Sequence[Finding]) -> list[Target]:
    targets = []
    for finding in findings:
        if finding.name != OURS:
            continue
        condition = finding.condition
        name = (
            f"{condition.name} after {finding.after_s:g} s" if finding.after_s else condition.name
        )
        least, most_refused, may_be_above = _wanted(condition)
        steady, traffic, trips = finding.steady, finding.steady.traffic, finding.limiter_trips or 0
        above, refused = (
            count / max(1, traffic.requests) for count in (traffic.above, traffic.refused)
        )
        if most_refused is None:
            limit = f"at most {may_be_above:.1%} above" if may_be_above else "none above"
            measured, is_kept = f"{traffic.above} above", above <= may_be_above
        else:
            limit, measured = f"at most {most_refused:.0%} refused", f"{refused:.1%} refused"
            is_kept = refused <= most_refused
        targets += [
            Target(
                f"{name}: at least {least:.1%} of {traffic.rate:g}/s, {limit}",
                f"{traffic.goodput:.1%}, {measured}",
                traffic.goodput >= least and is_kept,
            ),
            Target(
                f"{name}: at most {MOST_TRIPS} limiter round trips for each request",
                f"{trips:.2f}",
                trips <= MOST_TRIPS,
            ),
            Target(
                f"{name}: Jain's index at least {LEAST_FAIRNESS}",
                f"{steady.fairness:.4f}",
                steady.fairness >= LEAST_FAIRNESS,
            ),
        ]
    return targets


def _wanted(condition: Condition) -> tuple[float, float | None, float]:
    """Return the least goodput, the most refused where that counts, and the most above."""
    if condition.allowed:
        return 0.90, 0.01, 1.0
    if condition.redis_ms:
        return (0.97 if condition.redis_ms <= NEAR_REDIS_MS else 0.90), None, 0.0
    if condition.queue_ms or condition.counts_at_end or condition.packets_ms:
        jitter_ms = condition.queue_ms or condition.packets_ms or 0
        return (0.97 if jitter_ms <= SHORT_JITTER_MS else 0.92), None, 0.001
    if condition.name in FOUR_APIS:
        return 0.985, None, 0.0
    return 0.97, None, 0.0


def _chart(findings: Sequence[Finding]) -> str:
    bars = [
        Bar(
            f"{each.name}, {each.condition.name}"
            + (f", {each.after_s:g} s" if each.after_s else ""),
            100 * each.steady.traffic.goodput,
            f"{100 * each.steady.traffic.goodput:.1f} %, {each.steady.traffic.above} above",
            each.name == OURS,
        )
        for each in findings
    ]
    return bar_chart(f"Share of {RATE} requests a second that was used", bars, mark=100)


@contextmanager
def _celery(world: World, processes: int, jobs: int) -> Iterator[Sequence[Process]]:
    """Celery's `rate_limit` counts in each worker: each gets its share."""
    app = "benchmarks.peers.rate_limited_celery"
    options = ("-P", "threads", "-c", "8", "-E", "-l", "INFO")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                world.run(
                    f"w{n}",
                    *("celery", "-A", app, "worker", "-n", f"w{n}@%h", *options),
                    RATE_EACH=f"{RATE / processes:g}/s",
                )
            )
            for n in range(processes)
        ]
        for worker in workers:
            worker.wait_for(" ready.")
        world.publish("rate_limited_celery", jobs)
        yield workers


@contextmanager
def _paced(world: World, name: str, processes: int) -> Iterator[Sequence[Process]]:
    command = ("benchmarks.peers.paced", name, str(RATE))
    with ExitStack() as stack:
        workers = [stack.enter_context(world.run(f"p{n}", *command)) for n in range(processes)]
        for worker in workers:
            worker.wait_for("ready")
        yield workers


def _library(name: str) -> Contender:
    return Contender(
        lambda world, processes, _jobs: _paced(world, name, processes),
        "sent\n",
        lambda _world, steady: steady.trips,
    )


CONTENDERS: Mapping[str, Contender] = {
    OURS: Contender(sendcode, FINISHED, slot_trips),
    "pyrate-limiter": _library("pyrate-limiter"),
    "limits": _library("limits"),
    "throttled-py": _library("throttled-py"),
    "fixed-window": _library("fixed-window"),
    "celery-rate-limit": Contender(_celery, "succeeded in", lambda _world, _seen: None),
}
