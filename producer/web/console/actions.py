"""What people did, by whom and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from jobs.actions import Action, recent_actions
from jobs.batches import Batches
from producer.deadletters import chosen_parts
from producer.web.console.frame import Viewer, render
from producer.web.console.rows import customers_of
from producer.web.problems import ask
from producer.web.services import services

router = APIRouter(include_in_schema=False)

PAGE = 50
"""Actions on a page."""


@router.get("/actions")
async def actions(
    request: Request, _: Viewer, page: Annotated[int, Query(ge=1, le=10_000 // PAGE)] = 1
) -> Response:
    """Show what people did, the newest first."""
    app, skipped = services(request), (page - 1) * PAGE
    found = await ask(request, recent_actions, app.client, app.settings, PAGE + 1, skipped)
    entries = await ask(request, _with_subjects, app.batches, found[:PAGE])
    return render(
        request,
        "actions.html",
        entries=entries,
        page=page,
        more=len(found) > PAGE,
    )


def _with_subjects(
    batches: Batches, actions: Sequence[Action]
) -> list[tuple[Action, list[dict[str, str]]]]:
    """Return each action with what it was about; all names are read at once.

    A part has `kind` and `value`, as in `chosen_parts`, and `name`: the name that people know this
    batch or customer by.
    """
    entries = [(action, _parts(action)) for action in actions]
    every = [part for _, parts in entries for part in parts]
    ids = {kind: [value for each, value in every if each == kind] for kind in ("batch", "job")}
    batch_names = batches.names_of(ids["batch"])
    customers = customers_of(batches, ids["job"], {})
    names = {"batch": batch_names, "job": customers}

    def part(kind: str, value: str) -> dict[str, str]:
        return {"kind": kind, "value": value, "name": names.get(kind, {}).get(value, "")}

    return [(action, [part(*each) for each in parts]) for action, parts in entries]


def _parts(action: Action) -> list[tuple[str, str]]:
    kind = action.what.partition(" ")[0]
    if kind == "dead":
        return chosen_parts(action.about) or [("all", "")]
    if kind in {"batch", "job"} and action.about:
        return [(kind, action.about)]
    return [("text", action.about)] if action.about else []
