"""`python -m producer.demo.keeper`: ends the demo's processes when the demo cannot do so itself.

It reads process ids on its standard input: `+123` is one more to look after, `-123` one that has
ended in order. When that input ends, because the demo has ended, in whatever way, it ends all that
are left: each is the head of a process group of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

PATIENCE_S = 8.0
"""Between SIGTERM and SIGKILL; then the server gets as much."""


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
