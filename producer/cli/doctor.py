"""`sendcode doctor`: is everything there that sending needs, and set up rightly?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.cli.console import (
    CommandFailedError,
    JsonOption,
    ledger_connection,
    printable,
    results,
    show_json,
)

if TYPE_CHECKING:
    from jobs.durability import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(as_json: JsonOption = False) -> None:
    """Check settings, Redis, clock, credentials and workers.

    Exit 1 if anything fails. It sends nothing, and cannot try the credentials.
    """
    from jobs.durability import Level
    from producer.checkup import examine

    with ledger_connection() as (settings, client):
        findings = list(examine(client, settings))
    failed = [finding.name for finding in findings if finding.level is Level.FAIL]
    if as_json:
        show_json({"ok": not failed, "findings": [each.as_dict() for each in findings]})
    else:
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
