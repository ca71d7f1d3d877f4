"""`sendcode halt`, `resume`, `ledger accept`: sending stops and goes on by a person's word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.console import (
    CommandFailedError,
    JsonOption,
    ask_first,
    is_terminal,
    ledger_connection,
    reason_to_keep,
    say,
    show_json,
)

if TYPE_CHECKING:
    from producer.overview import Overview

ledger_app = typer.Typer(help="The ledger itself: which one is accepted.")


def halt(
    reason: Annotated[str, typer.Option(help="Why; shown to whoever looks.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop all sending, of everybody, until `sendcode resume`. Asks first on a terminal.

    Jobs are still accepted, and kept. What is just being sent is finished.
    """
    from jobs.account import Account
    from producer.overview import look

    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        if is_terminal() and not yes:
            _ask(look(client, settings))
        account = Account(client, settings)
        changed = account.halt("person", "Halted", kept or "no reason given")
        state = account.look()
    if as_json:
        show_json({"changed": changed, "account": state.as_dict()})
    say("all sending is halted; sendcode resume lets it go on")


def _ask(seen: Overview) -> None:
    """Ask before everybody is stopped.

    Raises:
        CommandFailedError: the answer is no.
    """
    from producer.cli.tables import count_of

    batches = count_of(len(seen.batches), "batch", "batches")
    codes = count_of(sum(each.unfinished for each in seen.batches), "code")
    question = f"Stop all sending, of everybody: {batches} with {codes} to send, and all events?"
    if not typer.confirm(question, err=True):
        raise CommandFailedError("nothing was stopped; one batch: sendcode batch pause ID")


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


@ledger_app.callback()
def _ledger() -> None:
    pass


@ledger_app.command()
def accept(
    reason: Annotated[str, typer.Option(help="Why; shown in the list of actions.")] = "",
    flag_hours: Annotated[
        float,
        typer.Option(
            min=0,
            max=8_760,
            help="Flag what is submitted within so many hours as perhaps sent before.",
        ),
    ] = 24,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take an emptied, exchanged or older ledger as it is, and let sending go on.

    What it holds, and what is submitted in the hours after, may have been sent before: when it is
    sent, it is flagged as perhaps sent twice. Cancel first what is not to be sent again.
    """
    from jobs.batches import Batches
    from jobs.identity import NEWER, Identity, state_file
    from producer.cli.tables import count_of
    from producer.cli.wording import LEDGER_DISPUTED

    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        identity = Identity(client, settings, state_file(settings))
        before = identity.look()
        if before.refused == NEWER:
            raise identity.refuse(before)
        if before.refused or before.is_disputed:
            for batch in Batches(client, settings).list():
                if batch.unfinished:
                    jobs = count_of(batch.unfinished, "job")
                    say(f"batch {batch.batch_id} ({batch.phase}) would send {jobs}")
            ask_first(
                f"{before.why if before.refused else LEDGER_DISPUTED}. Take it as it is, and send "
                "what it holds, flagged as perhaps sent before?",
                yes=yes,
            )
            before = identity.accept(flag_hours, kept)
        state = identity.look()
    if as_json:
        show_json({"changed": bool(before.refused), "ledger": state.as_dict()})
    if not before.refused:
        say("the ledger is not refused: there is nothing to accept")
    else:
        say(
            "the ledger is accepted; what it holds, and what is submitted within "
            f"{flag_hours:g} h, is flagged as perhaps sent twice when it is sent"
        )
