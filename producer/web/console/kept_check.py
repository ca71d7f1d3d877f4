"""What the pages of an uploaded file share: the person's check, its findings and progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.responses import Response

from producer.checks import Check, check_of_batch
from producer.web.console.frame import Operator, RedirectTo, is_fragment, render
from producer.web.problems import Problem, ask
from producer.web.services import services

T = TypeVar("T")

SOON_S = 0.8
"""Time in which a small file is read, before its page is shown."""
_PAUSE_S = 0.02


async def _own_check(request: Request, visitor: Operator, check_id: str) -> Check:
    """Return the person's check.

    Raises:
        RedirectTo: it is gone, as it has become a batch.
        Problem: 404, it is no longer kept, or belongs to somebody else.
    """
    check = await ask(request, services(request).checks.get, check_id)
    if check is not None and check.owner == visitor.name:
        return check
    if check is None:
        for batch in await ask(request, services(request).batches.list):
            if check_of_batch(batch.batch_id) == check_id:
                # the newest one: those before it were undone
                raise RedirectTo(f"/batches/{batch.batch_id}")
    raise Problem(404, "not_found", "this file is no longer kept: choose it again")


OwnCheck = Annotated[Check, Depends(_own_check)]


async def _open_check(check: OwnCheck) -> Check:
    """Return the person's check, or redirect to the batch that it has become."""
    if check.confirmed and check.submitted:
        raise RedirectTo(f"/batches/{check.batch_id}")
    return check


OpenCheck = Annotated[Check, Depends(_open_check)]


async def found_of(request: Request, check: Check) -> dict[str, Any] | None:
    """Return what was found in the file; wait a moment for a small one to be read."""
    checks = services(request).checks
    found = await ask(request, checks.found, check)
    if found is None and not check.confirmed:
        await ask(request, services(request).checker.process, check)
        if not is_fragment(request):
            found = await wait_for(lambda: checks.found(check))
    return found


async def change(request: Request, check: Check, *, read_again: bool, **changes: Any) -> None:
    """Save a person's decisions about a file, some of which change how it is read.

    Nothing changes if the file was confirmed since, or is now read in another way.
    """

    def change_it() -> None:
        with suppress(FileNotFoundError), services(request).checks.change(check.check_id) as change:
            if change.check.confirmed:
                return
            if read_again:
                change.read_again(refused="", **changes)
            elif change.check.revision == check.revision:
                change.set(**changes)

    await ask(request, change_it)


async def progress_page(request: Request, check: Check) -> Response:
    """Show the progress of the reading or the submission."""
    await ask(request, services(request).checker.process, check)
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


async def wait_for(function: Callable[[], T]) -> T:
    """Return the function's result as soon as it is true, or its last one after a moment."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SOON_S
    while not (result := await asyncio.to_thread(function)) and loop.time() < until:
        await asyncio.sleep(_PAUSE_S)
    return result
