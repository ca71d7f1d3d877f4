"""What each code means: the whole table, its look-up, and its texts."""

from __future__ import annotations

import pytest

from jobs.codes import CODES, Code, Kind, OwnCode, explain, explain_end, find, is_permanent

# Row by row, what the facts about the API say of each answer. A star stands for any ending.
TABLE = [
    ("ServiceUnavailable*", Kind.TRANSIENT),
    ("OperationDenied.ServiceBusy", Kind.TRANSIENT),
    ("ResourceUnavailable*", Kind.TRANSIENT),
    ("ResourceInsufficient*", Kind.TRANSIENT),
    ("InternalError*", Kind.AMBIGUOUS),
    ("RequestLimitExceeded*", Kind.THROTTLED),
    ("FailedOperation.SendVerifyCodeLimit60", Kind.TOO_EARLY),
    ("FailedOperation.SendVerifyCodeLimit", Kind.TOO_OFTEN),
    ("FailedOperation.PhoneBindUpper", Kind.PERMANENT),
    ("InvalidParameter*", Kind.PERMANENT),
    ("InvalidParameterValue*", Kind.PERMANENT),
    ("InvalidParameterValue.UnSupportArea", Kind.PERMANENT),
    ("MissingParameter*", Kind.PERMANENT),
    ("UnknownParameter*", Kind.PERMANENT),
    ("AuthFailure.SignatureExpire", Kind.CLOCK),
    ("AuthFailure.SignatureFailure", Kind.ACCOUNT),
    ("AuthFailure.SecretIdNotFound", Kind.ACCOUNT),
    ("AuthFailure.InvalidSecretId", Kind.ACCOUNT),
    ("AuthFailure.TokenFailure", Kind.ACCOUNT),
    ("AuthFailure.MFAFailure", Kind.ACCOUNT),
    ("AuthFailure.UnauthorizedOperation", Kind.ACCOUNT),
    ("AuthFailure*", Kind.ACCOUNT),
    ("UnauthorizedOperation*", Kind.ACCOUNT),
    ("IpInBlacklist", Kind.ACCOUNT),
    ("IpNotInWhitelist", Kind.ACCOUNT),
    ("ActionOffline", Kind.ACCOUNT),
    ("InvalidAction", Kind.ACCOUNT),
    ("NoSuchProduct", Kind.ACCOUNT),
    ("NoSuchVersion", Kind.ACCOUNT),
    ("Unsupported*", Kind.ACCOUNT),
    ("InvalidRequest", Kind.ACCOUNT),
    ("RequestSizeLimitExceeded", Kind.ACCOUNT),
    ("LimitExceeded*", Kind.ACCOUNT),
    (str(OwnCode.DNS), Kind.TRANSIENT),
    (str(OwnCode.CONNECT), Kind.TRANSIENT),
    (str(OwnCode.CONNECT_TIMEOUT), Kind.TRANSIENT),
    (str(OwnCode.TLS), Kind.TRANSIENT),
    (str(OwnCode.PROXY), Kind.TRANSIENT),
    (str(OwnCode.STALE), Kind.STALE),
    (str(OwnCode.READ_TIMEOUT), Kind.AMBIGUOUS),
    (str(OwnCode.LOST), Kind.AMBIGUOUS),
    (str(OwnCode.HTTP_STATUS), Kind.AMBIGUOUS),
    (str(OwnCode.REDIRECT), Kind.AMBIGUOUS),
    (str(OwnCode.TOO_LARGE), Kind.AMBIGUOUS),
    (str(OwnCode.NOT_JSON), Kind.AMBIGUOUS),
    (str(OwnCode.WRONG_SHAPE), Kind.AMBIGUOUS),
    (str(OwnCode.UNPROVED), Kind.UNKNOWN),
    (str(OwnCode.ALONE), Kind.UNKNOWN),
    (str(OwnCode.COUNTRY), Kind.PERMANENT),
    (str(OwnCode.UNREADABLE), Kind.UNKNOWN),
    (str(OwnCode.FORGED), Kind.UNKNOWN),
    (str(OwnCode.LOCKED), Kind.UNKNOWN),
    (str(OwnCode.SENT_MEANWHILE), Kind.UNKNOWN),
]


