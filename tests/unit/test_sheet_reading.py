"""What a sheet gives besides its rows, and where it may come from."""

import gzip
import io
import os
import threading
import tracemalloc
from contextlib import suppress
from encodings.aliases import aliases
from pathlib import Path

import openpyxl
import pytest

from producer.sheet import SheetError, open_sheet
from tests.unit.odd_file import GOOD
from tests.unit.odd_files import odd_files

CONTENT = "customer,country_code,phone_num,note\n A-1 ,852,51234567,\nA-2,+852,5123 4568,x\n"


@pytest.fixture
def customers(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(CONTENT)
    return path


def workbook(path: Path, *sheets: str) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, name in enumerate(sheets):
        page = book.create_sheet(name)
        page.append(["country_code", "phone_num"])
        page.append([852, 51234567 + number])
    book.save(path)
    return path


def test_cells_are_the_customers_own_values_as_they_stand_in_the_file(customers: Path) -> None:
    with open_sheet(customers) as sheet:
        rows = list(sheet)

    assert sheet.header == ("customer", "country_code", "phone_num", "note")
    assert rows[0].cells == [" A-1 ", "852", "51234567", ""]
    assert rows[1].cells == ["A-2", "+852", "5123 4568", "x"]
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 3)]


def test_blanks_are_left_out_only_beside_quotation_marks_that_they_would_spoil(
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "phone,a,b\n"
        '+85251234567, "x, y", "z ""1"""\n'
        '"+85251234567", x,"He said, ""hi"""\n'
        '+85251234567, "x,"y"\n'
    )

    with open_sheet(path) as sheet:
        assert [row.cells[1:] for row in sheet] == [
            ["x, y", 'z "1"'],
            [" x", 'He said, "hi"'],
            [' "x', "y"],
        ]


def test_a_row_shows_no_number(customers: Path) -> None:
    with open_sheet(customers) as sheet:
        assert [repr(row) for row in sheet] == [
            "<Row 1 at 2: +852 ******67>",
            "<Row 2 at 3: +852 ******68>",
        ]


def test_the_same_content_has_the_same_digest_wherever_it_comes_from(customers: Path) -> None:
    packed = customers.with_suffix(".gz")
    packed.write_bytes(gzip.compress(CONTENT.encode()))
    renamed = customers.with_name("other name.txt")
    renamed.write_text(CONTENT)

    with (
        open_sheet(customers) as one,
        open_sheet(packed) as two,
        open_sheet(renamed) as three,
        open_sheet("-", stdin=io.BytesIO(CONTENT.encode())) as four,
    ):
        assert len({one.digest, two.digest, three.digest, four.digest}) == 1
        told = [[(row.phone, row.cells) for row in sheet] for sheet in (one, two, three, four)]
        assert told[1:] == told[:1] * 3


def test_standard_input_is_named_and_needs_no_seeking() -> None:
    reading, writing = os.pipe()
    os.write(writing, CONTENT.encode())
    os.close(writing)

    with os.fdopen(reading, "rb") as pipe, open_sheet("-", stdin=pipe) as sheet:
        assert sheet.name == "standard input"
        assert len(list(sheet)) == 2


def test_a_named_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(CONTENT,))
    writer.start()

    with open_sheet(path) as sheet:
        writer.join()
        assert len(list(sheet)) == 2


def test_a_sheet_can_be_read_again_and_by_two_readers_at_once(customers: Path) -> None:
    with open_sheet(customers) as sheet:
        one, two = iter(sheet), iter(sheet)
        pairs = list(zip(one, two, strict=True))

    assert all(first == second for first, second in pairs)
    assert len(pairs) == 2


@pytest.mark.parametrize("name", ["c.csv", "c.jsonl"])
def test_progress_goes_from_nothing_to_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    row = f"{GOOD}\n" if name == "c.csv" else f'{{"phone": "{GOOD}"}}\n'
    path.write_text(("phone\n" if name == "c.csv" else "") + row * 5_000)

    with open_sheet(path) as sheet:
        seen = [sheet.fraction_read for _ in sheet]

    assert seen == sorted(seen)
    assert seen[0] < 0.5
    assert seen[-1] == 1.0


def test_a_workbooks_progress_goes_to_all(tmp_path: Path) -> None:
    with open_sheet(workbook(tmp_path / "c.xlsx", "One")) as sheet:
        list(sheet)

        assert sheet.fraction_read == 1.0


