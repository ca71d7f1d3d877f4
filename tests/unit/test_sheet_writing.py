"""Results as CSV: what a spreadsheet shows is what was there, nothing runs, nothing gets lost."""

import csv
import io
import re
import stat
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path

import openpyxl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from producer.sheet import SheetError, SheetWriter, open_sheet, written_file
from producer.sheet.writing import shielded, streamed_sheet, unshielded, written_sheet

OURS = ("status", "code", "message")
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
RISKY = st.builds(
    str.__add__,
    st.sampled_from(["=", "+", "-", "@", "'", "\t", "\r", "\n", " =", '="', "0"]),
    CELLS,
)


def written(header: list[str], rows: list[list[str]], delimiter: str = ",") -> bytes:
    stream = io.StringIO(newline="")
    writer = SheetWriter(stream, header, OURS, delimiter)
    for cells in rows:
        writer.write(cells, ("sent", "", "done"))
    return stream.getvalue().encode("utf-8-sig")


def cells_of(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


@given(
    st.lists(st.tuples(CELLS | RISKY, CELLS | RISKY), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_a_results_file_read_again_gives_every_cell_as_it_was(
    notes: list[tuple[str, str]], delimiter: str
) -> None:
    header = ["phone", "note", "more"]
    rows = [[f"+8525123{number:04d}", *note] for number, note in enumerate(notes)]

    content = written(header, rows, delimiter)

    with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
        assert sheet.header == (*header, *OURS)
        read = list(sheet)
    assert [row.cells for row in read] == [[*row, "sent", "", "done"] for row in rows]
    assert [row.phone.e164 for row in read if row.phone is not None] == [row[0] for row in rows]


@given(st.lists(CELLS | RISKY, min_size=1, max_size=6))
def test_any_header_comes_back_as_it_was(names: list[str]) -> None:
    assume(not any(name.strip().casefold() in {"phone", "sep="} for name in names))
    header = ["phone_num", *names]

    content = written(header, [["+85251234567", *names]])

    with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
        assert sheet.header == (*header, *OURS)


@given(st.lists(CELLS | RISKY | st.sampled_from([*";,|\t\n", '"', "'"]), max_size=6).map("".join))
def test_no_cell_starts_a_formula_behind_any_separator(cell: str) -> None:
    shown = shielded(cell)

    assert unshielded(shown) == cell
    if not re.fullmatch(r'="[^"]*"', shown):
        for part in re.split(r"[,;|\t\r\n]", shown)[1:]:
            assert not part.lstrip(' "').startswith(("=", "+", "-", "@"))


@given(st.lists(st.tuples(CELLS | RISKY, CELLS | RISKY), min_size=1, max_size=8))
def test_a_workbook_of_results_read_again_gives_every_cell_as_it_was(
    notes: list[tuple[str, str]],
) -> None:
    header = ["phone", "note", "more"]
    rows = [[f"+8525123{number:04d}", *note] for number, note in enumerate(notes)]
    content = io.BytesIO()

    with written_sheet("-", header, OURS, stdout=content, form="xlsx") as writer:
        for cells in rows:
            writer.write(cells, ("sent", "", "done"))

    with open_sheet("-", stdin=io.BytesIO(content.getvalue())) as sheet:
        assert [row.cells for row in sheet] == [[*row, "sent", "", "done"] for row in rows]


def test_other_programs_read_the_workbook_and_see_only_texts(tmp_path: Path) -> None:
    path = tmp_path / "results.xlsx"
    cells = [*(f"c{n}" for n in range(30)), "0701234567", "=1+1", " two\nlines ", "\u5f20", "<&>"]

    with written_sheet(path, cells, ("status",), form="xlsx") as writer:
        writer.write(cells, ("sent",))

    rows = list(openpyxl.load_workbook(path).active.iter_rows())
    assert [[cell.value for cell in row] for row in rows] == [[*cells, "status"], [*cells, "sent"]]
    assert {cell.data_type for row in rows for cell in row} == {"s"}


def test_a_workbook_keeps_a_bold_header_in_sight_with_a_filter_and_fitting_columns(
    tmp_path: Path,
) -> None:
    path = tmp_path / "results.xlsx"
    with written_sheet(path, ["name", "phone"], ("reason",), form="xlsx") as writer:
        writer.write(["An", "51001234"], ["it is too long for a narrow column"])
        for _ in range(150):
            writer.write(["Bo", "51001235"], [""])

    sheet = openpyxl.load_workbook(path).active

    assert [cell.font.b for cell in (*sheet[1], *sheet[2])] == [True] * 3 + [False] * 3
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:C152")
    widths = [sheet.column_dimensions[name].width for name in "ABC"]
    assert widths == [8, 10, 36]


def test_a_time_is_a_date_in_a_workbook_and_comes_back_as_a_text(tmp_path: Path) -> None:
    path, plain = tmp_path / "results.xlsx", io.StringIO()
    at = datetime(2026, 11, 26, 18, 2, 31, tzinfo=timezone(timedelta(hours=8)))
    name = "July [1/2]: 'new' customers, all of them"

    sheet = streamed_sheet(
        ["phone"], ("ended",), [(["+85251234567"], [at])], ",", "xlsx", title=name
    )
    path.write_bytes(b"".join(sheet))
    SheetWriter(plain, ["phone"], ("ended",)).write(["+85251234567"], [at])

    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["July  1 2   'new' customers, al"]
    assert book.active["B2"].value == at.replace(tzinfo=None)
    assert book.active["B2"].number_format == r"yyyy\-mm\-dd\ hh:mm:ss"
    with open_sheet(path) as read:
        assert [row.cells[1] for row in read] == ["2026-11-26 18:02:31"]
    assert plain.getvalue().splitlines()[1].endswith(",2026-11-26 18:02:31")


def test_a_workbook_takes_no_memory_for_its_rows_and_no_place_to_jump_back_to() -> None:
    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            return len(memoryview(data))  # type: ignore[arg-type]

    def peak_of(rows: int) -> int:
        tracemalloc.start()
        try:
            with written_sheet("-", ["a"], (), stdout=Pipe(), form="xlsx") as writer:  # type: ignore[arg-type]
                for number in range(rows):
                    writer.write([f"customer number {number}"], ())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_of(10_000) < peak_of(1_000) + 500_000


@pytest.mark.parametrize(
    ("cells", "told"), [(["x" * 32_768], "characters"), (["x"] * 16_385, "columns")]
)
def test_what_no_workbook_holds_is_refused_and_leaves_no_file(
    tmp_path: Path, cells: list[str], told: str
) -> None:
    with (
        pytest.raises(SheetError, match=told) as caught,
        written_sheet(tmp_path / "r.xlsx", ["a"], (), form="xlsx") as writer,
    ):
        writer.write(cells, ())

    assert (caught.value.remedy, caught.value.choices) == ("write CSV", ("format",))
    assert list(tmp_path.iterdir()) == []


def test_plain_csv_is_for_programs(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"

    with written_sheet(path, ["phone"], OURS, form="plain") as writer:
        writer.write(["0701234567"], ("sent", "", "-"))

    assert path.read_bytes() == b"phone,status,code,message\r\n0701234567,sent,,-\r\n"


@given(CELLS | RISKY)
def test_no_cell_can_be_taken_for_a_formula(cell: str) -> None:
    shown = shielded(cell)

    if shown.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")):
        text_only = shown.startswith('="') and set(shown[2:-1]) <= set("0123456789+-(). eE")
        number_only = (
            shown[0] == "-" and shown[1:].replace(".", "", 1).replace(",", "", 1).isdigit()
        )
        assert text_only or number_only
    assert not shown.startswith(("\t", "\r", "\n"))
    assert unshielded(shown) == cell


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("http://evil")', '\'=HYPERLINK("http://evil")'),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("\t=1", "'\t'=1"),
        ("x;=cmd|'/C calc'!A0", "x;'=cmd|'/C calc'!A0"),
        ('Ada, "=1"', 'Ada, "\'=1"'),
        ("a|@b\n-2+3", "a|'@b\n'-2+3"),
        ("x;'=1", "x;''=1"),
        ("a; b, c", "a; b, c"),
        (" =1", "' =1"),
        ("'=1", "''=1"),
        ("\uff1d1", "'\uff1d1"),
        ("+85251234567", '="+85251234567"'),
        ("+852 5123 4567", '="+852 5123 4567"'),
        ("0701234567", '="0701234567"'),
        ("18888888888", '="18888888888"'),
        ("1E5", '="1E5"'),
        ('="0701"', '\'="0701"'),
        ("51234567", "51234567"),
        ("-12.5", "-12.5"),
        ("0.5", "0.5"),
        ("0", "0"),
        ("'Ada", "'Ada"),
        ("2024-11-04", "2024-11-04"),
        ("", ""),
    ],
)
def test_cells_are_shown_so(cell: str, shown: str) -> None:
    assert shielded(cell) == shown
    assert unshielded(shown) == cell


def test_columns_stay_in_order_and_ours_follow() -> None:
    content = written(["name", "phone"], [["Ada", "+85251234567"]])

    assert content.startswith(b"\xef\xbb\xbf")
    assert b"\r\n" in content
    assert cells_of(content) == [
        ["name", "phone", *OURS],
        ["Ada", '="+85251234567"', "sent", "", "done"],
    ]


def test_short_rows_are_filled_and_what_is_too_much_follows_ours() -> None:
    content = written(["phone", "name"], [["1"], ["1", "Ada", "Ltd"]])

    assert cells_of(content)[1:] == [
        ["1", "", "sent", "", "done"],
        ["1", "Ada", "sent", "", "done", "Ltd"],
    ]


def test_results_of_a_results_file_replace_the_old_ones() -> None:
    content = written(["phone", *OURS], [["1", "dead", "X", "old"], ["2", "dead", "X", "old", "y"]])

    assert cells_of(content) == [
        ["phone", *OURS],
        ["1", "sent", "", "done"],
        ["2", "sent", "", "done", "y"],
    ]


def test_a_customers_own_column_of_the_same_name_stays() -> None:
    content = written(["status", "phone"], [["gold", "1"]])

    assert cells_of(content) == [["status", "phone", *OURS], ["gold", "1", "sent", "", "done"]]


def test_cells_that_do_not_fit_our_columns_are_a_mistake() -> None:
    writer = SheetWriter(io.StringIO(), ["phone"], OURS)

    with pytest.raises(ValueError, match="2 cells for 3 columns"):
        writer.write(["1"], ("sent", ""))


def test_a_file_appears_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"

    with written_file(path) as stream:
        SheetWriter(stream, ["phone"], ()).write(["51234567"], ())
        assert not path.exists()

    assert path.read_bytes() == b"\xef\xbb\xbfphone\r\n51234567\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("old")

    with pytest.raises(KeyError), written_file(path, overwrite=True) as stream:  # noqa: PT012
        stream.write("half")
        raise KeyError

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_is_replaced_only_where_a_person_says_so(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("hours of corrections")

    with pytest.raises(SheetError, match="let it be replaced") as caught, written_file(path):
        pass
    kept = path.read_text()
    with written_file(path, overwrite=True) as stream:
        stream.write("new")

    assert caught.value.code == "exists"
    assert kept == "hours of corrections"
    assert path.read_text("utf-8-sig") == "new"


@pytest.mark.parametrize("name", ["absent/results.csv", ".", "x" * 300])
def test_a_file_that_cannot_be_written_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(SheetError) as caught, written_file(tmp_path / name) as stream:
        stream.write("x")

    assert caught.value.code == "not_writable"
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_written_to_and_not_replaced() -> None:
    with written_file("/dev/null") as stream:
        stream.write("x")

    assert Path("/dev/null").is_char_device()


def test_standard_output_gets_the_same_bytes_and_stays_open() -> None:
    stdout = io.BytesIO()

    with written_file("-", stdout=stdout) as stream:
        SheetWriter(stream, ["phone"], ()).write(["1"], ())

    assert stdout.getvalue() == b"\xef\xbb\xbfphone\r\n1\r\n"
    with pytest.raises(SheetError), written_file("-"):
        pass
