"""All commands of `sendcode`: one module for each command or group, loaded cheaply.

A module imports at its top only what is loaded quickly: typer, its neighbours here and mere names;
what a command works with it imports when it runs, so that `sendcode --help` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from producer.cli import (
    actions,
    batch,
    console,
    dead,
    doctor,
    job,
    processes,
    send,
    status,
    steer,
)
from producer.cli.helptext import make_plain

app = typer.Typer(
    name="sendcode",
    help="Sends verification codes: nothing lost, nothing twice, never above the limit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SEND = "Send"
LOOK = "Look and steer"
RUN = "Run"


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        console.show(f"sendcode {version('sendcode')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _add_commands() -> None:
    app.command(rich_help_panel=SEND)(send.send)
    app.add_typer(batch.app, name="batch", rich_help_panel=SEND)
    app.add_typer(job.app, name="job", rich_help_panel=LOOK)
    app.add_typer(dead.app, name="dead", rich_help_panel=LOOK)
    app.command(rich_help_panel=LOOK)(status.status)
    app.command(rich_help_panel=LOOK)(doctor.doctor)
    app.command(rich_help_panel=LOOK)(steer.halt)
    app.command(rich_help_panel=LOOK)(steer.resume)
    app.add_typer(steer.ledger_app, name="ledger", rich_help_panel=LOOK)
    app.command(rich_help_panel=LOOK)(actions.actions)
    app.command(rich_help_panel=RUN)(processes.worker)
    app.command(rich_help_panel=RUN)(processes.flower)
    for program in (processes.demo, processes.sandbox):
        # all options, --help too, are the program's own
        passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
        settings = {**passed_on, "help_option_names": []}
        app.command(rich_help_panel=RUN, context_settings=settings)(program)


_add_commands()
make_plain(app)
