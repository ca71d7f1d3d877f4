"""Input files of tests."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from producer.sheet.writing import unshielded

HEADER = ("name", "country_code", "phone_num", "city")
MAGIC_OK, MAGIC_BIND_UPPER = "9900", "9901"


def customer(n: int, prefix: str = MAGIC_OK) -> list[str]:
    """A customer whose number has the sandbox do what belongs to `prefix`."""
    return [f"Customer {n}", "852", f"{prefix}{n:04d}", "Hong Kong"]


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a file as Excel would show it: without the shields around what it would damage."""
    text = path.read_bytes().decode("utf-8-sig")
    records = csv.DictReader(io.StringIO(text, newline=""))
    return [{name: unshielded(cell) for name, cell in record.items()} for record in records]


def correct(file: Path, changes: dict[str, dict[str, str]]) -> None:
    """Do to a file of results what a person does in a spreadsheet program, by the column `name`."""
    records = read_csv(file)
    for record in records:
        record.update(changes.get(record["name"], {}))
    write_csv(file, [list(record.values()) for record in records], list(records[0]))
