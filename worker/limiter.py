"""The account's rate, shared by all workers: who may send when.

One Lua script (`pace.lua`) on Redis' clock hands out slots; a caller learns in one round trip how
long to wait, so nobody polls. Within a process the batch threads queue up in front of it, one of
them asking at a time; whoever asks fetches the next one's turn, too. Events ask at once.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import redis

from config.logging import fields
from config.settings import Settings
from jobs.job import Lane
from jobs.keys import Keys
from jobs.scripts import Script
from worker.deadline import now_s

log = logging.getLogger("sendcode.limiter")

HORIZON_S = 0.033
HORIZON_SLOTS = 2
"""How far ahead a batch caller may reserve, whichever is longer, and as much further as Redis is
away. It comes back at less than half of that (pace.lua), as its slot may come later than planned.
An event takes such a slot all the same, until its holder begins to use it."""
LEAST_WAY = 0.25
"""Share of the shortest round trip to Redis that either direction takes at least: presumed, as no
clock can measure it."""
SURE = 20
"""Round trips to measure before the shortest is trusted: the first connect and load the script."""
CREEP = 1.001
"""Factor by which the shortest round trip grows each time, until a measured one is not longer."""
OLD_TURN_S = 1.0
"""Seconds after which a turn that no thread took is given up."""
LATEST_S = 0.06
"""Seconds after which an unused slot is over: no report of it may have come in time, and pace.lua
presumes that its request arrived by then."""
EARLY, OVERDUE = 0.4, 0.7
"""How old a slot is, as a share of the limiter's window, when the arrival of a request that is not
answered yet travels with its process' next call of pace.lua, and when it must be reported alone."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the account's rate."""

    number: int
    per_window: int
    at_us: int
    """On Redis' clock."""
    asked: float
    """`now_s` when Redis can have been asked at the earliest."""
    opens: float
    """`now_s` from which on the request may be written."""
    closes: float
    """`now_s` after which it must not be written any more. Redis may have meant the slot to be as
    early as `asked` + `wait_s`: its answer may have been on its way for any time."""
    wait_s: float
    held: bool = False
    """An event may take it from its holder, who has another then, until that begins to use it."""

    def moved_to(self, number: int, at_us: int) -> Slot:
        """Return the slot that its holder has instead."""
        later_s = (at_us - self.at_us) / 1e6
        return replace(
            self,
            number=number,
            at_us=at_us,
            opens=self.opens + later_s,
            closes=self.closes + later_s,
            wait_s=self.wait_s + later_s,
        )

    def on_redis_clock_us(self, moment: float) -> int:
        """Return what Redis' clock shows at a `now_s`, at most."""
        return self.at_us + max(0, round((moment - self.asked - self.wait_s) * 1e6))

    def arrival(
        self, sent: float | None, answered: float | None, acknowledged: float | None
    ) -> str:
        """Return when this slot's request reached the API at the latest, as the scripts read it.

        All three are `now_s`: when the request was written, if it was, when the first byte of the
        answer came, if one did, and when the request was acknowledged, if that is known.
        `note_arrival` in arrivals.lua has the format.
        """
        if sent is None:
            return f"{self.number}:{self.per_window}:::"
        sent_us = self.on_redis_clock_us(sent)
        answer_us, way_us = (
            "" if at is None else max(0, round((at - sent) * 1e6))
            for at in (answered, acknowledged)
        )
        return f"{self.number}:{self.per_window}:{sent_us}:{answer_us}:{way_us}"


@dataclass(frozen=True, slots=True)
class _Turn:
    """A place in the batch line, and the `now_s` at which to ask with it."""

    place: str
    comes: float


