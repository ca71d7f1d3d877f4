"""`sendcode status`, `halt`, `resume`, `ledger accept`, `actions`: the whole system."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.account import Account
from jobs.actions import recent_actions
from jobs.batches import Batches
from jobs.identity import NEWER, Identity, state_file
from jobs.masking import without_numbers
from jobs.quarantine import read_quarantine
from jobs.server import FULL_SOON
from jobs.vault import UNOPENED
from producer.cli.console import (
    CommandFailedError,
    MisusedError,
    ask_first,
    is_terminal,
    printable,
    results,
    say,
    show,
    show_json,
)
from producer.cli.display import count_of, moment, show_table
from producer.cli.doctor import STYLES, status_findings
from producer.cli.options import (
    JsonOption,
    YesOption,
    ledger_connection,
    reason_to_keep,
    seconds_of,
)
from producer.cli.wording import LEDGER_DISPUTED
from producer.lately import read_lately
from producer.overview import OPEN_S, Overview, read_overview

WATCH_S = 1.0
_FLAGGED = "possible_duplicate"
"""Counted with the final states, though it is not one."""


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh it every second, until Ctrl-C.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(help="Show instead what became of jobs in the last 30min, 1h, 1d (at most)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show queues, rate, account, workers and batches."""
    if watch and (as_json or since):
        raise MisusedError("--watch and --json or --since: choose one; those print once")
    if since is not None:
        _show_lately(seconds_of("--since", since), as_json=as_json)
        return
    with ledger_connection(any_version=True) as (settings, client):
        identity = Identity(client, settings, state_file(settings))
        read = partial(read_overview, client, settings, identity)
        if as_json:
            show_json(read().as_dict())
        elif watch:
            _watch(read)
        else:
            results().print(_table(read()))


def _show_lately(seconds: float, *, as_json: bool) -> None:
    with ledger_connection(any_version=True) as (settings, client):
        lately = read_lately(client, settings, seconds)
    if as_json:
        show_json(lately.as_dict())
        return
    if not lately.ends:
        show(f"nothing has ended since {moment(lately.since_ms)}")
        return
    say(f"ended since {moment(lately.since_ms)}, when ten minutes began")
    columns = ("state", "code", "jobs")
    show_table(
        columns, [(each.state, each.code, f"{each.jobs:,}") for each in lately.by_code()], "jobs"
    )
    show_table(
        ("worker", *columns),
        [(each.worker or "none", each.state, each.code, f"{each.jobs:,}") for each in lately.ends],
        "jobs",
    )


