"""`sendcode batch submit`: a file into the ledger, exactly one job per row."""

from __future__ import annotations

import sys
from typing import Annotated

import redis
import typer

from jobs.batch import Batch
from jobs.scripts import time_ms
from producer import bounds
from producer.cli.batch import next_steps, watch_batch
from producer.cli.console import (
    CommandFailedError,
    command_line,
    is_terminal,
    say,
    show,
    show_json,
)
from producer.cli.display import clock, count_of, progress_of
from producer.cli.options import (
    CountryColumnOption,
    EncodingOption,
    FileArgument,
    IdOption,
    InputFile,
    JsonOption,
    PhoneColumnOption,
    RateOption,
    SheetOption,
    SkipSentOption,
    YesOption,
    blaming,
    ledger_connection,
    rate_of,
    seconds_of,
)
from producer.cli.wording import NO_BATCH, note_in_words, results_command
from producer.importing import Spool, Submission, Terms, check_batch_id
from producer.overview import Overview, read_overview
from producer.sheet import Sheet
from producer.tally import Faults, Tally, ranked

_KINDS_SHOWN = 10
_OPTIONS = {
    "max_rate": "--max-rate",
    "expires_in": "--expires-in",
    "starts_at": "--at",
    "skip_sent": "--skip-sent",
}


