"""How the job of a test token ends, beside what the stand-in for the API makes of its number."""

from __future__ import annotations

import pytest

from jobs.job import State
from jobs.magic_numbers import end_of
from jobs.phone import PhoneNumber
from tests.expected_ends import ACCOUNT_WIDE, ENDS


def test_a_test_number_ends_as_with_the_sandbox(subtests: pytest.Subtests) -> None:
    for prefix in sorted(ENDS):
        with subtests.test(prefix):
            real = ENDS[prefix]

            end = end_of(PhoneNumber("852", f"{prefix}0001"))

            assert (end.state, end.code, end.attempts, end.possible_duplicate) == (
                real.state,
                real.code,
                real.attempts,
                real.perhaps_twice,
            )


@pytest.mark.parametrize("prefix", sorted(ACCOUNT_WIDE))
def test_what_would_halt_the_account_ends_the_test_alone(prefix: str) -> None:
    assert end_of(PhoneNumber("65", f"{prefix}0001")).state is State.DEAD


@pytest.mark.parametrize("phone_num", ["55501234", "9901000"])
def test_any_other_number_is_sent(phone_num: str) -> None:
    assert end_of(PhoneNumber("852", phone_num)).state is State.SENT