class Limiter:
    """Hands out slots. Thread-safe; one per process."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        sleep: Callable[[float], object],
        now: Callable[[], float] = now_s,
    ) -> None:
        """Prepare it. `sleep` waits so many seconds; what it raises ends the wait for a slot."""
        keys = Keys(settings.sendcode_key_prefix)
        self._reserve = Script(client, keys, "pace", "worker")
        self._slow_down = Script(client, keys, "slow_down", "worker")
        self._arrived = Script(client, keys, "arrived", "worker")
        self.per_window = max(1, math.floor(settings.sendcode_rate_limit))
        self._window_us = round(self.per_window / settings.sendcode_rate_limit * 1e6)
        self._horizon_s = max(HORIZON_S, HORIZON_SLOTS / settings.sendcode_rate_limit)
        self._sleep = sleep
        self._now = now
        self._gate = threading.Lock()
        self._count = threading.Lock()
        self._waiting = 0
        self._next_turn: _Turn | None = None
        self._warned_of_rate = False
        self._last: tuple[int, int, float, int] | None = None
        """Of the newest slot: its number and time; when it was asked for, by `now_s` and Redis."""
        self._answer_s = 0.0
        """Seconds that a round trip to Redis takes at least: the first one, or a quicker one since;
        creeps up, to follow the network."""
        self._shortest_s, self._measured = math.inf, 0
        """The same, but growing so slowly that stalls of a busy machine do not count as distance,
        and of how many it is the shortest."""
        self._arrivals: dict[int, tuple[float, str]] = {}
        """Slot number → when it opened, and the arrival of its request, not yet reported."""
        self._has_arrivals = threading.Condition()
        self._reporter: threading.Thread | None = None
        self._awaited = math.inf
        """When the slot opened whose report the reporter waits for; infinity: none."""

    def take(self, lane: Lane, late_s: float = 0) -> Slot:
        """Reserve a slot; the caller sends when it `opens`, or `late_s` later.

        Raises:
            Stopping: the worker is being stopped (raised by `sleep`).
            redis.RedisError: no Redis, no sending.
        """
        if lane is Lane.EVENT:
            reply = self._ask(lane, late_s, place="", more=False)
            if isinstance(reply, _Turn):
                raise TypeError("an event was sent into the batch line")
            return reply[0]
        with self._count:
            self._waiting += 1
        try:
            with self._gate:
                return self._take_in_turn(lane, late_s)
        finally:
            with self._count:
                self._waiting -= 1

    def slow_down(self, arrived: str) -> float | None:
        """Slow all workers, after a refusal by the API of the request whose `Slot.arrival` this is.

        Return the rate's share from now on, or None if the refusal showed nothing new.
        """
        factor = self._slow_down(arrived=arrived)
        return factor / 1000 if factor >= 0 else None

    def acknowledged(self, slot: Slot, sent: float, at: float) -> None:
        """Note that a slot's request was acknowledged; its answer may take long.

        It is reported in time for the slot a window later, if `settle` was not called by then.
        """
        with self._has_arrivals:
            self._arrivals[slot.number] = slot.opens, slot.arrival(sent, None, at)
            if self._reporter is None:
                self._reporter = threading.Thread(target=self._report_overdue, daemon=True)
                self._reporter.start()
            elif slot.opens < self._awaited:  # it is to be reported before that
                self._has_arrivals.notify()

    def settle(self, slot: Slot) -> None:
        """Leave the report of a slot's arrival to whoever calls this."""
        with self._has_arrivals:
            self._arrivals.pop(slot.number, None)

    def report_arrival(self, arrived: str) -> None:
        """Record a `Slot.arrival` that no outcome carries along soon.

        Raises:
            redis.RedisError: perhaps it was not; after a late request, a slot may open too early.
        """
        self._arrived(arrived=arrived)

    def _report_overdue(self) -> None:
        """Report each arrival that no outcome and no call of pace.lua has carried in time."""
        while True:
            overdue_s = OVERDUE * self._window_us / 1e6 - 2 * self._answer_s
            with self._has_arrivals:
                opened = min((at for at, _ in self._arrivals.values()), default=math.inf)
                self._awaited = opened
                if opened == math.inf:
                    self._has_arrivals.wait()
                elif overdue_s > (age_s := self._now() - opened):
                    self._has_arrivals.wait(overdue_s - age_s)
            if arrived := self._older_than(overdue_s):
                with suppress(redis.RedisError):  # the outcome will report it again
                    self._arrived(arrived=arrived)

    def _older_than(self, age_s: float) -> str:
        """Take out the arrivals of requests whose slots opened at least `age_s` ago."""
        if not self._arrivals:
            return ""
        opened = self._now() - age_s
        with self._has_arrivals:
            numbers = [number for number, (at, _) in self._arrivals.items() if at <= opened]
            return " ".join(self._arrivals.pop(number)[1] for number in numbers)

    def _take_in_turn(self, lane: Lane, late_s: float) -> Slot:
        # the caller before fetched this turn; an old one has lapsed
        turn, self._next_turn = self._next_turn, None
        if turn is not None and turn.comes < self._now() - OLD_TURN_S:
            turn = None
        while True:
            if turn is not None:
                self._sleep(max(0.0, turn.comes - self._now()))
            place = turn.place if turn else ""
            reply = self._ask(lane, late_s, place=place, more=self._waiting > 1)
            if not isinstance(reply, _Turn):
                slot, self._next_turn = reply
                return slot
            turn = reply

    def _expected_at(self, moment: float) -> dict[str, int]:
        """Return the last slot that is known, and what Redis' clock should show at `moment`."""
        if self._last is None:
            return {}
        number, at_us, asked, asked_us = self._last
        expected_us = asked_us + round((moment - asked) * 1e6)
        return {"last": number, "last_us": at_us, "expected_us": expected_us}

    def _ask(
        self, lane: Lane, late_s: float, *, place: str, more: bool
    ) -> _Turn | tuple[Slot, _Turn | None]:
        self._sleep(0)  # a worker that is being stopped takes no slot from the others
        # a slot is a time on Redis' clock, and is used when the answer is here
        late_s += self._answer_s
        asked = self._now()
        reply: Any = self._reserve(
            lane=str(lane),
            place=place,
            more=int(more),
            per_window=self.per_window,
            window_us=self._window_us,
            horizon_us=round((self._horizon_s + late_s) * 1e6),
            late_us=round(late_s * 1e6),
            arrived=self._older_than(EARLY * self._window_us / 1e6),
            **self._expected_at(asked),
        )
        answered = self._now()
        took_s = answered - asked
        more_s = (took_s - self._answer_s) / 20 if self._answer_s else took_s
        self._answer_s = min(took_s, self._answer_s + more_s)
        with self._count:
            self._measured += 1
            self._shortest_s = min(took_s, self._shortest_s * CREEP)
            least_s = self._shortest_s * LEAST_WAY if self._measured >= SURE else 0.0
        if reply[0] == "turn":
            return _Turn(reply[1], answered - self._answer_s + int(reply[2]) / 1e6)
        wait_us, number, at_us = map(int, reply[1:4])
        next_place, next_us, per_window, newest, newest_us = reply[4], *map(int, reply[5:9])
        if per_window != self.per_window and not self._warned_of_rate:
            self._warned_of_rate = True
            log.warning(
                "another worker is set to a lower rate, which holds: set SENDCODE_RATE_LIMIT alike",
                extra=fields(mine=self.per_window, lowest=per_window),
            )
        wait_s = wait_us / 1e6
        asked, answered = asked + least_s, answered - least_s
        closes = asked + wait_s + late_s + LATEST_S
        held = lane is Lane.BATCH
        slot = Slot(number, per_window, at_us, asked, answered + wait_s, closes, wait_s, held)
        if self._last is None or newest > self._last[0]:
            self._last = newest, newest_us, asked, at_us - wait_us
        return slot, _Turn(
            next_place, answered - self._answer_s + next_us / 1e6
        ) if next_place else None
