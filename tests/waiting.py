"""Waiting for what other threads and processes do, without sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 60.0
"""Ample for two cores at a load of 20; nobody waits this long where all is well."""

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], what: str = "it", patience_s: float = PATIENCE_S) -> T:
    """Give what `predicate` gives, once that is true; fail if it is not within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not (result := predicate()):
        assert time.monotonic() < deadline, f"{what} did not come true within {patience_s} s"
        time.sleep(0.01)
    return result
