"""`/v1/codes`: send one code at once, and get its result."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool

from config.unavailable import RedisUnavailableError
from jobs.job import MAX_KEY_LENGTH, JobRecord, SendCodeJob, UnfitNameError, iso
from jobs.ledger import Submitted
from jobs.phone import PhoneError, PhoneNumber
from jobs.quotas import NumberNotAllowedError, QuotaExceededError
from producer.events import KeyReusedError
from producer.tokens import Scope, Token
from producer.web.access import needs
from producer.web.problems import Problem, ask, json_only, start_deadline
from producer.web.schemas import (
    JOB,
    LOCATION,
    LONGEST_WAIT_S,
    SENT,
    CodeRequest,
    Job,
    answers,
    problems,
)
from producer.web.services import services

router = APIRouter(
    prefix="/v1/codes",
    tags=["codes"],
    responses=problems(401, 403, 405, 413, 422, 503),
    generate_unique_id_function=attrgetter("name"),
)

_REPLAYED = "Idempotent-Replayed"


def _as_utf8(header: Any) -> Any:
    """Return a header's text as its sender meant it: servers read its bytes as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except (AttributeError, UnicodeError):  # no header, or it was Latin-1
        return header


Key = Annotated[
    str,
    BeforeValidator(_as_utf8),
    Header(
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        description="Your name for what happened, such as signup-81723, without the number. "
        "A repeated key sends nothing again, for as long as the job is kept.",
    ),
]
Wait = Annotated[
    float,
    Query(
        ge=0,
        le=LONGEST_WAIT_S,
        allow_inf_nan=False,
        description="Seconds to wait for the job to end before answering.",
    ),
]
Reader = Annotated[Token, Depends(needs(Scope.READ, Scope.SEND, Scope.TEST))]
_FOUND = {200: answers("The job.", SENT), **problems(404)}


@router.post(
    "",
    status_code=202,
    response_model=Job,
    responses={
        202: answers(
            "Accepted: the job is on disk and ends in a final state.", JOB, headers=LOCATION
        ),
        200: answers(
            "This key was used before: its job as it is now; nothing was sent.",
            SENT,
            headers={_REPLAYED: {"schema": {"type": "string", "const": "true"}}},
            model=Job,
        ),
        **problems(400, 408, 415, 429),
    },
)
async def send_code(
    body: CodeRequest,
    request: Request,
    token: Annotated[Token, Depends(needs(Scope.SEND, Scope.TEST))],
    _: Annotated[None, Depends(json_only)],
    idempotency_key: Key,
    wait: Wait = 0,
) -> Response:
    """Send one verification code, ahead of every batch."""
    phone = _phone(body)
    try:
        job = SendCodeJob.for_event(
            phone, idempotency_key, body.expires_in, body.reference, is_test=token.is_test
        )
    except UnfitNameError as exc:
        field = "reference" if str(exc).startswith("reference") else "Idempotency-Key"
        raise Problem.of_field(field, "unfit", str(exc)) from None
    try:
        submitted = await _accept(request, job, token, resend=body.resend)
    except KeyReusedError as exc:
        raise Problem(422, "key_reused", str(exc), job_id=exc.job_id) from None
    except NumberNotAllowedError as exc:
        raise Problem.of_field("phone", exc.rule, str(exc)) from None
    except QuotaExceededError as exc:
        wait_s = max(1, math.ceil(exc.retry_after_s))
        headers = {"Retry-After": str(wait_s)}
        raise Problem(429, "quota_exceeded", str(exc), headers=headers, rule=exc.rule) from None
    record = submitted.record
    if wait:
        record = await _wait_for_end(request, record, wait)
    headers = {"Location": f"/v1/codes/{record.job_id}"}
    if submitted.is_bound or not (submitted.is_new or submitted.is_same_number):
        headers[_REPLAYED] = "true"
    status = 202 if submitted.is_new else 200
    return await _answer(request, record, status, headers, token, submitted)


@router.get(
    "",
    response_model=Job,
    responses=_FOUND,
)
async def find_code(
    request: Request,
    token: Reader,
    idempotency_key: Key,
    wait: Wait = 0,
) -> Response:
    """Return the job of an idempotency key."""
    find = partial(services(request).events.job_of_key, is_test=token.is_test)
    return await _show(request, await ask(request, find, idempotency_key), token, wait)


