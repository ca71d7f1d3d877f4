"""Producers know which refusals are permanent without asking the worker's verdict table."""

from __future__ import annotations

import pytest

from jobs.codes import EXPLANATIONS, explain, explain_end
from jobs.deadletters import is_permanent
from worker.verdict import VERDICTS, Kind, classify

CODES = sorted(
    {*VERDICTS.exact, *VERDICTS.prefix, *EXPLANATIONS.exact, *EXPLANATIONS.prefix}
    | {"InvalidParameterValue.UnSupportArea", "FailedOperation", "Nonsense", ""}
)


@pytest.mark.parametrize("code", CODES)
def test_what_is_permanent_is_the_same_on_both_sides(code: str) -> None:
    assert is_permanent(code) == (classify(code) is Kind.PERMANENT)


@pytest.mark.parametrize("code", CODES)
def test_a_job_that_failed_for_good_is_not_said_to_be_tried_by_itself(code: str) -> None:
    assert "by itself" not in explain_end(code).remedy
    assert explain_end(code).meaning == explain(code).meaning


def test_a_job_that_nobody_can_prove_any_more_is_explained_as_such() -> None:
    known = explain("Unproved")

    assert "prove" in known.meaning
    assert "customer" in known.remedy
