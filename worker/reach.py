"""Whether this process reaches the API at all, while other workers' codes are sent.

A machine's route, proxy, egress rule or trusted certificates may be wrong where those of all others
are right. Its jobs are good: others should send them. Where nobody's codes are sent, the API is
out, and that is not for one process to decide (`Account.record_miss`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FEWEST = 3
"""Calls in a row that did not get out, before the fault is taken to be this process' own."""


class Reach:
    """Counts the calls in a row that never left. Thread-safe; one per process."""

    def __init__(self, settle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with none.

        `settle_s`: after so many seconds every call that was under way then has ended.
        """
        self.cut_off: tuple[str, str] | None = None
        """Why this process takes no work, until it reaches the API: the last call's code and
        message."""
        self._settle_s = settle_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._since = 0.0
        self._sent_then = 0
        self._sent_later: int | None = None

    def note_reached(self) -> None:
        """Note that the API, or what stands in front of it, was reached."""
        with self._lock:
            self._failures = 0
            self.cut_off = None

    def note_failed(self, code: str, message: str, sent: int) -> bool:
        """Note a call that never left; `sent` codes have been sent so far, by all workers.

        Return whether codes were sent since the first of these calls: then its job is better left
        to others. Only codes whose calls began after it show that others reach the API still, and
        cut this process off.
        """
        with self._lock:
            now = self._clock()
            if not self._failures:
                self._since, self._sent_then, self._sent_later = now, sent, None
            self._failures += 1
            if self._sent_later is None:
                if now >= self._since + self._settle_s:
                    self._sent_later = sent
            elif sent > self._sent_later and self._failures >= FEWEST:
                self.cut_off = code, message
            return self._failures >= FEWEST and sent > self._sent_then
