"""Settings of the sandbox, as a control request changes them."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest

from sandbox.settings import AccountState, Settings, SettingsError, draw_ms


def state(behaviour: str, requests: int | None = None) -> AccountState:
    return AccountState(behaviour=behaviour, requests=requests)


def test_what_is_shown_can_be_sent_back() -> None:
    settings = Settings(
        rate_limit=2.5,
        faults={"InternalError": 0.25},
        account_state=state("ok", 3),
    )

    assert Settings().changed(settings.as_json()) == settings


def test_a_change_keeps_what_it_does_not_name() -> None:
    changed = Settings(phone_interval=6).changed({"rate_limit": 200})

    assert (changed.rate_limit, changed.phone_interval) == (200, 6)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, None),
        ("UnauthorizedOperation", state("UnauthorizedOperation")),
        (
            {"behaviour": "hang-up-after", "requests": 2},
            state("hang-up-after", 2),
        ),
        ({"behaviour": "LimitExceeded"}, state("LimitExceeded")),
    ],
)
def test_the_account_state_is_a_name_or_a_name_and_a_count_or_nothing(
    document: object, expected: AccountState | None
) -> None:
    assert Settings().changed({"account_state": document}).account_state == expected


@pytest.mark.parametrize(
    "document",
    [
        {"rate": 20},
        {"rate_limit": "20"},
        {"rate_limit": True},
        {"rate_limit": -1},
        {"rate_limit": math.nan},
        {"phone_interval": math.inf},
        {"latency_ms": 10**400},
        {"answer_ms": -1},
        {"answer_ms": math.nan},
        {"answer_ms": True},
        {"answer_ms": "-5"},
        {"answer_ms": "soon"},
        {"answer_ms": "lognormal:300"},
        {"counts_at_end": 1},
        {"closes": "yes"},
        {"faults": []},
        {"faults": {"no-such-behaviour": 0.1}},
        {"faults": {"InternalError": 1.1}},
        {"faults": {"InternalError": -0.1}},
        {"faults": {"InternalError": "often"}},
        {"faults": {"InternalError": 0.6, "reset-after": 0.6}},
        {"account_state": 5},
        {"account_state": "no-such-behaviour"},
        {"account_state": {}},
        {"account_state": {"behaviour": "ok", "requests": 0}},
        {"account_state": {"behaviour": "ok", "requests": True}},
        {"account_state": {"behaviour": "ok", "until": 3}},
    ],
)
def test_a_wrong_setting_is_refused_by_name(document: dict[str, Any]) -> None:
    name = next(iter(document)).removesuffix("s")

    with pytest.raises(SettingsError, match=rf"{name}|behaviour"):
        Settings().changed(document)


@pytest.mark.parametrize(("given", "kept"), [(80, 80), ("80", 80), ("60-160", "60-160")])
def test_the_time_that_the_api_works_is_a_number_or_a_distribution(
    given: object, kept: object
) -> None:
    assert Settings().changed({"answer_ms": given}).as_json()["answer_ms"] == kept


def test_a_uniform_time_lies_between_its_ends() -> None:
    chance = random.Random(1)

    drawn = [draw_ms("60-160", chance) for _ in range(1000)]

    assert 60 <= min(drawn) < 65
    assert 155 < max(drawn) <= 160


def test_a_lognormal_time_has_the_median_and_the_spread_that_were_asked_for() -> None:
    chance = random.Random(1)

    logs = [math.log(draw_ms("lognormal:300:0.6", chance)) for _ in range(5000)]

    assert math.exp(statistics.median(logs)) == pytest.approx(300, rel=0.05)
    assert statistics.stdev(logs) == pytest.approx(0.6, rel=0.05)
