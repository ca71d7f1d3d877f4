"""Waiting for what other threads and processes do, without sleeping and hoping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from demo.world import pauses

PATIENCE_S = 120.0
"""Ample for two cores at a load of 20; nobody waits this long where all is well."""

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], what: str = "it", patience_s: float = PATIENCE_S) -> T:
    """Return what `predicate` returns, once that is true; fail if it is not within `patience_s`."""
    for _ in pauses(patience_s):
        if result := predicate():
            return result
    raise AssertionError(f"{what} did not come true within {patience_s} s")