@router.get(
    "/{job_id}",
    response_model=Job,
    responses=_FOUND,
)
async def show_code(
    job_id: str,
    request: Request,
    token: Reader,
    wait: Wait = 0,
) -> Response:
    """Return the job of a code, as it is now."""
    record = await ask(request, services(request).events.job, job_id)
    return await _show(request, record, token, wait)


async def _show(request: Request, record: JobRecord | None, token: Token, wait: float) -> Response:
    """Return a job as the answer, if the token may see it."""
    if record is None or not _may_read(token, record):
        whose = "" if token.allows(Scope.READ) else " of this token's, which has no scope read"
        raise Problem(404, "not_found", f"there is no such job{whose}, or it is no longer kept")
    if wait:
        record = await _wait_for_end(request, record, wait)
    return await _answer(request, record, 200, {}, token)


def _may_read(token: Token, record: JobRecord) -> bool:
    if token.is_test and not record.is_test:
        return False
    return token.allows(Scope.READ) or record.is_of(token.name)


def _phone(body: CodeRequest) -> PhoneNumber:
    whole = body.phone is not None
    if whole == (body.country_code is not None or body.phone_num is not None):
        raise Problem.of_field(
            "phone", "missing", "name the number as phone, or as country_code and phone_num"
        )
    try:
        if whole:
            return PhoneNumber.from_international(body.phone or "")
        return PhoneNumber.parse(body.country_code or "", body.phone_num or "")
    except PhoneError as exc:
        raise Problem.of_field("phone" if whole else "phone_num", exc.code, str(exc)) from None


async def _accept(request: Request, job: SendCodeJob, token: Token, *, resend: bool) -> Submitted:
    """Accept and publish a job, in one thread; once it is accepted nothing is raised."""
    events = services(request).events
    trace = request.headers.get("traceparent", "")
    accepted: list[Submitted] = []

    def accept_and_publish() -> None:
        accepted.append(events.accept(job, token.name, resend=resend, trace=trace))
        events.publish(accepted[0])

    try:
        await ask(request, accept_and_publish)
    except Exception:
        if not accepted:
            raise
    return accepted[0]


async def _wait_for_end(request: Request, record: JobRecord, seconds: float) -> JobRecord:
    """Return the job once it has ended, or as it is after so many seconds."""
    deadline = time.monotonic() + seconds
    events = services(request).events
    with services(request).endings.watch(record.job_id) as ended:
        while True:
            ended.clear()
            with suppress(RedisUnavailableError):  # the job's last known state will do
                found = await run_in_threadpool(events.job, record.job_id)
                record = record if found is None else found
            left_s = deadline - time.monotonic()
            if record.state.is_final or left_s <= 0:
                start_deadline(request.scope)
                return record
            try:
                async with asyncio.timeout(left_s):
                    await ended.wait()
            except TimeoutError:
                deadline = 0


async def _answer(
    request: Request,
    record: JobRecord,
    status: int,
    headers: dict[str, str],
    token: Token,
    submitted: Submitted | None = None,
) -> JSONResponse:
    events = services(request).events
    document: dict[str, Any] = record.as_dict()
    at_ms = None
    with suppress(Problem, RedisUnavailableError):  # the answer is good without an estimate
        if submitted is not None and record is submitted.record:
            at_ms = events.estimated_send_ms(record, submitted.next_slot_ms)
        else:
            at_ms = await ask(request, events.estimated_send_ms, record)
    document["key"] = record.key or None
    document["estimated_send_at"] = iso(at_ms) if at_ms else None
    is_same_number = submitted is not None and submitted.is_same_number
    is_own = record.token == token.name or token.allows(Scope.ADMIN)
    if not is_own and (submitted is None or is_same_number):  # another backend's names for it
        document["key"] = document["reference"] = None
    if submitted is not None and is_same_number:
        document["same_number"] = True
        opens = submitted.opens_ms or record.due_ms
        document["earliest_resend_at"] = iso(opens) if opens else None
    return JSONResponse(document, status, headers)
