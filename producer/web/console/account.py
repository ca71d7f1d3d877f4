"""The order to halt all sending, or to let it go on; and who did what."""

from __future__ import annotations

from typing import Annotated, Any

import redis
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from config.settings import Settings
from jobs.account import Account
from jobs.actions import recent_actions
from producer.overview import read_overview
from producer.sending import Sending
from producer.web.console.frame import Operator, Viewer, reason_of, redirect, render
from producer.web.problems import ask

router = APIRouter()

PAGE = 50
"""Actions on a page."""


@router.get("/settings/sending")
async def before_order(request: Request, _: Operator) -> Response:
    """Show what halting or going on would do, before it is done."""
    found = await ask(request, _read, request.app.state.client, request.app.state.settings)
    return render(request, "order.html", **found, is_reasonless=False)


def _read(client: redis.Redis, settings: Settings) -> dict[str, Any]:
    overview = read_overview(client, settings)
    return {"overview": overview, "sending": Sending.of(overview)}


@router.post("/settings/sending/halt")
async def halt(
    request: Request, operator: Operator, reason: Annotated[str, Form()] = ""
) -> Response:
    """Halt all sending, for a reason."""
    kept = reason_of(reason)
    if not kept:
        found = await ask(request, _read, request.app.state.client, request.app.state.settings)
        return render(request, "order.html", **found, status=422, is_reasonless=True)
    account = Account(request.app.state.client, request.app.state.settings)
    await ask(request, lambda: account.halt("person", "Halted", kept, who=operator.name))
    return redirect(request, "/", "order.halted")


@router.post("/settings/sending/resume")
async def resume(
    request: Request, operator: Operator, reason: Annotated[str, Form()] = ""
) -> Response:
    """Let sending go on, whoever halted it."""
    kept = reason_of(reason)
    account = Account(request.app.state.client, request.app.state.settings)
    await ask(request, lambda: account.resume("person", reason=kept, who=operator.name))
    return redirect(request, "/", "order.resumed")


@router.get("/actions")
async def actions(
    request: Request, _: Viewer, page: Annotated[int, Query(ge=1, le=10_000 // PAGE)] = 1
) -> Response:
    """Show what people did, the newest first."""
    client, settings = request.app.state.client, request.app.state.settings
    found = await ask(request, recent_actions, client, settings, PAGE + 1, (page - 1) * PAGE)
    return render(request, "actions.html", actions=found[:PAGE], page=page, more=len(found) > PAGE)
