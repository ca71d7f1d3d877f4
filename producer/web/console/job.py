"""One customer's code: what became of it, in plain words, and what can be done about it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from markupsafe import Markup

from jobs.batch import Batch
from jobs.codes import is_permanent
from jobs.job import StoryEntry, iso, split_job_id
from jobs.phone import PhoneError
from producer.deadletters import Choice
from producer.decisions import Plan
from producer.second_codes import KEPT_BACK
from producer.stories import (
    BY_A_PERSON,
    Instead,
    NoSuchJobError,
    Story,
    correction_of,
    end_of,
    story_of,
)
from producer.typed_number import read_typed
from producer.web.console.failures import propose
from producer.web.console.frame import (
    Operator,
    Viewer,
    reason_of,
    redirect,
    render,
    texts_of,
)
from producer.web.console.rows import cells_of, customer_of
from producer.web.console.texts import Texts
from producer.web.problems import Problem, ask
from producer.web.services import services

router = APIRouter(include_in_schema=False)


@router.get("/jobs/{job_id}")
async def job(request: Request, _: Viewer, job_id: str) -> Response:
    """Show a job and its story."""
    return await _page(request, job_id)


async def _page(
    request: Request, job_id: str, *, fault: str = "", country_code: str = "", typed: str = ""
) -> Response:
    app, texts = services(request), texts_of(request)
    try:
        story = await ask(request, story_of, app.client, app.settings, job_id)
    except NoSuchJobError as exc:
        return await _other_page(request, exc)
    record = story.record
    end = await ask(request, end_of, app.client, app.settings, story)
    letter = await ask(request, app.letters.find, job_id)
    batch = await ask(request, app.batches.get, record.batch_id) if record.batch_id else None
    is_awaited = end.record.state.is_for_a_person and not (
        end.record.dropped_ms or story.corrected_by
    )
    is_open = letter is not None and not letter.was_dealt_with and not story.corrected_by
    return render(
        request,
        "job.html",
        live="live",
        is_over=end.record.state.is_final,
        status=422 if fault else 200,
        story=story,
        record=record,
        number=split_job_id(job_id)[1],
        batch=batch,
        cells=cells_of(batch, story.row),
        customer=customer_of(batch, story.row),
        ending=texts.ending(end.record, end.waits_for, batch),
        remedy=texts.remedy(end.record.code) if is_awaited else "",
        **await ask(request, _correction, request, story.corrected_by),
        end=end.record,
        is_open=is_open,
        is_permanent=is_permanent(record.code),
        technical=texts.technical(end.record.code),
        ticket="\n".join(ticket(texts, story, batch)),
        entries=[(entry.at_ms, describe(texts, entry)[0]) for entry in record.story],
        details=[(name, value) for name, value in facts(texts, story, batch) if name in _DETAILS],
        fault=fault,
        country_code=country_code or record.phone.country_code,
        typed=typed,
    )


def _correction(request: Request, corrected_by: str) -> dict[str, Any]:
    """Return the values for correction.html: the job by which a corrected file took it over."""
    app = services(request)
    batch = app.batches.get(split_job_id(corrected_by)[0]) if corrected_by else None
    story, words = correction_of(app.client, app.settings, corrected_by), Markup()
    if story is not None:
        words = texts_of(request).ending(story.record, story.waits_for, batch)
    return {"corrected_by": corrected_by, "corrected_in": batch, "correction": words}


async def _other_page(request: Request, error: NoSuchJobError) -> Response:
    """Show what else the id names: a row that never became a job, or a batch; else answer 404."""
    batch_id, number = split_job_id(error.job_id)
    if error.instead is Instead.BATCH:
        return redirect(request, f"/batches/{error.job_id}")
    if error.instead is Instead.NOTHING or error.row is None:
        raise Problem(404, "not_found", "there is no such job")
    batch = await ask(request, services(request).batches.get, batch_id)
    return render(
        request,
        "job_row.html",
        job_id=error.job_id,
        batch_id=batch_id,
        batch_name=batch.name if batch else "",
        number=number,
        row=error.row,
        cells=cells_of(batch, error.row),
        customer=customer_of(batch, error.row),
        is_correctable=error.row.code not in KEPT_BACK,
        **await ask(request, _correction, request, error.corrected_by),
        is_forgotten=error.instead is Instead.FORGOTTEN,
    )


@router.post("/jobs/{job_id}/correct")
async def correct(
    request: Request,
    operator: Operator,
    job_id: str,
    country_code: Annotated[str, Form()] = "",
    number: Annotated[str, Form()] = "",
    why: Annotated[str, Form()] = "",
) -> Response:
    """Start a preview of what a corrected number would do."""
    try:
        phone = read_typed(country_code, number)
    except PhoneError as exc:
        fault = texts_of(request).get(f"fault.{exc.code}", str(exc)).unescape()
        return await _page(request, job_id, fault=fault, country_code=country_code, typed=number)
    plan = Plan("replace", Choice(job_ids=(job_id,)), reason_of(why))
    return await propose(request, plan, phone, operator.name)


def describe(texts: Texts, entry: StoryEntry) -> tuple[str, str]:
    """Describe an entry of the story in plain words, and for a ticket, with codes and ids."""
    what = texts.get(f"happened.{entry.what}", entry.what).unescape()
    plain, exact = [what], [what]
    if entry.took_ms is not None:
        accepted = texts("happened.accepted").unescape()
        plain.append(texts.meaning(entry.code).unescape() if entry.code else accepted)
        exact.append(f"{entry.code or accepted} ({entry.took_ms:,} ms)")
    # the note of a person's action begins with the job's state before it
    note = entry.note.partition("; ")[2] if entry.what in BY_A_PERSON else entry.note
    plain.append(texts.readable(note))
    exact.append(texts.readable(entry.note))
    if entry.request_id:
        exact.append(f"RequestId {entry.request_id}")
    return ": ".join(filter(None, plain)), ", ".join(filter(None, exact))


_DETAILS = frozenset({"job", "code", "message", "request_id", "attempts"})
"""The facts that are for engineers."""


def facts(texts: Texts, story: Story, batch: Batch | None) -> list[tuple[str, str]]:
    """Return what is known of a job, named as in the table `ticket` of the texts."""
    record = story.record
    found = [
        ("job", record.job_id),
        ("batch", record.batch_id or ""),
        ("line", str(story.row.line) if story.row else ""),
        ("number", record.phone.masked),
        ("outcome", texts.ending(record, story.waits_for, batch).unescape()),
        ("code", record.code),
        ("message", record.message),
        ("request_id", record.request_id),
        ("reference", record.reference),
        ("attempts", str(record.attempts)),
        ("created", iso(record.created_ms) if record.created_ms else ""),
        ("ended", iso(record.finished_ms) if record.finished_ms else ""),
    ]
    return [(name, value) for name, value in found if value]


def ticket(texts: Texts, story: Story, batch: Batch | None) -> list[str]:
    """Return the story as lines that can be pasted into a ticket: masked, with times in UTC."""
    lines = [
        f"{texts(f'ticket.{name}').unescape()}: {value}"
        for name, value in facts(texts, story, batch)
    ]
    entries = [f"{iso(each.at_ms)}  {describe(texts, each)[1]}" for each in story.record.story]
    return [*lines, "", *entries] if entries else lines
