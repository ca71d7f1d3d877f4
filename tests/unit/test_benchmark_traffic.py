"""What the benchmarks make of the sandbox's arrivals: the figures stand on it."""

from __future__ import annotations

import pytest

from benchmarks.traffic import jain, percentile, traffic_between


def stats(*times: float, code: str = "OK") -> dict[str, object]:
    return {"arrivals": [[at, "85250000000", code] for at in times]}


def test_requests_exactly_a_second_apart_are_not_in_the_same_second() -> None:
    seen = traffic_between(stats(0.0, 0.5, 1.0, 1.5), 0, 2, rate=2)

    assert (seen.most, seen.above) == (2, 0)


def test_each_request_beyond_the_limit_of_its_second_is_counted() -> None:
    seen = traffic_between(stats(0.0, 0.1, 0.2, 0.3, 5.0), 0, 6, rate=2)

    assert (seen.most, seen.above) == (4, 2)


def test_goodput_is_what_was_accepted_in_the_time_that_was_watched() -> None:
    refused = stats(1.2, code="RequestLimitExceeded")["arrivals"]
    arrivals = [*stats(0.5, 1.1, 1.6, 2.5)["arrivals"], *refused]  # type: ignore[misc]

    seen = traffic_between({"arrivals": sorted(arrivals)}, 1, 2, rate=4)

    assert seen.goodput == pytest.approx(0.5)
    assert (seen.requests, seen.refused) == (3, 1)


def test_fairness_is_one_for_equals_and_a_share_for_a_monopoly() -> None:
    assert jain([5, 5, 5, 5]) == pytest.approx(1)
    assert jain([20, 0, 0, 0]) == pytest.approx(0.25)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    waits = [float(n) for n in range(1, 101)]

    assert percentile(waits, 0.5) == 50
    assert percentile(waits, 0.99) == 99
    assert percentile([3.0], 0.99) == 3
