"""The end of a worker: every nap in it can be cut short, and it comes in time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import tenacity

PATIENCE_S = 5.0
"""Seconds after the order to stop in which a known outcome is still recorded."""
LAST_RESORT_S = 9.0
"""Seconds beyond the deadline of an HTTP call after which a stopping worker ends by force."""

_LAST_WORDS_S = 3.0


class Stopping(Exception):  # noqa: N818 (no error: an order)
    """The worker is being stopped; hand back what has not been sent."""


class Shutdown:
    """Set once by the order to stop. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ordered = threading.Event()
        self._at = float("inf")
        self.asleep_until = 0.0
        """When the last of the naps is over that were begun, by `time.monotonic`."""

    def order(self) -> bool:
        """Stop: every nap ends now. True the first time."""
        is_first = not self._ordered.is_set()
        self._at = min(self._at, self._clock())
        self._ordered.set()
        return is_first

    def nap(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Stopping: the worker is being stopped, or was when it was called.
        """
        seconds = max(0.0, seconds)
        self.asleep_until = max(self.asleep_until, self._clock() + seconds)
        if self._ordered.wait(seconds):
            raise Stopping

    def out_of_patience(self, _: tenacity.RetryCallState) -> bool:
        """Return whether a `tenacity` loop must give up even on what should be recorded."""
        return self._clock() > self._at + PATIENCE_S


def end_by_force(after_s: float, last_words: Callable[[], None] = lambda: None) -> None:
    """End the process after so many seconds, whatever hangs in it, its last words included.

    Celery's and kombu's own ways out wait for a Redis that is silent for a minute and more. Nothing
    is lost by it: the leases run out, and other workers probe what was in work.
    """

    def end() -> None:
        speaker = threading.Thread(target=last_words, daemon=True)
        speaker.start()
        speaker.join(_LAST_WORDS_S)
        os._exit(1)

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()
