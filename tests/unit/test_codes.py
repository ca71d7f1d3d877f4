from __future__ import annotations

import pytest

from jobs.codes import EXPLANATIONS, CodeTable, Explanation, OwnCode, explain
from worker.verdict import VERDICTS

UNDOCUMENTED = explain("Nobody.HeardOf.This")


def test_exact_code_comes_before_its_prefix() -> None:
    table = CodeTable(exact={"A.B": 1}, prefix={"A": 2})

    assert [table.find(code) for code in ("A.B", "A.C", "A", "B")] == [1, 2, 2, None]


def test_longest_prefix_wins_whatever_the_order() -> None:
    table = CodeTable(exact={}, prefix={"Par": 1, "Parameter": 3, "Param": 2})

    assert [table.find(code) for code in ("Part", "Params", "ParameterX")] == [1, 2, 3]


def test_text_for_a_number_with_too_many_accounts() -> None:
    assert explain("FailedOperation.PhoneBindUpper") == Explanation(
        "This number already has the most accounts allowed", "Ask the customer for another number"
    )


def test_frequency_limit_and_interval_have_texts_of_their_own() -> None:
    texts = {
        explain("FailedOperation.SendVerifyCodeLimit"),
        explain("FailedOperation.SendVerifyCodeLimit60"),
        UNDOCUMENTED,
    }

    assert len(texts) == 3


@pytest.mark.parametrize("code", [*VERDICTS.exact, *VERDICTS.prefix, *OwnCode])
def test_every_code_with_a_verdict_is_explained(code: str) -> None:
    assert explain(code) != UNDOCUMENTED


@pytest.mark.parametrize("code", ["", "FailedOperation", "Unheard.Of"])
def test_undocumented_code_is_explained_as_such(code: str) -> None:
    assert explain(code) == UNDOCUMENTED
    assert "ticket" in UNDOCUMENTED.remedy


@pytest.mark.parametrize(
    "text",
    [
        text
        for table in (EXPLANATIONS.exact, EXPLANATIONS.prefix)
        for explanation in table.values()
        for text in (explanation.meaning, explanation.remedy)
    ],
)
def test_texts_fit_into_a_sentence_and_a_spreadsheet(text: str) -> None:
    assert text[0].isupper()
    assert not text.endswith(".")
    assert text.isprintable()
    assert len(text) <= 100
