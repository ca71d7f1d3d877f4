"""The limiter where its assumptions break: other rates, other clocks."""

from __future__ import annotations

from typing import Any

from redis import Redis

from jobs.keys import Keys
from jobs.scripts import Script, time_us

RATE = 20
WINDOW_US = 1_000_000


class Pace:
    """Calls the limiter's script as workers would that were told some rate."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis, self.keys = redis, keys
        self._reserve = Script(redis, keys, "pace", "worker")
        self._slow_down = Script(redis, keys, "slow_down", "worker")

    def event(self, rate: int = RATE) -> int:
        """Reserve an event's slot; its time in µs."""
        reply: Any = self._reserve(
            lane="event",
            place="",
            more=0,
            per_window=rate,
            window_us=WINDOW_US,
            horizon_us=40_000,
            late_us=0,
            arrived="",
        )
        return int(reply[3])

    def refuse_one(self) -> int:
        """Have the API refuse a new event's request."""
        sent = self.event()
        slot = int(str(self.redis.hget(self.keys.pace, "slot"))) - 1
        return int(self._slow_down(arrived=f"{slot}:{RATE}:{sent}:80000"))


def most_in_any_second(slots: list[int]) -> int:
    slots = sorted(slots)
    return max(sum(1 for other in slots if at <= other < at + WINDOW_US) for at in slots)


def test_workers_that_were_told_different_rates_keep_the_lowest_together(
    redis: Redis, keys: Keys
) -> None:
    pace = Pace(redis, keys)

    slots = [pace.event(rate) for _ in range(100) for rate in (20, 10)]

    assert most_in_any_second(slots[2:]) <= 10 + 1  # a boundary's two ends lie in one second
    assert most_in_any_second(slots) <= 20


def test_a_lower_rate_is_forgotten_when_nobody_is_told_it_any_more(
    redis: Redis, keys: Keys
) -> None:
    pace = Pace(redis, keys)
    pace.event(10)
    seen: Any = redis.hget(keys.pace, "rate_seen_us")
    redis.hset(keys.pace, "rate_seen_us", int(seen) - 11_000_000)

    pace.event(20)

    assert redis.hget(keys.pace, "per_window") == "20"


def test_a_long_line_of_events_is_no_clock_that_jumped(redis: Redis, keys: Keys) -> None:
    pace = Pace(redis, keys)

    slots = [pace.event(1) for _ in range(300)]

    assert most_in_any_second(slots) == 1


def test_a_clock_that_went_back_means_silence_for_a_second_and_then_the_rate(
    redis: Redis, keys: Keys
) -> None:
    pace = Pace(redis, keys)
    pace.event()
    pace.refuse_one()
    for field in ("asked_us", "next_us", "level_at_us", "refused_at_us", "rate_seen_us"):
        redis.hincrby(keys.pace, field, 200_000_000)  # as if this server's clock were now behind

    now_us = time_us(redis.time())
    slots = [pace.event() for _ in range(60)]

    assert min(slots) >= now_us + WINDOW_US
    assert most_in_any_second(slots) <= RATE
    assert pace.refuse_one() > 0
