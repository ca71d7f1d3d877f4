"""The order to halt all sending, or to let it go on."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from jobs.account import Account
from producer.overview import read_overview
from producer.sending import Sending
from producer.web.console.frame import Operator, reason_of, redirect, render
from producer.web.problems import ask
from producer.web.services import services

router = APIRouter()


@router.get("/settings/sending")
async def before_order(request: Request, _: Operator) -> Response:
    """Show what halting or going on would do, before it is done."""
    return await _order_page(request, is_reasonless=False)


async def _order_page(request: Request, *, is_reasonless: bool) -> Response:
    app = services(request)
    sending = Sending.of(await ask(request, read_overview, app.client, app.settings))
    status = 422 if is_reasonless else 200
    return render(
        request, "order.html", status=status, sending=sending, is_reasonless=is_reasonless
    )


@router.post("/settings/sending/halt")
async def halt(
    request: Request, operator: Operator, reason: Annotated[str, Form()] = ""
) -> Response:
    """Halt all sending, for a reason."""
    kept = reason_of(reason)
    if not kept:
        return await _order_page(request, is_reasonless=True)
    account = Account(services(request).client, services(request).settings)
    await ask(request, partial(account.halt, who=operator.name), "person", "Halted", kept)
    return redirect(request, "/", "order.halted")


@router.post("/settings/sending/resume")
async def resume(
    request: Request, operator: Operator, reason: Annotated[str, Form()] = ""
) -> Response:
    """Let sending go on, whoever halted it."""
    kept = reason_of(reason)
    account = Account(services(request).client, services(request).settings)
    await ask(request, partial(account.resume, reason=kept, who=operator.name), "person")
    return redirect(request, "/", "order.resumed")
