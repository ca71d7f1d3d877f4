"""What arrived at the API: how much of its limit was used, and whether it was ever passed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

REFUSED = "RequestLimitExceeded"


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests that arrived between two moments."""

    requests: int
    accepted: int
    refused: int
    """By the account's limit."""
    above: int
    """Arrived when the second that ended with them had steady the whole limit already."""
    most: int
    """In any one second."""
    seconds: float
    rate: float

    @property
    def goodput(self) -> float:
        """Share of the limit that was used."""
        return self.accepted / self.seconds / self.rate


def traffic_between(stats: dict[str, Any], start: float, end: float, rate: float) -> Traffic:
    """Judge the sandbox's arrivals; `start` and `end` on `time.monotonic()`, as its stamps."""
    arrivals = [(at, code) for at, _, code in stats["arrivals"] if start <= at < end]
    times = [at for at, _ in arrivals]
    above, most = _busiest(times, math.ceil(rate))
    return Traffic(
        requests=len(arrivals),
        accepted=sum(code == "OK" for _, code in arrivals),
        refused=sum(code.startswith(REFUSED) for _, code in arrivals),
        above=above,
        most=most,
        seconds=end - start,
        rate=rate,
    )


def _busiest(times: Sequence[float], places: int) -> tuple[int, int]:
    """Count those above the limit in the sliding second (t - 1, t], and the most in any."""
    recent: deque[float] = deque()
    above = most = 0
    for at in times:
        recent.append(at)
        while recent[0] <= at - 1:
            recent.popleft()
        most = max(most, len(recent))
        above += len(recent) > places
    return above, most


def jain(shares: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1 when all have the same, 1/n when one has all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of them lie (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, math.ceil(share * len(ranked)) - 1))]
