"""`sendcode send` and `sendcode job`: send one code, show or cancel one job."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from config.redis import connect
from config.settings import Settings
from config.unavailable import RedisUnavailableError
from jobs.account import Account
from jobs.codes import explain_end, is_own
from jobs.job import JobRecord, StoryEntry
from jobs.ledger import Ledger
from jobs.phone import PhoneError
from jobs.quotas import QuotaExceededError
from producer.cli.console import (
    CommandFailedError,
    MisusedError,
    complain,
    number_asked_for,
    say,
    show,
    show_json,
)
from producer.cli.display import moment
from producer.cli.options import JsonOption, ledger_connection, reason_to_keep, settings_here
from producer.cli.wording import halt_in_words, story_in_words
from producer.events import send_code
from producer.stories import Story, story_of

_OPTIONS = {
    "idempotency key": "--key",
    "expires_in": "--expires-in",
    "reference": "--reference",
}
"""The option for each name in the errors of the Python call."""
REFUSED = 3
"""Exit code of `send`: a bound on spending refused it; later it may not."""
UNAVAILABLE = 4
"""Exit code of `send`: Redis could not be used; perhaps the job was accepted, perhaps not."""


def send(
    country_code: Annotated[
        str | None, typer.Option(help="Such as 852; not for a number that begins with +.")
    ] = None,
    phone: Annotated[
        str | None,
        typer.Option(help="The number, for all to see in the process list; better leave this out."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Your idempotency key: the same key again sends nothing more."),
    ] = None,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait for the end of the job.")
    ] = None,
    expires_in: Annotated[
        float | None, typer.Option(help="Seconds after which the code is not sent any more.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Your own name for it, returned with the job.")
    ] = None,
    resend: Annotated[
        bool,
        typer.Option(
            "--resend", help="Even if a code for this number waits or was sent within its minute."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Send one verification code, ahead of all batches.

    The number is read from standard input, or asked for at a terminal: there it is hidden from
    other users of this machine, and from the shell's history.

    Without --wait: exit 0 once the job is accepted. With it: exit 0 if the code was sent in that
    time, 1 if not. 2: the number or an option makes no sense. 3: a bound on spending refuses it. 4:
    Redis could not be used, and with --key the same call may be repeated. With --json errors are
    JSON, too.
    """
    with _errors_of_send(as_json=as_json):
        settings = settings_here()
        number = phone if phone not in {None, "-"} else number_asked_for()
        try:
            record = send_code(
                *((country_code, number) if country_code is not None else (number,)),
                key=key,
                wait=wait,
                expires_in=expires_in,
                reference=reference,
                resend=resend,
                settings=settings,
            )
        except PhoneError:
            raise
        except ValueError as exc:
            name, _, fault = str(exc).partition(": ")
            text = f"{_OPTIONS[name]}: {fault}" if name in _OPTIONS else str(exc)
            raise MisusedError(text) from exc
        if doubt := record.phone.doubt:
            say(f"doubtful: {doubt.message}: {doubt.remedy}")
        if as_json:
            show_json(record.as_dict())
        else:
            show(_in_a_line(record))
        if wait is None:
            if not as_json:
                say(f"{_taken(record)}: sendcode job show {record.job_id}")
            return
        if not record.state.is_sent:
            raise CommandFailedError(_why_not(record, wait, settings))


@contextmanager
def _errors_of_send(*, as_json: bool) -> Iterator[None]:
    """Show an error as JSON, too, where that is asked for, and exit with the code of its kind."""
    try:
        yield
    except (PhoneError, MisusedError, QuotaExceededError, RedisUnavailableError) as exc:
        if as_json:
            show_json(_error_document(exc))
        if isinstance(exc, PhoneError | MisusedError):
            raise
        complain(str(exc))
        code = REFUSED if isinstance(exc, QuotaExceededError) else UNAVAILABLE
        raise typer.Exit(code) from None


def _error_document(exc: Exception) -> dict[str, Any]:
    match exc:
        case QuotaExceededError():
            more = {"rule": exc.rule, "retry_after": math.ceil(exc.retry_after_s)}
            return {"error": "quota_exceeded", "detail": str(exc), **more}
        case RedisUnavailableError():
            return {"error": "unavailable", "detail": str(exc)}
        case PhoneError():
            return {"error": exc.code, "detail": str(exc)}
    return {"error": "invalid_request", "detail": str(exc)}


