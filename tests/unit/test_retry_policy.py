"""When the next try comes: the waits, and the loop that takes them."""

from __future__ import annotations

import pytest

from config.settings import Settings
from worker.retry import LONGEST_SLEEP_S, TOO_OFTEN_TRIES, Again, RetryPolicy, retrying

POLICY = RetryPolicy(Settings())


@pytest.mark.parametrize(("attempts", "least", "most"), [(1, 1, 1.5), (2, 3, 4.5), (3, 9, 13.5)])
def test_waits_grow_threefold_with_half_of_jitter(attempts: int, least: float, most: float) -> None:
    waits = [POLICY.pause_s(attempts, in_doubt=False) for _ in range(200)]

    assert least <= min(waits) <= max(waits) <= most
    assert max(waits) - min(waits) > (most - least) / 2


def test_after_ambiguous_attempts_all_probes_fall_inside_the_interval() -> None:
    settings = Settings()
    waits = [POLICY.pause_s(n, in_doubt=True) for n in range(1, settings.sendcode_max_attempts)]

    assert max(waits) <= settings.sendcode_phone_interval / 10
    calls = settings.sendcode_max_attempts * settings.sendcode_http_timeout
    assert sum(waits) + calls < settings.sendcode_phone_interval


def test_a_number_refused_as_too_often_gets_few_long_growing_waits() -> None:
    assert [POLICY.too_often_pause_s(waits) for waits in range(TOO_OFTEN_TRIES)] == [300, 900]


def test_no_backoff_is_allowed() -> None:
    assert RetryPolicy(Settings(sendcode_backoff=0)).pause_s(5, in_doubt=False) == 0


def test_the_first_retries_are_slept_and_the_later_ones_parked() -> None:
    assert POLICY.pause_s(1, in_doubt=False) < LONGEST_SLEEP_S < POLICY.pause_s(3, in_doubt=False)


def test_the_loop_goes_on_while_it_is_told_to_and_sleeps_as_told() -> None:
    results: list[object] = [Again(0.5), Again(0), Again(2.5), "done"]
    sleeps: list[float] = []

    result = retrying(sleeps.append)(lambda: results.pop(0))

    assert result == "done"
    assert sleeps == [0.5, 0, 2.5]


def test_an_order_to_stop_ends_the_loop_in_the_middle_of_a_nap() -> None:
    class StopNowError(Exception):
        pass

    def sleep(_: float) -> None:
        raise StopNowError

    with pytest.raises(StopNowError):
        retrying(sleep)(lambda: Again(1))


def test_an_error_of_the_attempt_is_not_retried() -> None:
    calls: list[int] = []

    def attempt() -> Again:
        calls.append(1)
        raise LookupError

    with pytest.raises(LookupError):
        retrying(lambda _: None)(attempt)
    assert calls == [1]
