"""A new batch, one step on each page: the file, its check (check.py), the terms, the confirmation.

A check's address shows its current step, so a person who closed the browser continues there.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from starlette.datastructures import FormData, UploadFile

from jobs.batch import BatchState
from jobs.job import iso
from jobs.masking import without_numbers
from producer import bounds
from producer.checks import Check, Checks, TooManyChecksError, check_of_batch
from producer.importing import Terms
from producer.overview import read_overview
from producer.sheet.row import shown
from producer.web.console.frame import (
    Operator,
    RedirectTo,
    Visitor,
    is_fragment,
    redirect,
    render,
    texts_of,
)
from producer.web.console.kept_check import (
    OpenCheck,
    OwnCheck,
    change,
    found_of,
    progress_page,
    wait_for,
)
from producer.web.problems import ask
from producer.web.services import services

router = APIRouter(prefix="/batches/new", include_in_schema=False)

_LONGEST_NAME = 200


@router.get("")
async def choose(request: Request, visitor: Operator) -> Response:
    """Show the form for a file, and the person's unfinished checks."""
    return await _choose_page(request, visitor)


@router.post("")
async def upload(request: Request, visitor: Operator) -> Response:
    """Receive a file to check."""
    uploads = services(request).uploads

    def keep(form: FormData) -> Check | None:
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            return None
        return services(request).checks.add(visitor.name, shown(file.filename), file.file)

    try:
        check = await uploads.take(request, keep)
    except TooManyChecksError:
        return await _choose_page(request, visitor, error="too_many", status=503)
    if check is None:
        return await _choose_page(request, visitor, error="no_file", status=422)
    await ask(request, services(request).checker.process, check)
    return redirect(request, f"/batches/new/{check.check_id}")


async def _choose_page(
    request: Request, visitor: Visitor, *, error: str | None = None, status: int = 200
) -> Response:
    checks = await ask(request, services(request).checks.all)
    own = [check for check in checks if check.owner == visitor.name and not check.submitted]
    return render(request, "new_batch.html", status=status, checks=own, error=error)


@router.post("/{check_id}/forget")
async def forget(request: Request, check: OpenCheck) -> Response:
    """Delete the file and its check."""
    if not await ask(request, services(request).checks.forget, check.check_id):
        return redirect(request, f"/batches/new/{check.check_id}")
    return redirect(
        request, "/batches/new", "new_batch.forgotten", name=without_numbers(check.file_name)
    )


@router.get("/{check_id}/terms")
async def ask_terms(request: Request, check: OpenCheck) -> Response:
    """Ask for the terms on which to send the file."""
    return await _terms_page(request, check, None, {})


@router.post("/{check_id}/terms")
async def set_terms(request: Request, check: OpenCheck) -> Response:
    """Save the terms, if they are valid."""
    form = {name: str(value) for name, value in (await request.form()).items()}
    now_ms = await ask(request, services(request).letters.now_ms)
    terms, wrong = _read_terms(form, now_ms)
    if wrong:
        return await _terms_page(request, check, form, wrong)
    choices = replace(check.choices, skip_sent="skip_sent" in form)
    read_again = bool(choices.skip_sent) != bool(check.choices.skip_sent)
    await change(request, check, read_again=read_again, wishes=terms, choices=choices)
    return redirect(request, f"/batches/new/{check.check_id}/confirm")


async def _terms_page(
    request: Request, check: Check, form: Mapping[str, str] | None, wrong: Mapping[str, str]
) -> Response:
    """Show the form of the terms, filled as submitted, or (None) from the check."""
    found = await found_of(request, check)
    if found is None or found["error"] or check.confirmed:
        return redirect(request, f"/batches/new/{check.check_id}")
    if found["continues"]:  # that batch has its terms
        return redirect(request, f"/batches/new/{check.check_id}/confirm")
    return render(
        request,
        "check_terms.html",
        status=422 if wrong else 200,
        check=check,
        found=found,
        form=_as_form(check, _proposed_name(request, check, found), _second_codes(found["report"]))
        if form is None
        else form,
        wrong=wrong,
        rate=services(request).settings.sendcode_rate_limit,
    )


@router.get("/{check_id}/confirm")
async def ask_to_confirm(request: Request, check: OpenCheck) -> Response:
    """Show in words and numbers what will be done, before it is confirmed."""
    return await _confirm_page(request, check)


@router.post("/{check_id}/confirm")
async def confirm(
    request: Request,
    check: OpenCheck,
    version: Annotated[str, Form()] = "",
    typed: Annotated[str, Form()] = "",
) -> Response:
    """Send what was shown, once, however often this form is submitted."""
    found = await found_of(request, check)
    if not check.confirmed:
        if found is None or found["error"]:
            return redirect(request, f"/batches/new/{check.check_id}")
        codes: int = found["report"]["valid"]
        if version != check.version or not codes:
            return await _confirm_page(request, check, is_stale=True)
        must_type = codes > services(request).settings.sendcode_confirm_above
        if must_type and "".join(filter(str.isalnum, typed)) != str(codes):
            return await _confirm_page(request, check, is_wrong=True)
    with suppress(FileNotFoundError):
        is_done = await ask(request, services(request).checks.confirm, check.check_id, version)
        now = await ask(request, services(request).checks.get, check.check_id)
        if now is not None and not is_done:
            return await _confirm_page(request, now, is_stale=True)
        if now is not None:
            await ask(request, services(request).checker.process, now)
    await wait_for(lambda: _has_ended(services(request).checks, check.check_id))
    return redirect(request, f"/batches/new/{check.check_id}")