def _watch(read: Callable[[], Overview]) -> None:
    with Live(_table(read()), console=results(), auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(WATCH_S)
            live.update(_table(read()), refresh=True)
            if not results().is_terminal:
                results().print(live.renderable)


def _table(overview: Overview) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    previous = ""
    for name, value, style in _lines(overview):
        table.add_row(name if name != previous else "", Text(printable(value), style))
        previous = name
    return table


def _lines(overview: Overview) -> Iterator[tuple[str, str, str]]:
    """Yield each line: a name, a value, and a style where it asks for attention."""
    for each in status_findings(overview):
        text = f"{each.text}: {each.remedy}" if each.remedy else each.text
        yield each.name, text, STYLES[each.level]
    alive = [each.name for each in overview.workers if each.alive and not each.idle]
    text = f"{len(alive)} alive: {', '.join(alive)}" if alive else "none alive: sendcode worker"
    yield "workers", text, "" if alive else "yellow"
    pace = overview.pace
    text = f"{pace.last_second} requests in the last second, limit {pace.limit:g}"
    yield "rate", text, ""
    if pace.is_lowered:
        text = f"lower than SENDCODE_RATE_LIMIT here, {pace.setting:g}"
        yield "", f"{text}: the lowest of all workers holds", "yellow"
    if pace.allowed:
        text = f"slowed to {pace.factor:.0%} of it: the API refuses more than about"
        yield "", f"{text} {pace.allowed:.3g} a second", "yellow"
    if pace.refused:
        yield "", f"{pace.refused} refused as too many so far", ""
    for queue, depth in overview.queues.items():
        yield "queues", f"{queue}  {depth}", ""
    text = f"{overview.in_work} jobs queued, with a worker or waiting for another try"
    yield "in work", text, ""
    yield from _late(overview)
    ended = (f"{state} {n:,}" for state, n in overview.totals.items() if state != _FLAGGED)
    yield "ended", ", ".join(ended) or "none yet", ""
    if flagged := overview.totals.get(_FLAGGED):
        yield "", f"{flagged:,} of all jobs perhaps sent twice", "yellow"
    if overview.dead_by_code:
        yield "dead", _dead(overview), ""
    if overview.quota_refusals:
        text = ", ".join(f"{rule} {n:,}" for rule, n in overview.quota_refusals.items())
        yield "refused", f"by bounds on spending: {text} (sendcode quota status)", ""
    if (used := overview.memory_used) and used >= FULL_SOON:
        text = f"{used:.0%} of Redis' memory limit is used; full, it accepts no jobs"
        yield "memory", f"{text}: sendcode purge, or raise maxmemory", "yellow"
    for batch in overview.batches:
        text = f"{batch.batch_id}  {batch.phase}  {batch.finished} of {batch.accepted} finished"
        if batch.rows_lost:
            text += f", {batch.rows_lost} rows are lost: submit its file again"
        yield "batches", text, ""


def _late(overview: Overview) -> Iterator[tuple[str, str, str]]:
    if overview.rows_waiting:
        yield "", f"{overview.rows_waiting:,} rows of batches wait behind them", ""
    for lane, age_s in overview.late_s.items():
        yield "", f"the oldest {lane} job that is due has waited for {age_s:.0f} s", "yellow"
    for code, age_s in overview.oldest_event_s.items():
        if age_s >= OPEN_S:
            text = f"an event has waited for {age_s:.0f} s, "
            yield "", text + (f"last for {code}" if code else "and was not tried yet"), "yellow"


def _dead(overview: Overview) -> str:
    unknown = overview.unknown_by_code
    return ", ".join(
        f"{code} {n}" + (f" ({unknown[code]} perhaps sent)" if code in unknown else "")
        for code, n in overview.dead_by_code.items()
    )


def halt(
    reason: Annotated[str, typer.Option(help="Why; shown to others.")] = "",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stop all sending, for everybody, until `sendcode resume`. Asks first on a terminal.

    Jobs are still accepted, and kept. What is being sent at that moment is finished.
    """
    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        if is_terminal() and not yes:
            under_way = read_overview(client, settings).batches
            batches = count_of(len(under_way), "batch", "batches")
            codes = count_of(sum(each.unfinished for each in under_way), "code")
            scope = f"for everybody: {batches} with {codes} to send, and all events"
            if not typer.confirm(f"Stop all sending, {scope}?", err=True):
                raise CommandFailedError("nothing was stopped; one batch: sendcode batch pause ID")
        account = Account(client, settings)
        changed = account.halt("person", "Halted", kept or "no reason given")
        state = account.state()
    if as_json:
        show_json({"changed": changed, "account": state.as_dict()})
    say("all sending is halted; sendcode resume lets it go on")


def resume(as_json: JsonOption = False) -> None:
    """Let sending go on, whoever halted it."""
    with ledger_connection() as (settings, client):
        account = Account(client, settings)
        before = account.state()
        changed = account.resume("person")
        state = account.state()
    if as_json:
        show_json({"changed": changed, "account": state.as_dict()})
    if not changed:
        say("sending was not halted")
    elif before.by == "api":
        say(f"sending goes on; the API had halted it: {before.code}")
    else:
        say("sending goes on")


def ledger_accept(
    reason: Annotated[str, typer.Option(help="Why; shown in the list of actions.")] = "",
    flag_hours: Annotated[
        float,
        typer.Option(
            min=0,
            max=8_760,
            help="Flag what is submitted within this many hours as perhaps sent before.",
        ),
    ] = 24,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take an emptied, exchanged or older ledger as it is, and let sending go on.

    What it holds, and what is submitted in the hours after, may have been sent before: when it is
    sent, it is flagged as perhaps sent twice. Cancel first what is not to be sent again.
    """
    kept = reason_to_keep(reason)
    with ledger_connection() as (settings, client):
        identity = Identity(client, settings, state_file(settings))
        before = identity.ask()
        if before.refused == NEWER:
            raise identity.refuse(before)
        if before.refused or before.is_disputed:
            for batch in Batches(client, settings).list():
                if batch.unfinished:
                    jobs = count_of(batch.unfinished, "job")
                    say(f"batch {batch.batch_id} ({batch.phase}) would send {jobs}")
            ask_first(
                f"{before.why if before.refused else LEDGER_DISPUTED}. Take it as it is, and send "
                "what it holds, flagged as perhaps sent before?",
                yes=yes,
            )
            before = identity.accept(flag_hours, kept)
        state = identity.ask()
    if as_json:
        show_json({"changed": bool(before.refused), "ledger": state.as_dict()})
    if not before.refused:
        say("the ledger is not refused: there is nothing to accept")
    else:
        say(
            "the ledger is accepted; what it holds, and what is submitted within "
            f"{flag_hours:g} h, is flagged as perhaps sent twice when it is sent"
        )


_SHOWN_CHARACTERS = 200
_SHOWN = 20


def actions(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = _SHOWN,
    as_json: JsonOption = False,
) -> None:
    """Show who submitted, halted, paused, cancelled, requeued or dropped what, the newest first.

    A halt by the API's answers is not among them: `sendcode status` names it.
    """
    with ledger_connection() as (settings, client):
        found = recent_actions(client, settings, limit)
    if as_json:
        show_json([action.as_dict() for action in found])
    elif not found:
        show("nobody did anything yet")
    else:
        rows = [
            (
                moment(action.at_ms),
                action.what,
                action.about,
                "" if action.jobs is None else f"{action.jobs:,}",
                action.reason,
                action.by,
            )
            for action in found
        ]
        show_table(("when", "what", "about", "jobs", "reason", "by"), rows, "jobs")


def ledger_quarantine(as_json: JsonOption = False) -> None:
    """Show the messages that workers put aside because they were no jobs.

    The newest come first, each with its beginning; what may be a phone number is masked.
    """
    with ledger_connection() as (settings, client):
        found = [
            replace(each, content=each.content and without_numbers(each.content))
            for each in read_quarantine(client, settings)
        ]
    if as_json:
        show_json([each.as_dict() for each in found])
    elif not found:
        show("nothing was put aside")
    else:
        rows = [
            (moment(each.at_ms), each.queue, each.reason, f"{each.size:,}", _start(each.content))
            for each in found
        ]
        show_table(("when", "queue", "reason", "size", "begins"), rows, "size")


def _start(content: str | None) -> str:
    if content is None:
        return UNOPENED
    return content if len(content) <= _SHOWN_CHARACTERS else f"{content[:_SHOWN_CHARACTERS]}…"
