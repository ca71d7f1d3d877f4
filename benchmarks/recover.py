"""How soon a job goes on whose worker is killed: SIGKILL to its next request at the API.

Two workers with their settings as they come. One of them is killed while the API takes 3 s over its
answers, and while its jobs wait for their turn at the limit; the other one goes on with them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from celery import Celery

from benchmarks.chart import Bar, bar_chart
from benchmarks.report import Cell, Report, Table, Target
from benchmarks.world import COUNTRY, World, announce, number
from config.celery import make_celery
from demo.world import Process, WorldError, wait_until
from jobs.batches import Batches
from jobs.job import batch_job_id
from jobs.ledger import Ledger
from producer import send_code

SLOW = 99_600_000
"""From here on the sandbox's numbers are answered after 3 s."""
CALLS = 8
"""Sent at once before each kill: about half of them by the worker that is killed."""
ROWS = 300
RATE = 20
ON_ITS_WAY_S = 0.5
"""What arrives so soon after a kill left before it."""
PATIENCE_S = 60.0
PEER_PATIENCE_S = 180.0
TARGET_S = 5

MID_CALL, WAITING = "in mid-call", "waiting for a slot"
OURS, TUNED = "sendcode", "Celery, acks late, visibility timeout 60 s"
DEFAULT = "Celery, acks late, its default of 3,600 s"


@dataclass(slots=True)
class Recovered:
    """What became of the jobs that the killed workers of one contender held."""

    contender: str
    killed: str
    kills: int = 0
    seconds: list[float] = field(default_factory=list)
    """From the kill to the next request, for each job."""
    sent_twice: int = 0


def ours(mid_call: int, waiting: int) -> list[Recovered]:
    """Kill sendcode's workers so many times."""
    with World() as world, ExitStack() as stack:
        app = make_celery(world.settings)
        stack.callback(app.close)
        pair = Pair(world, app, ("celery", "-A", "worker", "worker"), stack)
        calls, waits = Recovered(OURS, MID_CALL), Recovered(OURS, WAITING)
        for n in range(mid_call):
            announce(f"{OURS}: kill {n + 1} of {mid_call}, {MID_CALL}")
            _in_mid_call(world, pair, n, calls)
        calls.sent_twice = _sent_twice(world)
        for n in range(waiting):
            announce(f"{OURS}: kill {n + 1} of {waiting}, {WAITING}")
            _while_waiting(world, pair, n, waits)
        waits.sent_twice = _sent_twice(world) - calls.sent_twice
        return [calls, waits]


def _in_mid_call(world: World, pair: Pair, n: int, found: Recovered) -> None:
    phones = [str(SLOW + CALLS * n + k) for k in range(CALLS)]
    jobs = {send_code(COUNTRY, each, settings=world.settings).job_id: each for each in phones}
    wait_until(lambda: arrivals(world, phones).keys() == set(phones), "calls")
    pair.kill_one(jobs, found, PATIENCE_S)
    ledger = Ledger(world.redis, world.settings)
    # a job whose workers are killed again and again stays in doubt until the minute is over
    wait_until(lambda: all(_is_final(ledger, each) for each in jobs), "the jobs' ends")


def _is_final(ledger: Ledger, job_id: str) -> bool:
    record = ledger.job(job_id)
    return record is not None and record.state.is_final


def _while_waiting(world: World, pair: Pair, n: int, found: Recovered) -> None:
    batch_id, first = f"bench{n}", n * ROWS
    jobs = {batch_job_id(batch_id, row + 1): number(first + row) for row in range(ROWS)}
    world.submit_batch(batch_id, ROWS, first=first)
    wait_until(lambda: len(arrivals(world, jobs.values())) > 2 * RATE, "the batch at work")
    pair.kill_one(jobs, found, PATIENCE_S)
    batches = Batches(world.redis, world.settings)
    wait_until(lambda: (batch := batches.get(batch_id)) and batch.is_over, "the batch's end")


def tuned_celery() -> Recovered:
    """Kill a plain Celery worker, once: waiting for its jobs takes more than a minute."""
    with World() as world, ExitStack() as stack:
        app = Celery("peer", broker=world.settings.redis_url)
        stack.callback(app.close)
        module = "benchmarks.peers.tuned_celery"
        pair = Pair(world, app, ("celery", "-A", module, "worker", "-c", str(CALLS)), stack)
        found = Recovered(TUNED, MID_CALL)
        announce(f"{TUNED}: one kill, meanwhile")
        phones = [str(SLOW + k) for k in range(CALLS)]
        jobs = {str(app.send_task("bare.send", args=(COUNTRY, each))): each for each in phones}
        wait_until(lambda: arrivals(world, phones).keys() == set(phones), "calls")
        pair.kill_one(jobs, found, PEER_PATIENCE_S)
        found.sent_twice = _sent_twice(world)
        return found