async def _confirm_page(
    request: Request, check: Check, *, is_wrong: bool = False, is_stale: bool = False
) -> Response:
    found = await found_of(request, check)
    if check.confirmed or (found is not None and found["error"]):
        raise RedirectTo(f"/batches/new/{check.check_id}")
    if found is None:
        return await progress_page(request, check)
    if is_fragment(request):
        raise RedirectTo(request.url.path)
    settings, client = services(request).settings, services(request).client
    overview = await ask(request, read_overview, client, settings)
    codes, terms = found["report"]["valid"], check.wishes
    from_ms = max(terms.starts_ms or 0, overview.at_ms + round(settings.sendcode_undo * 1000))
    return render(
        request,
        "check_confirm.html",
        status=422 if is_wrong else 409 if is_stale else 200,
        check=check,
        found=found,
        held_by=found["held_by"] if not terms.again else None,
        codes=codes,
        second_codes=_second_codes(found["report"]),
        done_ms=from_ms + round(1000 * overview.seconds_for(codes, terms.max_rate)),
        overview=overview,
        undo_s=round(settings.sendcode_undo),
        must_type=codes > settings.sendcode_confirm_above,
        is_wrong=is_wrong,
        is_stale=is_stale,
    )


@router.post("/{check_id}/undo")
async def undo(request: Request, visitor: Operator, check: OwnCheck) -> Response:
    """Undo what was confirmed, while it becomes a batch."""
    return await undo_batch(request, visitor, check.batch_id)


async def undo_batch(request: Request, visitor: Visitor, batch_id: str) -> Response:
    """Undo a batch, or its submission, and redirect to its check if that is kept.

    Either none of its codes leaves, or it is too late and nothing is changed.
    """
    checks = services(request).checks
    check_id = check_of_batch(batch_id)
    batches = services(request).batches

    def steer() -> bool | None:
        """Return whether nothing of the batch will be sent; None if there is no such batch."""
        states = batches.steer(batch_id, "undo", visitor.name)
        return states and states[1] is BatchState.CANCELLED

    def undo_both() -> tuple[bool, bool]:
        """Return whether nothing will be sent, and whether the person's check is kept."""
        try:
            with checks.change(check_id) as change:
                is_undone = steer() is not False
                if is_undone and change.check.confirmed and change.check.batch_id == batch_id:
                    number = change.check.undone + 1
                    change.read_again(confirmed=False, submitted=False, undone=number)
                return is_undone, change.check.owner == visitor.name
        except FileNotFoundError:
            return bool(steer()), False

    is_undone, is_kept = await ask(request, undo_both)
    if is_undone and is_kept:
        return redirect(request, f"/batches/new/{check_id}", "batch.undone_kept")
    return redirect(
        request, f"/batches/{batch_id}", "batch.undone" if is_undone else "batch.too_late"
    )


def _has_ended(checks: Checks, check_id: str) -> bool:
    """Return whether a confirmed check became a batch, or failed to."""
    check = checks.get(check_id)
    return check is None or check.submitted or not check.confirmed


def _second_codes(report: Mapping[str, Any]) -> int:
    """Return how many codes would go to customers who already got or await one."""
    return int(report["sent_before"]["count"] + report["waiting_elsewhere"]["count"])


def _proposed_name(request: Request, check: Check, found: Mapping[str, Any]) -> str:
    """Return the default name of a batch: after the batch that it corrects, or its file."""
    corrected = found["corrects"]
    if not corrected or not corrected["name"]:
        return check.file_name
    name = texts_of(request)("terms.correction_of", name=corrected["name"]).unescape()
    return shown(name, _LONGEST_NAME)


def _as_form(check: Check, proposed_name: str, second_codes: int) -> dict[str, str]:
    """Return a check's terms as its form has them; times on the server's wall clock, and in UTC.

    Until a person decides, second codes are left out: sending them is the exception.
    """
    terms = check.wishes
    form = {"name": terms.name or proposed_name}
    if terms.max_rate:
        form["max_rate"] = f"{terms.max_rate:g}"
    for name, at_ms in (("starts_at", terms.starts_ms), ("expires_at", terms.expires_ms)):
        if at_ms:
            local = datetime.fromtimestamp(at_ms / 1000).astimezone()
            form[name] = f"{local:%Y-%m-%dT%H:%M}"
            form[f"{name}_utc"] = iso(at_ms)
    skip_sent = check.choices.skip_sent
    if skip_sent or (skip_sent is None and second_codes):
        form["skip_sent"] = "1"
    if terms.again:
        form["again"] = "1"
    return form


def _read_terms(form: Mapping[str, str], now_ms: int) -> tuple[Terms, dict[str, str]]:
    """Return the terms in a form and, by field, the name of the text that says what is wrong."""
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
    return Terms(name, max_rate, expires_ms, "again" in form, starts_ms), wrong
