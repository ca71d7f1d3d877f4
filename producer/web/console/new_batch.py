"""A new batch, one step on each page: the file, what is wrong with it, the terms, the confirmation.

An address that names a check shows it as far as it is; a browser that was closed goes on there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import FormData, UploadFile

from config.settings import Settings
from jobs.batch import BatchState
from jobs.batches import Batches
from jobs.job import iso
from jobs.scripts import time_ms
from producer import bounds
from producer.checking import Checker
from producer.checks import (
    LONGEST_CELL,
    MOST_CORRECTIONS,
    Check,
    Checks,
    NotOfferedError,
    TooManyChecksError,
    Wishes,
    check_of_batch,
)
from producer.invalid_rows import invalid_cells
from producer.overview import Outlook, read_overview
from producer.second_codes import Memory, rows_to_send
from producer.sheet.row import shown
from producer.sheet.writing import separator_for, streamed_sheet
from producer.stories import without_numbers
from producer.web.batches import Form, sheet_answer
from producer.web.console.frame import Operator, Page, Visitor, is_fragment, redirect, render
from producer.web.problems import Problem, ask
from producer.web.uploads import Uploads

T = TypeVar("T")

router = APIRouter(prefix="/batches/new")

WRONG_SHOWN = 50
"""Rows with cells to be corrected on one page."""
_SOON_S = 0.8
"""A small file is read before its page is shown."""
_PAUSE_S = 0.02
_LONGEST_NAME = 200
_CELL = re.compile(r"cell-([0-9]{1,18})-([0-9]{1,18})")
"""The name of a cell's field: its line, and its column."""
_COUNTRY_FAULTS = frozenset(
    {"country_not_a_code", "country_code_length", "barred_country_code", "no_such_country_code"}
)


@router.get("")
async def choose(request: Request, visitor: Operator) -> Response:
    """Show where a file goes, and the person's checks that wait for them."""
    return await _choose_page(request, visitor)


@router.post("")
async def upload(request: Request, visitor: Operator) -> Response:
    """Take a file."""
    uploads: Uploads = request.app.state.uploads

    def keep(form: FormData) -> Check | None:
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            return None
        return _checks(request).add(visitor.name, shown(file.filename), file.file)

    try:
        check = await uploads.take(request, keep)
    except TooManyChecksError:
        return await _choose_page(request, visitor, error="too_many", status=503)
    if check is None:
        return await _choose_page(request, visitor, error="no_file", status=422)
    await ask(request, _checker(request).tend, check)
    return redirect(request, f"/batches/new/{check.check_id}")


async def _choose_page(
    request: Request, visitor: Visitor, *, error: str | None = None, status: int = 200
) -> Response:
    checks = await ask(request, _checks(request).all)
    own = [check for check in checks if check.owner == visitor.name and not check.submitted]
    return render(request, "new_batch.html", status=status, checks=own, error=error)


@router.get("/{check_id}")
async def look(check_id: str, request: Request, visitor: Operator, page: Page = 1) -> Response:
    """Show what a file holds, once it was read; while it becomes a batch, how far that is."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    found = await _found(request, check)
    if found is None or check.confirmed:
        return await _progress(request, check)
    if is_fragment(request):  # the page waited for this
        return _go(request, request.url.path)
    if found["error"]:
        return render(request, "check_unreadable.html", check=check, error=found["error"])
    pages = max(1, -(-len(found["wrong"]) // WRONG_SHOWN))
    page = min(max(1, page), pages)
    rows = found["wrong"][(page - 1) * WRONG_SHOWN : page * WRONG_SHOWN]
    return render(
        request,
        "check.html",
        check=check,
        found=found,
        report=found["report"],
        wrong=[{**row, "at": _cell_at_fault(row, found)} for row in rows],
        page=page,
        pages=pages,
        editable=[i for i in (found["country"], found["number"]) if i is not None],
    )


@router.get("/{check_id}/invalid")
async def take_invalid(
    check_id: str, request: Request, visitor: Operator, form: Form = "xlsx"
) -> Response:
    """Send the rows that cannot be sent, each with its reason, to be corrected in a spreadsheet."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    found = await _found(request, check)
    if found is None or found["error"]:
        return redirect(request, f"/batches/new/{check_id}")
    columns = tuple(found["invalid_columns"])
    client, settings, checks = request.app.state.client, _settings(request), _checks(request)
    looked_at = iso(await ask(request, lambda: time_ms(client.time())))

    def rows() -> Iterator[tuple[list[str], list[str]]]:
        after = 0 if check.choices.skip_sent else None
        memory = Memory(client, settings, check.batch_id)
        with checks.open_sheet(check) as sheet:
            for row, _ in rows_to_send(sheet, memory, skip_sent_after=after):
                if row.problem is not None:
                    yield row.cells, invalid_cells(row, check.batch_id, looked_at, columns)

    separator = separator_for(found["delimiter"])
    sheet = streamed_sheet(found["header"], columns, rows(), separator, form)
    return sheet_answer(sheet, f"{check_id}-invalid", form)


