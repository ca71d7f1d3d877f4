"""The end of a worker: every nap in it can be cut short, and says so."""

from __future__ import annotations

import threading
import time

import tenacity

PATIENCE_S = 5.0
"""Seconds that a known outcome is still tried to be recorded after the order to stop."""


class Stopping(Exception):  # noqa: N818 (no error: an order)
    """The worker is being stopped; hand back what has not been sent."""


class Shutdown:
    """Set once by the order to stop. Thread-safe."""

    def __init__(self) -> None:
        self._ordered = threading.Event()
        self._at = float("inf")

    def order(self) -> None:
        """Stop: every nap ends now."""
        self._at = min(self._at, time.monotonic())
        self._ordered.set()

    def nap(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Stopping: the worker is being stopped, or was when it was called.
        """
        if self._ordered.wait(max(0.0, seconds)):
            raise Stopping

    def out_of_patience(self, _: tenacity.RetryCallState) -> bool:
        """Tell a `tenacity` loop when even what must be recorded can be waited for no longer."""
        return time.monotonic() > self._at + PATIENCE_S
