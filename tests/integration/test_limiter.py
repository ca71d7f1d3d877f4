"""The limiter: when a caller may send, whatever callers, networks and clocks do.

Slots are looked at by the times that Redis gives them, not by a clock on the wall. Idle time is
made by moving the limiter's own times back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from config.redis import connect
from config.settings import Settings
from jobs.job import Lane
from jobs.keys import Keys
from jobs.scripts import Script, time_us
from tests.waiting import wait_until
from worker.deadline import now_s
from worker.limiter import LATEST_S, SURE, Limiter, Slot
from worker.presence import Shutdown, Stopping

RATE = 20
SECOND = 1_000_000
SPACING = SECOND // RATE
HORIZON = 40_000
BASE_RTT = 80_000
LET_PASS = """
local now = redis.call('TIME')
local micros = tonumber(ARGV[1]) or ARGV[2] - (now[1] * 1000000 + now[2])
if not tonumber(ARGV[1]) and micros < 200000 then return '0' end
local no_times = {'rtt', 'way', 'spread', 'answer', 'unproved', 'caution', 'lag', 'window'}

local function is_time(name)
  for _, other in ipairs(no_times) do
    if name:sub(1, #other) == other then return false end
  end
  return name:sub(-3) == '_us'
end

local function move(key, moved)
  local values, changes = redis.call('HGETALL', key), {}
  for at = 1, #values, 2 do
    local value = moved(values[at], values[at + 1])
    if value then
      changes[#changes + 1] = values[at]
      changes[#changes + 1] = value
    end
  end
  if #changes > 0 then redis.call('HSET', key, unpack(changes)) end
end

move(KEYS[1], function(name, value)
  return is_time(name) and string.format('%.0f', value - micros)
end)
move(KEYS[2], function(_, entry)
  local slot, at = entry:match('^(.*):(.*)$')
  return slot .. ':' .. string.format('%.0f', at - micros)
end)
return string.format('%.0f', micros)
"""
"""Moves the limiter's times back by ARGV[1] µs, or so that Redis' time is ARGV[2] then.

That moves all slots that are known: it is not done for each slot anew, but in leaps of 0.2 s."""


class Pace:
    """The limiter's scripts, called as processes do that keep a rate."""

    def __init__(self, redis: Redis, keys: Keys, rate: int = RATE) -> None:
        self.redis, self.keys, self.rate = redis, keys, rate
        self._reserve = Script(redis, keys, "pace", "worker")
        self._slow_down = Script(redis, keys, "slow_down", "worker")
        self._note = Script(redis, keys, "arrived", "worker")
        self._let_pass = redis.register_script(LET_PASS)

    def event(self, late: int = 0, known: tuple[int, ...] = ()) -> tuple[int, int]:
        """Reserve an event's slot; give its number and time, µs."""
        reply: Any = self._ask("event", "", late, known)
        assert reply[0] == "slot"
        return int(reply[2]), int(reply[3])

    def _ask(
        self, lane: str, place: str, late: int, known: tuple[int, ...], horizon: int = HORIZON
    ) -> Any:
        return self._reserve(
            lane=lane,
            place=place,
            more=0,
            per_window=self.rate,
            window_us=SECOND,
            horizon_us=horizon,
            late_us=late,
            arrived="",
            **dict(zip(("last", "last_us", "expected_us"), known, strict=False)),
        )

    def events(self, count: int) -> list[int]:
        return [self.event()[1] for _ in range(count)]

    def batch(
        self, place: str = "", known: tuple[int, ...] = (), horizon: int = HORIZON
    ) -> list[Any]:
        """Ask as a batch caller; give "slot", wait, number and time, or "turn", place and wait."""
        reply: Any = self._ask("batch", place, 0, known, horizon)
        if reply[0] == "slot":
            return [reply[0], *map(int, reply[1:4])]
        return [reply[0], reply[1], int(reply[2])]

    def arrived(
        self, slot: int, sent: int | None, rtt: int | None, acknowledged: int | None = None
    ) -> None:
        """Report when a slot's request was sent, and how long answer and acknowledgement took."""
        told = ":".join("" if each is None else str(each) for each in (sent, rtt, acknowledged))
        self._note(arrived=f"{slot}:{self.rate}:{told}")

    def refused(self, slot: int, sent: int) -> int:
        """Report the refusal of a slot's request; give the rate's share times 1000, or -1."""
        return int(self._slow_down(arrived=f"{slot}:{self.rate}:{sent}:{BASE_RTT}"))

    def refuse_one(self) -> int:
        """Have the API refuse a new event's request."""
        return self.refused(*self.event())

    def now(self) -> int:
        return time_us(self.redis.time())

    def let_pass(self, micros: int) -> None:
        """Let so much time go by without a call."""
        self._let_pass(keys=[self.keys.pace, self.keys.pace_ring], args=[micros])

    def let_pass_until(self, at: int) -> int:
        """Let time go by until then, if that is no short while; return how much that was, µs."""
        reply: Any = self._let_pass(keys=[self.keys.pace, self.keys.pace_ring], args=["", at])
        return int(reply)


def planned(place: str) -> int:
    """Return the time for which a place in the batch line was planned, µs."""
    return int(place.partition(":")[2])


def earlier(place: str, micros: int) -> str:
    """Move a place as `Pace.let_pass` moves the limiter's own times."""
    return f"{place.partition(':')[0]}:{planned(place) - micros}"


class Process:
    """A caller for events that knows its last slot, on a clock that does not leap."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._last: tuple[int, int] | None = None
        self._leapt = 0

    def event(self) -> int:
        known: tuple[int, ...] = ()
        if self._last is not None:
            number, at = self._last
            known = (number, at - self._leapt, self._pace.now() - self._leapt)
        self._last, self._leapt = self._pace.event(known=known), 0
        return self._last[1]

    def events(self, count: int) -> list[int]:
        return [self.event() for _ in range(count)]

    def see_leap(self, micros: int) -> None:
        """Go on by the old clock where Redis' has leapt ahead."""
        self._leapt += micros


@pytest.fixture
def pace(redis: Redis, keys: Keys) -> Pace:
    return Pace(redis, keys)


def most_in_a_window(arrivals: list[int], window: int = SECOND) -> int:
    arrivals = sorted(arrivals)
    return max(sum(at <= other < at + window for other in arrivals) for at in arrivals)


# the window


def test_slots_of_callers_that_come_at_once_keep_the_rate(pace: Pace) -> None:
    slots = pace.events(100)

    assert most_in_a_window(slots) <= RATE
    assert slots[-1] - slots[0] < 99 * SPACING * 1.08


def test_a_worker_that_is_usually_late_holds_the_others_back_until_it_has_told(
    pace: Pace,
) -> None:
    usually_late = 200_000
    slow = [pace.event(usually_late)[1] for _ in range(RATE)]

    quick = pace.events(15)

    latest = round(LATEST_S * SECOND) + usually_late
    assert most_in_a_window([*(at + latest for at in slow), *quick]) <= RATE


@given(late_ms=st.lists(st.integers(0, 3_000) | st.just(0), min_size=70, max_size=70))
@hypothesis_settings(max_examples=15)
def test_no_window_is_overrun_however_late_requests_leave(pace: Pace, late_ms: list[int]) -> None:
    """A caller that was held up sends late, and reports it before the slot a window on is had."""
    arrivals = []
    pace.redis.delete(pace.keys.pace, pace.keys.pace_ring)
    for late in late_ms:
        slot, at = pace.event()
        pace.arrived(slot, at + late * 1_000, BASE_RTT)
        arrivals.append(at + late * 1_000)

    assert most_in_a_window(arrivals) <= RATE


@given(slow_ms=st.lists(st.integers(0, 50) | st.just(0), min_size=90, max_size=90))
@hypothesis_settings(max_examples=15)
def test_no_window_is_overrun_by_requests_that_are_slow_on_their_way(
    pace: Pace, slow_ms: list[int]
) -> None:
    """How much of an answer's time was the way in is unknown: here all of it was."""
    arrivals = []
    pace.redis.delete(pace.keys.pace, pace.keys.pace_ring)
    for n, slow in enumerate(slow_ms):
        slot, at = pace.event()
        slow_us = slow * 1_000 if n else 0  # the first tells what is usual
        pace.arrived(slot, at, BASE_RTT + slow_us)
        arrivals.append(at + slow_us)

    # what is usual is learned slowly anew: some ms are the price
    assert most_in_a_window(arrivals, SECOND - 5_000) <= RATE


@pytest.mark.parametrize("reported", ["with the answer", "while the API works"])
def test_how_long_the_api_works_holds_nothing_back_where_requests_are_acknowledged(
    reported: str, pace: Pace
) -> None:
    slots = []
    for n in range(100):
        slot, at = pace.event()
        pace.arrived(slot, at, None, 1_000)
        if reported == "with the answer":
            pace.arrived(slot, at, BASE_RTT + n % 7 * 100_000, 1_000)
        slots.append(at)

    assert slots[-1] - slots[0] < 99 * SPACING * 1.015


def test_a_late_request_costs_one_slot_at_most(pace: Pace) -> None:
    slots, arrivals = [], []
    for n in range(70):
        slot, at = pace.event()
        late_us = 400_000 if n == RATE else 0
        pace.arrived(slot, at, None, 1_000 + late_us)
        slots.append(at)
        arrivals.append(at + late_us)

    assert slots[-1] - slots[0] < 69 * SPACING * 1.03
    assert most_in_a_window(arrivals) <= RATE


@given(slow_ms=st.lists(st.integers(0, 300) | st.just(0), min_size=90, max_size=90))
@hypothesis_settings(max_examples=15)
def test_no_window_is_overrun_by_requests_that_are_acknowledged_late(
    pace: Pace, slow_ms: list[int]
) -> None:
    arrivals = []
    pace.redis.delete(pace.keys.pace, pace.keys.pace_ring)
    for slow in slow_ms:
        slot, at = pace.event()
        pace.arrived(slot, at, None, 10_000 + slow * 1_000)
        arrivals.append(at + slow * 1_000)

    assert most_in_a_window(arrivals) <= RATE


def test_an_answer_time_that_varies_little_is_believed_to_be_the_queue_in_front_of_the_counting(
    pace: Pace,
) -> None:
    queue_ms = [0, 9, 4, 17, 0, 2, 30, 1, 5, 12]
    arrivals = []
    for n in range(120):
        slot, at = pace.event()
        queue_us = queue_ms[n % 10] * 1_000
        pace.arrived(slot, at, BASE_RTT + queue_us, 1_000)
        arrivals.append(at + queue_us)

    assert most_in_a_window(arrivals[40:]) <= RATE


@pytest.mark.parametrize(
    ("queue_ms", "late_ms", "believed_ms"),
    [(0, 200, (0, 40)), (10, 200, (150, 250)), (0, 400, (400, 450))],
)
def test_an_answer_that_gets_lost_is_no_queue_where_answers_vary_no_more_than_acknowledgements(
    queue_ms: int, late_ms: int, believed_ms: tuple[int, int], redis: Redis, keys: Keys
) -> None:
    pace = Pace(redis, keys, rate=2)  # so slow that a busy machine keeps it
    for n in range(60):
        slot, at = pace.event()
        way_us, queue_us = n % 5 * 2_000, n % 3 * queue_ms * 1_000
        pace.arrived(slot, at, BASE_RTT + way_us + queue_us, 1_000 + way_us)
    slot, at = pace.event()
    pace.arrived(slot, at, BASE_RTT + late_ms * 1_000, 1_000)

    least, most = believed_ms
    entry: Any = redis.hget(keys.pace_ring, str(slot % (5 * pace.rate)))
    assert least * 1_000 < int(entry.partition(":")[2]) - at < most * 1_000


def test_refusals_teach_how_long_requests_queue_behind_the_api_s_kernel(
    redis: Redis, keys: Keys
) -> None:
    pace = Pace(redis, keys, rate=2)  # so slow that a busy machine keeps it

    def held_back() -> int:
        for n in range(RATE + 1):
            slot, at = pace.event()
            pace.arrived(slot, at, BASE_RTT + n % 7 * 100_000, 1_000)
        entry: Any = redis.hget(keys.pace_ring, str(slot % (5 * pace.rate)))
        return int(entry.partition(":")[2]) - at

    held_back()
    before = held_back()
    pace.refuse_one()
    after = held_back()

    assert 0 < before < 10_000
    assert 2 * before < after < 5 * before

    for _ in range(60):
        last = held_back()

    assert last < after * 0.75  # it is forgotten while none is refused


def test_a_request_without_an_answer_is_presumed_to_have_been_slow_and_teaches_nothing(
    pace: Pace,
) -> None:
    slot, at = pace.event()
    pace.arrived(slot, at, BASE_RTT)
    before = pace.redis.hget(pace.keys.pace, "rtt_min_us")
    slot, at = pace.event()
    pace.arrived(slot, at + 100_000, None)

    slots = pace.events(RATE)

    assert slots[-1] >= at + 100_000 + SECOND
    assert pace.redis.hget(pace.keys.pace, "rtt_min_us") == before


def test_requests_that_are_never_reported_are_presumed_a_little_late(pace: Pace) -> None:
    arrivals = [at + late for at, late in zip(pace.events(60), [0, 20_000] * 30, strict=True)]

    assert most_in_a_window(arrivals) <= RATE


def test_a_slot_that_was_not_used_holds_none_back(pace: Pace) -> None:
    first, _ = pace.event()
    slots = pace.events(RATE - 1)
    pace.arrived(first, None, None)

    (freed,) = pace.events(1)

    assert freed - slots[-1] < SPACING


def test_a_report_that_comes_too_late_changes_nothing(pace: Pace) -> None:
    slot, at = pace.event()
    pace.events(5 * RATE)
    before = pace.redis.hgetall(pace.keys.pace_ring)

    pace.arrived(slot, at + 30 * SECOND, BASE_RTT)

    assert pace.redis.hgetall(pace.keys.pace_ring) == before


@pytest.mark.parametrize("arrived", ["0:20:1:1:", "7:20:1:1:1"])
def test_a_report_about_no_slot_changes_nothing(arrived: str, pace: Pace) -> None:
    pace._note(arrived=arrived)

    assert pace.redis.exists(pace.keys.pace, pace.keys.pace_ring) == 0


# history that is unknown


def test_the_first_slot_of_all_comes_after_a_window_of_silence(pace: Pace) -> None:
    before = pace.now()

    assert pace.events(1)[0] >= before + SECOND


def test_a_redis_that_has_forgotten_is_silent_for_a_window(pace: Pace) -> None:
    pace.events(5)
    pace.redis.delete(pace.keys.pace, pace.keys.pace_ring)
    before = pace.now()

    assert pace.events(1)[0] >= before + SECOND


def test_after_a_clock_that_jumped_back_nothing_adds_to_what_was_granted_ahead(pace: Pace) -> None:
    granted = pace.events(100)  # five seconds ahead
    ahead = granted[-1] - pace.now()
    pace.let_pass(-3_600 * SECOND)  # this server's clock is now an hour behind those times

    later = pace.events(1)[0]

    assert ahead < later - pace.now() < ahead + 2 * SECOND


def test_after_a_clock_that_leapt_forward_nothing_adds_to_what_was_granted_ahead(
    pace: Pace,
) -> None:
    one, other = Process(pace), Process(pace)
    granted = [at for _ in range(30) for at in (one.event(), other.event())]
    pace.let_pass(3_600 * SECOND)
    one.see_leap(3_600 * SECOND)
    other.see_leap(3_600 * SECOND)
    leapt = pace.now()

    later = [at for _ in range(30) for at in (one.event(), other.event())]

    assert most_in_a_window([*granted, *later]) <= RATE
    assert later[0] < max(granted[-1], leapt) + 1.5 * SECOND
    assert later[-1] - later[0] < 59 * SPACING * 1.08  # all processes together are silent once


def test_a_refusal_right_after_a_clock_leapt_forward_silences_nobody_for_long(pace: Pace) -> None:
    process = Process(pace)
    process.events(10)
    pace.let_pass(3_600 * SECOND)
    process.see_leap(3_600 * SECOND)
    pace.refused(9, pace.now())

    assert process.event() < pace.now() + 4 * SECOND


def test_a_redis_that_has_forgotten_is_told_what_it_had_granted_ahead(
    redis: Redis, keys: Keys
) -> None:
    limiters = [make_limiter(redis, RATE) for _ in range(3)]
    granted = [take_us(limiter) for _ in range(16) for limiter in limiters]
    redis.delete(keys.pace, keys.pace_ring)

    later = [take_us(limiter) for _ in range(16) for limiter in limiters]

    assert most_in_a_window([*granted, *later]) <= RATE


@pytest.mark.parametrize("lost", [1, 5, 30])
def test_a_replica_that_lagged_is_told_what_it_has_not_heard_of(
    lost: int, redis: Redis, keys: Keys
) -> None:
    limiter = make_limiter(redis, RATE)
    granted = [take_us(limiter) for _ in range(30)]
    heard: Any = redis.hgetall(keys.pace), redis.hgetall(keys.pace_ring)
    granted += [take_us(limiter) for _ in range(lost)]
    redis.delete(keys.pace, keys.pace_ring)
    redis.hset(keys.pace, mapping=heard[0])
    redis.hset(keys.pace_ring, mapping=heard[1])

    later = [take_us(limiter) for _ in range(30)]

    assert most_in_a_window([*granted, *later]) <= RATE
    assert later[0] < granted[-1] + 1.5 * SECOND


@pytest.mark.parametrize("damaged", [("pace",), ("pace_ring",), ("pace", "pace_ring")])
@pytest.mark.parametrize(
    ("damage", "granted_since"), [("deleted", 31), ("set back", 31), ("set back", 8)]
)
def test_a_damaged_limiter_is_silent_for_one_window_and_goes_on_whoever_asks(
    damage: str, granted_since: int, damaged: tuple[str, ...], pace: Pace
) -> None:
    def grant(count: int) -> list[tuple[int, int]]:
        slots = []
        for _ in range(count):
            slots.append(pace.event())
            pace.arrived(*slots[-1], None, 1_000)
        return slots

    granted = grant(30)
    for name in damaged:
        pace.redis.copy(getattr(pace.keys, name), f"older {name}")
    granted += grant(granted_since)
    for name in damaged:
        pace.redis.delete(getattr(pace.keys, name))
        if damage == "set back":
            pace.redis.rename(f"older {name}", getattr(pace.keys, name))
        else:
            pace.redis.delete(f"older {name}")
    number, at = granted[-1]
    later: list[int] = []
    passed, place = 0, ""

    for _ in range(60):  # some know the last slot, some know one from before, some none
        known = [(number, at - passed, pace.now()), (7, at - passed - SECOND, pace.now()), ()]
        while (reply := pace.batch(place, known[len(later) % 3]))[0] == "turn":
            pace.let_pass(reply[2])
            passed += reply[2]
            place = earlier(reply[1], reply[2])
            assert passed < 12 * SECOND
        place = ""
        later.append(reply[3] + passed)

    arrivals = [at for _, at in granted] + later
    assert most_in_a_window(arrivals) <= RATE
    assert later[0] - at < 3 * SECOND


# spacing


def test_there_is_no_burst_after_a_silence(pace: Pace) -> None:
    pace.events(3)
    pace.let_pass(3_600 * SECOND)

    slots = pace.events(10)

    assert pace.now() - slots[0] < SECOND
    assert min(b - a for a, b in pairwise(slots)) >= SPACING * 0.95 - 1


def test_a_caller_that_dies_with_its_slot_costs_that_slot_alone(pace: Pace) -> None:
    first, _dead, after = pace.events(3)

    assert after - first <= 2 * SPACING


# events and batches


def test_a_batch_caller_reserves_no_further_ahead_than_the_horizon(pace: Pace) -> None:
    pace.events(1)
    pace.let_pass(10 * SECOND)

    first = pace.batch()
    pace.events(5)  # so that the horizon does not reach the others while the test goes on
    replies = [pace.batch() for _ in range(9)]

    assert first[0] == "slot"
    assert first[1] <= HORIZON
    assert [reply[0] for reply in replies] == ["turn"] * 9
    places = [planned(reply[1]) for reply in replies]
    assert places == sorted(set(places))
    assert min(b - a for a, b in pairwise(places)) >= SPACING * 0.95 - 1


def test_an_event_stands_behind_one_slot_at_most_whoever_waits(pace: Pace) -> None:
    pace.events(1)
    pace.let_pass(10 * SECOND)
    _, wait, _, slot_at = pace.batch()
    first, *_, last = pace.events(15)
    for _ in range(50):
        assert pace.batch()[0] == "turn"

    event_at = pace.events(1)[0]

    assert wait <= HORIZON
    assert first <= max(slot_at + SPACING, pace.now())
    assert event_at <= max(last + SPACING, pace.now())


def test_an_event_takes_the_slot_that_a_batch_caller_holds(pace: Pace) -> None:
    pace.events(1)
    pace.let_pass(10 * SECOND)
    pace.events(10)
    _, _, held, held_at = pace.batch(horizon=SECOND)

    assert pace.event() == (held, held_at)
    assert pace.event()[0] == held + 1  # which its holder had instead, until now
    assert [pace.batch(horizon=SECOND)[2] for _ in range(2)] == [held + 3, held + 4]


def test_an_event_takes_no_slot_that_is_over(pace: Pace) -> None:
    pace.events(1)
    pace.let_pass(10 * SECOND)
    _, _, held, _ = pace.batch()
    pace.let_pass(SECOND)

    assert pace.event()[0] > held


def test_events_do_not_lose_batch_callers_their_turns(pace: Pace) -> None:
    pace.events(1)
    pace.let_pass(10 * SECOND)
    pace.events(5)
    kind, place, wait = pace.batch()
    last = pace.events(10)[-1]
    pace.let_pass(wait)

    again = pace.batch(earlier(place, wait))
    turn_at = pace.now() + again[2]
    pace.let_pass(again[2])
    third = pace.batch(earlier(again[1], again[2]))

    assert kind == "turn"
    assert again[0] == "turn"  # ten events went first
    assert turn_at > last - wait
    assert third[0] == "slot"


def test_a_batch_caller_whose_slot_comes_later_than_planned_need_not_ask_again(
    pace: Pace,
) -> None:
    horizon = 4 * SPACING
    pace.events(1)
    pace.let_pass(10 * SECOND)
    pace.events(40)  # so that the horizon does not reach the caller while the test goes on
    kind, place, wait = pace.batch(horizon=horizon)
    pace.let_pass(wait)

    pace.events(2)
    again = pace.batch(earlier(place, wait), horizon=horizon)

    assert (kind, again[0]) == ("turn", "slot")


def test_a_batch_caller_that_dies_in_line_costs_one_slot_at_most(pace: Pace) -> None:
    pace.events(1)
    pace.let_pass(10 * SECOND)
    pace.events(10)
    _, _dead_place, _ = pace.batch()
    _, place, wait = pace.batch()
    pace.let_pass(wait)

    reply = pace.batch(earlier(place, wait))

    assert reply[0] == "slot"
    assert reply[1] <= HORIZON


def test_places_from_before_a_clock_leapt_put_no_turn_off(pace: Pace) -> None:
    process = Process(pace)
    process.event()
    places = [pace.batch()[1] for _ in range(5)]
    pace.let_pass(3_600 * SECOND)
    process.see_leap(3_600 * SECOND)
    process.event()

    old_and_new = [earlier(place, 3_600 * SECOND) for place in places], [""] * 5
    replies = [pace.batch(place) for pair in zip(*old_and_new, strict=True) for place in pair]

    assert {reply[0] for reply in replies} == {"turn"}
    assert max(reply[2] for reply in replies) < 4 * SECOND


# refusals


def spacing_of(pace: Pace) -> int:
    first, second = pace.events(2)
    return second - first


class AllowsLess:
    """An API that lets in so many requests in any second, whatever the fleet was told."""

    ANSWERED_AFTER = 2
    """Requests that are sent before the answer to one is here."""
    AHEAD = SECOND // 2
    """Slots are reserved so much ahead, so that a busy machine misses none."""

    def __init__(self, pace: Pace, allowed: int) -> None:
        self._pace, self.allowed = pace, allowed
        self._passed, self._time = 0, pace.now()
        self._on_their_way: list[tuple[int, int, bool]] = []
        self.let_in: list[int] = []
        """When, in µs."""
        self.refused: list[int] = []

    def run(self, seconds: float) -> None:
        """Have the fleet send as fast as it may; a request arrives when it is sent."""
        until = self._time + seconds * SECOND
        while self._time < until:
            slot, at = self._pace.event()
            self._time = at + self._passed
            self._passed += self._pace.let_pass_until(at - self.AHEAD)
            is_let_in = sum(self._time - SECOND < at for at in self.let_in) < self.allowed
            (self.let_in if is_let_in else self.refused).append(self._time)
            self._on_their_way.append((slot, self._time, is_let_in))
            if len(self._on_their_way) > self.ANSWERED_AFTER:
                self._answer(*self._on_their_way.pop(0))

    def _answer(self, slot: int, arrived: int, is_let_in: bool) -> None:
        sent = arrived - self._passed
        if not is_let_in:
            self._pace.refused(slot, sent)
        self._pace.arrived(slot, sent, BASE_RTT)


def seconds_since(at: int, since: int) -> float:
    return (at - since) / SECOND


@pytest.mark.parametrize("allowed", [10, 19])
def test_where_the_api_allows_less_the_fleet_finds_that_level_and_stays_below_it(
    allowed: int, pace: Pace
) -> None:
    api = AllowsLess(pace, allowed)

    began = pace.now()
    api.run(61)  # one of them silent

    assert len(api.let_in) >= 0.95 * 60 * allowed
    assert len(api.refused) <= 8
    assert sum(3 < seconds_since(at, began) < 9 for at in api.refused) <= 1


def test_a_level_is_passed_now_and_then_and_the_whole_rate_found_again(pace: Pace) -> None:
    api = AllowsLess(pace, 10)
    api.run(50)
    api.allowed, raised = RATE, api.let_in[-1]

    api.run(45)

    last = [at for at in api.let_in if seconds_since(at, raised) > 43]
    assert len(last) >= 2 * RATE * 0.95
    assert [at for at in api.refused if at > raised + SECOND] == []


def test_a_level_that_falls_is_found_within_seconds(pace: Pace) -> None:
    api = AllowsLess(pace, RATE)
    api.run(5)
    api.allowed, lowered = 10, api.let_in[-1]

    api.run(10)

    assert len([at for at in api.refused if seconds_since(at, lowered) > 3]) == 0
    assert len([at for at in api.let_in if at > lowered]) >= 0.9 * 10 * 10


def test_one_refusal_at_the_full_rate_costs_nothing(pace: Pace) -> None:
    pace.events(40)
    slot, sent = pace.event()

    assert pace.refused(slot, sent) == -1
    assert spacing_of(pace) <= SPACING


def test_refusals_at_the_full_rate_that_come_again_lower_it_by_one(pace: Pace) -> None:
    pace.events(40)
    first = pace.refuse_one()
    pace.events(RATE)

    assert (first, pace.refuse_one()) == (-1, 950)


def test_a_refusal_shows_what_the_api_allows_by_what_it_let_in_before(pace: Pace) -> None:
    pace.events(12)

    assert pace.refuse_one() == 600
    assert spacing_of(pace) >= SECOND / 12 * 0.95


def test_refusals_of_what_was_under_way_already_count_once(pace: Pace) -> None:
    pace.events(12)
    under_way = [pace.event() for _ in range(5)]

    assert [pace.refused(*each) for each in under_way] == [600, -1, -1, -1, -1]


def test_refused_requests_are_none_that_the_api_let_in(pace: Pace) -> None:
    pace.events(12)
    under_way = [pace.event() for _ in range(5)]
    for each in under_way:
        pace.refused(*each)
    pace.let_pass(2 * SECOND)
    pace.events(1)

    assert pace.refuse_one() < 600


def test_a_refusal_of_which_nobody_knows_what_came_before_slows_a_little(pace: Pace) -> None:
    pace.events(RATE)
    slot, sent = pace.event()
    pace.events(5 * RATE)

    assert pace.refused(slot, sent) == 800


def test_refusals_within_a_second_halve_the_rate_at_most(pace: Pace) -> None:
    factors = [pace.refuse_one() for _ in range(5)]

    assert min(factors) == 500


def test_refusals_that_go_on_slow_it_down_to_a_twentieth_and_no_further(pace: Pace) -> None:
    factors = []
    for _ in range(12):
        factors.append(pace.refuse_one())
        pace.let_pass(10 * SECOND)

    assert factors[:3] == [500, 250, 125]
    assert min(factor for factor in factors if factor > 0) == 50


def test_a_clock_that_jumps_back_while_the_fleet_is_slowed_lifts_no_limit(pace: Pace) -> None:
    pace.refuse_one()
    pace.let_pass(-3_600 * SECOND)

    slots = pace.events(60)

    assert most_in_a_window(slots) <= RATE
    pace.let_pass(10 * SECOND)
    assert pace.refuse_one() > 0


def test_a_slow_fleet_finds_its_way_back_also_after_its_clock_went_back(pace: Pace) -> None:
    pace.refuse_one()
    pace.let_pass(-3_600 * SECOND)
    pace.events(1)
    pace.let_pass(60 * SECOND)

    assert SPACING * 0.95 <= spacing_of(pace) <= SPACING


# the object that workers use


def make_limiter(
    redis: Redis, rate: float, sleep: Any = lambda _: None, now: Callable[[], float] = now_s
) -> Limiter:
    return Limiter(redis, Settings(sendcode_rate_limit=rate), sleep, now)


def make_reporting_limiter(settings: Settings, now: Callable[[], float]) -> Limiter:
    """Return one whose reporter may still read a reply when the test has ended.

    So its client is not that of the test, which is closed then.
    """
    return make_limiter(connect(settings), RATE, now=now)


def take_us(limiter: Limiter) -> int:
    """Take an event's slot; give the µs at which it opens, on the process' clock."""
    return round(limiter.take(Lane.EVENT).opens * SECOND)


class SlowClock:
    """A process' clock that goes on by `step_s` whenever it is looked at."""

    def __init__(self, step_s: float = 0) -> None:
        self.seconds, self.step_s = 1000.0, step_s

    def __call__(self) -> float:
        self.seconds += self.step_s
        return self.seconds


@pytest.mark.parametrize(("rate", "in_seconds", "most"), [(0.5, 2, 1), (2.5, 0.8, 2), (7.7, 1, 8)])
def test_rates_that_are_no_whole_numbers_are_kept(
    rate: float, in_seconds: float, most: int, redis: Redis
) -> None:
    limiter = make_limiter(redis, rate)

    slots = [limiter.take(Lane.EVENT).at_us for _ in range(30)]

    assert most_in_a_window(slots, round(in_seconds * SECOND)) <= most
    assert slots[-1] - slots[0] <= 29 / rate * 1.1 * SECOND + 20_000 * 30


def test_a_slot_opens_when_redis_says_on_the_caller_s_own_clock(redis: Redis) -> None:
    limiter = make_limiter(redis, 20)

    slot = limiter.take(Lane.EVENT)

    assert slot.wait_s == pytest.approx(1, abs=0.2)
    assert slot.opens >= slot.asked + slot.wait_s


def test_a_slot_is_over_by_the_earliest_time_that_redis_can_have_meant(redis: Redis) -> None:
    clock = SlowClock()
    limiter = make_limiter(redis, 20, now=clock)
    limiter.take(Lane.EVENT)
    clock.step_s = 1.5  # between question and answer

    slot = limiter.take(Lane.EVENT, late_s=0.01)

    assert slot.opens == pytest.approx(slot.asked + 1.5 + slot.wait_s)
    assert slot.closes == pytest.approx(slot.asked + slot.wait_s + 0.01 + LATEST_S)


def test_where_redis_is_far_away_its_slots_are_over_as_much_later(redis: Redis) -> None:
    clock = SlowClock(0.2)
    limiter = make_limiter(redis, 20, now=clock)

    slots = [limiter.take(Lane.EVENT) for _ in range(50)]

    assert slots[0].closes < slots[0].opens
    assert slots[1].closes > slots[1].opens  # the first answer told how far
    assert slots[-1].closes > slots[-1].opens


def test_a_far_redis_costs_half_of_a_round_trip_and_a_slow_answer_all_that_it_took_longer(
    redis: Redis,
) -> None:
    clock = SlowClock(0.2)
    limiter = make_limiter(redis, 20, now=clock)

    def unknown_s() -> float:
        slot = limiter.take(Lane.EVENT)
        return slot.opens - slot.asked - slot.wait_s

    assert unknown_s() == pytest.approx(
        0.2, rel=0.01
    )  # the first ones may take longer than the way
    for _ in range(SURE):
        unknown_s()
    assert [unknown_s() for _ in range(3)] == pytest.approx([0.1] * 3, rel=0.01)
    clock.step_s = 3
    assert [unknown_s() for _ in range(3)] == pytest.approx([2.9] * 3, rel=0.01)
    clock.step_s = 0.2
    assert unknown_s() == pytest.approx(0.1, rel=0.01)


def test_an_arrival_is_told_on_redis_clock_and_never_before_the_slot() -> None:
    slot = Slot(7, 20, at_us=5_000_000, asked=100.0, opens=101.1, closes=101.2, wait_s=1.0)

    assert slot.arrival(101.25, 101.33, 101.27) == "7:20:5250000:80000:20000"
    assert slot.arrival(101.25, 101.33, None) == "7:20:5250000:80000:"
    assert slot.arrival(100.5, 100.6, None) == "7:20:5000000:100000:"
    assert slot.arrival(101.0, 100.9, None) == "7:20:5000000:0:"
    assert slot.arrival(101.25, None, 101.27) == "7:20:5250000::20000"
    assert slot.arrival(101.25, None, None) == "7:20:5250000::"
    assert slot.arrival(None, None, None) == "7:20:::"


def arrival_of(redis: Redis, keys: Keys, slot: Slot) -> int:
    """Return when a slot's request is thought to have arrived, µs after the slot."""
    entry: Any = redis.hget(keys.pace_ring, str(slot.number % (5 * slot.per_window)))
    return int(entry.partition(":")[2]) - slot.at_us


@pytest.mark.parametrize("by", ["itself", "the next question"])
def test_an_arrival_is_reported_in_time_while_the_answer_is_awaited(
    by: str, redis: Redis, keys: Keys, settings: Settings
) -> None:
    clock = SlowClock()
    limiter = make_reporting_limiter(settings, clock)
    slot = limiter.take(Lane.EVENT)
    presumed = arrival_of(redis, keys, slot)

    sent = slot.asked + slot.wait_s
    limiter.acknowledged(slot, sent, sent + 0.001)

    assert arrival_of(redis, keys, slot) == presumed
    if by == "the next question":
        clock.seconds += slot.wait_s + 0.5
        limiter.take(Lane.EVENT)
    else:
        clock.seconds += slot.wait_s + 0.9
    wait_until(lambda: arrival_of(redis, keys, slot) < presumed)


def test_an_arrival_is_reported_in_time_that_is_known_later_than_a_later_slot_s(
    redis: Redis, keys: Keys, settings: Settings
) -> None:
    clock = SlowClock()
    limiter = make_reporting_limiter(settings, clock)
    reported, slot = (limiter.take(Lane.EVENT) for _ in "ab")
    presumed = arrival_of(redis, keys, slot)
    clock.seconds = slot.opens + 0.9
    limiter.acknowledged(reported, reported.opens, reported.opens)
    wait_until(lambda: arrival_of(redis, keys, reported) < presumed)  # the reporter is at work

    later = slot.moved_to(slot.number + 1, slot.at_us + 3_600 * SECOND)
    limiter.acknowledged(later, later.opens, later.opens)
    assert arrival_of(redis, keys, slot) == presumed
    limiter.acknowledged(slot, slot.opens, slot.opens)

    wait_until(lambda: arrival_of(redis, keys, slot) < presumed)


def test_an_arrival_that_an_outcome_tells_is_told_by_nothing_else(redis: Redis, keys: Keys) -> None:
    clock = SlowClock()
    limiter = make_limiter(redis, RATE, now=clock)
    slot = limiter.take(Lane.EVENT)
    presumed = arrival_of(redis, keys, slot)
    sent = slot.asked + slot.wait_s
    limiter.acknowledged(slot, sent, sent + 0.001)

    limiter.settle(slot)

    clock.seconds += slot.wait_s + 0.9
    limiter.take(Lane.EVENT)
    assert arrival_of(redis, keys, slot) == presumed


def test_a_worker_that_is_stopped_gives_its_place_up_and_takes_no_more(
    redis: Redis, keys: Keys
) -> None:
    shutdown = Shutdown()
    limiter = make_limiter(redis, 0.01, shutdown.sleep)
    for _ in "abc":  # slots, further ahead than batch callers may have one
        limiter.take(Lane.EVENT)
    taken: list[object] = []

    def take() -> None:
        try:
            taken.append(limiter.take(Lane.BATCH))
        except Stopping as exc:
            taken.append(exc)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    number = redis.hget(keys.pace, "slot")

    shutdown.order()
    for thread in threads:
        thread.join(120)

    assert [type(each) for each in taken] == [Stopping] * 8
    assert redis.hget(keys.pace, "slot") == number
    with pytest.raises(Stopping):
        limiter.take(Lane.EVENT)
    assert redis.hget(keys.pace, "slot") == number


def test_threads_of_two_processes_share_one_rate_in_turns(redis: Redis) -> None:
    shutdown = Shutdown()
    slots: list[tuple[int, int]] = []

    def work(process: int, limiter: Limiter) -> None:
        for _ in range(10):
            slots.append((limiter.take(Lane.BATCH).at_us, process))

    threads = [
        threading.Thread(target=work, args=(process, limiter))
        for process, limiter in enumerate([make_limiter(redis, 200, shutdown.sleep) for _ in "ab"])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    times = sorted(at for at, _ in slots)
    first_half = [process for _, process in sorted(slots)[:80]]
    assert len(set(times)) == 160
    assert min(b - a for a, b in pairwise(times)) >= 0.95 * SECOND / 200 - 1
    assert 16 <= sum(first_half) <= 64  # neither starves