@router.post("/{check_id}/cells")
async def correct(check_id: str, request: Request, visitor: Operator) -> Response:
    """Put what a person typed in the place of cells, and read the file again."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    form = await request.form()
    cells: dict[int, dict[int, str]] = {}
    for name, text in form.items():
        cell = _CELL.fullmatch(name)
        if cell and isinstance(text, str) and text != form.get(f"was-{cell[1]}-{cell[2]}"):
            cells.setdefault(int(cell[1]), {})[int(cell[2])] = text[:LONGEST_CELL]
    wanted = None if form.get("forget") else cells
    is_done = False
    try:
        with suppress(FileNotFoundError):
            correct_it = _checks(request).correct
            is_done = await ask(request, correct_it, check_id, str(form.get("seen")), wanted)
    except NotOfferedError:
        detail = f"only the cells shown can be corrected here, of at most {MOST_CORRECTIONS:,} rows"
        raise Problem(422, "not_offered", detail) from None
    return redirect(request, f"/batches/new/{check_id}", None if is_done else "check.changed")


@router.post("/{check_id}/choices")
async def choose_otherwise(check_id: str, request: Request, visitor: Operator) -> Response:
    """Read the file with other columns, another sheet or another encoding."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    form = await request.form()
    given: dict[str, Any] = {
        name: str(form[name]).strip() or None
        for name in ("phone_column", "country_column", "sheet", "encoding")
        if name in form
    }
    # of another sheet, other cells were corrected
    kept = check.corrections if "sheet" not in given else {}
    choices = replace(check.choices, **given)
    return await _changed(request, check, choices=choices, corrections=kept)


@router.post("/{check_id}/forget")
async def forget(check_id: str, request: Request, visitor: Operator) -> Response:
    """Forget the file."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    if not await ask(request, _checks(request).forget, check_id):
        return redirect(request, f"/batches/new/{check_id}")
    return redirect(
        request, "/batches/new", "new_batch.forgotten", name=without_numbers(check.file_name)
    )


@router.get("/{check_id}/terms")
async def ask_terms(check_id: str, request: Request, visitor: Operator) -> Response:
    """Ask under which terms the file is to be sent."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    return await _terms_page(request, check, _as_form(check), {})


@router.post("/{check_id}/terms")
async def set_terms(check_id: str, request: Request, visitor: Operator) -> Response:
    """Keep the terms, if they make sense."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    form = {name: str(value) for name, value in (await request.form()).items()}
    now_ms = await ask(request, lambda: time_ms(request.app.state.client.time()))
    wishes, wrong = _wishes(form, now_ms)
    if wrong:
        return await _terms_page(request, check, form, wrong)
    choices = replace(check.choices, skip_sent="skip_sent" in form)
    if choices != check.choices:
        await _changed(request, check, wishes=wishes, choices=choices)
    else:
        await _kept(request, check, wishes=wishes)
    return redirect(request, f"/batches/new/{check_id}/confirm")


async def _terms_page(
    request: Request, check: Check, form: Mapping[str, str], wrong: Mapping[str, str]
) -> Response:
    found = await _found(request, check)
    if found is None or found["error"] or check.confirmed:
        return redirect(request, f"/batches/new/{check.check_id}")
    if found["continues"]:  # it has terms
        return redirect(request, f"/batches/new/{check.check_id}/confirm")
    return render(
        request,
        "check_terms.html",
        status=422 if wrong else 200,
        check=check,
        found=found,
        report=found["report"],
        form=form,
        wrong=wrong,
        rate=_settings(request).sendcode_rate_limit,
        zone=datetime.now().astimezone().strftime("%Z"),
    )


@router.get("/{check_id}/confirm")
async def ask_to_confirm(check_id: str, request: Request, visitor: Operator) -> Response:
    """Show what would be done, in words and numbers, before it is done."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    return await _confirm_page(request, check)