class Pair:
    """Two workers, of which one at a time is killed and started again."""

    def __init__(self, world: World, app: Celery, command: Sequence[str], stack: ExitStack) -> None:
        self._world = world
        self._app = app
        self._command = command
        self._chance = random.Random(1)
        self._workers = [self._start(n) for n in range(2)]
        stack.callback(self._stop)
        for worker in self._workers:
            worker.wait_for("ready.")

    def _start(self, n: int) -> Process:
        options = ("-n", f"w{n}@%h", "-l", "INFO")
        return self._world.run(f"w{n}", *self._command, *options)

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def kill_one(self, jobs: Mapping[str, str], found: Recovered, patience_s: float) -> None:
        """Kill one and wait for the next request of each of the `jobs` (id: number) it holds.

        Those of a batch count only if they had not made any yet.
        """
        world = self._world
        time.sleep(self._chance.uniform(0, 1))
        held = self._held(jobs)
        victim = max(held, key=lambda n: len(held[n]))
        killed = time.monotonic()
        self._workers[victim].kill()
        dead = time.monotonic()  # it worked on until then, a few milliseconds
        phones = {jobs[job_id] for job_id in held[victim]}
        if found.killed == WAITING:
            phones -= arrivals(world, phones, before=dead).keys()
        if not phones:
            raise WorldError("the killed worker held no job")
        after = dead + ON_ITS_WAY_S
        wait_until(
            lambda: arrivals(world, phones, after).keys() == phones,
            f"{found.contender}: {len(phones)} jobs recovered",
            patience_s,
        )
        found.kills += 1
        found.seconds += [at - killed for at in arrivals(world, phones, after).values()]
        self._workers[victim] = self._start(victim)
        self._workers[victim].wait_for("ready.")

    def _held(self, jobs: Mapping[str, str]) -> dict[int, list[str]]:
        active = self._app.control.inspect(timeout=2, limit=2).active() or {}
        return {
            int(name[1]): [job["id"] for job in running if job["id"] in jobs]
            for name, running in active.items()
        }


def arrivals(
    world: World, phones: Collection[str], after: float = 0, before: float = float("inf")
) -> dict[str, float]:
    """Return when the first request for each number arrived between two moments."""
    found: dict[str, float] = {}
    digits = {COUNTRY + phone: phone for phone in phones}
    for at, which, _ in world.sandbox.stats(numbers=False, arrivals=True)["arrivals"]:
        if which in digits and after <= at < before:
            found.setdefault(digits[which], at)
    return found


def _sent_twice(world: World) -> int:
    return int(world.sandbox.stats(numbers=False)["doubled"])


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="two kills, without Celery")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure sendcode; the peer waits in a world of its own meanwhile."""
    with ThreadPoolExecutor(1) as aside:
        peer = None if options.quick else aside.submit(tuned_celery)
        found = ours(1, 1) if options.quick else ours(mid_call=6, waiting=3)
        if peer is not None:
            found.append(peer.result())
    table = Table(
        "From SIGKILL of a worker to the next request for the jobs it held",
        ("", "killed", "kills", "jobs", "median s", "max s", "sent twice"),
        [*(_row(each) for each in found), [DEFAULT, MID_CALL, 0, 0, None, "3,600-3,700", None]],
        (
            "sendcode at its defaults: lease 10 s, a sweep each second, interval 60 s",
            "Celery's default was not waited for: by its documentation a message is put back an "
            "hour after it was taken, and looked for each 100 s (in the tuned one: each 10 s)",
            "each job's worker is killed once; sent twice: numbers that got two codes, because the "
            "second request came after the API's guard of 60 s",
        ),
    )
    bars = [
        Bar(
            f"{each.contender.split(',')[0]}, {each.killed}",
            max(each.seconds),
            f"{max(each.seconds):.1f} s",
            each.contender == OURS,
        )
        for each in found
    ]
    chart = bar_chart("From SIGKILL to the next attempt, longest, s", bars, mark=TARGET_S)
    return Report("recover", command, [table], _targets(found), {"recover.svg": chart})


def _row(each: Recovered) -> list[Cell]:
    median = f"{statistics.median(each.seconds):.1f}"
    longest = f"{max(each.seconds):.1f}"
    begun: list[Cell] = [each.contender, each.killed, each.kills, len(each.seconds)]
    return [*begun, median, longest, each.sent_twice]


def _targets(found: Sequence[Recovered]) -> list[Target]:
    mine = [each for each in found if each.contender == OURS]
    longest = max(seconds for each in mine for seconds in each.seconds)
    twice = sum(each.sent_twice for each in mine)
    return [
        Target(f"within {TARGET_S} s", f"{longest:.1f} s at most", longest <= TARGET_S),
        Target("nobody gets two codes", f"{twice} did", twice == 0),
    ]
