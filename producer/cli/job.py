"""`sendcode job`: one job's whole story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.console import (
    CommandFailedError,
    JsonOption,
    ledger_connection,
    reason_to_keep,
    say,
    show,
    show_json,
)

if TYPE_CHECKING:
    from jobs.job import StoryEntry
    from producer.stories import Story

app = typer.Typer(help="One job: its whole story, and its end by a person's word.")

JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id, such as b1-12.")]


@app.callback()
def _group() -> None:
    pass


@app.command("show")
def show_job(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show what happened to a job, attempt by attempt, with RequestIds for the vendor.

    The number is masked: the text may go into a ticket.
    """
    from producer.cli.wording import story_in_words
    from producer.stories import story_of

    with ledger_connection() as (settings, client):
        story = story_of(client, settings, job_id)
    if as_json:
        show_json({**story.as_dict(), "in_words": story_in_words(story)})
    else:
        show_story(story)


_NOT_CANCELLED = {
    "absent": "there is no such job, nor a row that waits to become it",
    "in work": "it is with a worker just now: look again in some seconds",
    "in doubt": "an attempt may have sent it, which is being found out: it cannot be cancelled",
}


@app.command()
def cancel(
    job_id: JobArgument,
    reason: Annotated[str, typer.Option(help="Why; kept in the job's story.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Cancel one job that waits: it is never sent.

    Also a row of a batch whose turn has not come. All of a batch: sendcode batch cancel.
    """
    from jobs.ledger import Ledger

    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        done = Ledger(client, settings).cancel(job_id, kept)
    if done != "cancelled":
        why = _NOT_CANCELLED.get(done, f"it has ended: {done}")
        raise CommandFailedError(f"job {job_id} was not cancelled: {why} (sendcode job show)")
    if as_json:
        show_json({"job_id": job_id, "state": done})
    say(f"job {job_id} is cancelled: it is never sent")


def show_story(story: Story) -> None:
    """Write a job's story to stdout."""
    from producer.cli.wording import story_in_words

    record = story.record
    show(f"job {record.job_id}: {record.state}")
    show(f"  {story_in_words(story)}")
    for name, value in _facts(story):
        show(f"{name:<14}{value}")
    for entry in record.story:
        show(_happened(entry))
    if record.replaced_by:
        say(f"another job stands in its place: sendcode job show {record.replaced_by}")
    if record.replaces:
        say(f"it stands in the place of: sendcode job show {record.replaces}")


def _happened(entry: StoryEntry) -> str:
    """Say one thing that happened, in lines that can be copied into a ticket."""
    from producer.cli.tables import moment

    told = f"{moment(entry.at_ms)}  {entry.what}"
    if entry.took_ms is not None:
        told += f": {entry.code or 'accepted'} ({entry.took_ms:,} ms)"
    if entry.note:
        told += f": {entry.note}"
    return told + (f"\n{'':21}RequestId {entry.request_id}" if entry.request_id else "")


def _facts(story: Story) -> list[tuple[str, str]]:
    from jobs.codes import is_own
    from producer.cli.tables import moment

    record = story.record
    facts = [("number", record.phone.masked)]
    if record.batch_id:
        line = f", line {story.row.line} of its file" if story.row else ""
        facts.append(("batch", f"{record.batch_id}{line}"))
    else:
        facts.append(("lane", str(record.lane)))
    facts.append(("attempts", f"{record.attempts} (HTTP calls: {record.tries})"))
    if record.code:
        facts.append(("code", record.code))
    if record.message:
        # of our own codes it is ours: the API said nothing, or nothing that could be read
        facts.append(("detail" if is_own(record.code) else "API's message", record.message))
    if record.request_id:
        facts.append(("RequestId", record.request_id))
    facts.append(("created", moment(record.created_ms)))
    if record.due_ms:
        facts.append(("due", moment(record.due_ms)))
    if record.finished_ms:
        facts.append(("ended", moment(record.finished_ms)))
    if record.dropped_ms:
        facts.append(("dropped", moment(record.dropped_ms)))
    if record.possible_duplicate:
        facts.append(("duplicate", "possible: it may have been sent twice"))
    return facts
