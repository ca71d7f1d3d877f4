"""Hostile and odd files through the commands: whatever comes, one clear line and never a traceback.

Every file goes through the commands in this process, a few of each kind as real processes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from tests.commands import Command, Ran, run
from tests.unit.odd_file import OddFile
from tests.unit.odd_files import odd_files

ODD_FILES = odd_files()
MOST_RESULTS = 1_000
"""Those of 5,000 like rows are more of the same."""
MANY_DIGITS = re.compile(r"\d{7,}")
REAL_PROCESSES = ("plain.csv", "packed.csv.gz", "header-only.csv", "one-column.csv")


def written(folder: Path, odd: OddFile) -> Path:
    path = folder / odd.name
    path.write_bytes(odd.make())
    return path


def assert_is_clear(ran: Ran, odd: OddFile) -> None:
    """A refused file: one line with its name; a readable one: no line that shows a number."""
    if odd.error:
        assert ran.exit_code == 2
        assert ran.out == ""
        told = ran.err.splitlines()[-1]
        assert told.startswith(f"sendcode: {odd.name}")
    assert not MANY_DIGITS.search(ran.err)
    assert "unexpected" not in ran.err


@pytest.mark.parametrize("odd", ODD_FILES, ids=lambda odd: odd.name)
def test_an_odd_file_is_sent_row_by_row_and_its_results_can_be_read_again_or_it_is_refused(
    odd: OddFile, sendcode: Command, batches: Batches, tmp_path: Path
) -> None:
    file = written(tmp_path, odd)

    checked = sendcode("batch", "check", file, "--json")
    submitted = sendcode("batch", "submit", file, "--id", "b1", "--json")

    assert_is_clear(checked, odd)
    assert_is_clear(submitted, odd)
    if odd.error:
        return
    assert checked.exit_code == (0 if odd.phones or odd.problems else 1)
    assert (checked.json["valid"], checked.json["invalid"]) == (len(odd.phones), len(odd.problems))
    if not odd.phones:
        assert submitted.exit_code == 1
        assert "no row can be sent" in submitted.err
        return
    assert submitted.exit_code == 0
    rows = [row for _, row, _ in batches.rows("b1")]
    assert [row.phone.e164 for row in rows if row.phone] == list(odd.phones)
    assert [(row.line, row.code) for row in rows if row.phone is None] == list(odd.problems)
    if len(odd.phones) > MOST_RESULTS:
        return

    wrote = sendcode("batch", "results", "b1", "-o", tmp_path / "results.csv")
    again = sendcode("batch", "check", tmp_path / "results.csv", "--json")

    assert wrote.exit_code == 0
    assert again.exit_code == 0
    assert again.json["rows"] == len(odd.phones) + len(odd.problems)
    # what waits in b1 would not be sent again; what was rejected may have become readable
    assert again.json["valid"] <= len(odd.problems)


def a_few_of_each_kind() -> list[OddFile]:
    refused = {odd.error: odd for odd in ODD_FILES if odd.error}
    plain = [odd for odd in ODD_FILES if odd.name in REAL_PROCESSES]
    workbooks = [odd for odd in ODD_FILES if odd.name.endswith(".xlsx") and odd.phones][:1]
    return [*list(refused.values())[:4], *plain, *workbooks]


@pytest.mark.parametrize("odd", a_few_of_each_kind(), ids=lambda odd: odd.name)
def test_an_odd_file_goes_through_a_real_process(
    odd: OddFile, settings: Settings, tmp_path: Path
) -> None:
    file = written(tmp_path, odd)

    ran = run(settings, "batch", "submit", file, "--id", "b1", cwd=tmp_path)

    assert_is_clear(ran, odd)
    assert ran.exit_code in {0, 1, 2}


@hypothesis_settings(max_examples=20)
@given(content=st.binary(max_size=400) | st.text(",;\n\"'0+8521x\t ", max_size=200).map(str.encode))
def test_any_bytes_at_all_end_in_an_exit_code_and_clear_words(
    content: bytes, sendcode: Command, redis: Redis, tmp_path: Path
) -> None:
    redis.flushdb()
    file = tmp_path / "any.csv"
    file.write_bytes(b"phone,name\n" + content)

    checked = sendcode("batch", "check", file, "--id", "b1")
    submitted = sendcode("batch", "submit", file, "--id", "b1")

    assert checked.exit_code in {0, 1, 2}
    assert submitted.exit_code in {0, 1, 2}
    for ran in (checked, submitted):
        assert "unexpected" not in ran.err
        assert not MANY_DIGITS.search(ran.err)
