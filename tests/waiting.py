"""Waiting for what other threads and processes do, without sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 120.0
"""Ample for two cores at a load of 20; nobody waits this long where all is well."""
_LONGEST_PAUSE_S = 0.05

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], what: str = "it", patience_s: float = PATIENCE_S) -> T:
    """Return what `predicate` returns, once that is true; fail if it is not within `patience_s`."""
    deadline = time.monotonic() + patience_s
    pause_s = 0.01  # longer and longer: to ask costs the same cores that the answer needs
    while not (result := predicate()):
        assert time.monotonic() < deadline, f"{what} did not come true within {patience_s} s"
        time.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.2)
    return result
