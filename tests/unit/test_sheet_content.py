"""One batch for what a file says, however it is written down."""

import csv
import gzip
import io
import json
from typing import Any

import openpyxl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from producer.sheet import SheetError, open_sheet
from tests.unit.odd_files import readable

HEADER = ["name", "country_code", "phone_num", "note"]
ROWS = [
    ["Zo\u00e9", "852", "51234567", "5, Peak Road\nHong Kong"],
    ["Ben", "852", "51234568", ""],
    ["Cy", "225", "0701234567", 'the "big" one'],
]


def digest_of(content: bytes, encoding: str | None = None) -> str:
    with open_sheet("-", stdin=io.BytesIO(content), encoding=encoding) as sheet:
        return sheet.digest


def outcome_of(content: bytes) -> list[tuple[Any, ...]]:
    """All of a file's rows that a batch depends on."""
    with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
        return [(row.number, row.phone) for row in sheet]


def text(rows: list[list[str]] = ROWS, header: list[str] = HEADER, **how: Any) -> str:
    file = io.StringIO()
    csv.writer(file, **{"lineterminator": "\n", **how}).writerows([header, *rows])
    return file.getvalue()


def saved(*rows: list[Any], sheet: str = "Sheet") -> bytes:
    book = openpyxl.Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def json_lines(header: list[str]) -> bytes:
    named = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    return "".join(
        json.dumps({name: row[name] for name in header}) + "\n" for row in named
    ).encode()


PLAIN = text().encode()


AS_SAVED = {
    "byte order mark": text().encode("utf-8-sig"),
    "line ends": text(lineterminator="\r\n").replace("Road\n", "Road\r\n").encode(),
    "semicolons": text(delimiter=";").encode(),
    "announced bars": ("sep=|\n" + text(delimiter="|")).encode(),
    "quotes": text(quoting=csv.QUOTE_ALL).encode(),
    "code page": text().encode("cp1252"),
    "UTF-16": text().encode("utf-16"),
    "UTF-16 without a mark": text().encode("utf-16-le"),
    "blank lines at the end": (text() + "\n\n ,,\n\n").encode(),
    "blank lines between": text().replace("51234568,", "51234568,\n").encode(),
    "empty columns": text([[*row, "", ""] for row in ROWS], [*HEADER, "", ""]).encode(),
    "no empty cell at the end": text().replace("51234568,", "51234568").encode(),
    "title above": ("Customers of May\n\n" + text()).encode(),
    "packed": gzip.compress(PLAIN),
    "workbook": saved(HEADER, *ROWS),
    "sheet of another name": saved(HEADER, *ROWS, sheet="Customers"),
    "numbers": saved(HEADER, [ROWS[0][0], 852, 51234567, ROWS[0][3]], *ROWS[1:]),
}


@pytest.mark.parametrize("way", AS_SAVED)
def test_the_same_cells_are_the_same_batch_however_they_are_written_down(way: str) -> None:
    assert digest_of(AS_SAVED[way]) == digest_of(PLAIN)
    assert outcome_of(AS_SAVED[way]) == outcome_of(PLAIN)


@pytest.mark.parametrize(
    "content",
    [
        text([ROWS[1], ROWS[0], ROWS[2]]),
        text(ROWS[:2]),
        text([*ROWS, ROWS[2]]),
        text(header=[*HEADER[:3], "Note"]),
        text().replace("Ben", "Ben "),
        text().replace("Ben", "Bern"),
        text().replace("51234568", "51234569"),
        text().replace("Ben,", '"Ben'),
        text([[*row[:3], "", row[3]] for row in ROWS], [*HEADER[:3], "", "note"]),
    ],
    ids=range(9),
)
def test_other_cells_are_another_batch(content: str) -> None:
    assert digest_of(content.encode()) != digest_of(PLAIN)


def test_a_row_that_is_read_otherwise_for_a_reason_beside_its_cells_is_another_one() -> None:
    zero_lost = [["country_code", "phone_num"], ["225", "701234567"]]
    as_text, as_number = saved(*zero_lost), saved(zero_lost[0], [225, 701234567])
    too_wide = b"country_code,phone_num\n852,51234567,x\n"
    named = b"country_code,phone_num,\n852,51234567,x\n"
    unclosed = b'country_code,phone_num,name\n852,51234567,"Ada\n'
    closed = b'country_code,phone_num,name\n852,51234567,"""Ada"\n'

    for one, other in ((as_text, as_number), (too_wide, named), (unclosed, closed)):
        assert outcome_of(one) != outcome_of(other)
        assert digest_of(one) != digest_of(other)


def test_the_order_of_names_in_json_lines_does_not_matter() -> None:
    assert digest_of(json_lines(HEADER)) == digest_of(json_lines(HEADER[::-1]))
    assert outcome_of(json_lines(HEADER)) == outcome_of(json_lines(HEADER[::-1]))


