"""Workbooks, odd ones as people make them and hostile ones as no program writes them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from typing import Any

import openpyxl

from tests.unit.odd_file import GOOD, GOOD_2, OddFile, byte_file


def workbook(*rows: Sequence[Any], change: Callable[[Any], None] | None = None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    if change is not None:
        change(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _xlsx(
    name: str, *rows: Sequence[Any], change: Callable[[Any], None] | None = None, **expected: Any
) -> OddFile:
    return OddFile(name, partial(workbook, *rows, change=change), **expected)


def odd_workbooks() -> Iterator[OddFile]:
    names = ("country_code", "phone_num", "name", "since")
    yield _xlsx(
        "numbers.xlsx",
        names,
        (852, 51234567, "Ada", date(2024, 11, 4)),
        (852.0, 51234568.0, 1.5, True),
        phones=(GOOD, GOOD_2),
    )
    yield _xlsx(
        "texts.xlsx",
        names,
        ("852", "51234567", "\u5f20\u4f1f\n_x000D_", None),
        ("+852", "5123 4568", None, None),
        phones=(GOOD, GOOD_2),
        repaired=frozenset({"formatting"}),
    )
    yield _xlsx(
        "zero-lost.xlsx",
        names[:2],
        (225, 701234567),
        phones=("+2250701234567",),
        repaired=frozenset({"leading_zero_restored"}),
    )

    def zeros(book: Any) -> None:
        book.active["B2"].number_format = "0000000000"

    yield _xlsx(
        "zero-in-format.xlsx", names[:2], (225, 701234567), change=zeros, phones=("+2250701234567",)
    )

    def pluses(book: Any) -> None:
        book.active["A2"].number_format = '"+"0'
        book.active["A3"].number_format = '"+852 "0'

    yield _xlsx(
        "plus-in-format.xlsx",
        ("phone",),
        (85251234567,),
        (51234568,),
        (85251234569,),
        change=pluses,
        phones=(GOOD, GOOD_2),
        problems=((4, "no_country_code"),),
        repaired=frozenset({"formatting"}),
    )
    yield _xlsx(
        "digits-lost.xlsx",
        names[:2],
        (852, 1888888888812345678),
        (852, 8.5e20),
        problems=((2, "digits_lost"), (3, "digits_lost")),
    )
    yield _xlsx(
        "computed.xlsx",
        names[:2],
        (852, 852 - 51234567),
        (852, 5123.456),
        (852, 0.51234573),
        (852, 852 / 51234567),
        (852, 0),
        problems=(
            (2, "computed"),
            (3, "fraction"),
            (4, "fraction"),
            (5, "fraction"),
            (6, "zero"),
        ),
    )

    def eight_zeros(book: Any) -> None:
        for row in (2, 3):
            book.active[f"B{row}"].number_format = "00000000"

    yield _xlsx(
        "computed-in-a-format.xlsx",
        names[:2],
        (852, 5123.456),
        (852, 0),
        change=eight_zeros,
        problems=((2, "fraction"), (3, "zero")),
    )
    yield _xlsx(
        "errors.xlsx",
        names[:2],
        (852, "#N/A"),
        (852, date(2024, 11, 4)),
        ("HK", None),
        problems=((2, "spreadsheet_error"), (3, "date"), (4, "no_phone_num")),
    )
    yield _xlsx(
        "formula-without-value.xlsx",
        names[:2],
        (852, "=1+51234566"),
        (None, "=1+51234566"),
        ("=850+2", 51234567),
        (852, None, "=1+1"),
        (None, None, "=1+1"),
        (852, "=1+51234566"),
        problems=(
            (2, "not_calculated"),
            (3, "not_calculated"),
            (4, "not_calculated"),
            (5, "no_phone_num"),
            (7, "not_calculated"),
        ),
    )
    yield _xlsx(
        "gaps.xlsx",
        (),
        (None, *names[:2]),
        (),
        (),
        (None, 852, 51234567),
        (),
        (None, 852, 51234568),
        phones=(GOOD, GOOD_2),
    )
    yield _xlsx(
        "title-above.xlsx",
        ("Customers",),
        (),
        names[:2],
        (852, 51234567),
        (852, "bad"),
        phones=(GOOD,),
        problems=((5, "not_digits"),),
    )
    yield _xlsx("empty.xlsx", error="empty")

    def second_sheet(book: Any) -> None:
        book.create_sheet("Customers")
        for row in (names[:2], (852, 51234567)):
            book["Customers"].append(row)

    yield _xlsx("second-sheet.xlsx", change=second_sheet, phones=(GOOD,))

    def hide_sheet(book: Any) -> None:
        second_sheet(book)
        book.worksheets[0].sheet_state = "hidden"
        book.active = 1

    yield _xlsx("hidden-sheet.xlsx", names[:2], (852, 51234568), change=hide_sheet, phones=(GOOD,))

    def hide_row(book: Any) -> None:
        book.active.row_dimensions[3].hidden = True

    yield _xlsx(
        "hidden-row.xlsx",
        names[:2],
        (852, 51234567),
        (852, 51234568),
        change=hide_row,
        phones=(GOOD, GOOD_2),
        warnings=frozenset({"hidden_row"}),
    )

    def merge(book: Any) -> None:
        book.active.merge_cells("A2:A3")

    yield _xlsx(
        "merged.xlsx",
        names[:2],
        (852, 51234567),
        (852, 51234568),
        change=merge,
        phones=(GOOD,),
        problems=((3, "no_country_code"),),
    )


_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_CELLS = '<row r="1"><c r="A1" t="inlineStr"><is><t>phone</t></is></c></row>'
_PHONE = f'<row r="2"><c r="A2" t="inlineStr"><is><t>{GOOD}</t></is></c></row>'


def hand_made(
    rows: str = _CELLS + _PHONE,
    *,
    head: str = "",
    texts: str = "",
    cut: int = 0,
    parts: Mapping[str, bytes] | None = None,
) -> bytes:
    """A workbook put together by hand, so that it can be wrong where no program would be.

    Args:
        rows: XML of the rows.
        head: What stands before the sheet's root element.
        texts: XML of the shared texts.
        cut: Bytes to leave out at the end of the sheet's XML.
        parts: Further parts by name; they replace those made here.
    """
    sheet = f'{head}<worksheet xmlns="{_MAIN}"><sheetData>{rows}</sheetData></worksheet>'.encode()
    made = {
        "[Content_Types].xml": b"<Types/>",
        "_rels/.rels": f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" '
        f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'.encode(),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>'
        '<sheet name="One" sheetId="1" r:id="rId1"/></sheets></workbook>'.encode(),
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_RELATIONS}">'
        f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="rId2" Type="{_OFFICE}/sharedStrings" Target="/xl/sharedStrings.xml"/>'
        "</Relationships>".encode(),
        "xl/worksheets/sheet1.xml": sheet[: len(sheet) - cut],
        "xl/sharedStrings.xml": f'<sst xmlns="{_MAIN}">{texts}</sst>'.encode(),
    }
    made.update(parts or {})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in made.items():
            archive.writestr(name, content)
    return file.getvalue()


def _hand(name: str, rows: str = _CELLS + _PHONE, **how: Any) -> OddFile:
    expected = {key: how.pop(key) for key in ("error", "phones", "problems") if key in how}
    return OddFile(name, partial(hand_made, rows, **how), **expected)


def hostile_workbooks() -> Iterator[OddFile]:
    damaged = "damaged_workbook"
    laughs = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]>'
    yield _hand("by-hand.xlsx", phones=(GOOD,))
    yield _hand(
        "prefixed.xlsx",
        phones=(GOOD,),
        parts={
            "xl/worksheets/sheet1.xml": f'<x:worksheet xmlns:x="{_MAIN}"><x:sheetData><x:row>'
            '<x:c t="inlineStr"><x:is><x:r><x:t>pho</x:t></x:r>\n<x:r><x:t>ne</x:t></x:r><x:rPh>'
            "<x:t>zzz</x:t></x:rPh></x:is></x:c></x:row><x:row><x:c t='str'><x:f>A1</x:f>"
            f"<x:v>{GOOD}</x:v></x:c></x:row></x:sheetData></x:worksheet>".encode()
        },
    )
    yield _hand(
        "shared-rich-text.xlsx",
        '<row><c t="s"><v>0</v></c></row><row><c t="s"><v>1</v></c></row>',
        texts="<si>\n <r><t>pho</t></r>\n<r><t>ne</t></r><rPh><t>fon</t></rPh></si>"
        f"<si><t>{GOOD}</t></si>",
        phones=(GOOD,),
    )
    yield _hand(
        "empty-text-of-a-formula.xlsx",
        _CELLS
        + '<row r="2"><c r="A2" t="str"><f>A1&amp;""</f><v></v></c><c r="B2"><v>1</v></c></row>'
        + '<row r="3"><c r="A3" t="str"><f>A1&amp;""</f><v></v></c></row>',
        problems=((2, "no_phone_num"),),
    )
    yield from _other_programs()
    yield _hand("entities.xlsx", head=laughs, error=damaged)
    yield _hand("cut-xml.xlsx", cut=40, error=damaged)
    yield _hand("no-such-text.xlsx", '<row><c t="s"><v>7</v></c></row>', error=damaged)
    yield _hand("text-below-zero.xlsx", '<row><c t="s"><v>-1</v></c></row>', error=damaged)
    yield _hand("text-of-letters.xlsx", '<row><c t="s"><v>x</v></c></row>', error=damaged)
    yield _hand(
        "number-of-letters.xlsx",
        _CELLS + '<row r="2"><c r="A2"><v>abc</v></c></row>',
        error=damaged,
    )
    yield _hand("row-of-letters.xlsx", '<row r="x"><c><v>1</v></c></row>', error=damaged)
    yield _hand("row-beyond.xlsx", '<row r="99999999"><c><v>1</v></c></row>', error=damaged)
    yield _hand(
        "column-beyond.xlsx",
        _CELLS + '<row r="2"><c r="XFD2"><v>1</v></c></row>',
        error="too_many_columns",
    )
    yield _hand("cell-nowhere.xlsx", '<row r="1"><c r="??"><v>1</v></c></row>', error=damaged)
    yield _hand(
        "cells-backwards.xlsx",
        '<row r="1"><c r="B1"><v>1</v></c><c r="A1"><v>1</v></c></row>',
        error=damaged,
    )
    yield _hand(
        "infinite.xlsx",
        _CELLS + '<row r="2"><c r="A2"><v>1e999</v></c></row>',
        problems=((2, "not_digits"),),
    )
    yield OddFile("endless-text.xlsx", _endless_text, error=damaged)
    yield OddFile("endless-tag.xlsx", _endless_tag, error=damaged)
    deep = "<a>" * 1000 + "</a>" * 1000
    yield _hand("deep.xlsx", _CELLS + _PHONE + deep, error=damaged)
    yield _hand("deep-texts.xlsx", texts=f"<si>{deep}</si>", error=damaged)
    book = (
        f'<workbook xmlns:r="{_OFFICE}"><sheets><sheet name="One" r:id="rId1"/></sheets>'
        "{}</workbook>"
    )
    yield _hand("few.xlsx", phones=(GOOD,), parts={"xl/workbook.xml": book.format("").encode()})
    yield _hand(
        "deep-list-of-sheets.xlsx",
        error=damaged,
        parts={"xl/workbook.xml": book.format(deep).encode()},
    )
    many = "".join(f"<n{n}/>" for n in range(10_000))
    yield _hand("many-names.xlsx", _CELLS + many + _PHONE, error=damaged)
    attributes = "".join(f'<c n{n}=""/>' for n in range(10_000))
    yield _hand(
        "many-names-of-attributes.xlsx", f"{_CELLS}<row>{attributes}</row>{_PHONE}", error=damaged
    )
    yield _hand("no-sheets.xlsx", error="empty", parts={"xl/workbook.xml": b"<workbook/>"})
    yield _hand("no-workbook.xlsx", error="not_a_sheet", parts={"_rels/.rels": b"<Relationships/>"})
    yield _hand(
        "binary.xlsb",
        error="not_a_sheet",
        parts={
            "_rels/.rels": f'<Relationships><Relationship Type="{_OFFICE}/officeDocument" '
            'Target="xl/workbook.bin"/></Relationships>'.encode()
        },
    )
    whole = hand_made()
    yield byte_file("cut-in-half.xlsx", whole[: len(whole) // 2], error=damaged)
    spoilt = bytearray(workbook(("phone",), *[(GOOD,)] * 500))
    spoilt[spoilt.index(b"sheet1.xml") + 300] ^= 0xFF
    yield byte_file("flipped-byte.xlsx", bytes(spoilt), error=damaged)


def _text(value: str, place: str = "") -> str:
    where = f' r="{place}"' if place else ""
    return f'<c{where} t="inlineStr"><is><t>{value}</t></is></c>'


def _row(*cells: str) -> str:
    return f"<row>{''.join(cells)}</row>"


def _other_programs() -> Iterator[OddFile]:
    """Yield workbooks as other programs than Excel, and newer ones, write them."""
    twice = f'<c t="inlineStr">{{}}<is><t>{GOOD}</t></is>{{}}</c>'
    yield _hand(
        "inline-text-and-a-value.xlsx",
        _CELLS
        + _row(twice.format(f"<v>{GOOD}</v>", ""))
        + _row(twice.format("", f"<v>{GOOD}</v>"))
        + _row(f'<c t="str"><v>{GOOD}</v><is><t>{GOOD}</t></is></c>')
        + _row(f'<c t="str"><is><t>{GOOD}</t></is><v>{GOOD}</v></c>'),
        phones=(GOOD,) * 4,
    )
    yield _hand(
        "a-row-for-each-cell.xlsx",
        "".join(
            f'<row r="{row}">{_text(text, f"{column}{row}")}</row>'
            for row, texts in enumerate(
                [("country_code", "phone_num", "name"), ("852", "51234567", "Ada")], 1
            )
            for column, text in zip("ABC", texts, strict=True)
        ),
        phones=(GOOD,),
    )
    yield _hand(
        "every-row-is-the-first.xlsx",
        "".join(f'<row r="1">{_text(text, "A1")}</row>' for text in ("phone", GOOD, GOOD_2)),
        phones=(GOOD, GOOD_2),
    )
    yield _hand(
        "small-letters.xlsx",
        f'<row r="1">{_text("phone", "a1")}</row><row r="2">{_text(GOOD, "a2")}</row>',
        phones=(GOOD,),
    )
    whole = _parts_of(hand_made(texts="<si><t>phone</t></si>"))
    yield _moved("workbook-at-the-root.xlsx", whole, lambda name: name.removeprefix("xl/"))
    yield _moved("other-case.xlsx", whole, lambda name: name.replace("sheet1", "Sheet1"))
    yield _moved("backslashes.xlsx", whole, lambda name: name.replace("/", "\\"))


def _parts_of(workbook: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _moved(name: str, parts: Mapping[str, bytes], move: Callable[[str], str]) -> OddFile:
    """A workbook whose parts have other names; what refers to their folder goes along."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for part, content in parts.items():
            is_moved = move("xl/workbook.xml") == "workbook.xml" and part.endswith(".rels")
            archive.writestr(move(part), content.replace(b"xl/", b"") if is_moved else content)
    return byte_file(name, file.getvalue(), phones=(GOOD,))


def _endless_text() -> bytes:
    return hand_made(_CELLS + f'<row r="2"><c r="A2" t="str"><v>{"x" * 4_000_000}</v></c></row>')


def _endless_tag() -> bytes:
    return hand_made(_CELLS + f'<row r="2" a="{"x" * 3_000_000}"></row>')
