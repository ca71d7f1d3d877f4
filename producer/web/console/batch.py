"""All batches; one batch: its progress, what became of its rows, and what can be done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from jobs.actions import Action, note
from jobs.batch import Batch, Family
from jobs.batches import ORDERED, Order
from jobs.deadletters import Fit
from jobs.job import State, batch_job_id
from jobs.masking import without_numbers
from producer.checks import next_batch_id
from producer.customers import Shown
from producer.overview import alive_workers
from producer.results import GROUPS, MORE_GROUPS, own_columns, rows_page
from producer.search import LONGEST, digits_of
from producer.web.batches import KnownBatch, SheetForm, known_batch, sheet_answer
from producer.web.console.frame import (
    MOST_PLACES,
    Operator,
    Page,
    Viewer,
    Visitor,
    is_fragment,
    redirect,
    render,
    texts_of,
)
from producer.web.console.new_batch import undo_batch
from producer.web.console.results_file import name_of_file, results_for_people
from producer.web.console.search import opened_search, sealed_search
from producer.web.problems import Problem, ask
from producer.web.services import Services, services

router = APIRouter(prefix="/batches", include_in_schema=False)

ROWS_SHOWN = 50
BATCHES_SHOWN = 50
MOST_COLUMNS = 12
"""Of the customer's own, in the table of rows."""
FILTERS = {
    "failed": "unsent",
    "unknown": "unknown",
    "left": "left",
    "left_out": "left_out",
    "corrected": "corrected",
    "waiting": "waiting",
    "sent": "sent",
    "cancelled": "cancelled",
}
"""By a figure's name: the group of rows that it counts."""
DOWNLOADS = ("", "failed", "unknown", "left", "sent", "waiting")
_DONE: dict[Order, str] = {
    "pause": "batch.paused",
    "resume": "batch.resumed",
    "cancel": "batch.cancelled",
    "undo": "batch.undone",
}
_GROUPS: dict[str, frozenset[str]] = {
    "sent": GROUPS["sent"],
    "waiting": GROUPS["waiting"],
    "failed": MORE_GROUPS["unsent"],
    "unknown": frozenset({"unknown"}),
    "cancelled": frozenset({"cancelled"}),
}
"""By a figure's name: the states that it counts, in the order shown."""
_COUNTED_IN: dict[str, str] = {
    State.DEAD: "failed",
    State.UNKNOWN: "unknown",
    State.REJECTED: "left_out",
}
"""By status: the figure that counts a row, unless a corrected file took it over."""


