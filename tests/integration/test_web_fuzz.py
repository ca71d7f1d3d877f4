"""A few hundred requests of `make fuzz`, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings
from tests.fuzz import fuzz


@pytest.mark.parametrize("with_token", [True, False])
def test_the_api_answers_whatever_it_is_asked_as_its_description_says(
    settings: Settings, tmp_path: Path, with_token: bool
) -> None:
    figures = fuzz(settings, tmp_path, with_token=with_token, cases=5, seed=1)

    assert not figures.failures, figures.report
    assert figures.cases >= 200
