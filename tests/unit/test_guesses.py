"""Patience with those who guess tokens and passwords."""

from __future__ import annotations

from producer.web.access import Guesses


def test_each_wrong_guess_is_answered_later_up_to_a_bound() -> None:
    guesses = Guesses(longest_s=5, now=lambda: 0)

    delays = [guesses.add("10.0.0.1") for _ in range(12)]

    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == 5
    assert guesses.add("10.0.0.2") == 0.1


def test_a_right_one_and_ten_minutes_are_forgiven() -> None:
    now = 0.0
    guesses = Guesses(now=lambda: now)
    for _ in range(5):
        guesses.add("user anna")
        guesses.add("user bob")

    guesses.forget("user anna")
    now = 601.0

    assert guesses.add("user anna") == 0.1
    assert guesses.add("user bob") == 0.1


def test_ever_new_places_take_no_more_memory() -> None:
    guesses = Guesses(now=lambda: 0)

    for n in range(10_001):
        guesses.add(f"user {n}")

    assert guesses.add("user 10000") == 0.2
    assert guesses.add("user 0") == 0.1
