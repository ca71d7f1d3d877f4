"""Workbooks: our reader sees what openpyxl, written by others, sees in the same file."""

import io
from datetime import date, datetime, time
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.sheet import Row, open_sheet
from tests.unit.odd_workbooks import hand_made

CLEAN_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12
).filter(lambda text: not text.startswith("=") and "_x" not in text)
VALUES = st.one_of(
    st.none(),
    CLEAN_TEXT,
    st.integers(-(10**14), 10**14),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.booleans(),
    st.dates(date(1900, 3, 1), date(2100, 1, 1)),
    st.datetimes(datetime(1900, 3, 1), datetime(2100, 1, 1)).map(
        lambda d: d.replace(microsecond=0)
    ),
)


def rows_of(content: bytes) -> list[Row]:
    with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
        return list(sheet)


def saved(book: Any) -> bytes:
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def as_shown(value: Any) -> str:
    """What openpyxl read, as the text that a person sees."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}" if value.time() == time(0) else f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.15g}"
    return str(value)


@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=8))
def test_cells_are_what_openpyxl_reads(values: list[list[Any]]) -> None:
    book = openpyxl.Workbook()
    book.active.append(["phone", "a", "b", "c"])
    for row in values:
        book.active.append(["+85251234567", *row])
    content = saved(book)

    oracle = openpyxl.load_workbook(io.BytesIO(content), read_only=True).active

    expected = [
        [as_shown(cell) for cell in row] for row in oracle.iter_rows(min_row=2, values_only=True)
    ]
    found = [row.cells for row in rows_of(content)]
    assert found == [[*row, *[""] * (4 - len(row))] for row in expected]


@pytest.mark.parametrize(
    ("value", "number_format", "shown"),
    [
        (852, "General", "852"),
        (852.0, "0.00", "852"),
        (701234567, "0000000000", "0701234567"),
        (12345678901, "0000", "12345678901"),
        (0.1 + 0.2, "General", "0.3"),
        (45600, "yyyy-mm-dd", "2024-11-04"),
        (45600.5, 'dd"day" mm', "2024-11-04 12:00:00"),
        (45600, '"day"0', "45600"),
        (45600, "[Red]0", "45600"),
        (0.5, "h:mm", "12:00:00"),
        (1.5, "[h]:mm", "36:00:00"),
        (1e9, "yyyy-mm-dd", "1000000000"),
        (-5, "General", "-5"),
        (0.25, "0%", "0.25"),
        (18888888888, "0.00E+00", "18888888888"),
        (85251234567, '"+"0', "+85251234567"),
        (852, r"\+000", "+852"),
        (85251234567, "+#", "+85251234567"),
        (51234567, '"+852 "0000 0000', "+852 51234567"),
        (7, '"+"000', "+007"),
        (-7, '"+"0', "-7"),
        (0.5, '"+"0', "0.5"),
        (7, '0"+"', "7"),
        (85251234567, '"+"General', "+85251234567"),
    ],
)
def test_a_number_is_shown_in_full_whatever_its_format(
    value: float, number_format: str, shown: str
) -> None:
    book = openpyxl.Workbook()
    book.active.append(["phone", "value"])
    book.active.append(["+85251234567", value])
    book.active["B2"].number_format = number_format

    assert rows_of(saved(book))[0].cells[1] == shown


def test_dates_of_a_workbook_from_1904_are_right() -> None:
    book = openpyxl.Workbook()
    book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    book.active.append(["phone", "since"])
    book.active.append(["+85251234567", date(2024, 11, 4)])

    assert rows_of(saved(book))[0].cells[1] == "2024-11-04"


MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DATED = (
    '<row><c t="inlineStr"><is><t>phone</t></is></c></row>'
    '<row><c t="inlineStr"><is><t>+85251234567</t></is></c><c s="1"><v>40000</v></c></row>'
)


def with_styles(styles: str, book: str = "") -> dict[str, bytes]:
    relations = (
        f'<Relationships><Relationship Id="rId1" Type="{OFFICE}/worksheet" '
        f'Target="worksheets/sheet1.xml"/><Relationship Id="rId3" Type="{OFFICE}/styles" '
        'Target="styles.xml"/></Relationships>'
    )
    sheets = '<sheets><sheet name="One" sheetId="1" r:id="rId1"/></sheets>'
    before, _, behind = book.partition("|")
    return {
        "xl/_rels/workbook.xml.rels": relations.encode(),
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">{before}{sheets}{behind}'
        "</workbook>".encode(),
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}">{styles}</styleSheet>'.encode(),
    }


TWO_STYLES = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (with_styles(TWO_STYLES), "2009-07-06"),
        (
            with_styles(
                f'{TWO_STYLES}<dxfs><dxf><numFmt numFmtId="14" formatCode="0.00%"/></dxf></dxfs>'
            ),
            "2009-07-06",
        ),
        (
            with_styles(
                TWO_STYLES,
                '<workbookPr date1904="1"/>|<extLst><ext xmlns:x15="urn:x"><x15:workbookPr/></ext>'
                "</extLst>",
            ),
            "2013-07-07",
        ),
    ],
    ids=["plain", "conditional format", "newer extension"],
)
def test_a_date_is_what_excel_shows(parts: dict[str, bytes], shown: str) -> None:
    assert rows_of(hand_made(DATED, parts=parts))[0].cells[1] == shown


def test_a_date_is_what_excel_shows_before_20_mb_of_styles() -> None:
    many = '<xf numFmtId="0" a="0123456789"/>' * 600_000
    parts = with_styles(TWO_STYLES.replace("</cellXfs>", f"{many}</cellXfs>"))

    assert rows_of(hand_made(DATED, parts=parts))[0].cells[1] == "2009-07-06"


def test_escapes_of_a_text_are_undone() -> None:
    book = openpyxl.Workbook()
    book.active.append(["phone", "note"])
    book.active.append(["+85251234567", "a_x000D_b _x005F_x000D_ _x0000_ _xD800_"])

    assert rows_of(saved(book))[0].cells[1] == "a\rb _x000D_ \ufffd \ufffd"


def test_a_million_columns_of_styles_without_values_cost_nothing() -> None:
    book = openpyxl.Workbook()
    book.active.append(["phone"])
    book.active.append(["+85251234567"])
    book.active.cell(2, 16_384).number_format = "0.00"

    assert rows_of(saved(book))[0].cells == ["+85251234567"]


def test_many_texts_are_found_in_whatever_order_the_rows_ask_for_them() -> None:
    texts = [f"customer {number} {'x' * (number % 50)}" for number in range(3000)]
    book = openpyxl.Workbook()
    book.active.append(["phone", "a", "b"])
    for forwards, backwards in zip(texts, reversed(texts), strict=True):
        book.active.append(["+85251234567", forwards, backwards])

    rows = rows_of(saved(book))

    assert [row.cells[1] for row in rows] == texts
    assert [row.cells[2] for row in rows] == texts[::-1]


def digest_of(content: bytes) -> str:
    with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
        return sheet.digest


def book_of(*rows: list[Any]) -> Any:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    return book


CUSTOMERS = (["country_code", "phone_num", "since"], [225, 701234567, date(2024, 11, 4)])


def test_a_workbook_that_is_saved_again_unchanged_has_the_same_digest() -> None:
    content = saved(book_of(*CUSTOMERS))
    again = openpyxl.load_workbook(io.BytesIO(content))
    again.properties.title = "seen by Ada"
    again.active.column_dimensions["A"].width = 40
    again.active["D2"].number_format = "0.00"
    again.active["D1"] = ""

    assert saved(again) != content
    assert digest_of(saved(again)) == digest_of(content)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("A2", 226), ("B2", "701234567"), ("C2", None), ("C2", "x"), ("D1", "x"), ("A3", "x")],
)
def test_a_workbook_with_another_cell_has_another_digest(cell: str, value: object) -> None:
    book = book_of(*CUSTOMERS)
    before = digest_of(saved(book))
    book.active[cell] = value

    assert digest_of(saved(book)) != before


def test_a_cell_moved_to_the_next_row_or_column_makes_another_digest() -> None:
    books = (
        book_of(["phone", "a", "b"], ["+85251234567", "x"], ["y"]),
        book_of(["phone", "a", "b"], ["+85251234567"], ["x", "y"]),
        book_of(["phone", "a", "b"], ["+85251234567", None, "x"], ["y"]),
        book_of(["phone", "a", "b"], ["+85251234567", "x", "y"]),
    )

    assert len({digest_of(saved(book)) for book in books}) == len(books)


def test_a_workbook_s_digest_is_the_same_before_and_after_its_rows_were_read() -> None:
    content = saved(book_of(*CUSTOMERS, *[[852, 51234567 + n] for n in range(500)]))

    with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
        rows = list(sheet)
        after = sheet.digest

    assert len(rows) == 501
    assert after == digest_of(content)
