from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.deadline import Exchange, now_s


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture
def exchange(now: Clock) -> Exchange:
    return Exchange(now)


def test_each_step_gets_what_the_steps_before_have_left(now: Clock, exchange: Exchange) -> None:
    exchange.start(5, None)

    now.seconds += 2

    assert exchange.remaining_s() == 3
    assert not exchange.is_over()


def test_no_time_left_is_a_time_out(now: Clock, exchange: Exchange) -> None:
    exchange.start(5, None)

    now.seconds += 5

    assert exchange.is_over()
    with pytest.raises(TimeoutError):
        exchange.remaining_s()


def test_write_and_answer_are_stamped_on_the_clock_of_limits(
    now: Clock, exchange: Exchange
) -> None:
    exchange.start(5, 1004)

    assert exchange.may_write()
    now.seconds += 2
    exchange.note_answer()

    assert (exchange.sent_at, exchange.answered_at) == (1000, 1002)


def test_nothing_may_be_written_after_the_deadline(now: Clock, exchange: Exchange) -> None:
    exchange.start(5, None)
    now.seconds += 5

    with pytest.raises(TimeoutError):
        exchange.may_write()

    assert exchange.sent_at is None


@pytest.mark.parametrize("later_s", [4.001, 100])
def test_nothing_may_be_written_after_the_caller_s_time(
    now: Clock, exchange: Exchange, later_s: float
) -> None:
    exchange.start(5, 1004)
    now.seconds += later_s

    assert not exchange.may_write()
    assert exchange.sent_at is None


def test_new_call_knows_nothing_of_the_one_before(exchange: Exchange) -> None:
    exchange.start(5, None)
    assert exchange.may_write()
    exchange.note_answer()

    exchange.start(5, None)

    assert (exchange.sent_at, exchange.answered_at) == (None, None)


def test_threads_do_not_see_each_other_s_calls(exchange: Exchange) -> None:
    both = threading.Barrier(2)

    def call(timeout_s: float) -> float:
        exchange.start(timeout_s, None)
        both.wait()
        return exchange.remaining_s()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(call, [3, 9])) == [3, 9]


def test_clock_of_limits_does_not_go_back() -> None:
    stamps = [now_s() for _ in range(100)]

    assert stamps == sorted(stamps)
