"""`sendcode user` and `sendcode token`: who may use the console, and who the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.webhooks import Webhooks, check_url
from producer.cli.console import CommandFailedError, ask_first, say, secret_line, show, show_json
from producer.cli.display import moment, show_table
from producer.cli.options import JsonOption, YesOption, ledger_connection
from producer.tokens import Scope, Tokens
from producer.users import SHORTEST_PASSWORD, Role, Users

NameArgument = Annotated[str, typer.Argument(help="What the user signs in as.")]


def user_add(
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


def user_list(as_json: JsonOption = False) -> None:
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


def user_remove(
    name: NameArgument,
    yes: YesOption = False,
) -> None:
    """Remove a user; they are signed out at once. Asks first, or needs --yes."""
    with ledger_connection() as (settings, client):
        users = Users(client, settings)
        if users.get(name) is None:
            raise _unknown(name)
        ask_first(f"Remove {name}?", yes=yes)
        users.remove(name)
    say(f"{name} may not use the console any more")


def user_password(name: NameArgument) -> None:
    """Set a user's password; they are signed out everywhere."""
    with ledger_connection() as (settings, client):
        users = Users(client, settings)
        if users.get(name) is None:
            raise _unknown(name)
        users.set_password(name, _password())
    say(f"{name} has a new password")


def _password() -> str:
    prompt = f"Password ({SHORTEST_PASSWORD} characters or more)"
    return secret_line("the password", prompt, twice=True)


def _unknown(name: str) -> CommandFailedError:
    return CommandFailedError(f"there is no user {name}: sendcode user list")


def token_new(
    name: Annotated[
        str, typer.Argument(help="Name of the backend that will use it, such as shop.")
    ],
    scope: Annotated[
        str, typer.Option(help=f"What it allows, by commas, of {', '.join(Scope)}.")
    ] = Scope.SEND,
    test: Annotated[
        bool, typer.Option("--test", help="Nothing is sent: its jobs end by their numbers alone.")
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where to send the outcomes of the jobs of this name."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token for a backend. It is shown once, and kept nowhere.

    A name has two at a time at most: make the new one, let the backend take it, revoke the old one
    by its id. A webhook belongs to the name: new tokens keep it, and its secret, which is shown
    once, too, when it is made.
    """
    scopes = [each.strip() for each in scope.split(",") if each.strip()]
    if test:
        scopes = [Scope.TEST if each == Scope.SEND else each for each in scopes] + [Scope.TEST]
    with ledger_connection() as (settings, client):
        if webhook:
            check_url(webhook, private_too=settings.sendcode_webhook_private)
        token, secret = Tokens(client, settings).new(name, scopes)
        signs = Webhooks(client, settings).set(name, webhook)[1] if webhook else ""
    if as_json:
        signed = {"webhook_secret": signs} if signs else {}
        show_json({**token.as_dict(), "token": secret, **signed})
        return
    show(secret)
    if signs:
        show(signs)
        say("the second one is the secret that signs its webhooks")
    say(
        f"token {token.id} of {name} ({', '.join(token.scopes)}): this is the only time it is shown"
    )


def token_list(as_json: JsonOption = False) -> None:
    """Show who may use the HTTP API, without their tokens."""
    with ledger_connection() as (settings, client):
        tokens = Tokens(client, settings).all()
    if as_json:
        show_json([token.as_dict() for token in tokens])
        return
    rows = [
        (
            token.id,
            token.name,
            ", ".join(token.scopes),
            moment(token.created_ms),
            moment(token.used_ms),
        )
        for token in tokens
    ]
    show_table(("id", "name", "scopes", "made", "last used"), rows)


def token_revoke(
    name: Annotated[
        str, typer.Argument(metavar="NAME_OR_ID", help="Its id; or a name, for all its tokens.")
    ],
    yes: YesOption = False,
) -> None:
    """End a token: its next request is refused. Asks first, or needs --yes."""
    with ledger_connection() as (settings, client):
        tokens = Tokens(client, settings)
        found = [each for each in tokens.all() if name in {each.name, each.id}]
        if not found:
            raise CommandFailedError(f"no token has the name or id {name}: sendcode token list")
        ask_first(f"Revoke {len(found)} token(s) of {found[0].name}?", yes=yes)
        gone = tokens.revoke(name)
    for token in gone:
        say(f"token {token.id} of {token.name} is revoked")
