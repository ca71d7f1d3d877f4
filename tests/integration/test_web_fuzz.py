"""A few hundred requests of `make fuzz`, against a real server."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from tests.fuzz import fuzz


def test_the_api_answers_whatever_it_is_asked_as_its_description_says(
    settings: Settings, tmp_path: Path
) -> None:
    figures = fuzz(settings, tmp_path, with_token=True, cases=2, seed=1)

    assert not figures.failures, figures.report
    assert figures.cases >= 200


def test_whoever_has_no_token_is_answered_as_its_description_says(
    settings: Settings, tmp_path: Path
) -> None:
    # the answers are few, and come before what the other phases look into
    figures = fuzz(settings, tmp_path, with_token=False, cases=1, seed=1, phases="coverage")

    assert not figures.failures, figures.report
    assert figures.cases >= 200
