"""Find a customer: by number, job, RequestId, reference, or text of a row.

What is searched for comes in a form, so a number is in no address, history or log, and is not shown
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from jobs.batch import Batch
from jobs.batches import Batches
from producer.search import Hit, Place, digits_of, search
from producer.web.console.frame import MOST_PLACES, Viewer, render, texts_of
from producer.web.console.rows import customer_of, matching_of
from producer.web.console.words import ending_in_words
from producer.web.problems import ask

router = APIRouter()

BATCHES_SHOWN = 500
"""To choose from: the newest."""


@router.get("/search")
async def search_form(request: Request, _: Viewer, batch: str = "") -> Response:
    """Show the form."""
    batches = await ask(request, _batches(request).page, 0, BATCHES_SHOWN)
    return render(
        request, "search.html", batches=batches, batch=batch, text="", found=None, results=[]
    )


@router.post("/search")
async def found(
    request: Request,
    _: Viewer,
    text: Annotated[str, Form()] = "",
    batch: Annotated[str, Form()] = "",
    since: Annotated[str, Form()] = "",
    first: Annotated[int, Form(ge=0, le=MOST_PLACES)] = 0,
) -> Response:
    """Search, or go on with it in batch `since`, and show what was found."""
    state = request.app.state
    batches = await ask(request, _batches(request).page, 0, BATCHES_SHOWN)
    place = Place(since, first) if since else None
    found = await ask(request, search, state.client, state.settings, text, batch, place)
    by_id = await ask(request, _batches_of, _batches(request), found.hits)
    texts = texts_of(request)

    def customer(hit: Hit) -> str:
        return customer_of(
            by_id.get(hit.batch_id), hit.row, hit.story.record if hit.story else None
        )

    results = [
        {
            "hit": hit,
            "customer": customer(hit),
            "matching": matching_of(by_id.get(hit.batch_id), hit.row, text),
            "batch": (by_id[hit.batch_id].name if hit.batch_id in by_id else "") or hit.batch_id,
            "number": (hit.story.record.phone if hit.story else hit.row and hit.row.phone),
            "ending": (
                ending_in_words(texts, hit.end.record, hit.end.waits_for)
                if hit.end
                else texts("job.rejected" if hit.row and hit.row.code else "job.forgotten")
            ),
        }
        for hit in found.hits
    ]
    return render(
        request,
        "search.html",
        batches=batches,
        batch=batch,
        text="" if digits_of(text.strip()) else text.strip(),
        found=found,
        goes_on=since,
        results=results,
    )


def _batches_of(batches: Batches, hits: Sequence[Hit]) -> dict[str, Batch]:
    """Return the batches that something was found in, by their ids."""
    ids = {hit.batch_id for hit in hits if hit.batch_id}
    found = {batch_id: batches.get(batch_id) for batch_id in ids}
    return {batch_id: batch for batch_id, batch in found.items() if batch is not None}


def _batches(request: Request) -> Batches:
    return Batches(request.app.state.client, request.app.state.settings)
