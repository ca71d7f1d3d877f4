"""`sendcode purge`: remove what ended long ago, so that Redis has its memory back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from jobs.removing import Purging
from producer.cli.console import MisusedError, ask_first, say, show_json
from producer.cli.display import count_of, progress_of, span
from producer.cli.options import JsonOption, YesOption, ledger_connection, seconds_of

LEAST_S = 3_600.0


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

    It goes before SENDCODE_RETENTION_DAYS are over, and Redis has its memory back. What was removed
    cannot be looked at any more, and an event's key or a file that was sent does not protect from a
    second code any longer. What has not ended stays, and so do a batch that has a dead letter, and
    what a backend has still to be told of. It works in small steps beside the workers, and may be
    interrupted: done again, it goes on.
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
