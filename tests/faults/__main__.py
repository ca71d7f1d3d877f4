"""`make faults`: kill and break the real thing, and count what is lost or doubled.

Prints a line for each dedicated scenario as it ends, then one table of the kills at random, and
what had to be flagged and why. The exit code is 1 if a promise was broken, 2 for wrong options.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Generic, TypeVar

from tests.faults import baseline, run
from tests.faults.normal import PROMISED_S, NormalRecovery, measure
from tests.faults.operations import OPERATIONS
from tests.faults.result import Result
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.table import table
from tests.faults.triggers import killed_under_triggers

QUICK = {"kills": 20, "jobs": 400, "baseline_kills": 10, "trigger_kills": 10}
BASELINE_JOBS_PER_KILL = 15

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.quick:
        vars(options).update(QUICK)
    # as Ctrl-C: everything that was started is ended on the way out
    signal.signal(signal.SIGTERM, _interrupt)
    broken: list[str] = []
    try:
        if scenarios := _scenarios(options):
            _run_scenarios(scenarios, broken)
        if options.kills and not options.only:
            _run_random(options, broken)
    except KeyboardInterrupt:
        print("interrupted; nothing was left running", file=sys.stderr)
        return 130
    for each in broken:
        print(f"BROKEN: {each}")
    print(f"\n{'broken' if broken else 'all promises kept'} (seed {options.seed})")
    return 1 if broken else 0


def _run_random(options: argparse.Namespace, broken: list[str]) -> None:
    normal = Aside(measure) if options.normal else None
    with _told(f"{options.kills} kills under {options.jobs} jobs"):
        ours = run.run(
            jobs=options.jobs,
            kills=options.kills,
            seed=options.seed,
            sendcode_ambiguous=options.ambiguous,
        )
    plain: Result | None = None
    if options.baseline_kills:
        kills = options.baseline_kills
        with _told(f"{kills} kills of a plain Celery task's workers"):
            plain = baseline.run(
                jobs=kills * BASELINE_JOBS_PER_KILL, kills=kills, seed=options.seed
            )
    at_normal: NormalRecovery | None = normal.result() if normal else None
    broken.extend(ours.broken())
    if options.ambiguous == "hold" and ours.findings.possible_duplicate:
        broken.append(f"sent again though told to hold: {ours.findings.possible_duplicate}")
    if ours.kills < options.kills:
        broken.append(f"only {ours.kills} workers were killed")
    if at_normal and not at_normal.kept:
        broken.append(f"recovery at normal settings: {at_normal} (promised: {PROMISED_S} s)")
    print(f"\n{table(ours, plain, at_normal)}\n")
    if ours.unproved:
        print("Not proved, and said so:", *(f"- {job}" for job in ours.unproved), "", sep="\n")


def _scenarios(options: argparse.Namespace) -> dict[str, Scenario]:
    scenarios = dict(SCENARIOS | OPERATIONS) if options.scenarios else {}
    if kills := options.trigger_kills:
        under_triggers = partial(killed_under_triggers, kills, options.seed)
        scenarios["web, workers and Valkey killed under triggers"] = under_triggers
    return {name: each for name, each in scenarios.items() if options.only in name}


def _run_scenarios(scenarios: dict[str, Scenario], broken: list[str]) -> None:
    print("Dedicated scenarios:", flush=True)
    for name, scenario in scenarios.items():
        with _told(name):
            try:
                print(f"- {name}: {scenario()}", flush=True)
            except AssertionError as exc:
                print(f"- {name}: BROKEN: {exc}", flush=True)
                broken.append(f"{name}: {exc}")


@dataclass
class Aside(Generic[T]):
    """Something that is done in a thread of its own meanwhile."""

    work: Callable[[], T]
    _results: list[T] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="aside", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._results.append(self.work())

    def result(self) -> T:
        """Wait for it.

        Raises:
            RuntimeError: it failed; the thread has said why.
        """
        self._thread.join()
        if not self._results:
            raise RuntimeError("what was done meanwhile has failed; see above")
        return self._results[0]


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Write to stderr what takes a while."""
    started = time.monotonic()
    print(f"{what} ...", file=sys.stderr, flush=True)
    yield
    print(f"{what}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Kill and break the real thing, and count what is lost or doubled.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--kills", type=int, default=500, help="SIGKILLs of workers")
    add("--jobs", type=int, default=10_000, help="jobs that are sent meanwhile")
    add("--seed", type=int, default=1, help="what is drawn by chance")
    add(
        "--ambiguous",
        choices=("resend-once", "hold"),
        default="resend-once",
        help="SENDCODE_AMBIGUOUS: what to do where nothing can be proved any more",
    )
    add("--baseline-kills", type=int, default=60, help="of a plain Celery task's; 0 for none")
    add("--no-normal", dest="normal", action="store_false", help="skip the real-time recovery")
    add("--no-scenarios", dest="scenarios", action="store_false", help="skip the single faults")
    add("--trigger-kills", type=int, default=100, help="SIGKILLs under triggers; 0 for none")
    add("--only", default="", metavar="TEXT", help="only the single faults with this in the name")
    add("--quick", action="store_true", help=f"{QUICK['kills']} kills under {QUICK['jobs']} jobs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
