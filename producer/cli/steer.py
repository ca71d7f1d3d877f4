"""`sendcode halt` and `resume`: all sending stops, and goes on, by a person's word."""

from __future__ import annotations

from typing import Annotated

import typer

from producer.cli.console import JsonOption, ledger_connection, reason_to_keep, say, show_json


def halt(
    reason: Annotated[str, typer.Option(help="Why; shown to whoever looks.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Stop all sending, until `sendcode resume`.

    Jobs are still accepted, and kept. What is just being sent is finished.
    """
    from jobs.account import Account

    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        account = Account(client, settings)
        changed = account.halt("person", "Halted", kept or "no reason given")
        state = account.look()
    if as_json:
        show_json({"changed": changed, "account": state.as_dict()})
    say("all sending is halted; sendcode resume lets it go on")


def resume(as_json: JsonOption = False) -> None:
    """Let sending go on, whoever halted it."""
    from jobs.account import Account

    with ledger_connection() as (settings, client):
        account = Account(client, settings)
        before = account.look()
        changed = account.resume("person")
        state = account.look()
    if as_json:
        show_json({"changed": changed, "account": state.as_dict()})
    if not changed:
        say("sending was not halted")
    elif before.by == "api":
        say(f"sending goes on; the API had halted it: {before.code}")
    else:
        say("sending goes on")
