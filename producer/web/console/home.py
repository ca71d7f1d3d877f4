"""The home page: is it sending, how late is it, when is it done."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from jobs.identity import Identity, state_file
from producer.overview import read_overview
from producer.web.console.frame import Viewer, render
from producer.web.problems import ask

router = APIRouter()


@router.get("/")
async def home(request: Request, _: Viewer) -> Response:
    """Show the whole system at a glance."""
    client, settings = request.app.state.client, request.app.state.settings
    identity = Identity(client, settings, state_file(settings))
    overview = await ask(request, read_overview, client, settings, identity)
    return render(request, "home.html", live="live", overview=overview)
