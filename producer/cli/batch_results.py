"""`sendcode batch results`: a batch's own columns with what became of each row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from config.logging import escaped
from jobs.actions import Action, note
from jobs.batch import Batch
from jobs.batches import Batches
from producer.cli import console
from producer.cli.batch import BatchArgument, known
from producer.cli.console import command_line, say, show_json
from producer.cli.display import count_of, progress_of
from producer.cli.options import (
    FormatOption,
    JsonOption,
    OutputOption,
    OverwriteOption,
    RevealOption,
    SeparatorOption,
    WrittenSheet,
    blaming,
    ledger_connection,
    target_of,
)
from producer.cli.wording import results_command
from producer.results import RESULT_COLUMNS, ResultRow, own_columns, results, statuses_of

_REPORT_ROWS = 500


def batch_results(
    batch_id: BatchArgument,
    output: OutputOption = Path("-"),
    only: Annotated[
        str | None,
        typer.Option(help="Only these rows: failed, sent, waiting, or a state such as unknown."),
    ] = None,
    overwrite: OverwriteOption = False,
    separator: SeparatorOption = None,
    form: FormatOption = None,
    reveal: RevealOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the customer's own columns with what became of each row, for Excel.

    At any time, while the batch runs or after. The rows of --only failed can be corrected in that
    file, and the file submitted again.
    """
    if only is not None:
        with blaming("--only"):
            statuses_of(only)
    with ledger_connection() as (settings, client):
        batches = Batches(client, settings)
        batch = known(batches, batch_id)
        written = target_of(
            output,
            overwrite=overwrite,
            reveal=reveal,
            form=form,
            separator=separator,
            own=batch.delimiter,
        )
        note(client, settings, Action(what="batch download", about=batch_id))
        _write(batches, batch, written, output, only, as_json=as_json)


def _write(
    batches: Batches,
    batch: Batch,
    written: WrittenSheet,
    output: Path,
    only: str | None,
    *,
    as_json: bool,
) -> None:
    """Write the results; with `as_json` a file gets a sheet all the same, and stdout the counts."""
    counts: Counter[str] = Counter()
    to_stdout = str(output) == "-"
    # on a terminal the rows themselves show how far it is, and a bar would stand among them
    quiet = console.shows_on_terminal(output)
    progress = nullcontext(lambda _: None) if quiet else progress_of("results", batch.total)
    with progress as done:
        rows = _counted(results(batches, batch, only), counts, done)
        if to_stdout and as_json:
            _stream_json(batch, rows)
            return
        kept = own_columns(batch.header)
        with written(batch.header, RESULT_COLUMNS, kept=kept) as writer:
            for row in rows:
                writer.write(row.cells, row.ours)
    if as_json:
        show_json(
            {
                "batch_id": batch.batch_id,
                "state": batch.phase,
                "file": str(output),
                "rows": counts.total(),
                "counts": dict(counts),
            }
        )
    elif not to_stdout:
        _say_what_was_written(batch, output, only, counts)


def _counted(
    rows: Iterator[ResultRow], counts: Counter[str], done: Callable[[int], None]
) -> Iterator[ResultRow]:
    for row in rows:
        counts[row.status] += 1
        if row.number % _REPORT_ROWS == 0:
            done(row.number)
        yield row


def _stream_json(batch: Batch, rows: Iterator[ResultRow]) -> None:
    """Write one document row by row: a million rows are not held in memory at once."""
    head = _json_line({"batch_id": batch.batch_id, "header": batch.header})
    out = console.stdout()
    out.write(head[:-1] + ', "rows": [')
    separator = "\n"
    for row in rows:
        out.write(separator + _json_line(row.as_dict()))
        separator = ",\n"
    out.write("\n]}\n")


def _json_line(document: dict[str, Any]) -> str:
    return escaped(json.dumps(document, ensure_ascii=False))


def _say_what_was_written(
    batch: Batch, output: Path, only: str | None, counts: Counter[str]
) -> None:
    kinds = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
    say(f"{count_of(counts.total(), 'row')} written to {output}" + (f": {kinds}" if kinds else ""))
    if only is None and not batch.is_over:
        say("the batch has not ended: take the results again later, with --overwrite")
    if only == "failed" and counts:
        number, country = batch.columns
        again = command_line("batch", "submit", output, phone_column=number, country_column=country)
        say(f"correct the rows in that file, then: {again}")
    if only == "failed" and batch.cancelled:
        rows = count_of(batch.cancelled, "row was", "rows were")
        say(f"{rows} cancelled, not failed; take them: {results_command(batch, 'cancelled')}")