@router.post("/{check_id}/confirm")
async def confirm(check_id: str, request: Request, visitor: Operator) -> Response:
    """Send what was shown; however often this form is sent, once."""
    check = await _check(request, visitor, check_id)
    if isinstance(check, Response):
        return check
    found = await _found(request, check)
    form = await request.form()
    if not check.confirmed:
        if found is None or found["error"]:
            return redirect(request, f"/batches/new/{check_id}")
        codes: int = found["report"]["valid"]
        if form.get("seen") != check.seen or not codes:
            return await _confirm_page(request, check, is_stale=True)
        if codes > _settings(request).sendcode_confirm_above:
            typed = "".join(c for c in str(form.get("typed", "")) if c.isalnum())
            if typed != str(codes):
                return await _confirm_page(request, check, is_wrong=True)
    with suppress(FileNotFoundError):
        seen = str(form.get("seen"))
        is_done = await ask(request, _checks(request).confirm, check_id, seen)
        now = await ask(request, _checks(request).get, check_id)
        if now is not None and not is_done:
            return await _confirm_page(request, now, is_stale=True)
        if now is not None:
            await ask(request, _checker(request).tend, now)
    await _wait_for(lambda: _has_ended(_checks(request), check_id))
    return redirect(request, f"/batches/new/{check_id}")


async def _confirm_page(
    request: Request, check: Check, *, is_wrong: bool = False, is_stale: bool = False
) -> Response:
    found = await _found(request, check)
    if check.confirmed or (found is not None and found["error"]):
        return _go(request, f"/batches/new/{check.check_id}")
    if found is None:
        return await _progress(request, check)
    if is_fragment(request):
        return _go(request, request.url.path)
    settings, client = _settings(request), request.app.state.client
    overview = await ask(request, read_overview, client, settings)
    outlook = Outlook.of(overview)
    codes, wishes = found["report"]["valid"], check.wishes
    from_ms = max(wishes.starts_ms or 0, overview.at_ms + round(settings.sendcode_undo * 1000))
    return render(
        request,
        "check_confirm.html",
        status=422 if is_wrong else 409 if is_stale else 200,
        check=check,
        report=found["report"],
        held_by=found["held_by"] if not wishes.again else None,
        codes=codes,
        done_ms=from_ms + round(1000 * outlook.seconds_for(codes, wishes.max_rate)),
        outlook=outlook,
        undo_s=round(settings.sendcode_undo),
        must_type=codes > settings.sendcode_confirm_above,
        is_wrong=is_wrong,
        is_stale=is_stale,
        continues=found["continues"],
    )


@router.post("/{check_id}/undo")
async def undo(check_id: str, request: Request, visitor: Operator) -> Response:
    """Take back what was confirmed, while it becomes a batch."""
    check = await _check(request, visitor, check_id, or_batch=False)
    if isinstance(check, Response):
        return check
    return await undo_batch(request, visitor, check.batch_id)


async def undo_batch(request: Request, visitor: Visitor, batch_id: str) -> Response:
    """Undo a batch, or what would make it, and lead back to its check where that is kept.

    Exact: either none of its codes leaves, or it is too late, and nothing was changed.
    """
    checks = _checks(request)
    check_id = check_of_batch(batch_id)
    batches = Batches(request.app.state.client, _settings(request))

    def steer() -> bool | None:
        """Return whether nothing of the batch is sent; None if there is no such batch."""
        states = batches.steer(batch_id, "undo", visitor.name)
        return states and states[1] is BatchState.CANCELLED

    def take_back() -> tuple[bool, bool]:
        """Return whether nothing is sent, and whether the person's check is there."""
        try:
            with checks.change(check_id) as change:
                is_undone = steer() is not False
                if is_undone and change.check.confirmed and change.check.batch_id == batch_id:
                    number = change.check.undone + 1
                    change.read_again(confirmed=False, submitted=False, undone=number)
                return is_undone, change.check.owner == visitor.name
        except FileNotFoundError:
            return bool(steer()), False

    is_undone, is_kept = await ask(request, take_back)
    if is_undone and is_kept:
        return redirect(request, f"/batches/new/{check_id}", "batch.undone_kept")
    return redirect(
        request, f"/batches/{batch_id}", "batch.undone" if is_undone else "batch.too_late"
    )


async def _check(
    request: Request, visitor: Visitor, check_id: str, *, or_batch: bool = True
) -> Check | Response:
    """Return the person's check; where it has become a batch, the way to that.

    Raises:
        Problem: 404, it is no longer kept, or somebody else's.
    """
    check = await ask(request, _checks(request).get, check_id)
    if check is not None and check.owner == visitor.name:
        if or_batch and check.confirmed and check.submitted:
            return _go(request, f"/batches/{check.batch_id}")
        return check
    if check is None:
        batches = await ask(request, Batches(request.app.state.client, _settings(request)).list)
        made = [each for each in batches if check_of_batch(each.batch_id) == check_id]
        if made:  # the newest one, as those before were undone
            return _go(request, f"/batches/{made[0].batch_id}")
    raise Problem(404, "not_found", "this file is no longer kept: choose it again")


