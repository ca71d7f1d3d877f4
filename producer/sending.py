"""Is it sending, how late is it, when is it done, and how did the last hour go: as values."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import redis

from config.settings import Settings
from jobs.batch import SLOWEST_RATE, Batch
from jobs.scripts import LedgerPart
from producer.overview import Overview

MINUTES = 60
"""Of the plot."""
_HOUR_MS, _MINUTE_MS = 3_600_000, 60_000


class Standing(StrEnum):
    """What keeps the sending from going on, if anything does; the first that applies."""

    REFUSED = "refused"
    """The ledger is another one, or an older copy: a person must take it as it is."""
    HALTED = "halted"
    """By a person."""
    BARRED = "barred"
    """By the API's answers, or because it does not answer."""
    NO_WORKER = "no_worker"
    PAUSED = "paused"
    """All that waits is in batches that are paused or start later."""
    IDLE = "idle"
    """Nothing waits."""
    SENDING = "sending"

    @property
    def is_trouble(self) -> bool:
        return self in {Standing.REFUSED, Standing.HALTED, Standing.BARRED, Standing.NO_WORKER}


@dataclass(frozen=True, slots=True)
class Sending:
    """The state of sending."""

    standing: Standing
    waiting: int
    """Codes that are still to be sent, of batches and events."""
    done_ms: int | None
    """When all that is under way is done, by the present rate; None where nothing moves."""
    late_s: float
    """For how long the oldest code that could leave has waited; 0 while that is usual."""
    rate: float
    """Codes per second at most, as things are."""

    @property
    def is_halted(self) -> bool:
        return self.standing in {Standing.HALTED, Standing.BARRED}

    @classmethod
    def of(cls, overview: Overview) -> Self:
        moving = [each for each in overview.batches if each.phase in {"running", "importing"}]
        waiting = sum(each.unfinished for each in overview.batches) + overview.events
        standing = _standing(overview, waiting, moving)
        left_s = _left_s(moving, overview.events, overview.rate)
        is_moving = standing is Standing.SENDING and left_s is not None
        return cls(
            standing,
            waiting,
            overview.at_ms + round(1000 * (left_s or 0)) if is_moving else None,
            max(overview.late_s.values(), default=0.0),
            overview.rate,
        )


def _standing(overview: Overview, waiting: int, moving: list[Batch]) -> Standing:
    if overview.ledger.refused or overview.ledger.is_disputed:
        return Standing.REFUSED
    if overview.is_halted:
        return Standing.HALTED if overview.account.by == "person" else Standing.BARRED
    if not overview.alive:
        return Standing.NO_WORKER
    if overview.events or any(each.unfinished for each in moving):
        return Standing.SENDING
    return Standing.PAUSED if waiting else Standing.IDLE


def _left_s(moving: list[Batch], events: int, rate: float) -> float | None:
    """Return how many seconds all that moves takes, at the measured or else the allowed rate."""
    left = sum(each.unfinished for each in moving) + events
    measured = sum(each.rate for each in moving)
    pace = measured if measured > SLOWEST_RATE else rate
    slowest = max((each.unfinished / each.max_rate for each in moving if each.max_rate), default=0)
    return max(left / pace, slowest) if left and pace else None


@dataclass(frozen=True, slots=True)
class Sent:
    """Codes that were sent lately, by Redis' clock."""

    today: int
    """Since this machine's midnight."""
    minutes: tuple[int, ...]
    """In each of the last 60 minutes, the present one last."""


def read_sent(client: redis.Redis, settings: Settings, now_ms: int) -> Sent:
    """Read the last hour and this day, in one round trip."""
    ledger = LedgerPart(client, settings)
    local = time.localtime(now_ms / 1000)
    midnight_ms = round(1000 * time.mktime((*local[:3], 0, 0, 0, 0, 0, -1)))
    since_ms = min(midnight_ms, now_ms - _HOUR_MS)
    hours = range(since_ms // _HOUR_MS, now_ms // _HOUR_MS + 1)
    found = ledger.ask_all(("HGETALL", ledger.keys.sent(str(hour))) for hour in hours)
    by_minute = {
        60 * hour + int(minute): int(count)
        for hour, counts in zip(hours, found, strict=True)
        for minute, count in counts.items()
    }
    now = now_ms // _MINUTE_MS
    return Sent(
        sum(n for minute, n in by_minute.items() if minute >= midnight_ms // _MINUTE_MS),
        tuple(by_minute.get(minute, 0) for minute in range(now - MINUTES + 1, now + 1)),
    )
