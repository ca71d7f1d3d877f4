"""What the sandbox has received and done, for tests and the demo to read.

No code may be sent twice: one entry in `NumberRecord.accepted_ns` is one code sent to a telephone.
Times are nanoseconds on the machine's monotonic clock, which all its processes share. A span of
time is half-open, (t - length, t]: two requests exactly one second apart are not in the same
second. The last `MAX_ARRIVALS` arrivals are kept (about 150 MB when full); counts are kept for
ever.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

SECOND_NS: Final = 1_000_000_000
MAX_ARRIVALS: Final = 1_000_000
OK: Final = "OK"


class SlidingWindow:
    """Admits at most `rate` requests in any second. A refused request does not count.

    A fractional rate is kept exactly over a longer span: 2.5 is 3 in any 1.2 s, 0.5 is 1 in any
    2 s. A rate of 0 admits everything.
    """

    def __init__(self, rate: float) -> None:
        self._admitted: deque[int] = deque()
        self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        """Change the rate (requests per second); admitted requests still count."""
        if not rate >= 0 or math.isinf(rate):
            raise ValueError(f"a rate is 0 (no limit) or more per second, not {rate}")
        self.places = math.ceil(rate)
        self.length_ns = math.ceil(self.places / rate * SECOND_NS) if rate else 0

    def admit(self, at_ns: int) -> bool:
        """Return whether a request at `at_ns` (not before the last) is admitted; count it then."""
        if not self.places:
            return True
        while self._admitted and self._admitted[0] <= at_ns - self.length_ns:
            self._admitted.popleft()
        if len(self._admitted) >= self.places:
            return False
        self._admitted.append(at_ns)
        return True

    def clear(self) -> None:
        self._admitted.clear()


class BusiestSecond:
    """Counts the most arrivals in any second, however they were answered."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self.most = 0

    def add(self, at_ns: int) -> int:
        """Count an arrival; return how many there were in the second that ends with it."""
        self._recent.append(at_ns)
        while self._recent[0] <= at_ns - SECOND_NS:
            self._recent.popleft()
        count = len(self._recent)
        self.most = max(self.most, count)
        return count


@dataclass(slots=True)
class NumberRecord:
    """One telephone, by the digits of its international form.

    `requests` reached the API, however it answered; `tries` passed signature, rate and parameters
    (magic numbers count these). Somebody else's code may have started its interval.
    """

    requests: int = 0
    tries: int = 0
    accepted_ns: list[int] = field(default_factory=list)
    interval_from_ns: int | None = None


class Journal:
    """Counts and arrivals since the start or the last reset."""

    def __init__(self, started_ns: int) -> None:
        self.started_ns = started_ns
        self.numbers: dict[str, NumberRecord] = {}
        self.rejected_rate_limit = 0
        self.refused_interval = 0
        self.redirects_followed = 0
        self.worst_lag_ns = 0
        self._requests = 0
        self._accepted = 0
        self._over_limit = 0
        self._busiest = BusiestSecond()
        self._arrivals: deque[tuple[int, str | None, str]] = deque(maxlen=MAX_ARRIVALS)
        self._codes: Counter[str] = Counter()
        self._behaviours: Counter[str] = Counter()

    def number(self, number: str) -> NumberRecord:
        """Return the record of `number`; create it if there is none."""
        return self.numbers.setdefault(number, NumberRecord())

    def record_arrival(self, at_ns: int, places: int) -> None:
        """Count a request on arrival; `places` is what the limit allows per second, or 0."""
        self._requests += 1
        in_this_second = self._busiest.add(at_ns)
        if places and in_this_second > places:
            self._over_limit += 1

    def record_sent(self, record: NumberRecord, at_ns: int) -> None:
        """Record that a code was sent."""
        self._accepted += 1
        record.accepted_ns.append(at_ns)
        record.interval_from_ns = at_ns

    def record_answer(
        self, at_ns: int, number: str | None, code: str | None, behaviour: str | None = None
    ) -> None:
        """Record how the request that arrived at `at_ns` was answered."""
        self._arrivals.append((at_ns, number, code or OK))
        self._codes[code or OK] += 1
        if behaviour is not None:
            self._behaviours[behaviour] += 1

    def record_lag(self, lag_ns: int) -> None:
        """Record that the event loop ran `lag_ns` late: timestamps may be as late."""
        self.worst_lag_ns = max(self.worst_lag_ns, lag_ns)

    def snapshot(self, *, now_ns: int, numbers: bool, arrivals: bool) -> dict[str, object]:
        """Return it all as a JSON object; `numbers` and `arrivals` include the long parts."""
        accepted = {
            number: len(record.accepted_ns)
            for number, record in self.numbers.items()
            if record.accepted_ns
        }
        doubled = {number: count for number, count in accepted.items() if count > 1}
        document: dict[str, object] = {
            "requests": self._requests,
            "accepted": self._accepted,
            "accepted_numbers": len(accepted),
            "doubled": len(doubled),
            "doubled_numbers": doubled,
            "rejected_rate_limit": self.rejected_rate_limit,
            "refused_interval": self.refused_interval,
            "most_in_any_second": self._busiest.most,
            "over_limit": self._over_limit,
            "redirects_followed": self.redirects_followed,
            "codes": dict(self._codes),
            "behaviours": dict(self._behaviours),
            "since": _seconds(self.started_ns),
            "now": _seconds(now_ns),
            "worst_lag_ms": self.worst_lag_ns / 1e6,
        }
        if numbers:
            document["accepted_per_number"] = accepted
        if arrivals:
            document["arrivals_forgotten"] = self._requests - len(self._arrivals)
            document["arrivals"] = [[_seconds(at), *rest] for at, *rest in self._arrivals]
        return document

    def number_snapshot(self, number: str) -> dict[str, object]:
        """Return what is known of one number as a JSON object; zeros for an unknown one."""
        record = self.numbers.get(number, NumberRecord())
        return {
            "number": number,
            "requests": record.requests,
            "accepted": len(record.accepted_ns),
            "accepted_at": [_seconds(at) for at in record.accepted_ns],
        }


def _seconds(ns: int) -> float:
    return ns / SECOND_NS
