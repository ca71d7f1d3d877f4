"""When to try again: the whole policy, as numbers and one `tenacity` loop.

Short waits are slept in the worker's thread; a longer one parks the job in the ledger, so that no
thread and no slot is held for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import random

import tenacity

from config.settings import Settings

LONGEST_SLEEP_S = 4.0
"""Waits up to this are slept; longer ones are parked, but for those of a job in doubt."""
TOO_OFTEN_TRIES = 2
"""Long waits granted to a number that is refused as too often, before it is a dead letter."""
_GROWTH = 3.0


@dataclass(frozen=True, slots=True)
class Again:
    """An attempt that is to be followed by another, `wait_s` seconds later."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before the next attempt, in seconds."""

    settings: Settings

    def pause_s(self, attempts: int, *, in_doubt: bool) -> float:
        """Return the wait after that many failed attempts: the back-off, then three times as long.

        Jitter adds up to a half. A job in doubt never waits longer than `longest_probe_pause_s`.
        """
        jitter = 1 + random() / 2  # noqa: S311
        pause = self.settings.sendcode_backoff * _GROWTH ** (attempts - 1) * jitter
        return min(pause, self.longest_probe_pause_s) if in_doubt else pause

    @property
    def longest_probe_pause_s(self) -> float:
        """A tenth of the number's interval: all probes must fall inside it."""
        return self.settings.sendcode_phone_interval / 10

    def too_often_pause_s(self, waits: int) -> float:
        """Return the wait before a number refused as too often is tried again."""
        return self.settings.sendcode_frequency_wait * _GROWTH**waits


def retrying(sleep: Callable[[float], None]) -> tenacity.Retrying:
    """Return the loop around attempts: it goes on while an attempt returns `Again`."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda result: isinstance(result, Again)),
        wait=_wait_s,
        sleep=sleep,
    )


def _wait_s(state: tenacity.RetryCallState) -> float:
    result = state.outcome.result() if state.outcome else None
    return result.wait_s if isinstance(result, Again) else 0.0
