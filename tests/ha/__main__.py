"""`make ha`: take the primary away in the middle of a batch, and count what is lost or doubled.

Prints a table, each fault's line as soon as it was tried so many times. The exit code is 1 if
something was lost or doubled without a flag, 2 for wrong options, and 0 with a loud line where the
machine has no network namespaces for us.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import redis

from demo.world import wait_until
from tests.faults.audit import Asked, Findings
from tests.ha.hosts import reason_against
from tests.ha.producer import EVENTS_PER_S, EVENTS_S, number
from tests.ha.world import SERVICE, World

ROWS = 768
"""Of each trial's batch: with the events some half a minute of work."""
UNDER_WAY = 120
"""Codes that are sent before the fault."""
OVER_S = 200.0
"""A job that has not ended by then is lost."""
WATCHED_S = 25.0
"""After the fault; whatever is silent later waits for a number's minute."""


def kill(world: World) -> None:
    """Kill the primary; it is started again after 8 s, with what it had."""
    site = world.primary()
    with site.host.inside():
        site.server.kill()
    time.sleep(8)
    site.start()


def freeze(world: World) -> None:
    """Suspend the primary for 12 s."""
    site = world.primary()
    site.signal(signal.SIGSTOP)
    time.sleep(12)
    site.signal(signal.SIGCONT)


def partition(world: World) -> None:
    """Cut off the primary for 20 s, with a worker and a producer; all of them reach the API."""
    site = world.primary()
    those = [site.host, world.workers[0][0], world.producers[0]]
    others = [each.host for each in world.sites if each is not site]
    others += [world.workers[1][0], world.producers[1], world.watch]
    world.switch.cut(those, others)
    time.sleep(20)
    world.switch.heal()
    world.cut_off_until = {each.name: time.monotonic() for each in those}


def order(world: World, *how: str) -> None:
    """Order a failover of a Sentinel, and leave it to it how."""
    with world.client(world.sites[0], sentinel=True) as client:
        client.execute_command("SENTINEL", "FAILOVER", SERVICE, *how)
    time.sleep(3)


def order_coordinated(world: World) -> None:
    """Order one in which the old primary waits until the new one has everything."""
    order(world, "COORDINATED")


def lag_and_kill(world: World) -> None:
    """Suspend both replicas for 5 s, and kill the primary in the last moment of it."""
    site = world.primary()
    replicas = [each for each in world.sites if each is not site]
    for each in replicas:
        each.signal(signal.SIGSTOP)
    time.sleep(5)
    with site.host.inside():
        site.server.kill()
    for each in replicas:
        each.signal(signal.SIGCONT)
    time.sleep(8)
    site.start()


@dataclass(frozen=True)
class Fault:
    act: Callable[[World], None]
    apart_s: int = 0
    """How far the hosts' clocks are ahead of, or behind, the true one."""


FAULTS = {
    "kill": Fault(kill),
    "freeze": Fault(freeze),
    "partition": Fault(partition),
    "order": Fault(order),
    "coordinated": Fault(order_coordinated),
    "lag": Fault(lag_and_kill),
    "clocks": Fault(kill, apart_s=3),
}


@dataclass
class Tally:
    """What became of all trials of one fault."""

    trials: int = 0
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    flagged: int = 0
    doubled_flagged: int = 0
    unknown: int = 0
    silences_s: list[float] = field(default_factory=list)
    accepting_s: list[float] = field(default_factory=list)
    """For each trial, the longest that a producer had to ask until an event was accepted, counted
    from when it was cut off no longer."""
    most_in_a_second: int = 0
    unaccepted: int = 0


