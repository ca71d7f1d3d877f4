"""Find a customer: by number, job, RequestId, reference, or text of a row.

The search text is sent by POST, so a number is in no address, history or log, and is not shown
again. The form that continues a search carries its text encrypted.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from jobs.vault import SealedError, text_binding
from producer.search import Hit, Place, digits_of, search
from producer.web.console.frame import MOST_PLACES, Viewer, Visitor, render, texts_of
from producer.web.console.rows import customer_of, matching_of
from producer.web.problems import ask
from producer.web.services import services

router = APIRouter(include_in_schema=False)

BATCHES_SHOWN = 500
"""The newest ones, to choose from."""


@router.get("/search")
async def search_form(request: Request, _: Viewer, batch: str = "") -> Response:
    """Show the form."""
    batches = await ask(request, services(request).batches.page, 0, BATCHES_SHOWN)
    return render(
        request, "search.html", batches=batches, batch=batch, text="", found=None, results=[]
    )


def sealed_search(request: Request, visitor: Visitor, text: str) -> str:
    """Return a search text encrypted, so that the page may carry it, for this session only."""
    return services(request).vault.seal_text(text, text_binding("search", visitor.csrf))


def opened_search(request: Request, visitor: Visitor, sealed: str) -> str:
    """Return the search text; "" if it is of another session or its key is gone."""
    try:
        return services(request).vault.open(sealed, text_binding("search", visitor.csrf)).decode()
    except SealedError:
        return ""


@router.post("/search")
async def find(
    request: Request,
    visitor: Viewer,
    text: Annotated[str, Form()] = "",
    sought: Annotated[str, Form()] = "",
    batch: Annotated[str, Form()] = "",
    since: Annotated[str, Form()] = "",
    first: Annotated[int, Form(ge=0, le=MOST_PLACES)] = 0,
) -> Response:
    """Search, or continue a search in batch `since`, and show what was found."""
    app = services(request)
    batches = await ask(request, app.batches.page, 0, BATCHES_SHOWN)
    place = Place(since, first) if since else None
    text = opened_search(request, visitor, sought) if sought else text.strip()
    found = await ask(request, search, app.client, app.settings, text, batch, place)
    texts = texts_of(request)

    def shown(hit: Hit) -> dict[str, Any]:
        batch = found.batches.get(hit.batch_id)
        if hit.end:
            ending = texts.ending(hit.end.record, hit.end.waits_for, batch)
        else:
            ending = texts("job.rejected" if hit.row and hit.row.code else "job.forgotten")
        return {
            "hit": hit,
            "customer": customer_of(batch, hit.row, hit.story.record if hit.story else None),
            "matching": matching_of(batch, hit.row, text),
            "batch": (batch.name if batch else "") or hit.batch_id,
            "number": hit.story.record.phone if hit.story else hit.row and hit.row.phone,
            "ending": ending,
        }

    return render(
        request,
        "search.html",
        batches=batches,
        batch=batch,
        text="" if digits_of(text) else text,
        sought=sealed_search(request, visitor, text) if found.goes_on else "",
        found=found,
        goes_on=since,
        results=[shown(hit) for hit in found.hits],
    )
