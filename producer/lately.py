"""What became of jobs lately: by state, code and the worker that decided it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from config.settings import Settings
from jobs.job import iso
from jobs.scripts import LedgerPart, time_ms

SPAN_MS = 600_000
"""As ENDS_MS in jobs.lua."""
LONGEST_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Ends:
    """So many jobs ended in a state, with a code."""

    worker: str
    """Empty where no worker decided it: cancelled, too late, its record lost."""
    state: str
    code: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Lately:
    """All ends since a time, which begins a span of ten minutes; by worker, state and code."""

    since_ms: int
    at_ms: int
    ends: tuple[Ends, ...]

    def by_code(self) -> list[Ends]:
        """Return them over all workers, the most first."""
        total: Counter[tuple[str, str]] = Counter()
        for each in self.ends:
            total[each.state, each.code] += each.jobs
        return [Ends("", state, code, jobs) for (state, code), jobs in total.most_common()]

    def as_dict(self) -> dict[str, Any]:
        return {
            "since": iso(self.since_ms),
            "at": iso(self.at_ms),
            "ended": [
                {
                    "worker": each.worker or None,
                    "state": each.state,
                    "code": each.code or None,
                    "jobs": each.jobs,
                }
                for each in self.ends
            ],
        }


def read_lately(client: redis.Redis, settings: Settings, seconds: float) -> Lately:
    """Return what ended in the last `seconds`, and in the rest of the span that they begin in.

    Raises:
        redis.RedisError: the ledger is out of reach.
    """
    ledger = LedgerPart(client, settings)
    now_ms = time_ms(client.time())
    first = int(now_ms - min(seconds, LONGEST_S) * 1000) // SPAN_MS
    spans = range(first, now_ms // SPAN_MS + 1)
    total: Counter[str] = Counter()
    for counts in ledger.ask_all(("HGETALL", ledger.keys.ends(str(each))) for each in spans):
        total.update({name: int(n) for name, n in counts.items()})
    ends = []
    for name, jobs in sorted(total.items()):
        worker, state, code = name.split("\t")
        ends.append(Ends(worker, state, code, jobs))
    return Lately(first * SPAN_MS, now_ms, tuple(ends))
