"""Ctrl-C and SIGTERM as one exception, and spans of code that they must not cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The process was asked to end, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP raise `Interrupted` in the main thread, the first of them alone.

    What follows the first is the end, which is bounded in time: nothing cuts it short.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._held = 0
        self._asked: int | None = None

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise them within the block."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals reach the main thread only")
        before = {number: signal.signal(number, self._handle) for number in self._NUMBERS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep what comes within the block back until its end, unless it ends by an exception."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if not self._held and self._asked is not None:
            self._held += 1
            raise Interrupted(self._asked)

    def hold_for_good(self) -> None:
        """Let nothing interrupt any more: what follows is the end, and bounded in time."""
        self._held += 1

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._held:
            self._asked = number
            return
        self._held += 1
        raise Interrupted(number)
