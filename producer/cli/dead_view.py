"""How dead letters are shown, and what is said about dealing with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.cli.console import command_line, say
from producer.cli.tables import moment, show_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobs.job import JobRecord
    from producer.deadletters import Group


def show_groups(groups: Sequence[Group], batch_id: str | None = None) -> None:
    """Write the dead letters by code to stdout."""
    from jobs.codes import explain_end, is_permanent

    rows = []
    for group in groups:
        known = explain_end(group.code)
        perhaps = f" ({group.unknown:,} perhaps sent)" if group.unknown > 0 else ""
        rows.append((group.code or "-", f"{group.count:,}{perhaps}", known.meaning, known.remedy))
    show_table(("code", "jobs", "meaning", "what to do"), rows, "jobs")
    for group in groups:
        if group.code and not is_permanent(group.code) and group.unknown != group.count:
            options = {"--code": group.code, "--batch": batch_id}
            say(f"try them again: {command_line('dead', 'requeue', options=options)}")


def show_records(records: Sequence[JobRecord], lines: Mapping[str, int], total: int) -> None:
    """Write single dead letters to stdout, numbers masked.

    `lines`: where in their files those stand that come from one.
    """
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


def say_remedies(record: JobRecord) -> None:
    """Say what to type about one dead letter."""
    from jobs.codes import is_permanent
    from jobs.outcome import State

    job_id = record.job_id
    if record.state is State.UNKNOWN:
        say("it was perhaps sent: ask the customer whether a code has come, before anything else")
        say(f"send it all the same:    sendcode dead requeue {job_id} --may-send-twice")
    elif is_permanent(record.code):
        say(f"with a corrected number: sendcode dead requeue {job_id} --phone +852…")
    else:
        say(f"try it again:            sendcode dead requeue {job_id}")
    say(f'leave it at that:        sendcode dead drop {job_id} --reason "…"')
