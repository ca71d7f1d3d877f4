"""`sendcode batch`: how far a batch is, and what a person may do about it."""

from __future__ import annotations

import time
from typing import Annotated

import redis
import typer

from config.settings import Settings
from jobs.batch import SLOWEST_RATE, Batch, BatchState, Family
from jobs.batches import ORDERED, Batches, Order
from jobs.codes import explain_end
from jobs.job import split_job_id
from jobs.masking import MASK
from producer.cli.console import (
    CommandFailedError,
    MisusedError,
    ask_first,
    command_line,
    say,
    show,
    show_json,
)
from producer.cli.display import (
    clock,
    count_of,
    display,
    moment,
    per_second,
    show_table,
    span,
)
from producer.cli.options import JsonOption, YesOption, ledger_connection
from producer.cli.wording import STATES, halt_in_words, results_command
from producer.importing import default_batch_id
from producer.overview import read_overview
from producer.stories import PERHAPS_TWICE

WATCH_S = 1.0
LINE_EVERY_S = 10.0
"""Between two lines where there is no terminal."""
WARN_EVERY_S = 30.0
STALLED_S = 20.0
"""After this long without a new row an import counts as cut off."""

BatchArgument = Annotated[str, typer.Argument(metavar="ID", help="The batch's id.")]


