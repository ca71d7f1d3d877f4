"""`sendcode dead`: what failed for good, why, and what a person does about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import redis
import typer

from config.settings import Settings
from jobs.actions import Action, note
from jobs.batches import Batches
from jobs.codes import explain_end, is_permanent
from jobs.deadletters import DeadLetters
from jobs.job import JobRecord, State
from jobs.phone import PhoneNumber
from producer.cli.batch import known
from producer.cli.console import (
    CommandFailedError,
    MisusedError,
    command_line,
    number_asked_for,
    say,
    show,
    show_json,
)
from producer.cli.display import count_of, moment, progress_of, show_table, span
from producer.cli.job import show_story
from producer.cli.options import (
    FormatOption,
    JsonOption,
    OutputOption,
    OverwriteOption,
    RevealOption,
    SeparatorOption,
    ledger_connection,
    rate_of,
    reason_to_keep,
    target_of,
)
from producer.deadletters import (
    EXPORT_COLUMNS,
    Choice,
    Group,
    Handling,
    Progress,
    Reason,
    Report,
    Why,
    drop,
    export_rows,
    groups,
    half_rate,
    letters,
    replace_number,
    requeue,
)
from producer.second_codes import Memory, already_waits
from producer.stories import story_of

JobsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="JOB", help="Ids of single jobs.")
]
CodeOption = Annotated[str | None, typer.Option(help="All with this code.")]
BatchOption = Annotated[str | None, typer.Option(help="All of this batch.")]
AllOption = Annotated[bool, typer.Option("--all", help="All there are.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="How many jobs at most.")]

_JOBS_SHOWN = 20


def dead_list(
    code: CodeOption = None,
    batch: BatchOption = None,
    limit: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Single jobs to show.")
    ] = _JOBS_SHOWN,
    as_json: JsonOption = False,
) -> None:
    """Show the dead letters by code, with meaning and remedy.

    With --code or --batch single jobs too, the oldest first.
    """
    choice = Choice(code=code, batch_id=batch)
    with ledger_connection() as (settings, client):
        dead = _dead_letters(choice, client, settings)
        found = groups(dead, choice)
        chosen = letters(dead, choice) if choice != Choice() else iter(())
        records = [letter.record for letter in islice(chosen, limit) if letter.record]
        rows = Batches(client, settings).rows_of([job.job_id for job in records if job.batch_id])
    lines = {job_id: row.line for job_id, row in rows.items()}
    total = sum(group.count for group in found)
    if as_json:
        show_json(
            {
                "total": total,
                "codes": [group.as_dict() for group in found],
                "jobs": [{**job.as_dict(), "line": lines.get(job.job_id)} for job in records],
            }
        )
        return
    if not total:
        show("no dead letters" if choice == Choice() else f"no dead letters: {choice}")
        return
    _show_groups(found, batch)
    if records:
        _show_records(records, lines, total)
    else:
        say("single ones: sendcode dead list --code CODE; one's story: sendcode dead show JOB")


def dead_show(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id, such as b1-12.")],
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter's story, and what can be done."""
    with ledger_connection() as (settings, client):
        story = story_of(client, settings, job_id)
        if DeadLetters(client, settings).find(job_id) is None:
            raise CommandFailedError(f"{job_id} is no dead letter; see: sendcode job show {job_id}")
    show_story(story, as_json=as_json)
    if not as_json:
        _say_remedies(story.record)


