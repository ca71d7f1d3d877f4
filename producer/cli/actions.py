"""`sendcode actions`: what people did."""

from __future__ import annotations

from typing import Annotated

import typer

from producer.cli.console import JsonOption, ledger_connection, show, show_json

_SHOWN = 20


def actions(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = _SHOWN,
    as_json: JsonOption = False,
) -> None:
    """Show who submitted, halted, paused, cancelled, requeued or dropped what, the newest first.

    What the API's answers halt is no person's doing: `sendcode status` names such a halt.
    """
    from jobs.actions import recent_actions
    from producer.cli.tables import moment, show_table

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
