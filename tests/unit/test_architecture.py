"""docs/architecture.md names files and keys that exist, and every key of the ledger."""

from __future__ import annotations

import re
from pathlib import Path

from jobs.keys import _BY_ID, _FIXED, _NAMES, Keys

TOP = Path(__file__).resolve().parents[2]
PAGE = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = sorted(
    set(re.findall(r"`((?:[\w.-]+/)+(?:[\w-]+\.\w+)?|[\w.-]+\.(?:md|toml|py)|\.env\S*)`", PAGE))
)
LINKS = sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE)))
KEYS = Keys("sendcode")


def test_the_page_names_many_files() -> None:
    assert len(FILES) > 80
    assert "jobs/keys.py" in FILES


def test_the_files_and_folders_that_the_page_names_exist() -> None:
    assert [name for name in FILES if not (TOP / name).exists()] == []


def test_what_the_page_links_to_exists() -> None:
    assert LINKS
    assert [link for link in LINKS if not (TOP / "docs" / link).exists()] == []


def test_the_page_tells_of_each_key() -> None:
    assert [name for name in _NAMES if f"| `{getattr(KEYS, name)}` |" not in PAGE] == []


def test_the_page_tells_of_each_key_with_an_id() -> None:
    assert [name for name in sorted(_BY_ID) if f"| `sendcode:{name}:" not in PAGE] == []


def test_the_page_tells_of_no_key_that_is_gone() -> None:
    told = re.findall(r"^\| `sendcode:([a-z:]+?)(?::[A-Z\d]+)?` \|", PAGE, re.MULTILINE)
    known = {getattr(KEYS, name).removeprefix("sendcode:") for name in _NAMES if name not in _FIXED}

    assert set(told) == known | set(_BY_ID)


def test_the_table_of_changes_has_a_row_for_what_people_ask() -> None:
    table = PAGE.partition("## To change")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")]

    assert len(rows) > 15
    assert all(re.search(r"`[\w./]+`.*\|.*`", row) for row in rows[2:])
