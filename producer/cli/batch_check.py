"""`sendcode batch check`: what would happen if a file were submitted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import redis
import typer

from config.settings import Settings
from jobs.identity import Identity, LedgerRefusedError, state_file
from jobs.job import iso
from jobs.scripts import time_ms
from producer.cli.console import CommandFailedError, MisusedError, say, show, show_json
from producer.cli.display import count_of, per_second, progress_of, show_table, span
from producer.cli.options import (
    CountryColumnOption,
    EncodingOption,
    FileArgument,
    FormatOption,
    IdOption,
    InputFile,
    JsonOption,
    OverwriteOption,
    PhoneColumnOption,
    RateOption,
    RevealOption,
    SeparatorOption,
    SheetOption,
    SkipSentOption,
    WrittenSheet,
    ledger_connection,
    rate_of,
    target_of,
)
from producer.cli.wording import NO_BATCH, error_in_words, note_in_words, refused_import_in_words
from producer.importing import (
    MOST_CODES_PER_NUMBER,
    Preflight,
    Refusal,
    Terms,
    check_batch_id,
    default_batch_id,
    preflight,
)
from producer.invalid_rows import invalid_cells, invalid_columns
from producer.sheet import Row, Sheet
from producer.tally import Faults, Places, ranked

_DOUBLES_SHOWN = 3
_NOTHING = "nothing to do"
"""How the remedy of a repair begins if a person need not look at it."""


def batch_check(  # noqa: PLR0913, PLR0917 (a command's options are its arguments)
    file: FileArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the invalid rows there, with a reason each."),
    ] = None,
    overwrite: OverwriteOption = False,
    separator: SeparatorOption = None,
    form: FormatOption = None,
    reveal: RevealOption = False,
    batch_id: IdOption = None,
    max_rate: RateOption = None,
    most_per_number: Annotated[
        int,
        typer.Option(
            min=1, max=1_000_000, help="Codes after which a number counts as used too often."
        ),
    ] = MOST_CODES_PER_NUMBER,
    skip_sent: SkipSentOption = False,
    encoding: EncodingOption = None,
    sheet_name: SheetOption = None,
    phone_column: PhoneColumnOption = None,
    country_column: CountryColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a file as `submit` would read it; send and change nothing."""
    terms = Terms(max_rate=rate_of("--max-rate", max_rate), skip_sent=skip_sent)
    check_batch_id(batch_id)
    _refuse_to_overwrite(file, output)
    source = InputFile(file, encoding, sheet_name, phone_column, country_column)
    with source.open() as sheet, ledger_connection(any_version=True) as (settings, client):
        written = None
        if output is not None:
            written = target_of(
                output,
                overwrite=overwrite,
                reveal=reveal,
                form=form,
                separator=separator,
                own=sheet.delimiter,
            )
        reachable = client if _answers(client, settings) else None
        started_ms = time_ms(client.time()) if reachable else round(time.time() * 1000)
        resolved_id = batch_id or default_batch_id(sheet.digest)
        with (
            _invalid_rows(written, sheet, resolved_id, iso(started_ms)) as on_noted,
            progress_of(f"reading {sheet.name}", share=lambda: sheet.fraction_read) as done,
        ):
            found = preflight(
                sheet,
                reachable,
                settings,
                batch_id=resolved_id,
                terms=terms,
                most_per_number=most_per_number,
                on_noted=on_noted,
                progress=done,
            )
    if as_json:
        document = {
            "file": sheet.name,
            "notes": [note.text for note in sheet.notes],
            **found.as_dict(),
            "refused": refused_import_in_words(found.refused) if found.refused else None,
            "output": str(output) if output else None,
        }
        show_json(document)
    else:
        asked = {"id": batch_id, "max_rate": max_rate, "skip_sent": skip_sent}
        _show(sheet, found)
        _say_next(sheet, found, output, lambda verb: source.command(verb, **asked))
    if not found.tally.rows:
        raise CommandFailedError(f"{sheet.name}: {NO_BATCH[Refusal.NO_ROWS]}")


def _refuse_to_overwrite(file: Path, output: Path | None) -> None:
    """Refuse to replace the customer's own file with what is wrong in it."""
    if output is None:
        return
    try:
        is_same = os.path.samefile(0 if str(file) == "-" else file, output)
    except (OSError, ValueError):  # one of them is not there
        return
    if is_same and output.is_file():
        raise MisusedError(f"--output: {output} is the file that is checked; name another one")


def _answers(client: redis.Redis, settings: Settings) -> bool:
    """Return whether the ledger can be reached and trusted; if not, say so."""
    try:
        Identity(client, settings, state_file(settings)).check()
    except (redis.RedisError, LedgerRefusedError) as exc:
        [why], _ = error_in_words(exc)
        say(why)
        say("so only the file is checked, not what was sent before or what waits")
        return False
    return True


