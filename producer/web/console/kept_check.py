"""What the pages of an uploaded file share: the person's check, what was found, the way on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response

from producer.checks import Check, check_of_batch
from producer.web.console.frame import Visitor, is_fragment, redirect, render
from producer.web.problems import Problem, ask
from producer.web.services import services

T = TypeVar("T")

SOON_S = 0.8
"""A small file is read before its page is shown."""
_PAUSE_S = 0.02


async def own_check(
    request: Request, visitor: Visitor, check_id: str, *, or_batch: bool = True
) -> Check | Response:
    """Return the person's check; where it has become a batch, the way to that.

    Raises:
        Problem: 404, it is no longer kept, or somebody else's.
    """
    check = await ask(request, services(request).checks.get, check_id)
    if check is not None and check.owner == visitor.name:
        if or_batch and check.confirmed and check.submitted:
            return lead(request, f"/batches/{check.batch_id}")
        return check
    if check is None:
        batches = await ask(request, services(request).batches.list)
        made = [each for each in batches if check_of_batch(each.batch_id) == check_id]
        if made:  # the newest one, as those before were undone
            return lead(request, f"/batches/{made[0].batch_id}")
    raise Problem(404, "not_found", "this file is no longer kept: choose it again")


async def found_of(request: Request, check: Check) -> dict[str, Any] | None:
    """Return what was found; give a small file a moment to be read."""
    checks = services(request).checks
    found = await ask(request, checks.found, check)
    if found is None and not check.confirmed:
        await ask(request, services(request).checker.tend, check)
        if not is_fragment(request):
            found = await wait_for(lambda: checks.found(check))
    return found


async def changed(request: Request, check: Check, **changes: Any) -> Response:
    """Keep what decides how the file is read, and have it read again."""

    def change_it() -> None:
        with suppress(FileNotFoundError), services(request).checks.change(check.check_id) as change:
            if not change.check.confirmed:
                change.read_again(refused="", **changes)

    await ask(request, change_it)
    return redirect(request, f"/batches/new/{check.check_id}")


async def progress_page(request: Request, check: Check) -> Response:
    """Show how far the reading, or the submission, is."""
    await ask(request, services(request).checker.tend, check)
    rows, share, what = await ask(request, services(request).checks.progress, check.check_id)
    return render(
        request,
        "check_progress.html",
        live="live",
        query=request.url.query,
        check=check,
        rows=rows,
        percent=round(100 * share),
        what=what,
        undo_s=round(services(request).settings.sendcode_undo),
    )


async def wait_for(question: Callable[[], T]) -> T:
    """Return the answer once it is true, or after a moment."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SOON_S
    while not (answer := await asyncio.to_thread(question)) and loop.time() < until:
        await asyncio.sleep(_PAUSE_S)
    return answer


def lead(request: Request, url: str) -> Response:
    """Lead a page, or a part of one that htmx asked for, to another page."""
    if is_fragment(request):
        return Response(None, 204, {"HX-Redirect": url})
    return redirect(request, url)