def test_notes_say_what_was_found_and_taken_for_what(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes("Dial Code;Mobile;\u59d3\u540d\n852;51234567;\u5f20\u4f1f\n".encode("gb18030"))

    with open_sheet(path) as sheet:
        notes = "\n".join(note.text for note in sheet.notes)

    assert "GB18030" in notes
    assert "semicolons" in notes
    assert 'column "Mobile" is read as the phone number' in notes
    assert 'column "Dial Code" is read as the country code' in notes
    assert sheet.delimiter == ";"


def test_a_title_above_the_header_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(f"Customers of May;\n\nphone;name\n{GOOD};Ada\n")

    with open_sheet(path) as sheet:
        assert sheet.header == ("phone", "name")
        assert [(row.number, row.line, row.cells) for row in sheet] == [(1, 4, [GOOD, "Ada"])]
        assert tuple(note.text for note in sheet.notes[:2]) == (
            "the cells are separated by semicolons",
            "the names of the columns are in line 3; what is above is left out",
        )


def test_a_plain_file_needs_no_notes(customers: Path) -> None:
    with open_sheet(customers) as sheet:
        assert sheet.notes == ()


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("phone\n" + f"{GOOD}\n" * 20_000)

    with open_sheet(path) as sheet:
        rows = iter(sheet)
        next(rows)
        with path.open("a") as file:
            file.write(f"{GOOD}\n")

        with pytest.raises(SheetError) as caught:
            list(rows)

    assert caught.value.code == "file_changed"


def test_a_workbook_reads_its_first_sheet_with_rows_and_names_the_others(tmp_path: Path) -> None:
    path = workbook(tmp_path / "c.xlsx", "Asia", "Europe")

    with open_sheet(path) as first, open_sheet(path, sheet="europe") as second:
        (note,) = first.notes
        assert note.text == 'sheet "Asia" is read; not "Europe": name the one you mean'
        assert note.choice == "sheet"
        assert [row.phone.phone_num for row in second if row.phone] == ["51234568"]
        assert first.digest != second.digest, "another sheet is another batch"
        assert first.unit == "row"


@pytest.mark.parametrize(
    ("others", "names"),
    [
        (["New York"], '"New York"'),
        (["Asia", "Africa"], '"Asia", "Africa"'),
        ([f"Sheet {number}" for number in range(1, 13)], '"Sheet 10" and 2 more'),
    ],
)
def test_the_other_sheets_are_named(others: list[str], names: str, tmp_path: Path) -> None:
    with open_sheet(workbook(tmp_path / "c.xlsx", "Europe", *others)) as sheet:
        assert sheet.notes[0].text.endswith(f"{names}: name the one you mean")


def test_a_sheet_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SheetError) as caught:
        open_sheet(workbook(tmp_path / "c.xlsx", "Asia", "Europe"), sheet="Africa")

    assert 'name one of "Asia", "Europe"' in str(caught.value)


def test_an_encoding_may_be_given_by_who_knows_better(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes("phone,name\n+85251234567,\u9673\u5c0f\u660e\n".encode("big5"))

    with open_sheet(path, encoding="big5") as sheet:
        assert [row.cells[1] for row in sheet] == ["\u9673\u5c0f\u660e"]


@pytest.mark.parametrize("encoding", ["no-such", "hex", "undefined", "", "idna", "punycode"])
def test_an_encoding_that_is_none_is_refused(customers: Path, encoding: str) -> None:
    with pytest.raises(SheetError) as caught:
        open_sheet(customers, encoding=encoding)

    assert caught.value.code == "unknown_encoding"


@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_a_wide_encoding_may_be_named_where_a_file_has_no_mark(
    tmp_path: Path, written: str
) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes("phone,name\n+85251234567,Ada\n".encode(written))

    with open_sheet(path, encoding=written[:6]) as sheet:
        assert [row.cells[1] for row in sheet] == ["Ada"]


def test_every_encoding_that_python_knows_reads_a_file_or_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes("phone,name\n+85251234567,\u9673\u5c0f\u660e\\\n".encode())

    for encoding in sorted(set(aliases.values())):
        with suppress(SheetError), open_sheet(path, encoding=encoding) as sheet:
            list(sheet)


def test_an_encoding_that_does_not_fit_is_refused_with_its_first_bad_byte(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(b"phone,name\n+85251234567,Ada\n+85251234568,\xe9\n")

    with pytest.raises(SheetError) as caught:
        open_sheet(path, encoding="utf-8")

    assert (caught.value.code, caught.value.line) == ("bad_bytes", 3)
    assert "offset 41" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("absent.csv", "not_found"),
        ("", "not_a_file"),
        ("a\0b", "not_readable"),
        ("x" * 300, "not_readable"),
        ("customers.csv/x", "not_readable"),
    ],
)
def test_a_path_that_cannot_be_read_is_refused_by_name(
    customers: Path, name: str, code: str
) -> None:
    with pytest.raises(SheetError) as caught:
        open_sheet(customers.parent / name)

    assert caught.value.code == code
    assert str(caught.value).isprintable()


def test_no_standard_input_is_refused() -> None:
    with pytest.raises(SheetError) as caught:
        open_sheet("-")

    assert caught.value.code == "no_input"


