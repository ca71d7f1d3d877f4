"""The table of commands, from which `--help` and the reference are made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup

from producer.cli.commands import LazyCommand, app
from tests.command_reference import reference

REFERENCE = Path(__file__).parents[2] / "docs/commands.md"

HEAVY = ("redis", "pydantic", "celery", "phonenumbers", "producer.cli.job", "producer.sheet")


def lazy_commands() -> list[LazyCommand]:
    groups = [app, *(each for each in app.commands.values() if isinstance(each, TyperGroup))]
    every = [command for group in groups for command in group.commands.values()]
    return [command for command in every if isinstance(command, LazyCommand)]


def test_a_commands_line_in_the_lists_is_the_first_of_its_docstring(
    subtests: pytest.Subtests,
) -> None:
    for command in lazy_commands():
        with subtests.test(command.name):
            itself = command.itself

            assert command.help == itself.help.split("\n\n")[0]
            assert command.name == itself.name


def test_help_loads_no_command_and_nothing_heavy() -> None:
    asked = (
        "import sys; from producer.cli.commands import app; "
        "app(['--help'], standalone_mode=False); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )

    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert ran.stderr.strip() == "[]"


def test_the_reference_is_what_make_docs_writes() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference()
