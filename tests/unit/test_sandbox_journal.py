"""The sliding window, against a count by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.journal import SECOND_NS, BusiestSecond, SlidingWindow

# Gaps of whole quarters of a second meet the window's edges; odd ones fall everywhere else.
gaps = st.lists(
    st.one_of(
        st.just(0),
        st.sampled_from([1, SECOND_NS // 4, SECOND_NS // 2, SECOND_NS - 1, SECOND_NS]),
        st.integers(0, 2 * SECOND_NS),
    ),
    max_size=60,
)
rates = st.one_of(st.integers(1, 25).map(float), st.sampled_from([0.1, 0.5, 1.5, 2.5, 7.3]))


def arrivals(spaces: list[int], start_ns: int = 5 * SECOND_NS) -> list[int]:
    times, now = [], start_ns
    for space in spaces:
        now += space
        times.append(now)
    return times


def in_span(times: list[int], end_ns: int, length_ns: int) -> int:
    return sum(end_ns - length_ns < at <= end_ns for at in times)


@given(rates, gaps)
def test_no_span_ever_holds_more_admitted_requests_than_it_has_places(
    rate: float, spaces: list[int]
) -> None:
    window = SlidingWindow(rate)

    admitted = [at for at in arrivals(spaces) if window.admit(at)]

    for end in admitted:
        assert in_span(admitted, end, window.length_ns) <= window.places


@given(rates, gaps)
def test_a_request_is_refused_only_when_all_places_are_taken(
    rate: float, spaces: list[int]
) -> None:
    window = SlidingWindow(rate)
    admitted: list[int] = []

    for at in arrivals(spaces):
        if window.admit(at):
            admitted.append(at)
        else:
            assert in_span(admitted, at, window.length_ns) == window.places


@given(rates)
def test_places_over_length_are_the_rate_and_never_more(rate: float) -> None:
    window = SlidingWindow(rate)

    real = Fraction(window.places * SECOND_NS, window.length_ns)

    assert real <= Fraction(rate)
    assert math.isclose(real, rate, rel_tol=1e-8)


def test_two_requests_exactly_one_second_apart_are_not_in_the_same_second() -> None:
    window = SlidingWindow(1)

    verdicts = [window.admit(at) for at in (0, SECOND_NS - 1, SECOND_NS)]

    assert verdicts == [True, False, True]


def test_a_refused_request_takes_no_place() -> None:
    window = SlidingWindow(2)
    first, second = 0, SECOND_NS // 2

    assert window.admit(first)
    assert window.admit(second)
    assert not window.admit(second + 1)

    assert window.admit(first + SECOND_NS)  # the first one's place is free, nobody took it


def test_a_rate_of_zero_admits_everything() -> None:
    window = SlidingWindow(0)

    assert all(window.admit(7) for _ in range(1000))


def test_a_lower_rate_takes_effect_at_once_and_remembers_what_was_admitted() -> None:
    window = SlidingWindow(3)
    for at in (1, 2, 3):
        window.admit(at)

    window.set_rate(2)

    assert not window.admit(4)
    assert window.admit(3 + SECOND_NS)


@pytest.mark.parametrize("rate", [-1, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="a rate is 0"):
        SlidingWindow(rate)


@given(gaps)
def test_the_busiest_second_is_the_one_a_count_by_hand_finds(spaces: list[int]) -> None:
    times = arrivals(spaces)
    busiest = BusiestSecond()

    counts = [busiest.add(at) for at in times]

    by_hand = [in_span(times[: n + 1], at, SECOND_NS) for n, at in enumerate(times)]
    assert counts == by_hand
    assert busiest.most == max(by_hand, default=0)
