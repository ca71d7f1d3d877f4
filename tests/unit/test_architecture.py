"""docs/architecture.md names files and keys that exist, and every key of the ledger."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("name", FILES)
def test_a_file_or_folder_that_the_page_names_exists(name: str) -> None:
    assert (TOP / name).exists()


@pytest.mark.parametrize("link", LINKS)
def test_what_the_page_links_to_exists(link: str) -> None:
    assert (TOP / "docs" / link).exists()


@pytest.mark.parametrize("name", _NAMES)
def test_the_page_tells_of_each_key(name: str) -> None:
    assert f"| `{getattr(KEYS, name)}` |" in PAGE


@pytest.mark.parametrize("name", sorted(_BY_ID))
def test_the_page_tells_of_each_key_with_an_id(name: str) -> None:
    assert f"| `sendcode:{name}:" in PAGE


def test_the_page_tells_of_no_key_that_is_gone() -> None:
    told = re.findall(r"^\| `sendcode:([a-z:]+?)(?::[A-Z\d]+)?` \|", PAGE, re.MULTILINE)
    known = {getattr(KEYS, name).removeprefix("sendcode:") for name in _NAMES if name not in _FIXED}

    assert set(told) == known | set(_BY_ID)


def test_the_table_of_changes_has_a_row_for_what_people_ask() -> None:
    table = PAGE.partition("## To change")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")]

    assert len(rows) > 15
    assert all(re.search(r"`[\w./]+`.*\|.*`", row) for row in rows[2:])