def batch_submit(  # noqa: PLR0913, PLR0917 (a command's options are its arguments)
    file: FileArgument,
    batch_id: IdOption = None,
    name: Annotated[str, typer.Option(help="What people call it (default: the file).")] = "",
    max_rate: RateOption = None,
    expires_in: Annotated[
        str | None,
        typer.Option(help="Do not send what is not sent by then: 90s, 30min, 8h, 2d."),
    ] = None,
    start_at: Annotated[
        str | None,
        typer.Option("--at", help="Send nothing before that: 10:00, or 2026-11-27 10:00."),
    ] = None,
    encoding: EncodingOption = None,
    sheet_name: SheetOption = None,
    phone_column: PhoneColumnOption = None,
    country_column: CountryColumnOption = None,
    skip_sent: SkipSentOption = False,
    once_more: Annotated[
        bool,
        typer.Option("--again", help="Make another batch of content that was submitted before."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only read the file and say what would be done.")
    ] = False,
    yes: YesOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until all is sent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a code sent to each customer of a file. Asks first on a terminal.

    The same file again sends nothing twice: it completes an import that was cut off, and is refused
    under another --id. Rows that cannot be sent are left out, with the reason, and do not stop the
    others.
    """
    rate_of("--max-rate", max_rate)
    life_s = None
    if expires_in is not None:
        with blaming("--expires-in"):
            life_s = bounds.life_s(seconds_of("--expires-in", expires_in))
    check_batch_id(batch_id)
    with InputFile(file, encoding, sheet_name, phone_column, country_column).open() as sheet:
        for note in sheet.notes:
            say(f"{sheet.name}: {note_in_words(note)}")
        with ledger_connection() as (settings, client):
            now_ms = time_ms(client.time())
            with blaming("--at"):
                starts_ms = None if start_at is None else bounds.start_ms(start_at, now_ms)
            terms = Terms(name or sheet.name, max_rate, again=once_more, skip_sent=skip_sent)
            terms = terms.timed(now_ms, starts_ms, life_s)
            with Submission(client, settings, sheet, terms, batch_id) as submission:
                _read(submission, sheet)
                if not submission.is_complete:
                    _say_what_was_read(sheet, submission.spool)
                    if submission.lacking:
                        raise CommandFailedError(f"{sheet.name}: {NO_BATCH[submission.lacking]}")
                    if submission.batch is None and not (yes or dry_run) and is_terminal():
                        _ask(terms, submission.spool.tally, read_overview(client, settings))
                    if not dry_run:
                        _write(submission)
                if watch and not dry_run and submission.batch is not None:
                    submission.batch = watch_batch(client, settings, submission.batch)
    if as_json:
        show_json({"batch_id": submission.batch_id, "dry_run": dry_run, **submission.as_dict()})
    else:
        _show_outcome(submission, dry_run=dry_run, again=once_more)


def _read(submission: Submission, sheet: Sheet) -> None:
    """Read the whole file; nothing is written to the ledger yet."""
    try:
        with progress_of(f"reading {sheet.name}", share=lambda: sheet.fraction_read) as done:
            submission.read(done)
    except KeyboardInterrupt:
        say("nothing was submitted yet; start again with the same command")
        raise
    if submission.left_aside:
        options = " and ".join(_OPTIONS[name] for name in submission.left_aside)
        say(f"{options}: no effect, as the batch keeps what it was first submitted with")


def _ask(terms: Terms, tally: Tally, overview: Overview) -> None:
    """Ask before anybody gets a code that cannot be taken back."""
    rows = tally.valid
    start_ms = terms.starts_ms or overview.at_ms
    done = clock(start_ms + 1000 * overview.seconds_for(rows, terms.max_rate))
    when = (
        f"from {clock(start_ms)} on, done at {done}" if terms.starts_ms else f"now, done at {done}"
    )
    if overview.is_halted:
        when = "as soon as sending goes on (it is halted now: sendcode status)"
    elif not overview.alive:
        when = "as soon as a worker runs (none does now)"
    question = f"{count_of(rows, 'customer gets', 'customers get')} a code {when}"
    again = _second_codes(tally)
    if not typer.confirm(f"{question}{again and f'; {again}'}", err=True):
        left_out = (
            "; --skip-sent leaves out whose number got a code or waits for one" if again else ""
        )
        raise CommandFailedError(f"nothing was submitted{left_out}")


def _second_codes(tally: Tally) -> str:
    """Return how many would get, and cost, a second code; "" if nobody would."""
    kinds = [
        count_of(places.count, f"row's number {one}", f"rows' numbers {many}")
        for places, one, many in (
            (tally.sent_before, "got a code before", "got a code before"),
            (tally.waiting, "waits for a code already", "wait for a code already"),
        )
        if places.count
    ]
    return f"of these {', '.join(kinds)}" if kinds else ""


def _write(submission: Submission) -> None:
    """Write the rows; if Ctrl-C or the loss of Redis interrupts it, say how to go on."""
    begun = submission.batch
    if begun is not None and begun.total:
        say(f"going on where the import was cut off, after {count_of(begun.total, 'row')}")
    try:
        with progress_of("submitting", submission.spool.tally.rows) as done:
            submission.write(done)
    except (KeyboardInterrupt, redis.RedisError):
        say(
            "the import was cut off, and nothing is sent twice; go on with the same command: "
            f"{command_line(*sys.argv[1:])}"
        )
        raise


def _say_what_was_read(sheet: Sheet, spool: Spool) -> None:
    tally = spool.tally
    text = f"{sheet.name}: {count_of(tally.rows, 'row')}, {tally.valid:,} can be sent"
    say(text + (f", {tally.invalid:,} cannot:" if tally.invalid else ""))
    _say_kinds(tally.rejected, sheet.unit, "")
    _say_kinds(tally.doubts, sheet.unit, "doubtful, sent all the same: ")
    _say_kinds(tally.repairs, sheet.unit, "repaired: ")
    for places, what in (
        (tally.sent_before, "got a code before"),
        (tally.waiting, "waits for a code already"),
    ):
        if places.count:
            say(
                f"  {places.count:,} x the number {what} ({places.where(sheet.unit)}): "
                "it gets another one; --skip-sent leaves such rows out"
            )


def _say_kinds(faults: Faults, unit: str, prefix: str) -> None:
    for fault, places in ranked(faults)[:_KINDS_SHOWN]:
        where = places.where(unit)
        say(f"  {places.count:,} x {prefix}{fault.message} ({where}): {fault.remedy}")
    if len(faults) > _KINDS_SHOWN:
        say(
            f"  and {len(faults) - _KINDS_SHOWN} other kinds {prefix}".rstrip(": ")
            + ": sendcode batch check shows all"
        )


def _show_outcome(submission: Submission, *, dry_run: bool, again: bool) -> None:
    """Write what came of it to stdout, and to stderr what a person may want to do next."""
    batch, batch_id, tally = submission.batch, submission.batch_id, submission.spool.tally
    if submission.is_complete and batch is not None:
        show(
            f"batch {batch_id} has this content already and is {batch.phase}: "
            f"{batch.finished:,} of {batch.accepted:,} ended; nothing was added"
        )
        if again:
            say("to send it all once more, give --again with an --id that no batch has yet")
    elif dry_run:
        jobs = count_of(tally.valid, "job")
        show(f"batch {batch_id} would get {jobs}; nothing was submitted")
    elif batch is not None:
        late = f", not sent after {clock(batch.expires_ms)}" if batch.expires_ms else ""
        start = f", to start at {clock(batch.starts_ms or 0)}" if batch.is_scheduled else ""
        show(f"batch {batch_id}: {count_of(batch.accepted, 'job')} accepted{start}{late}")
        if batch.corrects:
            say(f"it corrects rows of batch {batch.corrects}, whose status shows both")
    if batch is not None:
        is_new = not (submission.is_complete or dry_run)
        _show_next(batch, second_codes=is_new and bool(_second_codes(tally)))


def _show_next(batch: Batch, *, second_codes: bool) -> None:
    batch_id = batch.batch_id
    if batch.is_over:
        counts = ", ".join(f"{count:,} {state}" for state, count in batch.counts.items())
        show(f"batch {batch_id} is {batch.phase}: {counts}")
        for line in next_steps(batch):
            say(line)
        return
    say(f"look at it:   sendcode batch status {batch_id} --watch")
    say(f"its results:  {results_command(batch)}")
    if second_codes:
        say(f"no second codes wanted? sendcode batch cancel {batch_id} stops it at once")
