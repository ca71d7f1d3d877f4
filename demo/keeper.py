"""The end of a run: Ctrl-C and SIGTERM as one exception, and no process left behind by a kill.

`python -m demo.keeper` reads process ids on its standard input: `+123` is one more to look after,
`-123` one that has ended in order. When that input ends, in whatever way the demo has ended, it
ends all that are left: each is the head of a process group of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Self

PATIENCE_S = 8.0
"""Between SIGTERM and SIGKILL; then the server gets as much."""
LETTING_GO_S = 12.0


class Interrupted(BaseException):
    """The process was asked to end, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP raise `Interrupted` in the main thread, once.

    What follows is the end, which is bounded in time: no second signal cuts it short.
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
        """Ignore all signals from now on: what follows is the end."""
        self._held += 1

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._held:
            self._asked = number
            return
        self._held += 1
        raise Interrupted(number)


class Keeper:
    """A process that ends the others; it learns of each when it starts and when it has ended."""

    def __init__(self, environment: Mapping[str, str], interrupts: Interrupts) -> None:
        self._environment = environment
        self._interrupts = interrupts

    def __enter__(self) -> Self:
        with self._interrupts.held():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "demo.keeper"],
                env=dict(self._environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it may outlive the demo, and holds no pipe of its open
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End it; before, it ends what it still knows of."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(LETTING_GO_S)

    @contextmanager
    def adopting(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes the id of what is started within; no signal comes between."""
        with self._interrupts.held():
            yield lambda pid: self._tell(f"+{pid}")

    def forget(self, pid: int) -> None:
        """Leave a process alone, which has ended."""
        self._tell(f"-{pid}")

    def _tell(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is not None and self._process.poll() is None:
            stdin.write(f"{line}\n".encode())
            stdin.flush()


def main() -> None:
    """Look after processes until the input ends, then end them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its input, and by nothing else
    groups: dict[int, None] = {}
    for line in sys.stdin:
        sign, group = line[0], int(line[1:])
        if sign == "+":
            groups[group] = None
        else:
            groups.pop(group, None)
    for others in (list(groups)[1:], list(groups)[:1]):  # the others need the first, the server
        _end(others)


def _end(groups: Iterable[int]) -> None:
    left = [group for group in groups if _signal(group, signal.SIGTERM)]
    deadline = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [group for group in left if _signal(group, 0)]
    for group in left:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Send a signal (0: none) to a group; False if there is nobody in it any more."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
