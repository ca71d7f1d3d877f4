"""A quick selection of `make leaks`: a dozen canaries, a killed worker, all places but Flower."""

from __future__ import annotations

from tests.leaks.__main__ import look_for


def test_canaries_are_found_nowhere_and_planted_ones_everywhere() -> None:
    report = look_for(12, 1, workers=2, has_flower=False, forked=True)

    assert {name: found for name, found in report.found.items() if found} == {}
    assert report.unfound == []
