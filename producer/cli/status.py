"""`sendcode status`: the whole system at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.console import (
    JsonOption,
    MisusedError,
    ledger_connection,
    printable,
    results,
    show_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.table import Table

    from jobs.identity import LedgerState
    from producer.overview import Overview

WATCH_S = 1.0
SHOWN = 3
"""Lines about what was lost in the ledger."""
_FLAGGED = "possible_duplicate"
"""Counted with the final states, and none."""


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show queues, rate, account, workers and batches."""
    from jobs.identity import Identity, state_file
    from producer.overview import look

    if watch and as_json:
        raise MisusedError("--watch and --json: choose one; --json prints one document")
    with ledger_connection(any_version=True) as (settings, client):
        identity = Identity(client, settings, state_file(settings))
        if as_json:
            show_json(look(client, settings, identity).as_dict())
        elif not watch:
            results().print(_table(look(client, settings, identity)))
        else:
            _watch(lambda: look(client, settings, identity))


def _watch(look: Callable[[], Overview]) -> None:
    import time

    from rich.live import Live

    with Live(_table(look()), console=results(), auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(WATCH_S)
            live.update(_table(look()), refresh=True)
            if not results().is_terminal:
                results().print(live.renderable)


def _table(seen: Overview) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value, style in _lines(seen):
        table.add_row(name, Text(printable(value), style))
    return table


def _lines(seen: Overview) -> Iterator[tuple[str, str, str]]:
    """Give what to say: a name, a value, and a style where it asks for attention."""
    yield from _ledger_lines(seen.ledger)
    yield _account_line(seen)
    alive = [each.name for each in seen.workers if each.alive]
    told = f"{len(alive)} alive: {', '.join(alive)}" if alive else "none alive: sendcode worker"
    yield "workers", told, "" if alive else "yellow"
    for each in seen.workers:
        if not each.alive:
            yield "", f"{each.name} silent for {each.silent_s:.0f} s", "yellow"
        if each.refused:
            from producer.cli.wording import refusal_explained

            told = ": ".join(refusal_explained(each.name, each.refused, each.refused_ms))
            yield "", told, "bold red"
    for name in seen.namesakes:
        yield "", f"several are called {name}: give each its own name (--name)", "yellow"
    pace = seen.pace
    told = f"{pace.last_second} requests in the last second, limit {pace.limit:g}"
    yield "rate", told, ""
    if pace.is_lowered:
        told = f"lower than SENDCODE_RATE_LIMIT here, {pace.setting:g}"
        yield "", f"{told}: the lowest of all workers holds", "yellow"
    if pace.factor < 1:
        told = f"slowed to {pace.factor:.0%} of it: the API refused a request as too many"
        yield "", told, "yellow"
    if pace.refused:
        yield "", f"{pace.refused} refused as too many so far", ""
    for queue, depth in seen.queues.items():
        yield ("queues" if queue == next(iter(seen.queues)) else ""), f"{queue}  {depth}", ""
    yield "in work", f"{seen.in_work} jobs published, with workers or parked", ""
    yield "ended", _ended(seen.totals) or "none yet", ""
    if flagged := seen.totals.get(_FLAGGED):
        yield "", f"{flagged:,} of all jobs perhaps sent twice", "yellow"
    if seen.dead_by_code:
        yield "dead", _dead(seen), ""
    yield from _damage(seen)
    for number, batch in enumerate(seen.batches):
        told = f"{batch.batch_id}  {batch.phase}  {batch.finished} of {batch.accepted} finished"
        if batch.rows_lost:
            told += f", {batch.rows_lost} rows are lost: submit its file again"
        yield ("" if number else "batches"), told, ""


def _damage(seen: Overview) -> Iterator[tuple[str, str, str]]:
    if seen.misfits:
        told = f"parts do not fit together: {', '.join(seen.misfits)}"
        yield "ledger", f"{told}; workers mend it, or sendcode doctor --repair", "bold red"
    for number, each in enumerate(seen.damage[:SHOWN]):
        yield ("" if number else "damage"), each.what, "yellow"
    if len(seen.damage) > SHOWN:
        yield "", f"{len(seen.damage) - SHOWN} more: sendcode doctor", "yellow"
    if seen.quarantined:
        told = f"{seen.quarantined} messages put aside: they were no jobs"
        yield "quarantine", told, "yellow"


def _ledger_lines(ledger: LedgerState) -> Iterator[tuple[str, str, str]]:
    from jobs.identity import REMEDY
    from producer.cli.wording import LEDGER_DISPUTED, ledger_in_words

    if ledger.refused:
        yield "ledger", ledger.why, "bold red"
        yield "", ledger.remedy, ""
    elif ledger.is_disputed:
        yield "ledger", LEDGER_DISPUTED, "bold red"
        yield "", REMEDY, ""
    else:
        yield "ledger", ledger_in_words(ledger), ""


def _account_line(seen: Overview) -> tuple[str, str, str]:
    account = seen.account
    if account.state != "halted" and (seen.ledger.refused or seen.ledger.is_disputed):
        return "account", "not halted, but see the ledger", "yellow"
    if account.state != "halted":
        return "account", "running", "green"
    from producer.cli.wording import halt_in_words

    return "account", halt_in_words(account), "bold red"


def _dead(seen: Overview) -> str:
    unknown = seen.unknown_by_code
    return ", ".join(
        f"{code} {n}" + (f" ({unknown[code]} perhaps sent)" if code in unknown else "")
        for code, n in seen.dead_by_code.items()
    )


def _ended(totals: Mapping[str, int]) -> str:
    return ", ".join(f"{state} {n:,}" for state, n in totals.items() if state != _FLAGGED)
