"""What does it cost that a replica must have an event before it counts as accepted?

The same submits with `SENDCODE_WAIT_REPLICAS` 0 and 1 in turns, so that a busy machine is as unfair
to one as to the other. Primary and replica are on this machine: a network between them adds its
way there and back to each submit.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Report, Table
from benchmarks.traffic import percentile
from benchmarks.world import COUNTRY, World, announce, number
from config.redis import connect
from jobs.job import SendCodeJob
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from tests.replicas import replica_of

SECONDS, ROUNDS, THREADS = 5.0, 3, 8
WAIT_FOR = (0, 1)


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=float, default=SECONDS, help=f"of each run (default: {SECONDS:g})")
    add("--rounds", type=int, default=ROUNDS, help=f"of both, in turns (default: {ROUNDS})")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure both, in turns."""
    took: dict[int, list[float]] = {replicas: [] for replicas in WAIT_FOR}
    numbers = itertools.count()
    with (
        World() as world,
        TemporaryDirectory() as folder,
        replica_of(world.valkey, Path(folder)),
        ThreadPoolExecutor(THREADS) as pool,
    ):
        ledgers = {}
        for replicas in WAIT_FOR:
            settings = world.settings.model_copy(update={"sendcode_wait_replicas": replicas})
            ledgers[replicas] = Ledger(connect(settings, retries=1), settings)
        for n, replicas in itertools.product(range(options.rounds), WAIT_FOR):
            announce(f"SENDCODE_WAIT_REPLICAS={replicas}, round {n + 1} of {options.rounds}")
            until = time.monotonic() + options.seconds
            runs = [
                pool.submit(lambda ledger, until: [*_submit(ledger, numbers, until)], each, until)
                for each in [ledgers[replicas]] * THREADS
            ]
            took[replicas] += [seconds for run in runs for seconds in run.result()]
        for ledger in ledgers.values():
            ledger.client.close()
    table = Table(
        f"{THREADS} threads that submit events, {options.seconds:g} s at a time",
        ("SENDCODE_WAIT_REPLICAS", "accepted/s", "p50 ms", "p99 ms"),
        [
            [
                replicas,
                round(len(each) / options.seconds / options.rounds),
                *(f"{1000 * percentile(each, share):.1f}" for share in (0.5, 0.99)),
            ]
            for replicas, each in took.items()
        ],
        (f"{options.rounds} rounds in turns; primary and replica on one machine, AOF always",),
    )
    return Report("replicas", command, [table])


def _submit(ledger: Ledger, numbers: Iterator[int], until: float) -> Iterator[float]:
    """Submit events one after the other; yield the seconds that each took."""
    while (began := time.monotonic()) < until:
        ledger.submit(SendCodeJob.for_event(PhoneNumber(COUNTRY, number(next(numbers)))))
        yield time.monotonic() - began
