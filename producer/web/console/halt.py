"""The order to halt all sending, or to let it go on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from jobs.account import Account
from producer.overview import read_overview
from producer.sending import Sending
from producer.web.console.frame import Operator, reason_of, redirect, render
from producer.web.problems import ask
from producer.web.services import Services, services

router = APIRouter()


@router.get("/settings/sending")
async def before_order(request: Request, _: Operator) -> Response:
    """Show what halting or going on would do, before it is done."""
    found = await ask(request, _read, services(request))
    return render(request, "order.html", **found, is_reasonless=False)


def _read(app: Services) -> dict[str, Any]:
    overview = read_overview(app.client, app.settings)
    return {"overview": overview, "sending": Sending.of(overview)}


@router.post("/settings/sending/halt")
async def halt(
    request: Request, operator: Operator, reason: Annotated[str, Form()] = ""
) -> Response:
    """Halt all sending, for a reason."""
    kept = reason_of(reason)
    if not kept:
        found = await ask(request, _read, services(request))
        return render(request, "order.html", **found, status=422, is_reasonless=True)
    account = Account(services(request).client, services(request).settings)
    await ask(request, lambda: account.halt("person", "Halted", kept, who=operator.name))
    return redirect(request, "/", "order.halted")


@router.post("/settings/sending/resume")
async def resume(
    request: Request, operator: Operator, reason: Annotated[str, Form()] = ""
) -> Response:
    """Let sending go on, whoever halted it."""
    kept = reason_of(reason)
    account = Account(services(request).client, services(request).settings)
    await ask(request, lambda: account.resume("person", reason=kept, who=operator.name))
    return redirect(request, "/", "order.resumed")
