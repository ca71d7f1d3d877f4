"""Ends the demo's processes when the demo cannot do so itself, because it was killed.

`python -m demo.keeper` reads process ids on its standard input: `+123` is one more to look after,
`-123` one that has ended in order. When that input ends, in whatever way the demo has ended, it
ends all that are left: each is the head of a process group of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from demo.interrupts import Interrupts

PATIENCE_S = 8.0
"""Between SIGTERM and SIGKILL; then the server gets as much."""
LETTING_GO_S = 12.0


class Keeper:
    """Told of each process when it starts and when it has ended."""

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
        """Let it go; it ends what it still knows of."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(LETTING_GO_S)

    @contextmanager
    def adopting(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes the id of what is started within; no interrupt is between."""
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