@router.get("")
async def list_batches(request: Request, _: Viewer, page: Page = 1) -> Response:
    """Show all batches, the newest first."""
    batches = services(request).batches
    pages = max(1, -(-await ask(request, batches.count) // BATCHES_SHOWN))
    page = min(max(1, page), pages)
    return render(
        request,
        "batches.html",
        live="live",
        batches=await ask(request, batches.page, (page - 1) * BATCHES_SHOWN, BATCHES_SHOWN),
        figures=figures,
        page=page,
        pages=pages,
    )


@router.get("/{batch_id}")
async def show(
    request: Request,
    visitor: Viewer,
    batch: KnownBatch,
    only: str = "",
    after: Annotated[int, Query(ge=0, le=MOST_PLACES)] = 0,
) -> Response:
    """Show one batch."""
    return await _batch_page(request, visitor, batch, only, after, "")


@router.post("/{batch_id}")
async def search(
    request: Request,
    visitor: Viewer,
    batch: KnownBatch,
    text: Annotated[str, Form()] = "",
    sought: Annotated[str, Form()] = "",
    only: Annotated[str, Form()] = "",
    after: Annotated[int, Form(ge=0, le=MOST_PLACES)] = 0,
) -> Response:
    """Show one batch and its rows that contain a text: by POST, as addresses are kept in logs."""
    text = opened_search(request, visitor, sought) if sought else text.strip()
    if sought and not text:
        return redirect(request, f"/batches/{batch.batch_id}", "batch.search_again")
    return await _batch_page(request, visitor, batch, only, after, text[:LONGEST])


async def _batch_page(
    request: Request, visitor: Visitor, batch: Batch, only: str, after: int, text: str
) -> Response:
    app = services(request)
    client, settings, batches = app.client, app.settings, app.batches
    origin = await ask(request, batches.get, batch.corrects) if batch.corrects else None
    now_ms = await ask(request, app.letters.now_ms)
    is_over = batch.is_over
    family = await ask(request, batches.family, origin or batch)
    corrected = await ask(request, _corrected, app, family, batch)
    reasons = Counter(batch.by_code)
    for name, count in corrected.items():
        if name != State.REJECTED:
            reasons[name.partition(" ")[2]] -= count
    values: dict[str, Any] = {
        "batch": batch,
        "family": family,
        "figures": figures(batch, corrected) if not batch.is_undone else {},
        # the batch made from the same file after this one was undone, if there is one
        "sent_as": await ask(request, batches.get, next_batch_id(batch.batch_id))
        if batch.is_undone
        else None,
        "reasons": [(code, n) for code, n in reasons.most_common() if n > 0],
        "has_worker": is_over or await ask(request, alive_workers, client, settings) > 0,
        "done_ms": None if is_over or batch.eta_s is None else now_ms + round(1000 * batch.eta_s),
        "left_s": max(0, round(((batch.starts_ms or 0) - now_ms) / 1000)),
    }
    if is_fragment(request):
        return render(request, "batch.html", live="live", **values)
    only = only if only in FILTERS else ""
    rows_of = FILTERS.get(only)
    read_page = partial(rows_page, client, settings, batch, ROWS_SHOWN, after, rows_of, text)
    page = await ask(request, read_page)
    shown = Shown(batch.header, batch.columns[0])
    # further columns came from a results file that was submitted again
    most = min(MOST_COLUMNS, own_columns(batch.header))
    return render(
        request,
        "batch.html",
        **values,
        only=only,
        after=after,
        text=text,
        # a number that was searched for is not shown on the page
        sought=sealed_search(request, visitor, text) if text else "",
        shown_text="" if digits_of(text) or without_numbers(text) != text else text,
        filters=FILTERS,
        downloads=DOWNLOADS,
        columns=batch.header[:most],
        page=page,
        rows=[(row, shown.cells(row.cells[:most], row.phone)) for row in page.rows],
        page_size=ROWS_SHOWN,
    )


@router.get("/{batch_id}/results")
async def download(
    request: Request, visitor: Operator, batch: KnownBatch, only: str = "", form: SheetForm = "csv"
) -> Response:
    """Send the results, with full numbers, row by row."""
    if only not in DOWNLOADS:
        raise Problem(404, "not_found", "there are no such results")
    app = services(request)
    # full numbers leave the system: others must be able to see who took them
    action = Action(what="batch download", about=batch.batch_id, by=visitor.name)
    await ask(request, note, app.client, app.settings, action)
    sheet = results_for_people(texts_of(request), app.batches, batch, only, form)
    return sheet_answer(sheet, name_of_file(batch.name, batch.batch_id, only), form)


@router.get("/{batch_id}/cancel")
async def ask_to_cancel(request: Request, _: Operator, batch: KnownBatch) -> Response:
    """Ask for confirmation before a batch is cancelled for good."""
    if batch.state.is_over:
        return redirect(request, f"/batches/{batch.batch_id}")
    return render(request, "batch_cancel.html", batch=batch)


@router.post("/{batch_id}/undo")
async def undo(request: Request, visitor: Operator, batch: KnownBatch) -> Response:
    """Undo a batch, if none of its codes has left."""
    return await undo_batch(request, visitor, batch.batch_id)


@router.post("/{batch_id}/{order}")
async def steer(batch_id: str, order: Order, request: Request, visitor: Operator) -> Response:
    """Pause, resume or cancel a batch; `undo` has a route of its own."""
    steer = partial(services(request).batches.steer, by=visitor.name)
    await ask(request, steer, batch_id, order)
    batch = await known_batch(request, batch_id)
    is_done = batch.state is ORDERED[order] or (order == "resume" and batch.state.is_fed)
    return redirect(request, f"/batches/{batch_id}", _DONE[order] if is_done else "batch.is_over")


def figures(batch: Batch, corrected: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the number of a batch's rows by group, without empty groups.

    Rows left out before sending did not fail. Rows that a person left as they are need no decision
    any more, nor do those `corrected`, by "dead <code>", "unknown <code>" or "rejected".
    """
    counts = {
        name: sum(batch.counts.get(state, 0) for state in states)
        for name, states in _GROUPS.items()
    }
    counts["failed"] -= batch.left.get("dead", 0)
    counts["unknown"] -= batch.left.get("unknown", 0)
    counts["left_out"] = batch.rejected
    for name, count in (corrected or {}).items():
        counts[_COUNTED_IN[name.partition(" ")[0]]] -= count
    counts["corrected"] = sum((corrected or {}).values())
    counts["left"] = sum(batch.left.values())
    return {name: count for name, count in counts.items() if count}


def _corrected(app: Services, family: Family, batch: Batch) -> Counter[str]:
    """Return how many rows of a batch corrected files took over, in the form for `figures`."""
    if not family.corrections:
        return Counter()
    found = app.letters.survey(Fit(batch_id=batch.batch_id), size=0).corrected_here
    noted = app.batches.noted_rows(batch.batch_id)
    rejected = [batch_job_id(batch.batch_id, number) for number in noted]
    found[State.REJECTED] = sum(map(bool, app.letters.all_corrected_by(rejected).values()))
    return found