CELLS = st.text(st.sampled_from("a1,\"; \n\r'="), max_size=4)
TABLES = st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=4)


@given(TABLES, TABLES)
def test_no_other_cells_have_the_same_digest(one: list[list[str]], other: list[list[str]]) -> None:
    def content(rows: list[list[str]]) -> bytes:
        return text([["+85251234567", *row] for row in rows], ["phone", "a", "b", "c"]).encode()

    def cells(content: bytes) -> list[list[str]]:
        with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
            rows = [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row.cells]
                    for row in sheet]  # fmt: skip
            assume(all(len(row) == 4 for row in rows))
            return rows

    same = cells(content(one)) == cells(content(other))

    assert (digest_of(content(one)) == digest_of(content(other))) == same


def test_a_digest_is_the_same_before_and_after_the_rows_were_read(
    subtests: pytest.Subtests,
) -> None:
    for odd in readable():
        with subtests.test(odd.name):
            content = odd.make()
            with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
                list(sheet)
                after = sheet.digest

            assert after == digest_of(content)


BIG5 = text([["\u9673\u5c0f\u660e\u529f\u8a31\u84cb", *row[1:]] for row in ROWS]).encode("big5")


@pytest.mark.parametrize("content", [PLAIN, text().encode("cp1252"), BIG5], ids=range(3))
def test_an_encoding_that_is_named_makes_no_other_batch(content: bytes) -> None:
    named = {digest_of(content, encoding) for encoding in ("latin-1", "big5hkscs", "cp932", "cp437")
             if is_readable(content, encoding)}  # fmt: skip
    unnamed = {digest_of(content)} if is_readable(content) else set()

    assert len(named | unnamed) == 1


def is_readable(content: bytes, encoding: str | None = None) -> bool:
    try:
        digest_of(content, encoding)
    except SheetError:
        return False
    return True


def test_only_an_encoding_that_would_not_be_found_is_kept_as_one_that_was_named() -> None:
    def named(content: bytes, encoding: str | None) -> str | None:
        with open_sheet("-", stdin=io.BytesIO(content), encoding=encoding) as sheet:
            return sheet.named_encoding

    assert named(PLAIN, None) is None
    assert named(PLAIN, "UTF8") is None
    assert named(text().encode("cp1252"), "windows-1252") is None
    assert named(PLAIN, "cp437") == "cp437"
    assert named(saved(HEADER, *ROWS), None) is None


def test_columns_that_a_person_named_make_another_batch_only_if_they_are_others() -> None:
    content = b"Phone,Mobile\n+85221234567,+85251234567\n"

    def digest(phone_column: str | None) -> str:
        with open_sheet("-", stdin=io.BytesIO(content), phone_column=phone_column) as sheet:
            return sheet.digest

    assert digest("Phone") != digest(None)
    assert digest("Phone") == digest("phone")


def test_naming_the_column_that_is_found_anyway_makes_no_other_batch() -> None:
    content = b"name,Mobile\nAda,+85251234567\n"

    with (
        open_sheet("-", stdin=io.BytesIO(content)) as found,
        open_sheet("-", stdin=io.BytesIO(content), phone_column="mobile") as named,
    ):
        assert found.digest == named.digest


def test_a_cell_that_was_corrected_beside_the_file_counts_as_if_it_was_corrected_in_it() -> None:
    wrong, right = [list(row) for row in ROWS], [list(row) for row in ROWS]
    wrong[1][2] = "5.1234568E+07"

    with open_sheet(
        "-", stdin=io.BytesIO(text(wrong).encode()), corrections={4: {2: right[1][2]}}
    ) as sheet:
        rows = list(sheet)

        assert [row.problem for row in rows] == [None, None, None]
        assert rows[1].cells == right[1]
        assert sheet.digest == digest_of(text(right).encode())


def test_a_corrected_cell_of_a_workbook_is_a_text_whatever_it_was() -> None:
    # a number cell loses the zero in front, so Ivory Coast's is put back for it, but not for a text
    content = saved(HEADER, ["Cy", "225", 701234567, ""])

    with open_sheet("-", stdin=io.BytesIO(content), corrections={2: {2: "0701234567"}}) as sheet:
        (row,) = sheet

    assert row.phone is not None
    assert (row.phone.phone_num, row.repaired) == ("0701234567", ())


def test_what_there_is_to_choose_from_comes_with_the_error_that_asks_for_a_choice() -> None:
    content = saved(["who", "where"], ["Zoë", "51234567"], sheet="July")

    with pytest.raises(SheetError) as raised:
        open_sheet("-", stdin=io.BytesIO(content))

    assert list(raised.value.names["phone_column"]) == ["who", "where"]
