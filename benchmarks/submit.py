"""What importing a file costs: time, memory, and Redis for each row that waits.

Each figure is of a whole process, from its start to its end: `sendcode batch submit` with its
reading and checking of the file, and a loop of `apply_async` over the same rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chart import Bar, bar_chart
from benchmarks.report import Cell, Report, Table, Target
from benchmarks.world import COUNTRY, World, announce
from demo.world import WorldError, wait_until

FSYNC = ("always", "everysec")
LOOP_ROWS = 10_000
SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (2_000, 20_000)
ROUNDS = 3
"""Of the smallest size and the loops, in turns; their median is shown."""
PATIENCE_S = 600.0
FIRST_NUMBER = 51_000_000
TARGET_RATIO, TARGET_BYTES, TARGET_GROWTH = 10, 150, 1.25
MIB = 1 << 20

OURS = "sendcode batch submit"
LEAN, USUAL = "apply_async loop, nothing but the broker", "apply_async loop, results and events"
SUBMIT = ("-c", "from producer.cli import main; main()", "batch", "submit")
LOOP = ("-m", "benchmarks.peers.submit_loop")


@dataclass(frozen=True, slots=True)
class Spent:
    """By one process and the server, for `rows` rows."""

    contender: str
    fsync: str
    rows: int
    seconds: float
    cpu_s: float
    peak_bytes: float
    bytes_per_row: float

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="fewer rows, to try it out")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure both, in turns, with each way of syncing."""
    sizes = QUICK_SIZES if options.quick else SIZES
    rounds = 1 if options.quick else ROUNDS
    with World() as world:
        files = {rows: _write_file(world.folder, rows) for rows in sizes}
        loop_file = files[min(LOOP_ROWS, sizes[0])]
        _spend(world, OURS, "always", min(sizes), (*SUBMIT, str(files[min(sizes)])))  # warm up
        runs: dict[tuple[str, str, int], list[Spent]] = {}
        for n in range(rounds):
            for fsync in FSYNC:
                announce(f"round {n + 1} of {rounds}, appendfsync {fsync}")
                world.redis.config_set("appendfsync", fsync)
                plan = [
                    (LEAN, sizes[0], (*LOOP, str(loop_file), "--lean")),
                    (USUAL, sizes[0], (*LOOP, str(loop_file))),
                    *((OURS, rows, (*SUBMIT, str(files[rows]))) for rows in sizes),
                ]
                for name, rows, line in plan:
                    if n == 0 or rows == sizes[0]:
                        one = _spend(world, name, fsync, rows, line)
                        runs.setdefault((fsync, name, rows), []).append(one)
    found = sorted((_median(each) for each in runs.values()), key=lambda each: each.fsync)
    return _report(found, command)


def _write_file(folder: Path, rows: int) -> Path:
    file = folder / f"{rows}.csv"
    with file.open("w", encoding="utf-8", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["customer", "country_code", "phone_num"])
        writer.writerows([f"Customer {n:07d}", COUNTRY, FIRST_NUMBER + n] for n in range(rows))
    return file


def _spend(world: World, contender: str, fsync: str, rows: int, command: Sequence[str]) -> Spent:
    world.forget()
    before = _memory(world)
    name = f"{contender.split(maxsplit=1)[0]}-{rows}"
    with world.run(name, "benchmarks.spent", *command) as running:
        wait_until(lambda: running.process.poll() is not None, f"{contender} done", PATIENCE_S)
        log = running.log
    took = json.loads(log.splitlines()[-1])
    if took["exit_code"]:
        raise WorldError(f"{contender} ended with {took['exit_code']}:\n{log[-2000:]}")
    return Spent(
        contender,
        fsync,
        rows,
        took["seconds"],
        took["cpu_s"],
        took["peak_bytes"],
        (_memory(world) - before) / rows,
    )


def _memory(world: World) -> int:
    return int(world.redis.info("memory")["used_memory"])


def _median(runs: Sequence[Spent]) -> Spent:
    first = runs[0]
    return Spent(
        first.contender,
        first.fsync,
        first.rows,
        statistics.median(run.seconds for run in runs),
        statistics.median(run.cpu_s for run in runs),
        max(run.peak_bytes for run in runs),
        statistics.median(run.bytes_per_row for run in runs),
    )


def _report(found: Sequence[Spent], command: str) -> Report:
    loops = {each.fsync: each for each in found if each.contender == LEAN}
    table = Table(
        "From a file of customers to jobs that wait; whole processes",
        ("", "appendfsync", "rows", "s", "rows/s", "x loop", "CPU us/row", "peak MiB", "B/row"),
        [_row(each, loops[each.fsync]) for each in found],
        (
            "x loop: rows/s, beside the quicker of the two loops with the same appendfsync",
            "the start of the process is counted: about 0.4 s of each sendcode run",
            "peak MiB: of the importing process; B/row: used_memory of the server, per row",
            f"median of {ROUNDS} for the smallest size and the loops, one run for the others",
        ),
    )
    chart = bar_chart(
        "Rows per second into Redis, appendfsync always",
        [
            Bar(
                f"{_short(each.contender)}, {each.rows:,}",
                each.rows_per_s,
                f"{each.rows_per_s:,.0f}/s, {each.bytes_per_row:,.0f} B/row",
                each.contender == OURS,
            )
            for each in found
            if each.fsync == "always"
        ],
    )
    return Report("submit", command, [table], _targets(found), {"submit.svg": chart})


def _short(contender: str) -> str:
    return {OURS: "sendcode", LEAN: "lean loop", USUAL: "usual loop"}[contender]


def _row(each: Spent, loop: Spent) -> list[Cell]:
    return [
        each.contender,
        each.fsync,
        each.rows,
        each.seconds,
        round(each.rows_per_s),
        f"{each.rows_per_s / loop.rows_per_s:.1f}",
        round(1e6 * each.cpu_s / each.rows),
        round(each.peak_bytes / MIB),
        round(each.bytes_per_row),
    ]


def _targets(found: Sequence[Spent]) -> list[Target]:
    ours = [each for each in found if each.contender == OURS]
    growth = max(each.peak_bytes for each in ours) / min(each.peak_bytes for each in ours)
    heaviest = max(each.bytes_per_row for each in ours)
    return [
        _ratio_target(found, ours, USUAL),
        _ratio_target(found, ours, LEAN),
        Target(
            f"peak memory independent of the rows (within {TARGET_GROWTH - 1:.0%})",
            f"largest {growth:.2f} times the smallest",
            growth <= TARGET_GROWTH,
        ),
        Target(
            f"at most {TARGET_BYTES} B of Redis for a waiting row",
            f"{heaviest:.0f} B",
            heaviest <= TARGET_BYTES,
        ),
    ]


def _ratio_target(found: Sequence[Spent], ours: Sequence[Spent], contender: str) -> Target:
    loops = {each.fsync: each.rows_per_s for each in found if each.contender == contender}
    slowest, which = min(
        ((each.rows_per_s / loops[each.fsync], each) for each in ours), key=lambda pair: pair[0]
    )
    return Target(
        f"at least {TARGET_RATIO} times the {contender}",
        f"{slowest:.1f} times at worst ({which.rows:,} rows, appendfsync {which.fsync})",
        slowest >= TARGET_RATIO,
    )