@contextmanager
def _invalid_rows(
    written: WrittenSheet | None, sheet: Sheet, batch_id: str, checked_at: str
) -> Iterator[Callable[[Row], None]]:
    """Write the invalid ones of the rows that the block reads, if a person asked for that."""
    if written is None:
        yield lambda _: None
        return
    columns = invalid_columns(sheet)
    with written(sheet.header, columns) as writer:

        def write(row: Row) -> None:
            if row.problem is not None:
                writer.write(row.cells, invalid_cells(row, batch_id, checked_at, columns))

        yield write


def _show(sheet: Sheet, found: Preflight) -> None:
    tally, doubles, unit = found.tally, found.doubles, sheet.unit
    rows = [
        ("rows", f"{tally.rows:,}", ""),
        ("can be sent", f"{tally.valid:,}", ""),
        ("cannot be sent", f"{tally.invalid:,}", ""),
        *_by_kind(tally.rejected, unit, ""),
        *_by_kind(tally.doubts, unit, "doubtful: "),
        *_by_kind(tally.repairs, unit, "repaired: ", but=_NOTHING),
    ]
    if any(fault.remedy.startswith(_NOTHING) for fault in tally.repairs):
        rows.append(_counted("  repaired, nothing to do", tally.repaired, unit))
    where = "; ".join(same.where(unit) for same in doubles.examples[:_DOUBLES_SHOWN])
    if doubles.numbers > _DOUBLES_SHOWN:
        where += f"; and {count_of(doubles.numbers - _DOUBLES_SHOWN, 'number')} more"
    rows.append(("same number as a row before", f"{doubles.rows:,}", where))
    if found.overview is not None:
        skip = ": --skip-sent leaves them out"
        rows += [
            _counted("number got a code before", tally.sent_before, unit, skip),
            _counted("number waits for a code already", tally.waiting, unit, skip),
            _counted("number in its interval just now", tally.in_interval, unit),
        ]
    often = f"number used more than {found.most_per_number} times"
    rows.append(_counted(often, found.used_too_often, unit))
    show(f"{sheet.name}: would be batch {found.batch_id}")
    show_table(("", "rows", "where, and what to do"), rows, "rows")


def _verdict(found: Preflight) -> str:
    """Return a summary of the table in one line."""
    tally, overview = found.tally, found.overview
    text = f"{tally.valid:,} of {count_of(tally.rows, 'row')} can be sent"
    if tally.invalid:
        text += f", {tally.invalid:,} cannot"
    if overview is None:
        return text
    text += f"; it would take {span(found.eta_s)} at {per_second(overview.rate)}"
    if overview.waiting_before:
        text += f", {count_of(overview.waiting_before, 'job waits already', 'jobs wait already')}"
    return text


def _by_kind(
    faults: Faults, unit: str, prefix: str, but: str | None = None
) -> list[tuple[str, str, str]]:
    """Return a line for each kind, except for those whose remedy begins with `but`."""
    return [
        _counted(f"  {prefix}{fault.message}", places, unit, f": {fault.remedy}")
        for fault, places in ranked(faults)
        if but is None or not fault.remedy.startswith(but)
    ]


def _counted(what: str, places: Places, unit: str, remedy: str = "") -> tuple[str, str, str]:
    return what, f"{places.count:,}", places.where(unit) + remedy if places.count else ""


def _say_next(
    sheet: Sheet, found: Preflight, output: Path | None, command: Callable[[str], str]
) -> None:
    """Write what a person may want to do, and the verdict last, where it stays in sight.

    `command` returns the command of a name for this file.
    """
    for note in sheet.notes:
        say(f"{sheet.name}: {note_in_words(note)}")
    tally, overview = found.tally, found.overview
    if overview is not None and overview.is_halted:
        say("all sending is halted just now: sendcode status says why")
    if overview is not None and not overview.alive:
        say("no worker is running: nothing is sent until one is started (sendcode worker)")
    if output is not None and tally.invalid:
        them = "it" if tally.invalid == 1 else "them"
        written = f"{count_of(tally.invalid, 'row')} written to {output}"
        say(f"{written}: correct {them} there and submit it")
    elif output is not None:
        say(f"no row is invalid: {output} has the names of the columns only")
    elif tally.invalid:
        say(f"to correct them: {command('check')} --output invalid.csv")
    show(_verdict(found))
    _say_what_is_there(found)
    if tally.valid and found.adds_rows:
        what = "the others" if tally.invalid else "it"
        say(f"send {what}: {command('submit')}")


def _say_what_is_there(found: Preflight) -> None:
    existing = found.existing
    if found.refused:
        say(f"submit would refuse it: {refused_import_in_words(found.refused)}")
    if existing is not None:
        again = "nothing" if existing.imported else "what is not there yet"
        say(
            f"it was submitted before: batch {found.batch_id} is {existing.phase}; submitted "
            f"again, it would add {again}"
        )
