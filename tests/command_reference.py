"""`make docs`: the command reference, docs/commands.md, from the commands' own help."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup

from producer.cli.commands import COMMANDS, app

_REFERENCE = """# Commands

Written by `make docs` from the commands' own help. Results go to standard output, all else to
standard error. Exit codes: 0 done, 1 failed, 2 misused, 130 interrupted."""


def reference() -> str:
    """Return the text of docs/commands.md."""
    parts = [_REFERENCE]
    for panel, entries in COMMANDS.items():
        parts.append(f"## {panel}")
        for name in entries:
            parts += _described(app.commands[name], f"sendcode {name}")
    return "\n\n".join(parts) + "\n"


def _described(command: Any, path: str) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from _described(each, f"{path} {name}")
        return
    itself = command.itself
    parameters = [each for each in itself.params if not each.hidden]
    words = [_name(each) for each in parameters if each.param_type_name == "argument"]
    options = ["[OPTIONS]"] if len(words) < len(parameters) else []
    yield f"### {path}\n\n    {' '.join([path, *options, *words])}"
    yield str(itself.help)
    if rows := [_row(each) for each in parameters]:
        yield "\n".join(["| Option | Meaning |", "| --- | --- |", *rows])


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("[]")


def _row(parameter: Any) -> str:
    names = [f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts)]
    if parameter.param_type_name == "argument":
        names = [f"`{_name(parameter)}`"]
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    plain = parameter.default
    if plain not in (None, "", False) and not callable(plain):
        text += f" Default: `{plain}`."
    if parameter.required:
        text += " Required."
    return f"| {', '.join(names)} | {text} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
