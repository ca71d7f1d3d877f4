"""The check of a file: its wrong or doubtful rows, to correct, leave out or download."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import FormData

from jobs.actions import Action, note
from jobs.job import State, iso
from producer.checks import LONGEST_CELL, Check
from producer.invalid_rows import DOUBTFUL, doubtful_rows, invalid_cells
from producer.row_decisions import MOST_DECIDED, NotOfferedError, RowDecisions, country_code_of
from producer.second_codes import Memory, rows_to_send
from producer.sheet import Row, Sheet
from producer.sheet.leaving import NOTHING
from producer.sheet.writing import separator_for, streamed_sheet
from producer.web.batches import SheetForm, sheet_answer
from producer.web.console.frame import (
    Page,
    RedirectTo,
    is_fragment,
    redirect,
    render,
    texts_of,
)
from producer.web.console.kept_check import (
    OpenCheck,
    change,
    found_of,
    progress_page,
)
from producer.web.console.results_file import name_of_file
from producer.web.problems import Problem, ask
from producer.web.services import services

router = APIRouter(prefix="/batches/new", include_in_schema=False)

ROWS_SHOWN = 50
"""Rows for review on one page."""
_CELL = re.compile(r"cell-([0-9]{1,18})-([0-9]{1,18})")
"""The name of a cell's field: its line, and its column."""
_PLACE = re.compile(r"[0-9]{1,6}")
_LINE = re.compile(r"[0-9]{1,18}")
_COUNTRY_FAULTS = frozenset(
    {"country_not_a_code", "country_code_length", "barred_country_code", "no_such_country_code"}
)


