"""`sendcode batch`: a file of customers, from the first look at it to its results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producer.cli import batch_check, batch_submit
from producer.cli.console import (
    CommandFailedError,
    FormatOption,
    JsonOption,
    MisusedError,
    OverwriteOption,
    RevealOption,
    SeparatorOption,
    ask_first,
    ledger_connection,
    say,
    show,
    show_json,
    target_of,
)

if TYPE_CHECKING:
    from jobs.batch import Batch
    from jobs.batches import Batches, Order

app = typer.Typer(help="A file of customers: check, submit, watch, steer, take the results.")
app.command("check")(batch_check.check)
app.command("submit")(batch_submit.submit)

BatchArgument = Annotated[str, typer.Argument(metavar="ID", help="The batch's id.")]


@app.command()
def status(
    batch_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The batch's id; none: all of them.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a batch is, with the files that corrected it; without an id, all batches."""
    from jobs.batches import Batches
    from producer.cli import batch_view, batch_watch

    if batch_id is None:
        if watch:
            raise MisusedError("--watch: name the batch; sendcode batch list shows them all")
        list_batches(as_json)
        return
    with ledger_connection() as (settings, client):
        batches = Batches(client, settings)
        batch = known(batches, batch_id)
        if watch:
            batch = batch_watch.watch(client, settings, batch)
        family = batches.family(batch)
        if as_json:
            show_json({**batch.as_dict(), "customers": family.as_dict()})
        else:
            batch_view.show_status(client, settings, family)


@app.command("list")
def list_batches(as_json: JsonOption = False) -> None:
    """Show all batches, the newest first."""
    from jobs.batch import SLOWEST_RATE
    from jobs.batches import Batches
    from producer.cli.tables import moment, per_second, show_table

    with ledger_connection() as (settings, client):
        found = Batches(client, settings).list()
    if as_json:
        show_json({"batches": [batch.as_dict() for batch in found]})
        return
    if not found:
        say("there is no batch yet; sendcode batch submit FILE makes one")
        return
    rows = [
        (
            batch.batch_id,
            batch.name,
            batch.phase,
            f"{batch.accepted:,}",
            f"{batch.sent:,}",
            f"{batch.finished:,}",
            f"{batch.rejected:,}",
            per_second(batch.rate) if batch.rate >= SLOWEST_RATE and not batch.is_over else "",
            moment(batch.created_ms),
            batch.by,
        )
        for batch in found
    ]
    columns = (
        *("batch", "name", "state", "jobs", "sent", "ended", "rejected", "rate"),
        *("submitted", "by"),
    )
    show_table(columns, rows, right="jobs,sent,ended,rejected,rate")


@app.command()
def pause(batch_id: BatchArgument, as_json: JsonOption = False) -> None:
    """Stop a batch; what is in work ends by itself, the rest waits."""
    _steer(batch_id, "pause", as_json)


@app.command()
def resume(batch_id: BatchArgument, as_json: JsonOption = False) -> None:
    """Let a paused batch go on, or one that is to start later start now."""
    _steer(batch_id, "resume", as_json)


@app.command()
def cancel(
    batch_id: BatchArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """End a batch for good: what waits is not sent any more. Asks first, or wants --yes."""
    from jobs.batches import Batches

    with ledger_connection() as (settings, client):
        batch = known(Batches(client, settings), batch_id)
    if not batch.state.is_over:
        ask_first(f"Cancel batch {batch_id} for good?", yes=yes)
    _steer(batch_id, "cancel", as_json)


@app.command()
def results(
    batch_id: BatchArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; - is standard output.")
    ] = Path("-"),
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
    from jobs.batches import Batches
    from producer.cli import batch_results
    from producer.results import statuses_of

    if only is not None:
        try:
            statuses_of(only)
        except ValueError as exc:
            raise MisusedError(f"--only: {exc}") from None
    with ledger_connection() as (settings, client):
        batches = Batches(client, settings)
        batch = known(batches, batch_id)
        target = target_of(
            output,
            overwrite=overwrite,
            reveal=reveal,
            form=form,
            separator=separator,
            own=batch.delimiter,
        )
        batch_results.write(batches, batch, target, only, as_json=as_json)


def known(batches: Batches, batch_id: str) -> Batch:
    """Look a batch up.

    Raises:
        CommandFailedError: there is none of that id.
    """
    batch = batches.get(batch_id)
    if batch is not None:
        return batch
    from jobs.job import split_job_id

    owner, row = split_job_id(batch_id)
    if row and batches.get(owner) is not None:
        raise CommandFailedError(f"{batch_id} is a job: sendcode job show {batch_id}")
    raise CommandFailedError(f'there is no batch "{batch_id}"; sendcode batch list shows them all')


def _steer(batch_id: str, order: Order, as_json: bool) -> None:
    from jobs.batches import ORDERED, Batches

    with ledger_connection() as (settings, client):
        batches = Batches(client, settings)
        known(batches, batch_id)
        states = batches.steer(batch_id, order)
        batch = batches.get(batch_id)
    if states is None or batch is None:
        raise CommandFailedError(f'batch "{batch_id}" is gone')
    before, after = states
    told: dict[str, Any] = {"changed": before != after, "before": before, **batch.as_dict()}
    if as_json:
        show_json(told)
    if after is not ORDERED[order]:
        raise CommandFailedError(f"batch {batch_id} is {after}: nothing to {order}")
    if not as_json:
        show(_steered(batch, order, changed=before != after))


def _steered(batch: Batch, order: Order, *, changed: bool) -> str:
    from producer.cli.tables import clock, count_of

    was = "" if changed else "already "
    if order == "pause":
        return (
            f"batch {batch.batch_id} is {was}paused, "
            f"{count_of(batch.unfinished, 'job waits', 'jobs wait')}; "
            f"let it go on: sendcode batch resume {batch.batch_id}"
        )
    if order == "resume":
        to_go = count_of(batch.unfinished, "job")
        phase = f"to start at {clock(batch.starts_ms or 0)}" if batch.is_scheduled else "running"
        return f"batch {batch.batch_id} is {was}{phase}, {to_go} to go"
    cancelled = batch.counts.get("cancelled", 0)
    told = (
        f"batch {batch.batch_id} is {was}cancelled: "
        f"{count_of(cancelled, 'job is', 'jobs are')} not sent any more"
    )
    if batch.unfinished:
        in_work = count_of(batch.unfinished, "more is", "more are")
        told += f"; {in_work} in work, and not sent either where the call has not begun"
    return told