def dead_requeue(  # noqa: PLR0913, PLR0917 (a command's options are its arguments)
    jobs: JobsArgument = None,
    code: CodeOption = None,
    batch: BatchOption = None,
    everything: AllOption = False,
    phone: Annotated[
        str | None,
        typer.Option(
            help="For one job: its corrected number, as +852… or with --country-code; - asks."
        ),
    ] = None,
    country_code: Annotated[str | None, typer.Option(help="Such as 852, with --phone.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also what would only be refused again.")
    ] = False,
    may_send_twice: Annotated[
        bool,
        typer.Option("--may-send-twice", help="Also what was perhaps sent, or would be twice."),
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the jobs' stories.")] = "",
    limit: LimitOption = None,
    pace: Annotated[
        float | None,
        typer.Option(
            help="Jobs per second at most (default: half of the limit, so that batches go on)."
        ),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try dead letters again: single jobs, or all of a code or batch.

    Each goes through the limiter and its number's interval like every job. What would only be
    refused again needs a corrected number (--phone), which makes a new job in its place, or
    --force.
    """
    choice = _choice(jobs, code, batch, everything)
    rate_of("--pace", pace)
    number = _number(phone, country_code, choice)
    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        of_batch = Batches(client, settings).get(batch) if batch is not None else None
        per_second = pace or (None if choice.job_ids else half_rate(settings, of_batch))
        memory = Memory(client, settings)
        named = may_send_twice and bool(choice.job_ids)
        how = Handling(force, may_send_twice, limit, per_second, dry_run, kept, memory, named)
        dead = _dead_letters(choice, client, settings)
        if number is not None:
            report = replace_number(dead, choice.job_ids[0], number, how)
        else:
            with _walking("requeuing", dead) as progress:
                report = requeue(dead, choice, how, progress)
    _show_report(report, "requeued", as_json)


def dead_drop(
    reason: Annotated[str, typer.Option(help="Why; kept in the jobs' stories.")],
    jobs: JobsArgument = None,
    code: CodeOption = None,
    batch: BatchOption = None,
    everything: AllOption = False,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take dead letters off the list for good; they stay in their batch's results."""
    choice = _choice(jobs, code, batch, everything)
    if not reason.strip():
        raise MisusedError("--reason: say why, for whoever looks later")
    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        dead = _dead_letters(choice, client, settings)
        with _walking("dropping", dead) as progress:
            how = Handling(limit=limit, dry_run=dry_run, reason=kept)
            report = drop(dead, choice, how, progress)
    _show_report(report, "dropped", as_json)


def dead_export(
    code: CodeOption = None,
    batch: BatchOption = None,
    output: OutputOption = Path("-"),
    overwrite: OverwriteOption = False,
    separator: SeparatorOption = None,
    form: FormatOption = None,
    reveal: RevealOption = False,
) -> None:
    """Write dead letters as a sheet: full numbers, what happened, what to do.

    Corrected, the file can be submitted as a batch; drop the letters then.
    """
    count = 0
    written = target_of(output, overwrite=overwrite, reveal=reveal, form=form, separator=separator)
    with ledger_connection() as (settings, client):
        choice = Choice(code=code, batch_id=batch)
        dead = _dead_letters(choice, client, settings)
        note(client, settings, Action(what="dead export", about=str(choice)))
        with written(EXPORT_COLUMNS, ()) as writer:
            for cells in export_rows(dead, choice):
                writer.write(cells, ())
                count += 1
    if str(output) != "-":
        say(f"{count_of(count, 'dead letter')} written to {output}; it holds full numbers")


def _choice(
    jobs: list[str] | None, code: str | None, batch: str | None, everything: bool
) -> Choice:
    ways = (bool(jobs), code is not None or batch is not None, everything)
    if sum(ways) != 1:
        raise MisusedError("name single jobs, or --code and/or --batch, or --all")
    return Choice(code, batch, job_ids=tuple(dict.fromkeys(jobs or ())))


def _dead_letters(choice: Choice, client: redis.Redis, settings: Settings) -> DeadLetters:
    """Return the dead letters; raise an error for an unknown batch, or a code that none has."""
    dead = DeadLetters(client, settings)
    if choice.batch_id is not None:
        known(Batches(client, settings), choice.batch_id)
    codes = [code for code, count in dead.by_code().items() if count]
    if choice.code is not None and choice.code not in codes:
        there_are = f"; there are: {', '.join(codes)}" if codes else ""
        say(f'no dead letter has the code "{choice.code}"{there_are}')
    return dead


def _number(phone: str | None, country_code: str | None, choice: Choice) -> PhoneNumber | None:
    if phone is None:
        if country_code is not None:
            raise MisusedError("--country-code: needs --phone")
        return None
    if len(choice.job_ids) != 1:
        raise MisusedError("--phone: name the one job that it corrects")
    if phone == "-":
        phone = number_asked_for()
    if country_code is not None:
        return PhoneNumber.parse(country_code, phone)
    return PhoneNumber.from_international(phone)


@contextmanager
def _walking(what: str, dead: DeadLetters) -> Iterator[Progress]:
    """Show how far the walk through the list is. After Ctrl-C say how to go on."""
    with progress_of(what, dead.count(), "dead letters") as done:
        try:
            yield done
        except KeyboardInterrupt:
            say(f"{what} was cut off; the same command goes on where it was")
            raise


def _show_report(report: Report, done: str, as_json: bool) -> None:
    refused: list[dict[str, Any]] = [
        {
            "reason": _left_alone_in_words(reason),
            "count": each.count,
            "examples": each.examples,
        }
        for reason, each in report.refused.items()
    ]
    if as_json:
        show_json({**report.as_dict(), "refused": refused})
    else:
        would = "would be " if report.dry_run else ""
        show(f"{report.done:,} {would}{done}")
        for code, count in report.by_code.items():
            show(f"  {count:,} x {code or '(no code)'}")
        if report.new_job_id:
            show(f"  as {report.new_job_id}")
        for each in refused:
            examples = ", ".join(each["examples"])
            say(f"{each['count']:,} left alone: {each['reason']} ({examples})")
        if report.last_due_in_s >= 1:
            say(f"they become due one after another, the last in {span(report.last_due_in_s)}")
    if not report.done and refused:
        raise CommandFailedError(f"nothing was {done}")


def _show_groups(groups: Sequence[Group], batch_id: str | None = None) -> None:
    """Write the dead letters by code to stdout."""
    rows = []
    for group in groups:
        known = explain_end(group.code)
        perhaps = f" ({group.unknown:,} perhaps sent)" if group.unknown > 0 else ""
        rows.append((group.code or "-", f"{group.count:,}{perhaps}", known.meaning, known.remedy))
    show_table(("code", "jobs", "meaning", "what to do"), rows, "jobs")
    for group in groups:
        if group.code and not is_permanent(group.code) and group.unknown != group.count:
            again = command_line("dead", "requeue", code=group.code, batch=batch_id)
            say(f"try them again: {again}")


def _show_records(records: Sequence[JobRecord], lines: Mapping[str, int], total: int) -> None:
    """Write single dead letters to stdout. `lines` are those of their files, by job."""
    rows = [
        (
            record.job_id,
            str(lines.get(record.job_id, "")),
            record.state,
            record.phone.masked,
            record.code,
            f"{record.attempts}",
            moment(record.finished_ms),
        )
        for record in records
    ]
    columns = ("job", "line", "state", "number", "code", "attempts", "ended")
    show_table(columns, rows, "line,attempts")
    if total > len(records):
        say(f"{total - len(records):,} more: --limit shows them, sendcode dead export writes them")


def _say_remedies(record: JobRecord) -> None:
    """Write what to type to deal with a dead letter."""
    job_id = record.job_id
    if record.state is State.UNKNOWN:
        say("it was perhaps sent: ask the customer whether a code has come, before anything else")
        say(f"send it all the same:    sendcode dead requeue {job_id} --may-send-twice")
    elif is_permanent(record.code):
        say(f"with a corrected number: sendcode dead requeue {job_id} --phone +852…")
    else:
        say(f"try it again:            sendcode dead requeue {job_id}")
    say(f'leave it at that:        sendcode dead drop {job_id} --reason "…"')


_ALL_THE_SAME = "--may-send-twice sends all the same"
_LEFT_ALONE = {
    Why.PERMANENT: "{about} is permanent, unchanged it would only be refused again: give a "
    "corrected number (--phone), or --force",
    Why.NO_DEAD_LETTER: "it is no dead letter (see: sendcode job show)",
    Why.UNREADABLE: "its record cannot be read: deal with it by its id",
    Why.BEYOND_LIMIT: "--limit was reached before its turn: name it again, or raise the limit",
    Why.ABSENT: "the job is gone",
    Why.NOT_DEAD: "somebody has dealt with it meanwhile",
    Why.CANCELLED: "its batch was cancelled: nothing of it is sent any more",
    Why.DROPPED: "it was dropped before",
    Why.NUMBER_LOST: "its number is lost: give it again (--phone)",
    Why.SAME_NUMBER: "this is the number it has already; leave out the number to requeue",
    Why.TOO_LATE: "it would come too late (--expires-in): --force sends all the same",
    Why.LOCKED: "its number is sealed under a data key that is not here (SENDCODE_DATA_KEYS)",
    Why.PERHAPS_SENT: f"perhaps sent: ask the customer whether a code has come; {_ALL_THE_SAME}",
    Why.SENT_SINCE: f"another job has sent a code to its number since: drop it; {_ALL_THE_SAME}",
    Why.CORRECTED: "a corrected file took its customer over: sendcode job show",
    Why.SENT_BEFORE: f"this number got a code before: {_ALL_THE_SAME}",
}


def _left_alone_in_words(reason: Reason) -> str:
    """Return why a dead letter was left alone, and which option does it all the same."""
    if reason.why is Why.WAITS_ELSEWHERE:
        return f"its number {already_waits(reason.about)}: {_ALL_THE_SAME}"
    return _LEFT_ALONE[reason.why].format(about=reason.about)
