"""The API's decisions, with time passed in: rate, interval, magic numbers, faults, account."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.api import Api
from sandbox.journal import SECOND_NS
from sandbox.numbers import MAGIC_NUMBERS, MagicNumber, behaviour_named
from sandbox.settings import Settings
from sandbox.signature import Credentials
from sandbox.wire import Exchange, Request
from tests.sandbox_calls import call_to

NOW = 1_551_113_065
URL = "http://127.0.0.1:8020"
TOO_EARLY = "FailedOperation.SendVerifyCodeLimit60"
THROTTLED = "RequestLimitExceeded"
FIRST_TRY_ONLY = [row for row in MAGIC_NUMBERS if row.tries == 1]


def request_for(phone_num: str, **changes: Any) -> Request:
    changes = {"timestamp": NOW, **changes}
    exchange = Exchange()
    exchange.receive(call_to(URL, phone_num, **changes).wire())
    request = exchange.next_request()
    assert request is not None
    return request


class Caller:
    """Calls an API at times it chooses."""

    def __init__(self, *, seed: int = 0, **settings: object) -> None:
        chosen = Settings().changed({"rate_limit": 0, **settings})
        self.api = Api(Credentials(), chosen, seed=seed, started_ns=0)

    def code(self, phone_num: str = "51230000", at_s: float = 0, **changes: Any) -> str | None:
        request = request_for(phone_num, **changes)
        return self.api.decide(request, round(at_s * SECOND_NS), NOW).code

    def stats(self) -> dict[str, Any]:
        return self.api.journal.snapshot(now_ns=0, numbers=True, arrivals=True)

    def accepted(self, phone_num: str) -> int:
        count = self.api.journal.number_snapshot(f"852{phone_num}")["accepted"]
        assert isinstance(count, int)
        return count


def test_a_right_request_is_accepted_with_a_fresh_request_id() -> None:
    caller = Caller()

    decisions = [caller.api.decide(request_for(n), 0, NOW) for n in ("51230001", "51230002")]

    assert [each.code for each in decisions] == [None, None]
    assert len({uuid.UUID(each.request_id) for each in decisions}) == 2
    assert caller.stats()["accepted_per_number"] == {"85251230001": 1, "85251230002": 1}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"action": "SendVerifycode"}, "InvalidAction"),
        ({"version": "2022-09-27"}, "NoSuchVersion"),
        ({"content_type": "text/plain"}, "InvalidRequest"),
        ({"extra": {"X-TC-RequestClient": "c" * 129}}, "InvalidParameter"),
        ({"secret_key": "WRONG"}, "AuthFailure.SignatureFailure"),
        ({"timestamp": NOW - 301}, "AuthFailure.SignatureExpire"),
        ({"body": b"{}"}, "MissingParameter"),
    ],
)
def test_a_wrong_request_is_refused_and_sends_nothing(changes: dict[str, Any], code: str) -> None:
    caller = Caller()

    assert caller.code(**changes) == code

    stats = caller.stats()
    assert (stats["requests"], stats["accepted"]) == (1, 0)
    assert stats["codes"] == {code: 1}


@pytest.mark.parametrize("missing", ["x-tc-action", "x-tc-version"])
def test_a_missing_header_is_a_missing_parameter(missing: str) -> None:
    request = request_for("51230000")
    headers = {name: value for name, value in request.headers.items() if name != missing}
    request = Request("POST", "/", headers, request.body)

    assert Caller().api.decide(request, 0, NOW).code == "MissingParameter"


def test_optional_headers_are_tolerated() -> None:
    extra = {"X-TC-Language": "en-US", "X-TC-RequestClient": "c" * 128, "X-TC-Region": ""}

    assert Caller().code(extra=extra) is None


def test_anything_but_a_post_is_refused() -> None:
    request = request_for("51230000")
    got = Request("GET", "/", request.headers)

    assert Caller().api.decide(got, 0, NOW).code == "UnsupportedProtocol"


# Rate


def test_the_request_too_many_in_a_second_is_refused_and_takes_no_place() -> None:
    caller = Caller(rate_limit=2, phone_interval=0)

    codes = [caller.code(at_s=at) for at in (0, 0.5, 0.9, 0.99, 1.0, 1.4)]

    assert codes == [None, None, THROTTLED, THROTTLED, None, THROTTLED]
    stats = caller.stats()
    assert (stats["rejected_rate_limit"], stats["accepted"]) == (3, 3)


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, SECOND_NS), min_size=1, max_size=30),
)
def test_never_more_than_the_limit_is_accepted_in_any_second(limit: int, gaps: list[int]) -> None:
    caller = Caller(rate_limit=limit, phone_interval=0)
    request, at_ns = request_for("51230000"), 0

    for gap in gaps:
        at_ns += gap
        caller.api.decide(request, at_ns, NOW)

    stats = caller.stats()
    times = [round(at * SECOND_NS) for at, _, _ in stats["arrivals"]]
    sent = [round(at * SECOND_NS) for at, _, code in stats["arrivals"] if code == "OK"]
    assert all(sum(end - SECOND_NS < at <= end for at in sent) <= limit for end in sent)
    in_second = [
        sum(end - SECOND_NS < at <= end for at in times[: n + 1]) for n, end in enumerate(times)
    ]
    assert stats["most_in_any_second"] == max(in_second)
    assert stats["over_limit"] == sum(count > limit for count in in_second)


def test_the_busiest_second_counts_refused_requests_too() -> None:
    caller = Caller(rate_limit=1)

    caller.code("51230001", 0)
    caller.code("51230002", 0.25)
    caller.code("51230003", 0.5, secret_key="WRONG")

    stats = caller.stats()
    assert (stats["most_in_any_second"], stats["over_limit"]) == (3, 2)
    assert stats["rejected_rate_limit"] == 1


def test_the_limit_can_be_changed_while_it_runs() -> None:
    caller = Caller(rate_limit=1, phone_interval=0)
    assert [caller.code(at_s=0), caller.code(at_s=0.1)] == [None, THROTTLED]

    caller.api.change(caller.api.settings.changed({"rate_limit": 3}))

    assert [caller.code(at_s=0.2), caller.code(at_s=0.3)] == [None, None]
    assert caller.code(at_s=0.4) == THROTTLED


# Interval


def test_a_second_code_for_a_number_is_refused_until_its_interval_is_over() -> None:
    caller = Caller(phone_interval=60)

    codes = [caller.code(at_s=at) for at in (0, 0.1, 59.9, 60, 60.1, 61)]

    assert codes == [None, TOO_EARLY, TOO_EARLY, TOO_EARLY, None, TOO_EARLY]
    assert caller.accepted("51230000") == 2


def test_a_refused_request_does_not_lengthen_the_interval() -> None:
    caller = Caller(phone_interval=60)
    caller.code(at_s=0)

    assert caller.code(at_s=59) == TOO_EARLY
    assert caller.code(at_s=60.5) is None


def test_numbers_do_not_share_an_interval_and_country_codes_tell_them_apart() -> None:
    caller = Caller()

    assert caller.code("51230001") is None
    assert caller.code("51230002") is None
    body = b'{"CountryCode": "65", "PhoneNum": "51230001"}'
    assert caller.code(body=body) is None


def test_an_interval_of_zero_is_none() -> None:
    caller = Caller(phone_interval=0)

    assert [caller.code(at_s=0), caller.code(at_s=0)] == [None, None]
    assert caller.stats()["doubled_numbers"] == {"85251230000": 2}
    assert caller.stats()["doubled"] == 1


def test_the_times_of_accepted_sends_are_kept() -> None:
    caller = Caller(phone_interval=1)
    for at in (5, 5.5, 7):
        caller.code(at_s=at)

    seen = caller.api.journal.number_snapshot("85251230000")

    assert seen == {
        "number": "85251230000",
        "requests": 3,
        "accepted": 2,
        "accepted_at": [5.0, 7.0],
    }


# Magic numbers


def served(row: MagicNumber, tries: int) -> list[str | None]:
    """Codes of that many requests, spaced so that no interval is in the way."""
    caller = Caller(phone_interval=6)
    return [caller.code(f"{row.prefix}1234", at_s=10.0 * n) for n in range(tries)]


def test_a_magic_number_gets_its_code_for_as_many_requests_as_the_table_says(
    subtests: pytest.Subtests,
) -> None:
    for row in MAGIC_NUMBERS:
        with subtests.test(row.prefix):
            expected = TOO_EARLY if row.behaviour == "interval-elsewhere" else None
            expected = behaviour_named(row.behaviour).code or expected

            if row.tries is None:
                assert served(row, 7) == [expected] * 7
            else:
                assert served(row, row.tries + 2) == [expected] * row.tries + [None, None]


def test_a_magic_number_is_sent_a_code_only_where_the_table_says(subtests: pytest.Subtests) -> None:
    for row in MAGIC_NUMBERS:
        with subtests.test(row.prefix):
            caller = Caller()
            behaviour = behaviour_named(row.behaviour)
            sends = behaviour.accepts and not behaviour.elsewhere

            caller.code(f"{row.prefix}1234")

            assert caller.accepted(f"{row.prefix}1234") == int(sends)


def test_a_probe_inside_the_interval_tells_whether_the_first_try_was_accepted(
    subtests: pytest.Subtests,
) -> None:
    for row in FIRST_TRY_ONLY:
        with subtests.test(row.prefix):
            caller = Caller()
            number = f"{row.prefix}1234"
            caller.code(number, at_s=0)
            behaviour = behaviour_named(row.behaviour)

            probe = caller.code(number, at_s=5)

            assert probe == (TOO_EARLY if behaviour.accepts else None)
            assert caller.accepted(number) == (0 if behaviour.elsewhere else 1)


def test_a_number_in_somebody_elses_interval_is_fine_when_that_is_over() -> None:
    caller = Caller(phone_interval=60)

    codes = [caller.code("99050001", at_s=at) for at in (0, 30, 60, 60.5)]

    assert codes == [TOO_EARLY, TOO_EARLY, TOO_EARLY, None]


def test_a_request_refused_by_rate_or_signature_is_no_try_of_a_magic_number() -> None:
    caller = Caller(rate_limit=1)
    caller.code("51230000", at_s=0)

    assert caller.code("99230001", at_s=0.1) == THROTTLED
    assert caller.code("99230001", at_s=1, secret_key="WRONG") == "AuthFailure.SignatureFailure"

    assert caller.code("99230001", at_s=2) == "ResourceUnavailable"
    assert caller.code("99230001", at_s=3) is None


# Faults by chance


def outcomes(seed: int) -> list[str | None]:
    faults = {"InternalError": 0.3, "ServiceUnavailable": 0.3}
    caller = Caller(seed=seed, faults=faults, phone_interval=0)
    return [caller.code() for _ in range(200)]


def test_faults_come_about_as_often_as_asked_and_alike_for_a_seed() -> None:
    first = outcomes(seed=1)

    assert first == outcomes(seed=1)
    assert first != outcomes(seed=2)
    for kind in ("InternalError", "ServiceUnavailable", None):
        assert 40 <= first.count(kind) <= 110


def test_a_fault_of_probability_one_befalls_every_ordinary_number_and_no_magic_one() -> None:
    caller = Caller(faults={"reset-after": 1.0})

    decision = caller.api.decide(request_for("51230000"), 0, NOW)
    magic = caller.api.decide(request_for("99010000"), 0, NOW)

    assert decision.delivery == "reset"
    assert (magic.code, magic.delivery) == ("FailedOperation.PhoneBindUpper", "plain")
    assert caller.stats()["behaviours"]["reset-after"] == 1


def test_a_fault_that_accepts_does_not_break_the_interval() -> None:
    caller = Caller(faults={"hang-up-after": 1.0})

    caller.code(at_s=0)

    assert caller.code(at_s=1) == TOO_EARLY
    assert caller.accepted("51230000") == 1


# The whole account


def test_a_forced_state_befalls_every_number_until_it_is_cleared() -> None:
    caller = Caller(account_state="UnauthorizedOperation")

    assert caller.code("51230000") == "UnauthorizedOperation"
    assert caller.code("99010000") == "UnauthorizedOperation"

    caller.api.change(caller.api.settings.changed({"account_state": None}))
    assert caller.code("51230000") is None


def test_a_forced_state_can_be_for_some_requests_only_and_shows_how_many_are_left() -> None:
    caller = Caller(account_state={"behaviour": "UnauthorizedOperation", "requests": 2})

    assert caller.code() == "UnauthorizedOperation"
    assert caller.api.settings.as_json()["account_state"] == {
        "behaviour": "UnauthorizedOperation",
        "requests": 1,
    }
    assert caller.code() == "UnauthorizedOperation"
    assert caller.code() is None
    assert caller.api.settings.account_state is None


def test_a_forced_state_spends_no_try_of_a_magic_number() -> None:
    caller = Caller(account_state={"behaviour": "LimitExceeded", "requests": 1})

    codes = [caller.code("99230001") for _ in range(3)]

    assert codes == ["LimitExceeded", "ResourceUnavailable", None]


def test_reset_forgets_what_was_and_keeps_the_settings() -> None:
    caller = Caller(rate_limit=1)
    caller.code(at_s=0)

    caller.api.reset(0)

    assert caller.stats()["requests"] == 0
    assert caller.code(at_s=0) is None  # neither the second nor the interval is taken
    assert caller.api.settings.rate_limit == 1
