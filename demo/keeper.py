"""The end of a run: Ctrl-C and SIGTERM as one exception, and no process left behind by a kill.

`python -m demo.keeper` reads process ids from its standard input: `+123` is one more to watch,
`-123` one that has ended normally. When its input ends, however the demo ended, it kills those that
are left, each with its process group: nobody needs them any more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Self


class Interrupted(BaseException):
    """The process was asked to end, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP raise `Interrupted` in the main thread, once.

    What follows is the shutdown, which is bounded in time: no second signal cuts it short.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._held = 0
        self._pending: int | None = None

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise them within the block, in the main thread."""
        before = {number: signal.signal(number, self._handle) for number in self._NUMBERS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay signals that come within the block until its end, unless that is an exception."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if not self._held and self._pending is not None:
            self._held += 1
            raise Interrupted(self._pending)

    def hold_for_good(self) -> None:
        """Ignore these signals from now on, during the shutdown."""
        self._held += 1

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._held:
            self._pending = number
            return
        self._held += 1
        raise Interrupted(number)


class Keeper:
    """A process that kills the others; it is told when each starts and when it has ended."""

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
                stderr=subprocess.DEVNULL,  # it may outlive the demo, whose pipe it must not hold
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End it; first it kills the processes that it still knows of."""
        self._process.communicate()

    @contextmanager
    def adopting(self) -> Iterator[Callable[[int], None]]:
        """Yield a function for the id of a process started within; signals wait until then."""
        with self._interrupts.held():
            yield lambda pid: self._write(f"+{pid}")

    def forget(self, pid: int) -> None:
        """Stop watching a process that has ended."""
        self._write(f"-{pid}")

    def _write(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is not None and self._process.poll() is None:
            stdin.write(f"{line}\n".encode())
            stdin.flush()


def main() -> None:
    """Watch processes until the input ends, then kill them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of its input ends it
    groups: set[int] = set()
    for line in sys.stdin:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty by now
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
