"""The account's rate, shared by all workers: who may send when.

One Lua script (`pace.lua`) on Redis' clock hands out slots; a caller learns in one round trip how
long to wait, so nobody polls. Within a process the batch threads queue up in front of it, one of
them asking at a time; whoever asks takes the next one's turn along. Events ask at once.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import redis

from config.settings import Settings
from jobs.job import Lane
from jobs.keys import Keys
from jobs.scripts import load_script

HORIZON_S = 0.02
"""How far ahead a batch caller may reserve: what an event can find taken in front of it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the account's rate."""

    number: int
    per_window: int
    at_us: int
    """On Redis' clock."""
    asked: float
    """`monotonic` when the reservation was asked for: at most that early is Redis' "now"."""
    opens: float
    """`monotonic` from which on the request may be written."""
    wait_s: float

    def arrival(self, sent: float, answered: float) -> str:
        """Tell the ledger when this slot's request reached the API at the latest.

        `sent` and `answered` are `monotonic`: when the request was written and when the first byte
        of the answer came. See `note_arrival` in common.lua.
        """
        sent_us = self.at_us + max(0, round((sent - self.asked - self.wait_s) * 1e6))
        rtt_us = max(0, round((answered - sent) * 1e6))
        return f"{self.number}:{self.per_window}:{sent_us}:{rtt_us}"


class Limiter:
    """Hands out slots. Thread-safe; one per process."""

    def __init__(
        self, client: redis.Redis, settings: Settings, sleep: Callable[[float], object]
    ) -> None:
        """Make it. `sleep` waits that many seconds; what it raises ends the wait for a slot."""
        keys = Keys(settings.sendcode_key_prefix)
        self._reserve = load_script(client, keys, "pace", "worker")
        self._slow_down = load_script(client, keys, "slow_down", "worker")
        self.per_window = max(1, math.floor(settings.sendcode_rate_limit))
        self._window_us = round(self.per_window / settings.sendcode_rate_limit * 1e6)
        self._sleep = sleep
        self._gate = threading.Lock()
        self._count = threading.Lock()
        self._waiting = 0
        self._next_turn: float | None = None

    def take(self, lane: Lane) -> Slot:
        """Reserve a slot; the caller sends when it `opens`.

        Raises:
            Stopping: the worker is being stopped (raised by `sleep`).
            redis.RedisError: no Redis, no sending.
        """
        if lane is Lane.EVENT:
            slot, _ = self._ask(lane, turn=False, more=False)
            if isinstance(slot, Slot):
                return slot
            raise AssertionError("an event was sent into the batch line")
        with self._count:
            self._waiting += 1
        try:
            with self._gate:
                return self._take_in_turn(lane)
        finally:
            with self._count:
                self._waiting -= 1

    def slow_down(self) -> float | None:
        """Slow all workers, after a refusal by the API.

        Gives the rate's share from now on, or None if it was slowed for the same burst already.
        """
        factor = self._slow_down(args=[self._window_us])
        return factor / 1000 if factor >= 0 else None

    def _take_in_turn(self, lane: Lane) -> Slot:
        turn = False
        if self._next_turn is not None:
            # the caller before took this turn along; an old one is nobody's any more
            pause, self._next_turn = self._next_turn - monotonic(), None
            if pause > -1:
                turn = True
                self._wait(pause)
        while True:
            slot, next_turn = self._ask(lane, turn=turn, more=self._waiting > 1)
            if isinstance(slot, Slot):
                self._next_turn = next_turn
                return slot
            turn = True
            self._wait(slot)

    def _ask(self, lane: Lane, *, turn: bool, more: bool) -> tuple[Slot | float, float | None]:
        asked = monotonic()
        reply: Any = self._reserve(
            args=[
                str(lane),
                int(turn),
                int(more),
                self.per_window,
                self._window_us,
                round(HORIZON_S * 1e6),
            ]
        )
        answered = monotonic()
        if reply[0] == "turn":
            return int(reply[1]) / 1e6, None
        _, wait_us, number, at_us, next_us = reply
        wait_s = int(wait_us) / 1e6
        next_turn = answered + int(next_us) / 1e6 if int(next_us) >= 0 else None
        slot = Slot(int(number), self.per_window, int(at_us), asked, answered + wait_s, wait_s)
        return slot, next_turn

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)
