"""Counting requests in sliding time: the rate limit, and how busy the busiest second was.

Pure: times come in as integers, nanoseconds on a clock that never goes back. A span is half-open,
(t - length, t]: two requests exactly one second apart are not in the same second.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

SECOND_NS: Final = 1_000_000_000


class SlidingWindow:
    """Admits at most `rate` requests in any second. A refused request takes no place.

    A rate that is no whole number is kept exactly over a longer or shorter span: 2.5 is 3 in any
    1.2 s, 0.5 is 1 in any 2 s. A rate of 0 admits everything.
    """

    def __init__(self, rate: float) -> None:
        self._admitted: deque[int] = deque()
        self.rate = rate

    @property
    def rate(self) -> float:
        """Requests per second; may be changed at any time, what was admitted is remembered."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if not rate >= 0 or math.isinf(rate):
            raise ValueError(f"a rate is 0 (no limit) or more per second, not {rate}")
        self._rate = rate
        self.places = math.ceil(rate)
        self.length_ns = math.ceil(self.places / rate * SECOND_NS) if rate else 0

    def admit(self, at_ns: int) -> bool:
        """Whether a request that arrives at `at_ns` (not before the last one) is let in."""
        if not self.places:
            return True
        while self._admitted and self._admitted[0] <= at_ns - self.length_ns:
            self._admitted.popleft()
        if len(self._admitted) >= self.places:
            return False
        self._admitted.append(at_ns)
        return True

    def clear(self) -> None:
        """Forget all requests."""
        self._admitted.clear()


class BusiestSecond:
    """The most arrivals seen in any second, whatever became of them."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self.most = 0

    def add(self, at_ns: int) -> int:
        """Count an arrival; returns how many there were in the second that ends with it."""
        self._recent.append(at_ns)
        while self._recent[0] <= at_ns - SECOND_NS:
            self._recent.popleft()
        count = len(self._recent)
        self.most = max(self.most, count)
        return count
