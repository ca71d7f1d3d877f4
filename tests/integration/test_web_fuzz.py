"""A few hundred requests of `make fuzz`, against a real server."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from tests.fuzz import Run, fuzz


def test_the_api_answers_with_and_without_a_token_as_its_description_says(
    settings: Settings, tmp_path: Path
) -> None:
    # without a token the answers are few, and come before what the other phases look into
    runs = [Run(True, cases=2), Run(False, cases=1, phases="coverage")]

    found = fuzz(settings, tmp_path, *runs, seed=1)

    for figures in found:
        assert not figures.failures, figures.report
        assert figures.cases >= 200
    assert len(found) == 2