@router.get("/{check_id}")
async def show(request: Request, check: OpenCheck, page: Page = 1, line: Page = 0) -> Response:
    """Show what was found in a file; while it is read or becomes a batch, the progress.

    `line`: of a row whose page to show, whichever that is by now.
    """
    found = await found_of(request, check)
    if found is None or check.confirmed:
        return await progress_page(request, check)
    if is_fragment(request):  # from the progress page, which waited for this
        raise RedirectTo(f"{request.url.path}?line={line}" if line else request.url.path)
    if found["error"]:
        return render(request, "check_unreadable.html", check=check, error=found["error"])
    pages = max(1, -(-len(found["review"]) // ROWS_SHOWN))
    if line:
        order = [row["line"] for row in found["review"]]
        page = order.index(line) // ROWS_SHOWN + 1 if line in order else 1
    page = min(max(1, page), pages)
    rows = found["review"][(page - 1) * ROWS_SHOWN : page * ROWS_SHOWN]
    report = found["report"]
    kinds = report["invalid_by_reason"]
    left_out = next((kind for kind in kinds if kind["code"] == "left_out"), None)
    return render(
        request,
        "check.html",
        check=check,
        found=found,
        report=report,
        left_out=left_out,
        cannot=report["invalid"] - (left_out["count"] if left_out else 0),
        problems=[kind for kind in kinds if kind is not left_out],
        groups=[
            (found["groups"][place], _cell_at_fault(found["groups"][place], found), list(members))
            for place, members in groupby(rows, key=itemgetter("group"))
        ],
        page=page,
        pages=pages,
        line=line,
        editable=[i for i in (found["country"], found["number"]) if i is not None],
    )


def _cell_at_fault(group: Mapping[str, Any], found: Mapping[str, Any]) -> int | None:
    """Return the column of the wrong cell, as far as the fault's code says."""
    if group["kind"] != "wrong":
        return None
    if group["code"] in _COUNTRY_FAULTS and found["country"] is not None:
        return int(found["country"])
    return int(found["number"])


@router.get("/{check_id}/invalid")
async def send_invalid(request: Request, check: OpenCheck, form: SheetForm = "xlsx") -> Response:
    """Send the rows that cannot be sent, each with its reason, for correction in a spreadsheet."""
    app = services(request)

    def invalid_rows(sheet: Sheet) -> Iterator[Row]:
        after = 0 if check.choices.skip_sent else None
        memory = Memory(app.client, app.settings, check.batch_id)
        rows = rows_to_send(sheet, memory, skip_sent_after=after)
        return (row for row, _ in rows if row.problem and row.problem.code != "left_out")

    return await _send_rows(request, check, "invalid", form, invalid_rows)


@router.get("/{check_id}/doubtful")
async def send_doubtful(request: Request, check: OpenCheck, form: SheetForm = "xlsx") -> Response:
    """Send the doubtful rows, which will get codes all the same, each with its reason."""
    return await _send_rows(request, check, "doubtful", form, doubtful_rows)


async def _send_rows(
    request: Request,
    check: Check,
    which: str,
    form: SheetForm,
    choose_rows: Callable[[Sheet], Iterator[Row]],
) -> Response:
    """Send the rows that `choose_rows` yields, each of which has a problem."""
    found = await found_of(request, check)
    if found is None or found["error"]:
        raise RedirectTo(f"/batches/new/{check.check_id}")
    columns = tuple(found["invalid_columns"])
    app = services(request)
    checked_at = iso(await ask(request, app.letters.now_ms))
    texts = texts_of(request)
    status = DOUBTFUL if which == "doubtful" else State.REJECTED
    place = texts(f"check.its_{found['unit']}").unescape()

    def rows() -> Iterator[tuple[list[str], list[str]]]:
        with app.checks.open_sheet(check) as sheet:
            for row in choose_rows(sheet):
                cells = invalid_cells(row, check.batch_id, checked_at, columns, status)
                if which == "doubtful":
                    cells[-1] = texts("check.will_be_sent", why=cells[-1]).unescape()
                yield row.cells, [str(row.line), *cells]

    separator = separator_for(found["delimiter"])
    name = name_of_file(check.terms().name, check.check_id, which)
    ours = (place, *columns)
    action = Action(what="check download", about=name, by=check.owner)
    await ask(request, note, app.client, app.settings, action)
    sheet = streamed_sheet(found["header"], ours, rows(), separator, form, title=name)
    return sheet_answer(sheet, name, form)


@router.post("/{check_id}/cells")
async def decide(request: Request, check: OpenCheck) -> Response:
    """Save the cells typed and the rows ticked, and read the file again."""
    form = await request.form()
    next_url = await _next_url(request, check, str(form.get("page", "")))
    typed = str(form.get("country_code", "")).strip()
    country_code = country_code_of(typed) if typed else ""
    is_done = False
    try:
        with suppress(FileNotFoundError):
            act = services(request).checks.decide
            decisions = replace(_decisions(form), country_code=country_code or "")
            is_done = await ask(request, act, check.check_id, str(form.get("version")), decisions)
    except NotOfferedError:
        detail = (
            f"only what is shown can be corrected or left out here, at most {MOST_DECIDED:,} rows"
        )
        raise Problem(422, "not_offered", detail) from None
    if is_done and country_code is None:
        return redirect(request, next_url, "check.no_such_country_code")
    return redirect(request, next_url, None if is_done else "check.changed")


async def _next_url(request: Request, check: Check, page: str) -> str:
    """Return the URL that shows the row now first on a page, on whichever page it will be."""
    path = f"/batches/new/{check.check_id}"
    found = await ask(request, services(request).checks.found, check)
    if found is None or found["error"] or not _PLACE.fullmatch(page):
        return path
    rows = found["review"][(int(page) - 1) * ROWS_SHOWN :] if int(page) else []
    return f"{path}?line={rows[0]['line']}" if rows else path


def _decisions(form: FormData) -> RowDecisions:
    cells: dict[int, dict[int, str]] = {}
    for name, text in form.items():
        cell = _CELL.fullmatch(name)
        if cell and isinstance(text, str) and text != form.get(f"was-{cell[1]}-{cell[2]}"):
            cells.setdefault(int(cell[1]), {})[int(cell[2])] = text[:LONGEST_CELL]
    ticked, shown, were = (_lines(form, name) for name in ("out", "shown", "was-out"))
    return RowDecisions(
        None if form.get("forget") else cells,
        leave=ticked - were,
        take_in=(shown & were) - ticked,
        leave_doubts=frozenset(str(text) for text in form.getlist("leave")),
        leave_repeated="leave_repeated" in form,
        take_all_in="take_in" in form,
    )


def _lines(form: FormData, name: str) -> frozenset[int]:
    given = (str(text) for text in form.getlist(name))
    return frozenset(int(text) for text in given if _LINE.fullmatch(text))


@router.post("/{check_id}/choices")
async def change_choices(request: Request, check: OpenCheck) -> Response:
    """Read the file with other columns, another sheet or another encoding."""
    form = await request.form()
    given: dict[str, Any] = {
        name: str(form[name]).strip() or None
        for name in ("phone_column", "country_column", "sheet", "encoding")
        if name in form
    }
    changes: dict[str, Any] = {"choices": replace(check.choices, **given)}
    if "sheet" in given:  # corrections and left-out rows are those of one sheet
        changes |= {"corrections": {}, "leaving": NOTHING}
    await change(request, check, read_again=True, **changes)
    return redirect(request, f"/batches/new/{check.check_id}")