def trial(world: World, name: str, first: int, fault: Fault, tally: Tally) -> str:
    """Let a fault loose on a batch and events under way; return a line about it."""
    world.wait_healthy()
    world.cut_off_until.clear()
    world.sandbox.reset()
    p1, p2 = world.producers
    events = round(EVENTS_S * EVENTS_PER_S)
    running = [
        world.produce(p1, name + "a", first, 0),
        world.produce(p2, name, first + events, ROWS),
    ]
    wait_until(
        lambda: world.sandbox.stats(numbers=False)["accepted"] > UNDER_WAY, "codes sent", OVER_S
    )
    at = time.monotonic()
    fault.act(world)
    for each in running:
        each.wait(OVER_S)
    by_producer = {
        producer.name: [json.loads(line) for line in (world.folder / file).read_text().splitlines()]
        for producer, file in ((p1, f"{name}a-{p1.name}"), (p2, f"{name}-{p2.name}"))
    }
    accepted = [*itertools.chain.from_iterable(by_producer.values())]
    asked = [Asked(each["job_id"], number(each["index"])) for each in accepted]
    rows = [Asked(f"{name}-{n + 1}", number(first + events + n)) for n in range(ROWS)]
    findings = _reckon(world, name, asked, rows)
    stats = world.sandbox.stats(numbers=True, arrivals=True)
    world.check()

    silence_s = _silence(at, [each[0] for each in stats["arrivals"]])
    longest = max(
        each["accepted_s"] - max(each["asked_s"], world.cut_off_until.get(producer, 0.0))
        for producer, events_of in by_producer.items()
        for each in events_of
    )
    tally.trials += 1
    tally.jobs += findings.jobs
    tally.lost += len(findings.lost)
    tally.doubled += len(findings.doubled)
    tally.flagged += len(findings.possible_duplicate)
    tally.doubled_flagged += len(findings.doubled_and_flagged)
    tally.unknown += len(findings.unknown)
    tally.silences_s.append(silence_s)
    tally.accepting_s.append(longest)
    tally.most_in_a_second = max(tally.most_in_a_second, stats["most_in_any_second"])
    tally.unaccepted += 2 * events - len(accepted)
    return (
        f"{findings.jobs} jobs, lost {findings.lost[:3]}, doubled {findings.doubled[:3]} "
        f"({len(findings.doubled)}), doubled and flagged {len(findings.doubled_and_flagged)}, "
        f"flagged {len(findings.possible_duplicate)}, silence {silence_s:.1f} s, "
        f"longest acceptance {longest:.1f} s, not accepted {2 * events - len(accepted)}, "
        f"most in a second {stats['most_in_any_second']}, "
        f"took {time.monotonic() - at:.0f} s"
    )


def _reckon(world: World, batch_id: str, asked: list[Asked], rows: list[Asked]) -> Findings:
    """Wait until all have ended, and judge."""
    give_up_at = time.monotonic() + OVER_S
    while True:
        try:
            of_rows = {f"{batch_id}-{n}": record for n, _, record in world.batches.rows(batch_id)}
            found = [(job, of_rows.get(job.job_id)) for job in rows]
            found += [(job, world.ledger.job(job.job_id)) for job in asked]
        except redis.RedisError:
            found = []
        is_over = found and all(record and record.state.is_final for _, record in found)
        if is_over or time.monotonic() > give_up_at:
            break
        time.sleep(1)
    findings = Findings()
    findings.add(found, world.sandbox.stats(numbers=True)["accepted_per_number"])
    return findings


def _silence(at: float, arrivals: list[float]) -> float:
    """Return the longest time without a request that began within the watched seconds."""
    times = [at, *(each for each in arrivals if each > at)]
    gaps = [b - a for a, b in itertools.pairwise(times) if a < at + WATCHED_S]
    return max(gaps, default=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.faults) - FAULTS.keys():
        parser.error(f"no such fault: {', '.join(sorted(unknown))} (of {', '.join(FAULTS)})")
    if reason := reason_against():
        print(f"SKIPPED, NOTHING IS PROVED: {reason}", file=sys.stderr)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(_HEAD, flush=True)
    failed = False
    for name in options.faults:
        tally, fault = Tally(), FAULTS[name]
        if reason := reason_against(clocks=fault.apart_s > 0):
            print(f"{name} SKIPPED, NOTHING IS PROVED: {reason}", file=sys.stderr)
            continue
        with World(
            min_replicas=options.min_replicas,
            wait_replicas=options.wait_replicas,
            apart_s=fault.apart_s,
        ) as world:
            for turn in range(options.times):
                said = trial(world, f"{name}-{turn}", turn * 10_000, fault, tally)
                print(f"{name} {turn + 1}: {said}", file=sys.stderr, flush=True)
        print(_line(name, tally), flush=True)
        failed = failed or bool(tally.lost or tally.doubled)
    return int(failed)


_HEAD = """\
| Fault | times | jobs | lost | doubled, unflagged | doubled, flagged | flagged | unknown \
| silence, median and longest | until accepted, median and longest | not accepted \
| most in a second |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def _line(name: str, tally: Tally) -> str:
    spans = [
        f"{statistics.median(each):.1f} and {max(each):.1f} s"
        for each in (tally.silences_s, tally.accepting_s)
    ]
    return (
        f"| {name} | {tally.trials} | {tally.jobs:,} | {tally.lost} | {tally.doubled} "
        f"| {tally.doubled_flagged} | {tally.flagged} | {tally.unknown} | {' | '.join(spans)} "
        f"| {tally.unaccepted} | {tally.most_in_a_second} |"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.ha",
        description="Take the primary away in mid-batch, and count what is lost or doubled.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--times", type=int, default=1, help="of each fault")
    add("--min-replicas", type=int, default=1, help="min-replicas-to-write of each Redis")
    add("--wait-replicas", type=int, default=1, help="SENDCODE_WAIT_REPLICAS")
    add("faults", nargs="*", default=list(FAULTS), help=f"which of {', '.join(FAULTS)}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
