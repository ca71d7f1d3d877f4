"""Hostile and odd files: read as they are meant, or refused in one clear line."""

import io
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.phone import Fault
from producer.sheet import Row, SheetError, open_sheet
from tests.unit.odd_file import OddFile
from tests.unit.odd_files import odd_files, readable, unreadable, write_odd_files

MANY_DIGITS = re.compile(r"\d{7,}")


@cache
def small_ones() -> list[bytes]:
    return [content for odd in odd_files() if len(content := odd.make()) < 20_000]


@cache
def outcome_of(odd: OddFile) -> tuple[list[Row], SheetError | None]:
    return read_all_or_refused(odd.make())


def read(content: bytes) -> list[Row]:
    with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
        return list(sheet)


def read_all_or_refused(content: bytes) -> tuple[list[Row], SheetError | None]:
    try:
        return read(content), None
    except SheetError as error:
        return [], error


def assert_told_well(told: Fault | SheetError, text: str) -> None:
    assert told.remedy
    assert told.remedy in text
    assert text.isprintable(), "one line, and nothing that moves a cursor"
    assert not MANY_DIGITS.search(text), "no number is told in full"


def test_there_are_at_least_sixty_files_of_different_names() -> None:
    names = [odd.name for odd in odd_files()]

    assert len(set(names)) == len(names) >= 60


def test_a_readable_odd_file_gives_its_numbers_problems_repairs_and_doubts(
    subtests: pytest.Subtests,
) -> None:
    for odd in readable():
        with subtests.test(odd.name):
            rows, refused = outcome_of(odd)

            assert refused is None
            assert tuple(row.phone.e164 for row in rows if row.phone is not None) == odd.phones
            assert (
                tuple((row.line, row.problem.code) for row in rows if row.problem) == odd.problems
            )
            assert {repair.code for row in rows for repair in row.repaired} == odd.repaired
            assert {warning.code for row in rows for warning in row.warnings} == odd.warnings
            assert [row.number for row in rows] == list(range(1, len(rows) + 1))
            for row in rows:
                assert "\0" not in "".join(row.cells).encode().decode(), (
                    "fit for any file and database"
                )


def test_an_unreadable_odd_file_is_refused_by_name(subtests: pytest.Subtests) -> None:
    for odd in unreadable():
        with subtests.test(odd.name):
            _, refused = outcome_of(odd)

            assert refused is not None
            assert refused.code == odd.error


def test_every_problem_names_a_remedy_and_no_number(subtests: pytest.Subtests) -> None:
    for odd in odd_files():
        with subtests.test(odd.name):
            rows, refused = outcome_of(odd)

            if refused is not None:
                assert_told_well(refused, str(refused))
                assert "standard input" in str(refused)
            for row in rows:
                for told in (row.problem, *row.warnings, *row.repaired):
                    if told is not None:
                        assert_told_well(told, f"{told.message}; {told.remedy}")


@given(st.binary(max_size=2000))
def test_any_bytes_give_rows_or_a_sheet_error(content: bytes) -> None:
    rows, refused = read_all_or_refused(content)

    assert str(refused).isprintable()
    assert all((row.phone is None) != (row.problem is None) for row in rows)


@settings(max_examples=3 * settings().max_examples)  # there are many files
@given(
    st.deferred(lambda: st.sampled_from(small_ones())),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.floats(0.3, 1),
)
def test_a_damaged_copy_of_any_file_gives_rows_or_a_sheet_error(
    content: bytes, hits: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(content[: int(len(content) * kept) + 1])
    for place, byte in hits:
        if damaged:
            damaged[int(place * (len(damaged) - 1))] = byte

    rows, refused = read_all_or_refused(bytes(damaged))

    assert str(refused).isprintable()
    for row in rows:
        assert (row.phone is None) != (row.problem is None)
        assert "\0" not in "".join(row.cells)
        "".join(row.cells).encode()


@given(st.lists(st.sampled_from(['"', "\n", "\r", ",", ";", "852", "51234567", "'", "=", "\0"])))
def test_any_arrangement_of_quotes_breaks_and_separators_gives_rows(pieces: list[str]) -> None:
    content = "country_code,phone_num\n852,51234567\n" + "".join(pieces)

    rows = read(content.encode())

    assert all((row.phone is None) != (row.problem is None) for row in rows)
    assert [row.line for row in rows] == sorted({row.line for row in rows})


def test_all_of_them_are_written_to_a_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("odd")

    written = write_odd_files(folder)

    assert len(written) == len(list(folder.iterdir())) == len(odd_files())
