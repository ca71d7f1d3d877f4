"""A quick selection of `make leaks`: a dozen canaries, one killed worker, every place."""

from __future__ import annotations

from tests.leaks.__main__ import look_for

UNSEALED = {
    "Redis: every key",
    "append-only file",
    "snapshot (RDB)",
    "slowlog",
    "messages, results, events",
}
"""Where the message of a stranger lies, with the number that they put into it."""


def test_canaries_are_found_nowhere_and_planted_ones_everywhere() -> None:
    report = look_for(12, 1, workers=2, has_flower=False)

    assert {name for name, found in report.found.items() if found} <= UNSEALED, report.found
    assert report.unfound == []
