"""`sendcode demo`: the whole system on this machine; nothing else is needed."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from demo.accounting import Report
from demo.keeper import Interrupted, Interrupts, Keeper
from demo.story import Demo
from demo.world import WorldError, environment_of
from jobs.job import State
from producer.cli.commands import HELP_OPTIONS, PlainCommand, plain_app
from producer.cli.console import (
    INTERRUPTED,
    CommandFailedError,
    MisusedError,
    run,
    say,
    show_json,
)
from producer.cli.display import count_of, display, show_table
from producer.cli.options import JsonOption
from producer.cli.wording import STATES

_SAY_EVERY_S = 2.0
"""Between two lines of progress without a terminal."""
_CHECK_EVERY_S = 0.5
_FILES = (
    *("customers.csv", "results.csv"),
    *("worker-1.log", "worker-2.log", "web.log", "flower.log"),
)
_SHOWN_STATES = ("sent", "sent_inferred", "dead", "unknown", "parked")


app = plain_app(context_settings=HELP_OPTIONS)


@app.command(cls=PlainCommand)
def main(
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="Rows of the sample file.")] = 200,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running, until Ctrl-C.")
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(help="Folder for file, results and logs (default: a new temporary one)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the whole system on this machine; nothing else is needed.

    Valkey, a stand-in for the API, two workers, the HTTP API with the console, and Flower start on
    free ports. A sample file with every kind of outcome is submitted. Meanwhile events are sent
    over HTTP, and their outcomes come back by webhook. At the end, a report shows whether each
    promise was kept. Exit 1 if one was broken. No real account, number or Redis is used.
    """
    interrupts = Interrupts()
    folder: Path | None = None
    try:
        with interrupts.raised():
            folder = _folder(directory)
            kept = _run(rows, folder, interrupts, keep=keep, as_json=as_json)
    except Interrupted as exc:
        files = f"; files are in {folder}" if folder is not None else ""
        say(f"no process was left behind{files}")
        if exc.number != signal.SIGINT:
            say("sendcode: ended by a signal")
            raise typer.Exit(128 + exc.number) from None
        raise typer.Exit(INTERRUPTED) from None
    if not kept:
        raise CommandFailedError("a promise was broken; see the logs")


def _run(rows: int, directory: Path, interrupts: Interrupts, *, keep: bool, as_json: bool) -> bool:
    """Run the demo, and return whether every promise was kept."""
    try:
        with Keeper(environment_of(), interrupts) as keeper:
            say("starting Valkey, the API's stand-in, two workers, HTTP API and console, Flower")
            with Demo(directory, rows, keeper) as demo:
                try:
                    report = _run_through(demo)
                    if as_json:
                        show_json({**report.as_dict(), "directory": str(directory)})
                    else:
                        _show(report)
                    say(f"file, results and logs: {directory}")
                    for name in _FILES:
                        say(f"  {name}")
                    if keep:
                        _keep_running(demo)
                finally:
                    interrupts.hold_for_good()  # nothing may cut the end short
                    say("ending all processes")
    except WorldError as exc:
        raise CommandFailedError(str(exc)) from exc
    return report.all_kept


def _run_through(demo: Demo) -> Report:
    say(f"console: {demo.web_url}  {_login(demo)}")
    say(f"Flower: {demo.flower_url}  {_login(demo)}")
    batch = demo.submit()
    say(f"{demo.customers_file}: {count_of(batch.total, 'row')}, {batch.accepted} accepted")
    with display("", _SAY_EVERY_S) as show_now:
        for batch in demo.follow():
            share = batch.finished / batch.accepted if batch.accepted else 1.0
            parts = [f"{n} {state}" for state in _SHOWN_STATES if (n := batch.counts.get(state))]
            parts += [f"{demo.world.requests()} requests", f"{len(demo.events)} events"]
            text = f"{batch.finished} of {batch.accepted} ended: {', '.join(parts)}"
            show_now(text, share, last=batch.is_over)
    return demo.report()


def _login(demo: Demo) -> str:
    return f"user {demo.user}  password {demo.password}"


def _show(report: Report) -> None:
    rows = []
    for state, count in report.states.items():
        meaning = STATES[State(state)]
        rows.append((state if meaning == state else f"{state}: {meaning}", str(count)))
        if state == State.DEAD:
            rows += [(f"  {code}", str(n)) for code, n in report.dead_by_code.items()]
    rows += [
        ("tried more than once", str(report.retried)),
        ("events sent meanwhile", str(report.events)),
        ("requests to the API's stand-in", str(report.requests)),
        ("most of them in one second", str(report.most_in_a_second)),
        ("numbers that got two codes", str(report.doubles)),
    ]
    show_table((f"what became of {count_of(report.rows, 'row')}", "count"), rows, right="count")
    show_table(
        ("promise", "", "evidence"),
        [(each.text, "kept" if each.kept else "BROKEN", each.shown) for each in report.promises],
    )


def _keep_running(demo: Demo) -> None:
    """Keep all processes running until Ctrl-C."""
    say(f"everything keeps running; look around: {demo.web_url}  {_login(demo)}")
    say("press Ctrl-C to end it")
    try:
        while True:
            demo.world.check()
            time.sleep(_CHECK_EVERY_S)
    except Interrupted:
        return


def _folder(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="sendcode-demo-"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:
        raise MisusedError(f"--directory: {exc.filename} is a file; name a new folder") from None
    if any(directory.iterdir()):
        raise MisusedError(f"--directory: {directory} is not empty; name a new folder")
    return directory.resolve()


if __name__ == "__main__":
    run(lambda: app(prog_name="sendcode demo"))