def batch_status(
    batch_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The batch's id; none: all of them.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a batch is, with the files that corrected it; without an id, all batches."""
    if batch_id is None:
        if watch:
            raise MisusedError("--watch: name the batch; sendcode batch list shows them all")
        batch_list(as_json)
        return
    with ledger_connection() as (settings, client):
        batches = Batches(client, settings)
        batch = known(batches, batch_id)
        if watch:
            batch = watch_batch(client, settings, batch)
        family = batches.family(batch)
        if as_json:
            show_json({**batch.as_dict(), "customers": family.as_dict()})
        else:
            show_status(client, settings, family)


def batch_list(as_json: JsonOption = False) -> None:
    """Show all batches, the newest first."""
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


def batch_pause(batch_id: BatchArgument, as_json: JsonOption = False) -> None:
    """Stop a batch; what is in work ends by itself, the rest waits."""
    _steer(batch_id, "pause", as_json)


def batch_resume(batch_id: BatchArgument, as_json: JsonOption = False) -> None:
    """Let a paused batch go on, or one that is to start later start now."""
    _steer(batch_id, "resume", as_json)


def batch_cancel(
    batch_id: BatchArgument,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """End a batch for good: what waits is not sent any more. Asks first, or needs --yes."""
    with ledger_connection() as (settings, client):
        batch = known(Batches(client, settings), batch_id)
    if not batch.state.is_over:
        ask_first(f"Cancel batch {batch_id} for good?", yes=yes)
    _steer(batch_id, "cancel", as_json)


def known(batches: Batches, batch_id: str) -> Batch:
    """Return the batch with an id that a person gave, or raise an error that says what to do."""
    batch = batches.get(batch_id)
    if batch is not None:
        return batch
    owner, row = split_job_id(batch_id)
    if row and batches.get(owner) is not None:
        raise CommandFailedError(f"{batch_id} is a job: sendcode job show {batch_id}")
    raise CommandFailedError(f'there is no batch "{batch_id}"; sendcode batch list shows them all')


def _steer(batch_id: str, order: Order, as_json: bool) -> None:
    with ledger_connection() as (settings, client):
        batches = Batches(client, settings)
        states = batches.steer(batch_id, order)
        batch = known(batches, batch_id)
    before, after = states or ("", batch.state)
    if as_json:
        show_json({"changed": before != after, "before": before, **batch.as_dict()})
    if order == "resume" and batch.expiry_lost:
        raise CommandFailedError(_expiry_lost(batch))
    if after is not ORDERED[order]:
        raise CommandFailedError(f"batch {batch_id} is {after}: nothing to {order}")
    if not as_json:
        show(_steered(batch, order, changed=before != after))


def _expiry_lost(batch: Batch) -> str:
    return (
        f"the time limit of batch {batch.batch_id} is lost, and without it none of its rows can be "
        f"sent: sendcode batch cancel {batch.batch_id}, and submit the rest of its file again"
    )


def _steered(batch: Batch, order: Order, *, changed: bool) -> str:
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
    text = (
        f"batch {batch.batch_id} is {was}cancelled: "
        f"{count_of(batch.cancelled, 'job is', 'jobs are')} not sent any more"
    )
    if batch.unfinished:
        in_work = count_of(batch.unfinished, "more is", "more are")
        text += f"; {in_work} in work, and not sent either where the call has not begun"
    return text


def show_status(client: redis.Redis, settings: Settings, family: Family) -> None:
    """Write a batch's figures to stdout, and to stderr what a person may want to do next."""
    batch = family.batch
    name = f" ({batch.name})" if batch.name else ""
    show(f"batch {batch.batch_id}{name}: {batch.phase}")
    by = f" by {batch.by}" if batch.by else ""
    show(f"submitted  {moment(batch.created_ms)}{by}")
    if batch.corrects:
        show(f"corrects   batch {batch.corrects}, whose status shows both")
    if batch.is_scheduled:
        show(f"starts     {moment(batch.starts_ms)}")
    if batch.finished_ms:
        show(f"ended      {moment(batch.finished_ms)}")
    if batch.expires_ms and not batch.is_over:
        show(f"not sent after  {moment(batch.expires_ms)}")
    limit = f", at most {per_second(batch.max_rate)}" if batch.max_rate else ""
    jobs = count_of(batch.accepted, "job")
    show(f"rows       {batch.total:,}: {jobs}, {batch.rejected:,} rejected{limit}")
    show(f"progress   {progress_in_words(batch)}")
    if family.corrections:
        names = ", ".join(each.batch_id for each in family.corrections)
        left = f"{family.left:,} left, " if family.left else ""
        show(
            f"customers  {family.customers:,}: {family.done:,} done, {left}{family.open:,} open; "
            f"with its corrections: {names}"
        )
    if batch.counts:
        rows = [
            (str(state), f"{batch.counts[state]:,}", words)
            for state, words in STATES.items()
            if state in batch.counts
        ]
        if batch.possible_duplicates:
            rows.append(
                ("", f"{batch.possible_duplicates:,}", f"of all these, sent {PERHAPS_TWICE}")
            )
        show_table(("state", "rows", "meaning"), rows, "rows")
    if batch.by_code:
        _show_codes(batch)
    for line in (*obstacles(client, settings, batch), *next_steps(batch)):
        say(line)


def obstacles(client: redis.Redis, settings: Settings, batch: Batch) -> list[str]:
    """Return what keeps a batch from going on just now, a line each."""
    if batch.is_over:
        return []
    if batch.state is BatchState.PAUSED:
        text = "it is paused"
        if batch.bound:
            text = f"the bound on spending `{batch.bound}` paused it (sendcode quota status)"
        resume = f"{text}; let it go on: sendcode batch resume {batch.batch_id}"
        return [_expiry_lost(batch) if batch.expiry_lost else resume]
    if batch.is_scheduled:
        return [f"it starts later; to start it now: sendcode batch resume {batch.batch_id}"]
    overview = read_overview(client, settings)
    if overview.is_halted:
        return [halt_in_words(overview.account)]
    if batch.state.is_fed and not overview.alive:
        return ["no worker is running: nothing is sent until one is started (sendcode worker)"]
    return []


def next_steps(batch: Batch) -> list[str]:
    """Return what a person may want to type next, a line each."""
    steps = []
    batch_id = batch.batch_id
    if not batch.imported:
        steps.append(
            f"its import is not complete ({count_of(batch.total, 'row')} so far); if it was cut "
            f"off, complete it: {completing_command(batch)}"
        )
    if batch.counts.get("dead") or batch.counts.get("unknown"):
        steps.append(f"what failed, and what to do: sendcode dead list --batch {batch_id}")
    which = ""
    if batch.possible_duplicates:
        which = ' ("perhaps twice" in the column message marks those that may have been)'
    if batch.is_over or which:
        steps.append(f"its results{which}: {results_command(batch)}")
    return steps


def completing_command(batch: Batch) -> str:
    """Return the command that completes an import which was cut off.

    The ledger knows the file by its name only, in which numbers are masked: not its folder, nor the
    workbook's sheet.
    """
    is_default = batch.batch_id == default_batch_id(batch.digest)
    own_id = None if is_default else batch.batch_id
    file = batch.name if MASK not in batch.name else ""
    return command_line("batch", "submit", file or "FILE", id=own_id)


def progress_in_words(batch: Batch) -> str:
    """Return how far it is: "1,200 of 5,000 (24%), 19.8/s, 3 min 12 s left"."""
    if not batch.state.takes_rows:
        text = f"{batch.sent:,} of {batch.accepted:,} sent, {batch.cancelled:,} cancelled"
        return text + (f", {batch.unfinished:,} in work" if batch.unfinished else "")
    share = batch.finished / batch.accepted if batch.accepted else 1
    text = f"{batch.finished:,} of {batch.accepted:,} ({share:.0%})"
    if not batch.is_over and batch.eta_s is not None:
        text += f", {per_second(batch.rate)}, {span(batch.eta_s)} left"
    return text


def _show_codes(batch: Batch) -> None:
    rows = [
        (code, f"{count:,}", explain_end(code).meaning, explain_end(code).remedy)
        for code, count in sorted(batch.by_code.items(), key=lambda pair: -pair[1])
    ]
    show_table(("code", "jobs", "meaning", "what to do"), rows, "jobs")


def watch_batch(client: redis.Redis, settings: Settings, batch: Batch) -> Batch:
    """Show a batch's progress until it has ended, and return it as it is then.

    Ctrl-C ends the watching, not the batch.
    """
    batches = Batches(client, settings)
    warned_at, grew_at, total = -WARN_EVERY_S, 0.0, -1
    try:
        with display(f"batch {batch.batch_id}", LINE_EVERY_S) as show_now:
            while True:
                ended = batch.finished - (0 if batch.state.takes_rows else batch.cancelled)
                share = ended / batch.accepted if batch.accepted else 1.0
                show_now(_progress_line(batch), share, last=batch.is_over)
                if batch.is_over:
                    return batch
                now = time.monotonic()
                if now - warned_at >= WARN_EVERY_S:
                    warned_at = now
                    for line in obstacles(client, settings, batch):
                        say(line)
                if batch.phase != "importing" or batch.total != total or batch.unfinished:
                    total, grew_at = batch.total, now
                elif now - grew_at >= STALLED_S:
                    raise CommandFailedError(
                        f"all rows so far have ended, but the import of batch {batch.batch_id} was "
                        f"cut off; complete it: {completing_command(batch)}"
                    )
                time.sleep(WATCH_S)
                batch = known(batches, batch.batch_id)
    except KeyboardInterrupt:
        say(
            f"the batch goes on without you; look again: sendcode batch status {batch.batch_id} "
            "--watch"
        )
        raise


def _progress_line(batch: Batch) -> str:
    text = progress_in_words(batch)
    failed = batch.counts.get("dead", 0) + batch.counts.get("unknown", 0)
    if failed:
        text += f", {failed:,} failed"
    if parked := batch.counts.get("parked"):
        text += f", {parked:,} wait for another try"
    return text + ("" if batch.phase == "running" else f", {batch.phase}")