def spellings(row: str) -> list[str]:
    return [row[:-1], f"{row[:-1]}.Anything", f"{row[:-1]}Anything"] if row[-1] == "*" else [row]


UNDOCUMENTED = explain("Nobody.HeardOf.This")


def table_of(*rows: str) -> dict[str, Code]:
    """A table whose entries mean what they are."""
    return {row: Code(Kind.UNKNOWN, row, "none") for row in rows}


def found(code: str, table: dict[str, Code]) -> str | None:
    entry = find(code, table)
    return entry.meaning if entry else None


def test_the_exact_code_comes_before_its_beginning() -> None:
    table = table_of("A*", "A.B")

    assert [found(code, table) for code in ("A.B", "A.C", "A", "B")] == ["A.B", "A*", "A*", None]


def test_the_longest_beginning_wins_whatever_the_order() -> None:
    table = table_of("Par*", "Parameter*", "Param*")

    assert [found(code, table) for code in ("Part", "Params", "ParameterX")] == [
        *table_of("Par*", "Param*", "Parameter*")
    ]


def test_a_code_is_of_the_kind_that_the_facts_say() -> None:
    for code, kind in [(code, kind) for row, kind in TABLE for code in spellings(row)]:
        assert explain(code).kind is kind, code
        assert is_permanent(code) == (kind is Kind.PERMANENT), code


def test_every_entry_stands_in_this_table() -> None:
    assert CODES.keys() <= {row for row, _ in TABLE}


@pytest.mark.parametrize(
    "code",
    [
        "",
        "FailedOperation",
        "FailedOperation.Unheard",
        "FailedOperation.SendVerifyCodeLimit600",
        "OperationDenied",
        "InvalidRequest.Longer",
        "IpInBlacklistToo",
        "internalerror",
        "Xerviceunavailable",
    ],
)
def test_an_undocumented_code_is_unknown_and_explained_as_such(code: str) -> None:
    assert explain(code) == UNDOCUMENTED
    assert UNDOCUMENTED.kind is Kind.UNKNOWN
    assert "ticket" in UNDOCUMENTED.remedy


def test_text_for_a_number_with_too_many_accounts() -> None:
    entry = explain("FailedOperation.PhoneBindUpper")

    assert entry.meaning == "This number already has the most accounts allowed"
    assert entry.remedy == "Ask the customer for another number"


def test_frequency_limit_and_interval_have_texts_of_their_own() -> None:
    texts = {
        explain("FailedOperation.SendVerifyCodeLimit").meaning,
        explain("FailedOperation.SendVerifyCodeLimit60").meaning,
        UNDOCUMENTED.meaning,
    }

    assert len(texts) == 3


@pytest.mark.parametrize("code", OwnCode)
def test_every_code_of_our_own_is_explained(code: str) -> None:
    assert explain(code) != UNDOCUMENTED


def test_a_job_that_nobody_can_prove_any_more_is_explained_as_such() -> None:
    known = explain("Unproved")

    assert "prove" in known.meaning
    assert "customer" in known.remedy


def test_a_job_that_failed_for_good_is_not_said_to_be_tried_by_itself() -> None:
    for code in [*CODES, "FailedOperation", ""]:
        assert "by itself" not in explain_end(code).remedy, code
        assert explain_end(code).meaning == explain(code).meaning, code


def test_texts_fit_into_a_sentence_and_a_spreadsheet() -> None:
    for text in [text for code in CODES.values() for text in (code.meaning, code.remedy)]:
        assert text[0].isupper(), text
        assert not text.endswith("."), text
        assert text.isprintable(), text
        assert len(text) <= 100, text
