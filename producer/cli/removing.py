"""`sendcode purge`, `forget`: remove what ended long ago, or what is kept of a person."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs.phone import PhoneNumber
from jobs.removing import Forgetting, Purging
from producer.cli.console import (
    CommandFailedError,
    MisusedError,
    ask_first,
    number_asked_for,
    say,
    show_json,
)
from producer.cli.display import count_of, progress_of, span
from producer.cli.options import JsonOption, YesOption, ledger_connection, seconds_of

LEAST_S = 3_600.0
_IDS_SHOWN = 5


def purge(
    older_than: Annotated[str, typer.Option(help="What ended before that: 7d, 12h (1h at least).")],
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Also dead letters, which are dropped first.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what ended long ago: events, and batches with all their rows.

    It goes before SENDCODE_RETENTION_DAYS are over, and its memory is free again. What was removed
    cannot be shown any more, and an event's key or a file that was sent does not protect from a
    second code any longer. What has not ended stays, and so do a batch that has a dead letter, and
    outcomes that a backend is still to get. It works in small steps beside the workers, and may be
    interrupted: run again, it goes on.
    """
    seconds = seconds_of("--older-than", older_than)
    if seconds < LEAST_S:
        raise MisusedError(
            "--older-than: must be 1h at least: later requests rely on what was sent"
        )
    with ledger_connection() as (settings, client):
        if not dry_run:
            ask_first(f"Remove all that ended more than {span(seconds)} ago?", yes=yes)
        with progress_of("purge", unit="jobs") as progress:
            purging = Purging(
                client,
                settings,
                seconds,
                dry_run=dry_run,
                note=lambda done: progress(done.jobs),
            )
            done = purging.run(with_letters=dead_letters)
    if as_json:
        show_json({**asdict(done), "dry_run": dry_run})
    would = "would be " if dry_run else ""
    text = f"{count_of(done.jobs, 'job')} and {count_of(done.batches, 'batch', 'batches')}"
    say(f"{text} {would}removed")
    if dead_letters:
        say(f"{count_of(done.letters, 'dead letter')} {would}dropped")


def forget(
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Blank what is kept of a person: ended jobs, rows, history, dead letters.

    The number, in international form, is read from standard input, or asked for and hidden. Dead
    letters are dropped first. What has not ended stays, and is named: cancel it, or wait. The act
    is noted in the list of actions, without the number. What was written to files, and backups of
    Redis, are not reached; its append-only file is rewritten by a worker soon after.
    """
    phone = PhoneNumber.from_international(number_asked_for(has_option=False))
    with ledger_connection() as (settings, client):
        forgetting = Forgetting(client, settings)
        ids = forgetting.find(phone)
        ask_first(f"Blank all that is kept of {phone.masked} ({len(ids)} jobs and rows)?", yes=yes)
        done = forgetting.forget(phone, ids)
    if as_json:
        show_json(
            {
                "blanked": done.blanked,
                "waiting": done.waiting,
                "history_removed": done.is_history_gone,
            }
        )
    say(f"{done.blanked} jobs and rows of {phone.masked} are blanked")
    if done.waiting:
        shown = ", ".join(done.waiting[:_IDS_SHOWN]) + (" …" if done.waiting[_IDS_SHOWN:] else "")
        raise CommandFailedError(
            f"{len(done.waiting)} have not ended ({shown}): sendcode job cancel ID, or wait; then "
            "do this again"
        )
    if not done.is_history_gone:
        raise CommandFailedError(
            "a code was just sent to the number; it must be kept until a minute has passed: then "
            "do this again"
        )
