"""The home page (is it sending, how late, when done), and the order to halt or resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from jobs.account import Account
from jobs.actions import recent_actions
from jobs.codes import OUTAGE, explain
from jobs.deadletters import SURVEYED, DeadLetters
from producer.deadletters import Choice, groups
from producer.overview import Overview, read_overview
from producer.sending import Sending, Standing, read_sent
from producer.web.console.failures import NO_CODE, Filters
from producer.web.console.frame import Operator, Viewer, reason_of, redirect, render
from producer.web.problems import ask
from producer.web.services import Services, services

router = APIRouter(include_in_schema=False)

SHOWN_BATCHES, SHOWN_CODES = 8, 5
_MOST_READ = 50
"""Recent actions that are read to find the last halt."""
_BAR, _BARS_HEIGHT = 10, 100
"""In the plot's own units: the width of a minute, the height of its highest bar."""


@router.get("/")
async def home(request: Request, _: Viewer) -> Response:
    """Show the whole system at a glance."""
    found = await ask(request, _read, services(request))
    return render(request, "home.html", live="live", **found)


def _read(app: Services) -> dict[str, Any]:
    client, settings = app.client, app.settings
    overview = read_overview(client, settings, app.identity)
    waiting = _waiting(app.letters, overview)
    sending, sent = Sending.of(overview), read_sent(client, settings, overview.at_ms)
    actions = recent_actions(client, settings, _MOST_READ) if sending.is_halted else []
    by = next((action.by for action in actions if action.what == "halt"), "")
    failures = Counter(waiting).most_common(SHOWN_CODES)
    return {
        "overview": overview,
        "sending": sending,
        "sent_today": sent.today,
        "plot": _plot(sent.minutes),
        "halted_by": by if sending.standing is Standing.HALTED else "",
        "batches": overview.batches[:SHOWN_BATCHES],
        "more_batches": max(0, len(overview.batches) - SHOWN_BATCHES),
        "is_outage": explain(overview.account.code).kind in OUTAGE,
        "failed": sum(waiting.values()),
        "failures": [
            (code, count, Filters(reason=code or NO_CODE).address()) for code, count in failures
        ],
        "other_failures": sum(waiting.values()) - sum(count for _, count in failures),
    }


def _waiting(letters: DeadLetters, overview: Overview) -> Mapping[str, int]:
    """Return how many wait for a person, by code; if very many, including those corrected since.

    The page is refreshed all the time: it reads no more than a single call may.
    """
    if sum(overview.dead_by_code.values()) > SURVEYED:
        return overview.dead_by_code
    return {group.code: group.count for group in groups(letters, Choice())}


def _plot(minutes: Sequence[int]) -> dict[str, Any]:
    """Return codes per minute as bars: `(x, y, height)` each, in the plot's own units.

    `most` is the value of a bar of full height.
    """
    most = max(1, *minutes)
    heights = [round(_BARS_HEIGHT * count / most, 1) for count in minutes]
    bars = [
        (_BAR * place, round(_BARS_HEIGHT - height, 1), height)
        for place, height in enumerate(heights)
        if height
    ]
    return {
        "bars": bars,
        "most": most,
        "total": sum(minutes),
        "width": _BAR * len(minutes),
        "height": _BARS_HEIGHT,
    }


@router.get("/settings/sending")
async def preview_order(request: Request, _: Operator) -> Response:
    """Show what halting or resuming would do, before it is done."""
    return await _order_page(request, lacks_reason=False)


async def _order_page(request: Request, *, lacks_reason: bool) -> Response:
    app = services(request)
    sending = Sending.of(await ask(request, read_overview, app.client, app.settings))
    status = 422 if lacks_reason else 200
    return render(request, "order.html", status=status, sending=sending, lacks_reason=lacks_reason)


@router.post("/settings/sending/halt")
async def halt(
    request: Request, operator: Operator, reason: Annotated[str, Form()] = ""
) -> Response:
    """Halt all sending, for a reason that must be given."""
    kept = reason_of(reason)
    if not kept:
        return await _order_page(request, lacks_reason=True)
    account = Account(services(request).client, services(request).settings)
    await ask(request, partial(account.halt, who=operator.name), "person", "Halted", kept)
    return redirect(request, "/", "order.halted")


@router.post("/settings/sending/resume")
async def resume(
    request: Request, operator: Operator, reason: Annotated[str, Form()] = ""
) -> Response:
    """Resume sending, whoever halted it."""
    kept = reason_of(reason)
    account = Account(services(request).client, services(request).settings)
    await ask(request, partial(account.resume, reason=kept, who=operator.name), "person")
    return redirect(request, "/", "order.resumed")
