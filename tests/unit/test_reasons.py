"""What is masked in a person's reasons."""

from __future__ import annotations

import pytest

from jobs.masking import without_numbers


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("tell +85299007002", "tell ******02"),
        ("call 852 9900-7002, soon", "call ******02, soon"),
        ("(852) 9900.7002", "(******02"),
        ("9900\u20117002 and 99007003", "******02 and ******03"),
        ("\uff19\uff19\uff10\uff10\uff17\uff10\uff10\uff12", "******\uff10\uff12"),
        ("99007", "99007"),
        ("corrected, sent as may-2", "corrected, sent as may-2"),
        ("see batch 2026-11-23", "see batch 2026-11-23"),
        ("+852 2026-11-23", "******23"),
        ("123456 jobs", "123456 jobs"),
        ("", ""),
    ],
)
def test_what_may_be_a_phone_number_is_masked(reason: str, kept: str) -> None:
    assert without_numbers(reason) == kept


def test_a_date_with_its_time_is_no_number_but_one_behind_a_date_is() -> None:
    assert without_numbers("ended 2026-11-26 13:39:19, ok") == "ended 2026-11-26 13:39:19, ok"
    assert without_numbers("2026-11-26 51001234") != "2026-11-26 51001234"
    assert "1234" not in without_numbers("2026-11-26 5100 1234:00")