def test_a_name_that_moves_the_cursor_is_shown_plainly(tmp_path: Path) -> None:
    with pytest.raises(SheetError) as caught:
        open_sheet(tmp_path / "a\x1b[2Jb\n.csv")

    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "xlsx"])
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path, kind: str) -> None:
    few, many = (held_while_reading(tmp_path / f"{rows}.{kind}", rows) for rows in (600, 2_100))

    assert many < few + 300_000, "a row takes at least 400 bytes: 1,500 take 0.6 MB"


def held_while_reading(path: Path, rows: int) -> int:
    """Return the most bytes that are in use between two rows."""
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook(write_only=True)
        page = book.create_sheet()
        page.append(["phone", "name"])
        for number in range(rows):
            page.append([f"+8525{number:07d}", f"customer number {number}"])
        book.save(path)
    elif path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(f'{{"phone": "+8525{number:07d}"}}\n' for number in range(rows))
    else:
        with path.open("w") as file:
            file.write("phone\n")
            file.writelines(f"+8525{number:07d}\n" for number in range(rows))
    tracemalloc.start()
    try:
        with open_sheet(path) as sheet:
            held = [
                tracemalloc.get_traced_memory()[0] if row.number % 50 == 0 else 0
                for row in sheet
                if row.problem is None
            ]
        assert len(held) == rows
        return max(held)
    finally:
        tracemalloc.stop()


def test_a_sheet_for_a_file_that_has_none_is_refused(customers: Path) -> None:
    with pytest.raises(SheetError, match='no workbook, so it has no sheet "Asia"') as caught:
        open_sheet(customers, sheet="Asia")

    assert (caught.value.remedy, caught.value.choices) == ("name no sheet", ("sheet",))


def test_a_first_sheet_without_numbers_is_named_with_the_others(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(workbook(tmp_path / "c.xlsx", "Customers", "Old ones"))
    book.create_sheet("Readme", 0).append(["How to fill this in"])
    book.save(tmp_path / "c.xlsx")

    with pytest.raises(SheetError) as caught:
        open_sheet(tmp_path / "c.xlsx")

    assert caught.value.code == "no_phone_column"
    assert 'in sheet "Readme", no column is named as a phone number' in caught.value.message
    assert caught.value.remedy.endswith('or name another sheet: "Customers", "Old ones"')
    assert caught.value.choices == ("phone_column", "sheet")


def test_a_file_of_broken_json_lines_names_the_first(tmp_path: Path) -> None:
    file = tmp_path / "customers.jsonl"
    file.write_text('\n{"country_code": 852, "phone\n')

    with pytest.raises(SheetError) as caught:
        open_sheet(file)

    assert str(caught.value) == (
        "customers.jsonl, line 2: the line is not JSON; correct it, or leave it out"
    )


@pytest.mark.parametrize(
    ("name", "kind", "remedy"),
    [
        ("~$customers.xlsx", "lock file that a program keeps", "name the workbook customers.xlsx"),
        ("password.xlsx", "a workbook with a password", "take the password out"),
        ("contacts.vcf", "an address book (vCard)", "export the contacts as CSV"),
        ("numbers.numbers", "a Numbers document", "export it as Excel or as CSV"),
        ("archive.zip", "a .zip archive with a.csv in it", "unpack it"),
        ("old.xls", "an old .xls workbook", "save it as .xlsx"),
        ("paper.pdf", "a PDF", "open the list in the program that it comes from"),
    ],
)
def test_a_file_that_is_no_sheet_is_named_with_the_way_out(
    tmp_path: Path, name: str, kind: str, remedy: str
) -> None:
    file = tmp_path / name
    file.write_bytes(next(odd for odd in odd_files() if odd.name == name).make())

    with pytest.raises(SheetError) as caught:
        open_sheet(file)

    assert kind in caught.value.message
    assert remedy in caught.value.remedy


def test_no_advice_destroys_a_customer(tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("Ada,Mobile,+85251234567\nBo,Mobile,+85251234568\n")

    with pytest.raises(SheetError) as caught:
        open_sheet(file)

    assert caught.value.code == "no_header"
    assert "numbers seem to be in column 3" in caught.value.message
    assert "delete" not in caught.value.remedy


def test_a_landline_helps_out_where_there_is_no_mobile_number_with_a_doubt(tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("Phone,Mobile\n+85221234567,+85251234567\n+85221234568,\n")

    with open_sheet(file) as sheet, open_sheet(file, phone_column="Phone") as named:
        rows, asked = list(sheet), list(named)

    assert [row.phone.e164 for row in rows if row.phone] == ["+85251234567", "+85221234568"]
    assert [[doubt.code for doubt in row.warnings] for row in rows] == [
        [],
        ["other_column", "not_mobile"],
    ]
    assert [row.phone.e164 for row in asked if row.phone] == ["+85221234567", "+85221234568"]
