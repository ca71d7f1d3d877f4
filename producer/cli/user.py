"""`sendcode user`: who may use the console."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from producer.cli.console import (
    CommandFailedError,
    MisusedError,
    ask_first,
    is_terminal,
    say,
    show_json,
)
from producer.cli.display import moment, show_table
from producer.cli.options import JsonOption, ledger_connection
from producer.users import LONGEST_PASSWORD, SHORTEST_PASSWORD, Role, Users

NameArgument = Annotated[str, typer.Argument(help="What the user signs in as.")]


def add(
    name: NameArgument,
    role: Annotated[str, typer.Option(help=f"What they may do: {', '.join(Role)}.")] = Role.VIEWER,
    no_password: Annotated[
        bool,
        typer.Option("--no-password", help="For those whom a proxy signs in; see docs/console.md."),
    ] = False,
) -> None:
    """Add a user of the console. Asks for a password, or reads it from standard input.

    A viewer changes nothing; an operator submits and steers; an admin has users and tokens, too.
    """
    with ledger_connection() as (settings, client):
        users = Users(client, settings)
        if users.get(name):
            raise CommandFailedError(f"there is a user {name} already: sendcode user password")
        users.add(name, role, None if no_password else _password())
    say(f"{name} may use the console as {role}")


def list_users(as_json: JsonOption = False) -> None:
    """Show who may use the console."""
    with ledger_connection() as (settings, client):
        users = Users(client, settings).all()
    if as_json:
        show_json([user.as_dict() for user in users])
        return
    rows = [
        (
            user.name,
            user.role,
            "yes" if user.has_password else "no",
            moment(user.created_ms),
            user.created_by,
        )
        for user in users
    ]
    show_table(("name", "role", "password", "added", "by"), rows)


def remove(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a user; they are signed out at once. Asks first, or wants --yes."""
    with ledger_connection() as (settings, client):
        users = Users(client, settings)
        if users.get(name) is None:
            raise _unknown(name)
        ask_first(f"Remove {name}?", yes=yes)
        users.remove(name)
    say(f"{name} may not use the console any more")


def password(name: NameArgument) -> None:
    """Set a user's password; they are signed out everywhere."""
    with ledger_connection() as (settings, client):
        users = Users(client, settings)
        if users.get(name) is None:
            raise _unknown(name)
        users.set_password(name, _password())
    say(f"{name} has another password")


def _password() -> str:
    """Ask for a password twice, hidden; or read standard input's only line."""
    if is_terminal():
        length = f"{SHORTEST_PASSWORD} characters or more"
        return str(
            typer.prompt(
                f"Password ({length})", hide_input=True, confirmation_prompt=True, err=True
            )
        )
    lines = sys.stdin.read(2 * LONGEST_PASSWORD).splitlines() if sys.stdin is not None else []
    if len(lines) != 1:
        raise MisusedError(
            f"standard input: must be one line with the password, not {len(lines)} lines"
        )
    return lines[0]


def _unknown(name: str) -> CommandFailedError:
    return CommandFailedError(f"there is no user {name}: sendcode user list")