def _taken(record: JobRecord) -> str:
    """Return what was done: nothing, if the job of this key had ended before."""
    if record.state.is_final:
        return f"nothing was done: the job of this key is {record.state} already; its story"
    return "accepted; what becomes of it"


def _in_a_line(record: JobRecord) -> str:
    request = f"RequestId {record.request_id}" if record.request_id else ""
    parts = (record.job_id, record.state, record.phone.masked, record.code, request)
    return "  ".join(filter(None, parts))


def _why_not(record: JobRecord, wait: float, settings: Settings) -> str:
    """Return why the code was not sent, or not in time, as far as the ledger knows."""
    if record.state.is_for_a_person and record.code:
        known = explain_end(record.code)
        return f"not sent: {record.code}: {known.meaning}. {known.remedy}."
    if record.state.is_final:
        return f"not sent: the job is {record.state}"
    again = f"look again: sendcode job show {record.job_id}"
    with connect(settings) as client:
        account = Account(client, settings).state()
    if account.state == "halted":
        return f"not sent yet: {halt_in_words(account)}; the job is kept meanwhile; {again}"
    because = f" ({record.code})" if record.code else ""
    return f"not sent within {wait:g} s: the job is {record.state}{because} and goes on; {again}"


JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id, such as b1-12.")]


def job_show(job_id: JobArgument, as_json: JsonOption = False) -> None:
    """Show what happened to a job, attempt by attempt, with RequestIds for the vendor.

    The number is masked: the text may go into a ticket.
    """
    with ledger_connection() as (settings, client):
        story = story_of(client, settings, job_id)
    show_story(story, as_json=as_json)


_NOT_CANCELLED = {
    "absent": "there is no such job, and no row that waits to become it",
    "in work": "it is with a worker just now: look again in some seconds",
    "in doubt": "an attempt may have sent it, which is being checked: it cannot be cancelled",
}


def job_cancel(
    job_id: JobArgument,
    reason: Annotated[str, typer.Option(help="Why; kept in the job's story.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Cancel one job that waits: it is never sent.

    Also a row of a batch whose turn has not come. All of a batch: sendcode batch cancel.
    """
    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        done = Ledger(client, settings).cancel(job_id, kept)
    if done != "cancelled":
        why = _NOT_CANCELLED.get(done, f"it has ended: {done}")
        raise CommandFailedError(f"job {job_id} was not cancelled: {why} (sendcode job show)")
    if as_json:
        show_json({"job_id": job_id, "state": done})
    say(f"job {job_id} is cancelled: it is never sent")


def show_story(story: Story, *, as_json: bool) -> None:
    """Write a job's story to stdout."""
    if as_json:
        show_json({**story.as_dict(), "in_words": story_in_words(story)})
        return
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
    """Return one thing that happened, as lines that can be copied into a ticket."""
    text = f"{moment(entry.at_ms)}  {entry.what}"
    if entry.took_ms is not None:
        text += f": {entry.code or 'accepted'} ({entry.took_ms:,} ms)"
    if entry.note:
        text += f": {entry.note}"
    return text + (f"\n{'':21}RequestId {entry.request_id}" if entry.request_id else "")


def _facts(story: Story) -> list[tuple[str, str]]:
    """Return what is known of a job, by name."""
    record = story.record
    line = f", line {story.row.line} of its file" if story.row else ""
    times = {
        "created": record.created_ms,
        "due": record.due_ms,
        "ended": record.finished_ms,
        "dropped": record.dropped_ms,
    }
    facts = [
        ("number", record.phone.masked),
        ("batch", f"{record.batch_id}{line}" if record.batch_id else ""),
        ("kind", "" if record.batch_id else "single code, ahead of all batches"),
        ("attempts", f"{record.attempts} (HTTP calls: {record.tries})"),
        ("code", record.code),
        # with our own codes the text is ours: the API sent none, or none that could be read
        ("detail" if is_own(record.code) else "API's message", record.message),
        ("RequestId", record.request_id),
        *((name, moment(ms)) for name, ms in times.items() if ms),
        ("duplicate", "possible: it may have been sent twice" if record.possible_duplicate else ""),
    ]
    return [(name, value) for name, value in facts if value]
