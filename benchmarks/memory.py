"""What does Redis keep of a job that has ended?

A real worker sends events to a sandbox; then each key's `MEMORY USAGE` is read. By Redis' own
default a hash that holds a text of more than 64 bytes becomes a table, and is twice as large.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping

from benchmarks.report import Report, Table, Target
from benchmarks.world import World, announce
from demo.world import wait_until
from jobs.keys import Keys

JOBS = 2_000
RATE = 500
LISTPACK = ("64", "256")
"""`hash-max-listpack-value`: Redis' default, and what docs/operate.md asks for."""
KINDS = {
    "job": "as long as the job is kept",
    "number": "as long as the number's history",
    "asked": "a day",
    "celery-task-meta": "a day",
}
LASTING = ("job", "number")
MOST_BYTES = 700


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"sent for each (default: {JOBS})")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure with each setting of the server in turn."""
    found = {}
    for value in LISTPACK:
        announce(f"hash-max-listpack-value {value}: {options.jobs:,} events")
        found[value] = _bytes_of(value, options.jobs)
    table = Table(
        f"bytes of Redis for each ended event, after {options.jobs:,}",
        ("key", "kept", *(f"listpack {value}" for value in LISTPACK)),
        [
            [kind, kept, *(f"{found[value][kind]:.0f}" for value in LISTPACK)]
            for kind, kept in KINDS.items()
        ],
        ("MEMORY USAGE, summed over all keys of a kind; a batch's row costs its text besides",),
    )
    lasting = sum(found[LISTPACK[-1]][kind] for kind in LASTING)
    target = Target(
        f"at most {MOST_BYTES} B for as long as a job is kept",
        f"{lasting:.0f} B",
        lasting <= MOST_BYTES,
    )
    return Report("memory", command, [table], [target])


def _bytes_of(listpack: str, jobs: int) -> Mapping[str, float]:
    """Return the bytes for each job, by kind of key."""
    with World("--rate-limit", str(RATE), sendcode_rate_limit=RATE) as world:
        world.redis.config_set("hash-max-listpack-value", listpack)
        keys = Keys(world.settings.sendcode_key_prefix)
        world.publish("sendcode_events", jobs)
        worker = world.worker("w1")

        def has_ended() -> bool:
            worker.check()
            return int(world.redis.hget(keys.totals, "sent") or 0) >= jobs

        wait_until(has_ended, "all events sent", 60 + 4 * jobs / RATE)
        sizes: Counter[str] = Counter()
        for key in world.redis.scan_iter(count=1_000):
            kind = key.removeprefix(f"{keys.prefix}:").partition(":")[0]
            kind = "celery-task-meta" if kind.startswith("celery-task-meta") else kind
            if kind in KINDS:
                sizes[kind] += int(world.redis.memory_usage(key) or 0)
    return {kind: sizes[kind] / jobs for kind in KINDS}
