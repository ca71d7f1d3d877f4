"""`sendcode doctor`: is everything there that sending needs, and set up rightly?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.cli.console import (
    CommandFailedError,
    JsonOption,
    ledger_connection,
    printable,
    results,
    say,
    show_json,
)

if TYPE_CHECKING:
    from jobs.durability import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="First derive anew what keys lost or spoiled in Redis held, from all jobs and "
            "batches; show what was damaged for the last time.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check settings, Redis, clock, credentials and workers.

    Exit 1 if anything fails. It sends nothing, and cannot try the credentials.
    """
    from jobs.durability import Level
    from jobs.mending import Mending
    from producer.cli.checkup import examine

    with ledger_connection(any_version=True) as (settings, client):
        mending = Mending(client, settings)
        repaired = mending.mend() if repair else []
        findings = list(examine(client, settings))
        if repair:
            mending.forget(len(mending.damage()))
    failed = [finding.name for finding in findings if finding.level is Level.FAIL]
    if as_json:
        told = [each.as_dict() for each in findings]
        show_json({"ok": not failed, "repaired": repaired, "findings": told})
    else:
        if repair and not repaired:
            say("nothing had to be repaired")
        for finding in findings:
            _show(finding)
    if failed:
        raise CommandFailedError(f"{len(failed)} of {len(findings)} checks failed")


def _show(finding: Finding) -> None:
    from rich.text import Text

    line = Text.assemble(
        (f"{finding.level.upper():4}", _STYLES[finding.level]), "  ", printable(finding.text)
    )
    if finding.remedy:
        line.append(f": {printable(finding.remedy)}", "dim")
    results().print(line, soft_wrap=True)
