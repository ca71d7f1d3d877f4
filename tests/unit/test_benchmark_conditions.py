"""The conditions of the benchmarks, as they are asked for."""

from __future__ import annotations

import pytest

from benchmarks.conditions import FOUR_APIS, HARDER, Condition


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("80", Condition("80")),
        ("60-160", Condition("60-160", work="60-160")),
        ("lognormal300", Condition("lognormal300", work="lognormal:300:0.6")),
        ("queue5+end", Condition("queue5+end", queue_ms=5, counts_at_end=True)),
        ("packets20", Condition("packets20", packets_ms=20)),
        ("close200", Condition("close200", tls_ms=200)),
        ("300+allows18", Condition("300+allows18", work="300", allowed=18)),
        ("redis30", Condition("redis30", redis_ms=30)),
    ],
)
def test_a_condition_is_made_of_its_parts(name: str, expected: Condition) -> None:
    assert Condition.named(name) == expected


@pytest.mark.parametrize("name", [*FOUR_APIS, *HARDER])
def test_each_condition_of_the_help_exists(name: str) -> None:
    assert Condition.named(name).name == name


@pytest.mark.parametrize("name", ["", "queue", "lognormal", "80+soon", "allows18.5"])
def test_an_unknown_part_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="no such condition"):
        Condition.named(name)
