"""`sendcode webhook`: where outcomes go, what was not delivered, and how to try it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from jobs.webhooks import Webhooks
from producer.cli.console import CommandFailedError, ask_first, say, show, show_json
from producer.cli.display import moment, show_table
from producer.cli.options import JsonOption, YesOption, ledger_connection

NameArgument = Annotated[str, typer.Argument(help="The name of the tokens whose outcomes it gets.")]


def webhook_list(as_json: JsonOption = False) -> None:
    """Show where outcomes go, whether they are taken, and how many were not delivered."""
    with ledger_connection() as (settings, client):
        found = Webhooks(client, settings).all()
    if as_json:
        show_json([each.as_dict() for each in found])
        return
    rows = [
        (
            each.name,
            each.host,
            "on" if each.is_on else f"off since {moment(each.since_ms)}",
            f"{each.reason}, since {moment(each.failing_ms)}" if each.failing_ms else "",
            f"{each.waiting:,}",
            f"{each.undelivered:,}",
        )
        for each in found
    ]
    columns = ("name", "host", "state", "fails with", "waiting", "undelivered")
    show_table(columns, rows, right="waiting,undelivered")


def webhook_replay(
    name: NameArgument,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"],
            help="Of those given up, only outcomes of jobs that ended since; UTC.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Switch a webhook on again, and deliver now what it did not take."""
    since_ms = 0
    if since is not None:
        since_ms = round(since.replace(tzinfo=since.tzinfo or UTC).timestamp() * 1000)
    with ledger_connection() as (settings, client):
        count = Webhooks(client, settings).replay(name, since_ms)
    if count is None:
        raise _absent(name)
    if as_json:
        show_json({"name": name, "outcomes": count})
    say(f"{name} is on; {count:,} outcome(s) are tried again now")


def webhook_secret(
    name: NameArgument,
    finish: Annotated[
        bool, typer.Option("--finish", help="End the rotation: only the newest secret signs.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new secret, shown once, that signs beside the old one; --finish ends the rotation.

    Let the backend take the new one, then use --finish.
    """
    with ledger_connection() as (settings, client):
        webhooks = Webhooks(client, settings)
        made = None if finish else webhooks.rotate(name)
        if not (webhooks.settle(name) if finish else made):
            raise _absent(name)
    if as_json:
        show_json({"name": name, "secret": made})
    elif made:
        show(made)
    if made:
        say(f"both this and the one before sign now: sendcode webhook secret {name} --finish")
    else:
        say("only the newest secret signs from now on")


def webhook_remove(name: NameArgument, yes: YesOption = False) -> None:
    """Send no more outcomes to a backend. Asks first, or needs --yes."""
    with ledger_connection() as (settings, client):
        webhooks = Webhooks(client, settings)
        found = [each for each in webhooks.all() if each.name == name]
        if not found:
            raise _absent(name)
        waiting = found[0].waiting + found[0].undelivered
        ask_first(f"Remove the webhook of {name}, and {waiting:,} outcome(s) with it?", yes=yes)
        webhooks.remove(name)
    say(f"{name} has no webhook any more")


def _absent(name: str) -> CommandFailedError:
    return CommandFailedError(f"{name} has no webhook: sendcode webhook list")
