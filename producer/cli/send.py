"""`sendcode send`: one event job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.console import (
    CommandFailedError,
    JsonOption,
    MisusedError,
    ledger_connection,
    number_asked_for,
    say,
    settings_here,
    show,
    show_json,
)

if TYPE_CHECKING:
    from jobs.job import JobRecord

_OPTIONS = {"idempotency key": "--key", "expires_in": "--expires-in"}
"""How a person calls what the Python call names in its complaints."""


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
        typer.Option(help="Your name for the occasion: the same key again sends nothing again."),
    ] = None,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait for the end of the job.")
    ] = None,
    expires_in: Annotated[
        float | None, typer.Option(help="Seconds after which the code is not sent any more.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send one verification code, ahead of all batches.

    The number is read from standard input, or asked for at a terminal: there it is hidden from
    other users of this machine, and from the shell's history.

    Without --wait: exit 0 once the job is accepted. With it: exit 0 if the code was sent in that
    time, 1 if not.
    """
    from producer.events import send_code

    number = phone if phone not in {None, "-"} else number_asked_for()
    try:
        record = send_code(
            *((country_code, number) if country_code is not None else (number,)),
            key=key,
            wait=wait,
            expires_in=expires_in,
            settings=settings_here(),
        )
    except ValueError as exc:
        name, _, fault = str(exc).partition(": ")
        told = f"{_OPTIONS[name]}: {fault}" if name in _OPTIONS else str(exc)
        raise MisusedError(told) from exc
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
        raise CommandFailedError(_why_not(record, wait))


def _taken(record: JobRecord) -> str:
    """Say what was done; a key that was given before has done nothing now."""
    if record.state.is_final:
        return f"nothing was done: the job of this key is {record.state} already; its story"
    return "accepted; what becomes of it"


def _in_a_line(record: JobRecord) -> str:
    parts = [record.job_id, str(record.state), record.phone.masked]
    if record.code:
        parts.append(record.code)
    if record.request_id:
        parts.append(f"RequestId {record.request_id}")
    return "  ".join(parts)


def _why_not(record: JobRecord, wait: float) -> str:
    from jobs.codes import explain_end

    if not record.state.is_final:
        return _why_not_yet(record, wait)
    if record.state.is_for_a_person and record.code:
        known = explain_end(record.code)
        return f"not sent: {record.code}: {known.meaning}. {known.remedy}."
    return f"not sent: the job is {record.state}"


def _why_not_yet(record: JobRecord, wait: float) -> str:
    """Say what holds the job up, if the ledger knows."""
    from jobs.account import Account
    from producer.cli.wording import halt_in_words

    again = f"look again: sendcode job show {record.job_id}"
    with ledger_connection() as (settings, client):
        account = Account(client, settings).look()
    if account.state == "halted":
        return f"not sent yet: {halt_in_words(account)}; the job is kept meanwhile; {again}"
    because = f" ({record.code})" if record.code else ""
    return f"not sent within {wait:g} s: the job is {record.state}{because} and goes on; {again}"
