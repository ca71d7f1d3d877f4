"""What a small file may become: nothing that fills a disk or Redis."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from producer.sheet import SheetError, open_sheet
from tests.unit.odd_file import GOOD
from tests.unit.odd_workbooks import hand_made, workbook


def refusal(path: Path) -> SheetError:
    with pytest.raises(SheetError) as caught, open_sheet(path) as sheet:
        for _ in sheet:
            pass
    return caught.value


def test_a_gz_file_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"phone\n" + f"{GOOD}\n".encode() * 5_500_000, 9))
    assert path.stat().st_size < 300_000

    error = refusal(path)

    assert error.code == "too_big"
    assert "64 MiB" in str(error)


def test_a_small_workbook_whose_one_text_stands_in_every_row_is_refused(tmp_path: Path) -> None:
    rows = [["phone", "note"], *([GOOD, "x" * 32_000] for _ in range(1_100))]
    path = tmp_path / "bomb.xlsx"
    path.write_bytes(workbook(*rows))
    assert path.stat().st_size < 100_000

    error = refusal(path)

    assert error.code == "too_big"
    assert "32 MiB" in str(error)


def test_a_small_workbook_of_wide_empty_rows_is_refused(tmp_path: Path) -> None:
    names = "".join(f'<c t="inlineStr"><is><t>c{n}</t></is></c>' for n in range(999))
    phone = f'<c t="inlineStr"><is><t>{GOOD}</t></is></c>'
    head = f'<row><c t="inlineStr"><is><t>phone</t></is></c>{names}</row>'
    path = tmp_path / "wide.xlsx"
    path.write_bytes(hand_made(head + f"<row>{phone}</row>" * 12_000))
    assert path.stat().st_size < 100_000

    assert refusal(path).code == "too_big"


def test_a_workbook_s_part_that_unpacks_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xlsx"
    path.write_bytes(hand_made(parts={"xl/worksheets/sheet1.xml": b" " * (65 << 20)}))

    assert refusal(path).code == "too_big"


def test_a_row_with_more_text_than_a_full_cell_is_refused_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "long.xlsx"
    full = "\u7684" * 32_000
    path.write_bytes(workbook(["phone", "a", "b"], [GOOD, full, ""], [GOOD, full, full]))

    error = refusal(path)

    assert (error.code, error.line, error.unit) == ("row_too_big", 3, "row")


def test_names_of_columns_are_a_row_too(tmp_path: Path) -> None:
    path = tmp_path / "long.xlsx"
    path.write_bytes(workbook(["phone", *("\u7684" * 30_000 for _ in range(2))], [GOOD, 1, 2]))

    assert refusal(path).code == "row_too_big"


def test_a_list_of_customers_is_read_however_well_it_packs(tmp_path: Path) -> None:
    path = tmp_path / "customers.csv.gz"
    note = "Hong Kong SAR,2026-11-26,VIP," * 9  # long rows: it is bytes that count
    lines = [f"{n},+852{50_000_000 + n},{note}" for n in range(30_000)]
    path.write_bytes(gzip.compress("\n".join(["id,phone" + ",a" * 28, *lines]).encode(), 9))

    with open_sheet(path) as sheet:
        assert sum(1 for _ in sheet) == 30_000
