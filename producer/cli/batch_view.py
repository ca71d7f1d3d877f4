"""How a batch is shown: its figures, what holds it up, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.cli.console import command_line, say, show
from producer.cli.tables import count_of, moment, per_second, show_table, span

if TYPE_CHECKING:
    import redis

    from config.settings import Settings
    from jobs.batch import Batch, Family


def show_status(client: redis.Redis, settings: Settings, family: Family) -> None:
    """Write a batch's figures to stdout, and to stderr what a person may want to do next."""
    from producer.cli.wording import STATES
    from producer.wording import PERHAPS_TWICE

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
        still_open = family.customers - family.done
        names = ", ".join(each.batch_id for each in family.corrections)
        show(
            f"customers  {family.customers:,}: {family.done:,} done, {still_open:,} open; "
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
    """Say what keeps a batch from going on just now."""
    from jobs.batch import BatchState
    from producer.cli.wording import halt_in_words
    from producer.overview import look

    if batch.is_over:
        return []
    if batch.state is BatchState.PAUSED:
        return [f"it is paused; let it go on: sendcode batch resume {batch.batch_id}"]
    if batch.is_scheduled:
        return [f"it starts later; to start it now: sendcode batch resume {batch.batch_id}"]
    seen = look(client, settings)
    if seen.account.state == "halted":
        return [halt_in_words(seen.account)]
    if batch.state.is_fed and not seen.alive:
        return ["no worker is running: nothing is sent until one is started (sendcode worker)"]
    return []


def next_steps(batch: Batch) -> list[str]:
    """Say what a person may want to type next."""
    told = []
    batch_id = batch.batch_id
    if not batch.imported:
        told.append(
            f"its import is not complete ({count_of(batch.total, 'row')} so far); if it was cut "
            f"off, complete it: {completing(batch)}"
        )
    if batch.counts.get("dead") or batch.counts.get("unknown"):
        told.append(f"what failed, and what to do: sendcode dead list --batch {batch_id}")
    which = ""
    if batch.possible_duplicates:
        which = ' ("perhaps twice" in the column message marks those that may have been)'
    if batch.is_over or which:
        told.append(
            f"its results{which}: sendcode batch results {batch_id} --output {batch_id}-results.csv"
        )
    return told


def completing(batch: Batch) -> str:
    """Give the command that completes an import which was cut off.

    The ledger knows the file by its name only: not its folder, nor the workbook's sheet.
    """
    from producer.importing import default_batch_id

    is_default = batch.batch_id == default_batch_id(batch.digest)
    own_id = None if is_default else batch.batch_id
    return command_line("batch", "submit", batch.name or "FILE", options={"--id": own_id})


def progress_in_words(batch: Batch) -> str:
    """How far it is: "1,200 of 5,000 (24%), 19.8/s, 3 min 12 s left"."""
    if not batch.state.takes_rows:
        told = f"{batch.sent:,} of {batch.accepted:,} sent, {batch.cancelled:,} cancelled"
        return told + (f", {batch.unfinished:,} in work" if batch.unfinished else "")
    share = batch.finished / batch.accepted if batch.accepted else 1
    told = f"{batch.finished:,} of {batch.accepted:,} ({share:.0%})"
    if not batch.is_over and batch.eta_s is not None:
        told += f", {per_second(batch.rate)}, {span(batch.eta_s)} left"
    return told


def _show_codes(batch: Batch) -> None:
    from jobs.codes import explain_end

    rows = [
        (code, f"{count:,}", explain_end(code).meaning, explain_end(code).remedy)
        for code, count in sorted(batch.by_code.items(), key=lambda pair: -pair[1])
    ]
    show_table(("code", "jobs", "meaning", "what to do"), rows, "jobs")
