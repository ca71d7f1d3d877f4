"""One customer's code: what became of it, in plain words, and what can be done about it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from jobs.batches import Batches
from jobs.codes import is_permanent
from jobs.deadletters import DeadLetters
from jobs.job import JobRecord, State, StoryEntry, iso, split_job_id
from jobs.phone import PhoneError, PhoneNumber
from producer.deadletters import Choice
from producer.decisions import Plan
from producer.second_codes import KEPT_BACK
from producer.stories import Instead, NoSuchJobError, Story, story_of
from producer.web.console.failures import propose
from producer.web.console.frame import (
    Operator,
    Viewer,
    live_status,
    reason_of,
    redirect,
    render,
    texts_of,
)
from producer.web.console.rows import cells_of, customer_of
from producer.web.console.texts import Texts
from producer.web.console.words import ending_in_words, remedy_of
from producer.web.problems import Problem, ask

router = APIRouter()


@router.get("/jobs/{job_id}")
async def job(request: Request, _: Viewer, job_id: str) -> Response:
    """Show a job's story."""
    return await _page(request, job_id)


async def _page(
    request: Request, job_id: str, *, fault: str = "", country_code: str = ""
) -> Response:
    client, settings = request.app.state.client, request.app.state.settings
    texts = texts_of(request)
    try:
        story = await ask(request, story_of, client, settings, job_id)
    except NoSuchJobError as exc:
        return await _instead(request, exc)
    record = story.record
    letter = await ask(request, DeadLetters(client, settings).find, job_id)
    batch = None
    if record.batch_id:
        batch = await ask(request, Batches(client, settings).get, record.batch_id)
    is_open = letter is not None and not letter.was_dealt_with
    return render(
        request,
        "job.html",
        live="live",
        status=422 if fault else live_status(request, is_over=record.state.is_final),
        record=record,
        row=story.row,
        number=split_job_id(job_id)[1],
        batch=batch,
        cells=cells_of(batch, story.row),
        customer=customer_of(batch, story.row),
        ending=ending_in_words(texts, record, story.waits_for),
        remedy=remedy_of(texts, record.code) if record.state.is_for_a_person else "",
        is_open=is_open,
        is_final=record.state.is_final,
        is_perhaps_sent=record.state is State.UNKNOWN,
        is_permanent=is_permanent(record.code),
        ticket="\n".join(ticket(texts, story)),
        entries=[(entry.at_ms, happened(texts, entry)) for entry in record.story],
        fault=fault,
        country_code=country_code or record.phone.country_code,
    )


async def _instead(request: Request, error: NoSuchJobError) -> Response:
    """Show what the id names instead: a row that never became a job, a batch; or nothing."""
    batch_id, number = split_job_id(error.job_id)
    if error.instead is Instead.BATCH:
        return redirect(request, f"/batches/{error.job_id}")
    if error.instead is Instead.NOTHING or error.row is None:
        raise Problem(404, "not_found", "there is no such job")
    client, settings = request.app.state.client, request.app.state.settings
    batch = await ask(request, Batches(client, settings).get, batch_id)
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
        is_forgotten=error.instead is Instead.FORGOTTEN,
    )


@router.post("/jobs/{job_id}/correct")
async def correct(
    request: Request,
    _: Operator,
    job_id: str,
    country_code: Annotated[str, Form()] = "",
    number: Annotated[str, Form()] = "",
    why: Annotated[str, Form()] = "",
) -> Response:
    """Begin to look what a corrected number would do."""
    try:
        if number.strip().startswith(("+", "00")):
            phone = PhoneNumber.from_international(number)
        else:
            phone = PhoneNumber.parse(country_code, number)
    except PhoneError as exc:
        fault = texts_of(request).get(f"fault.{exc.code}", str(exc)).unescape()
        return await _page(request, job_id, fault=fault, country_code=country_code)
    plan = Plan("replace", Choice(job_ids=(job_id,)), reason_of(why))
    return await propose(request, plan, phone)


def happened(texts: Texts, entry: StoryEntry) -> str:
    """Return one thing that happened, as a line."""
    what = texts.get(f"happened.{entry.what}", entry.what).unescape()
    parts = [what]
    if entry.took_ms is not None:
        answer = entry.code or texts("happened.accepted").unescape()
        parts.append(f"{answer} ({entry.took_ms:,} ms)")
    if entry.note:
        parts.append(entry.note)
    if entry.request_id:
        parts.append(f"RequestId {entry.request_id}")
    return ", ".join(parts)


def ticket(texts: Texts, story: Story) -> list[str]:
    """Return the story as lines that can be pasted into a ticket: masked, with times in UTC."""
    record = story.record
    facts: list[tuple[str, str]] = [("job", record.job_id)]
    if record.batch_id:
        facts.append(("batch", record.batch_id))
    if story.row is not None:
        facts.append(("line", str(story.row.line)))
    facts.append(("number", record.phone.masked))
    facts.append(("outcome", ending_in_words(texts, record, story.waits_for).unescape()))
    facts += _of_the_answer(record)
    lines = [f"{texts(f'ticket.{name}').unescape()}: {value}" for name, value in facts]
    lines += ["", *(f"{iso(entry.at_ms)}  {happened(texts, entry)}" for entry in record.story)]
    return lines if record.story else lines[:-1]


def _of_the_answer(record: JobRecord) -> list[tuple[str, str]]:
    found = [
        ("code", record.code),
        ("message", record.message),
        ("request_id", record.request_id),
        ("reference", record.reference),
        ("attempts", str(record.attempts)),
        ("created", iso(record.created_ms) if record.created_ms else ""),
        ("ended", iso(record.finished_ms) if record.finished_ms else ""),
    ]
    return [(name, value) for name, value in found if value]