async def _found(request: Request, check: Check) -> dict[str, Any] | None:
    """Return what was found; give a small file a moment to be read."""
    checks = _checks(request)
    found = await ask(request, checks.found, check)
    if found is None and not check.confirmed:
        await ask(request, _checker(request).tend, check)
        if not is_fragment(request):
            found = await _wait_for(lambda: checks.found(check))
    return found


async def _kept(request: Request, check: Check, **changes: Any) -> None:
    """Keep a decision, unless the file was confirmed, or is read otherwise, since."""

    def keep() -> None:
        with suppress(FileNotFoundError), _checks(request).change(check.check_id) as change:
            if change.check.revision == check.revision and not change.check.confirmed:
                change.set(**changes)

    await ask(request, keep)
    now = await ask(request, _checks(request).get, check.check_id)
    if now is not None:
        await ask(request, _checker(request).tend, now)


async def _changed(request: Request, check: Check, **changes: Any) -> Response:
    """Keep what decides how the file is read, and have it read again."""

    def change_it() -> None:
        with suppress(FileNotFoundError), _checks(request).change(check.check_id) as change:
            if not change.check.confirmed:
                change.read_again(refused="", **changes)

    await ask(request, change_it)
    return redirect(request, f"/batches/new/{check.check_id}")


async def _progress(request: Request, check: Check) -> Response:
    await ask(request, _checker(request).tend, check)
    rows, share, what = await ask(request, _checks(request).progress, check.check_id)
    return render(
        request,
        "check_progress.html",
        live="live",
        check=check,
        rows=rows,
        percent=round(100 * share),
        what=what,
        undo_s=round(_settings(request).sendcode_undo),
    )


async def _wait_for(question: Callable[[], T]) -> T:
    """Return the answer once it is true, or after a moment."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _SOON_S
    while not (answer := await asyncio.to_thread(question)) and loop.time() < until:
        await asyncio.sleep(_PAUSE_S)
    return answer


def _has_ended(checks: Checks, check_id: str) -> bool:
    """Return whether a confirmed check became a batch, or could not."""
    check = checks.get(check_id)
    return check is None or check.submitted or not check.confirmed


def _cell_at_fault(row: Mapping[str, Any], found: Mapping[str, Any]) -> int:
    """Return the column of the cell that is wrong, as far as the fault's name tells."""
    if row["code"] in _COUNTRY_FAULTS and found["country"] is not None:
        return int(found["country"])
    return int(found["number"])


def _as_form(check: Check) -> dict[str, str]:
    """Return a check's terms as its form has them; times on the server's wall clock."""
    wishes = check.wishes
    form = {"name": wishes.name or check.file_name}
    if wishes.max_rate:
        form["max_rate"] = f"{wishes.max_rate:g}"
    for name, at_ms in (("starts_at", wishes.starts_ms), ("expires_at", wishes.expires_ms)):
        if at_ms:
            local = datetime.fromtimestamp(at_ms / 1000).astimezone()
            form[name] = f"{local:%Y-%m-%dT%H:%M}"
    if check.choices.skip_sent:
        form["skip_sent"] = "1"
    if wishes.again:
        form["again"] = "1"
    return form


def _wishes(form: Mapping[str, str], now_ms: int) -> tuple[Wishes, dict[str, str]]:
    """Read the terms; return what is wrong with which field, as the name of a text."""
    wrong: dict[str, str] = {}
    max_rate = None
    if text := form.get("max_rate", "").strip():
        try:
            max_rate = bounds.rate(float(text.replace(",", ".")))
        except ValueError:
            wrong["max_rate"] = "wrong_rate"
    times: dict[str, int | None] = {"starts_at": None, "expires_at": None}
    for name in times:
        if text := form.get(name, "").strip():
            try:
                times[name] = bounds.start_at_ms(datetime.fromisoformat(text), now_ms)
            except ValueError:
                wrong[name] = "wrong_time"
    starts_ms, expires_ms = times["starts_at"], times["expires_at"]
    if starts_ms and expires_ms and expires_ms <= starts_ms:
        wrong["expires_at"] = "ends_before_start"
    name = shown(form.get("name", ""), _LONGEST_NAME)
    return Wishes(name, max_rate, starts_ms, expires_ms, "again" in form), wrong


def _go(request: Request, url: str) -> Response:
    """Lead a page, or a part of one that htmx asked for, to another page."""
    if is_fragment(request):
        return Response(None, 204, {"HX-Redirect": url})
    return redirect(request, url)


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _checks(request: Request) -> Checks:
    checks: Checks = request.app.state.checks
    return checks


def _checker(request: Request) -> Checker:
    checker: Checker = request.app.state.checker
    return checker
