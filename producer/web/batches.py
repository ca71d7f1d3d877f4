"""`/v1/batches` and `/v1/status`: submit a file, one job per row, and get their results."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Annotated, Literal
from urllib.parse import quote

import redis
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from config.settings import Settings
from config.unavailable import RedisUnavailableError
from jobs.actions import Action, note
from jobs.batch import Batch
from jobs.batches import ORDERED, BatchCancelledError, BatchGoneError, Order
from jobs.scripts import time_ms
from producer import bounds
from producer.importing import (
    ImportRefusedError,
    Refusal,
    Submission,
    Terms,
    check_batch_id,
    default_batch_id,
    preflight,
)
from producer.overview import read_overview
from producer.results import RESULT_COLUMNS, own_columns, results, statuses_of
from producer.sheet import Sheet, SheetError, open_sheet
from producer.sheet.writing import separator_for, streamed_sheet
from producer.tokens import Scope, Token
from producer.web.access import needs
from producer.web.problems import Problem, ProblemField, ask, unavailable
from producer.web.schemas import (
    BATCH,
    CHECKED,
    LOCATION,
    ONE_BATCH,
    STATUS,
    STEERED,
    SUBMITTED,
    BatchForm,
    BatchList,
    CheckedDocument,
    OneBatch,
    StatusDocument,
    SteeredDocument,
    SubmittedDocument,
    answers,
    form_body,
    problems,
)
from producer.web.services import services
from producer.web.uploads import parse_form

router = APIRouter(
    prefix="/v1",
    tags=["batches"],
    responses=problems(401, 403, 405, 413, 422, 503),
    generate_unique_id_function=attrgetter("name"),
)


async def _reader(token: Annotated[Token, Depends(needs(Scope.READ, Scope.BATCH))]) -> Token:
    """Refuse a test token, which may see tests only."""
    if token.is_test:
        raise Problem(403, "forbidden", f"token {token.name} is for tests, and no batch is a test")
    return token


async def known_batch(request: Request, batch_id: str) -> Batch:
    """Return the batch with an id, or raise a `Problem` if there is none."""
    batch = await ask(request, services(request).batches.get, batch_id)
    if batch is None:
        raise Problem(404, "not_found", "there is no such batch, or it is no longer kept")
    return batch


Reader = Annotated[Token, Depends(_reader)]
Owner = Annotated[Token, Depends(needs(Scope.BATCH))]
KnownBatch = Annotated[Batch, Depends(known_batch)]
SheetForm = Literal["csv", "plain", "xlsx"]

_NOTED_EVERY_S = 3_600
"""How often a token's download of results is noted in the list of actions: programs repeat it."""
_MOST_LISTED = 1_000
_CSV = "text/csv; charset=utf-8"
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@router.post(
    "/batches",
    status_code=201,
    response_model=SubmittedDocument,
    responses={
        201: answers(
            "Submitted: each row that can be sent is a job on disk.", SUBMITTED, headers=LOCATION
        ),
        200: answers(
            "This content was submitted before; nothing was added.",
            SUBMITTED | {"already_submitted": True, "file": None},
            headers=LOCATION,
            model=SubmittedDocument,
        ),
        **problems(400, 408, 409, 415),
    },
    openapi_extra={"requestBody": form_body()},
)
async def submit_batch(request: Request, token: Owner) -> Response:
    """Submit a file: a code for each row that can be sent.

    The answer comes when all rows are on disk; for a million that takes a minute or so. If none
    comes, because the connection broke or the server was stopped, send the same file with the same
    fields again: the import resumes where it stopped, and nothing is sent twice.
    """
    app = services(request)

    def work(form: FormData) -> Response:
        file, fields = parse_form(form)
        with _open_sheet(file, fields) as sheet:
            now_ms = time_ms(app.client.time())
            starts_ms = _start_ms(fields, now_ms)
            terms = _terms(fields, sheet, token).timed(now_ms, starts_ms, fields.expires_in)
            with Submission(app.client, app.settings, sheet, terms, fields.id) as submission:
                submission.read()
                if not submission.is_complete:
                    _write(submission, app.settings)
                document = {
                    **submission.as_dict(),
                    "left_aside": submission.left_aside,
                    "notes": [note.text for note in sheet.notes],
                }
        headers = {"Location": f"/v1/batches/{submission.batch_id}"}
        return JSONResponse(document, 200 if submission.is_complete else 201, headers)

    return await app.uploads.take(request, work)


@router.post(
    "/batches/check",
    response_model=CheckedDocument,
    responses={
        200: answers("What submitting this file would do. Nothing was changed.", CHECKED),
        **problems(400, 408, 415),
    },
    openapi_extra={"requestBody": form_body()},
)
async def check_batch(request: Request, token: Owner) -> Response:
    """Return what submitting a file would do, without sending or changing anything."""
    app = services(request)

    def work(form: FormData) -> Response:
        file, fields = parse_form(form)
        with _open_sheet(file, fields) as sheet:
            app.identity.check()
            found = preflight(
                sheet,
                app.client,
                app.settings,
                batch_id=fields.id or default_batch_id(sheet.digest),
                terms=_terms(fields, sheet, token),
            )
            notes = [note.text for note in sheet.notes]
            return JSONResponse({"file": sheet.name, "notes": notes, **found.as_dict()})

    return await app.uploads.take(request, work)


@router.get(
    "/batches",
    response_model=BatchList,
    responses={
        200: answers(
            "Batches that are kept, the newest first.", {"batches": [BATCH], "more": False}
        ),
        **problems(404),
    },
)
async def list_batches(
    request: Request,
    _: Reader,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED, description="At most this many.")] = 500,
    before: Annotated[
        str | None, Query(description="Only batches older than the one with this id.")
    ] = None,
) -> Response:
    """List batches, the newest first. If there are `more`, ask again with `before` the last id."""
    batches = services(request).batches
    if before is not None:
        await known_batch(request, before)
    found = await ask(request, lambda: list(islice(batches.newest(before or ""), limit + 1)))
    shown = [batch.as_dict() for batch in found[:limit]]
    return JSONResponse({"batches": shown, "more": len(found) > limit})


@router.get(
    "/batches/{batch_id}",
    response_model=OneBatch,
    responses={200: answers("The batch.", ONE_BATCH), **problems(404)},
)
async def show_batch(request: Request, _: Reader, batch: KnownBatch) -> Response:
    """Show how far a batch is, with the files that corrected it."""
    family = await ask(request, services(request).batches.family, batch)
    return JSONResponse({**batch.as_dict(), "customers": family.as_dict()})


@router.get(
    "/batches/{batch_id}/results",
    response_class=Response,
    responses={
        200: {
            "description": "The customer's own columns, and what became of each row.",
            "content": {
                _CSV: {
                    "schema": {"type": "string"},
                    "example": f"country_code,phone_num,{','.join(RESULT_COLUMNS)}\r\n",
                },
                _XLSX: {"schema": {"type": "string", "format": "binary"}, "example": "PK…"},
            },
        },
        **problems(404),
    },
)
async def take_results(
    request: Request,
    token: Owner,
    batch: KnownBatch,
    only: Annotated[
        str | None,
        Query(description="Only these rows: failed, sent, waiting, or a state such as unknown."),
    ] = None,
    form: Annotated[
        SheetForm,
        Query(
            alias="format",
            description="csv (for spreadsheet programs), plain (CSV for programs) or xlsx.",
        ),
    ] = "csv",
) -> Response:
    """Download the results so far, with full numbers, streamed row by row whatever their size.

    The rows of `only=failed` can be corrected in that file, and the file submitted again.
    """
    if only is not None:
        try:
            statuses_of(only)
        except ValueError as exc:
            raise Problem.of_field("only", "unknown", str(exc)) from None
    app = services(request)
    action = Action(what="batch download", about=batch.batch_id, by=_by(token))
    await ask(request, partial(note, app.client, app.settings, action, not_within_s=_NOTED_EVERY_S))
    rows = ((row.cells, row.ours) for row in results(app.batches, batch, only))
    separator, kept = separator_for(batch.delimiter), own_columns(batch.header)
    sheet = streamed_sheet(batch.header, RESULT_COLUMNS, rows, separator, form, kept=kept)
    return sheet_answer(sheet, f"{batch.batch_id}-{only or 'results'}", form)


def sheet_answer(sheet: Iterator[bytes], name: str, form: SheetForm) -> Response:
    """Send a sheet as a download; `name` is without its extension."""
    name += ".xlsx" if form == "xlsx" else ".csv"
    named = f'filename="{name}"' if name.isascii() else f"filename*=UTF-8''{quote(name)}"
    headers = {"Content-Disposition": f"attachment; {named}"}
    return StreamingResponse(sheet, 200, headers, _XLSX if form == "xlsx" else _CSV)


def _add_order(order: Order, summary: str) -> None:
    """Add the route of an order."""

    @router.post(
        f"/batches/{{batch_id}}/{order}",
        name=f"{order}_batch",
        description=summary,
        response_model=SteeredDocument,
        responses={200: answers("The batch as it is now.", STEERED), **problems(404, 409)},
    )
    async def steer(batch_id: str, request: Request, token: Owner) -> Response:
        batches = services(request).batches
        states = await ask(request, partial(batches.steer, by=_by(token)), batch_id, order)
        batch = await known_batch(request, batch_id)
        before, after = states or ("", batch.state)
        if order == "resume" and batch.expiry_lost:
            raise Problem(409, "is_over", "its time limit is lost: none of its rows can be sent")
        if after is not ORDERED[order]:
            raise Problem(409, "is_over", f"the batch is {after}: nothing to {order}")
        return JSONResponse({"changed": before != after, "before": before, **batch.as_dict()})


_add_order("pause", "Pause a batch: what is in work is finished, the rest waits.")
_add_order("resume", "Resume a paused batch, or start a scheduled one now.")
_add_order("cancel", "End a batch for good: what waits is not sent.")


@router.get(
    "/status",
    tags=["status"],
    response_model=StatusDocument,
    responses={
        200: answers("Queues, rate, account, workers, batches and totals.", STATUS),
    },
)
async def show_status(request: Request, _: Reader) -> Response:
    """Show the whole system at a glance."""
    app = services(request)
    overview = await ask(request, read_overview, app.client, app.settings, app.identity)
    return JSONResponse(overview.as_dict())


def _open_sheet(file: UploadFile, fields: BatchForm) -> Sheet:
    check_batch_id(fields.id)
    return open_sheet(
        file.filename or "the file",
        upload=file.file,
        encoding=fields.encoding,
        sheet=fields.sheet,
        phone_column=fields.phone_column,
        country_column=fields.country_column,
    )


def _by(token: Token) -> str:
    return f"token {token.name}"


def _terms(fields: BatchForm, sheet: Sheet, token: Token) -> Terms:
    return Terms(
        fields.name or sheet.name,
        fields.max_rate,
        again=fields.again,
        skip_sent=fields.skip_sent,
        by=_by(token),
        token=token.name,
    )


def _start_ms(fields: BatchForm, now_ms: int) -> int | None:
    if fields.starts_at is None:
        return None
    try:
        return bounds.start_at_ms(fields.starts_at, now_ms)
    except ValueError as exc:
        raise Problem.of_field("starts_at", "out_of_bounds", str(exc)) from None


def _write(submission: Submission, settings: Settings) -> None:
    try:
        submission.write()
    except redis.RedisError as exc:
        reason = RedisUnavailableError.from_redis(exc, settings)
        raise unavailable(
            f"{reason}; the import was cut off: send the same file with the same fields again, and "
            "it resumes where it stopped; nothing is sent twice",
            batch_id=submission.batch_id,
        ) from exc


def answer_refusals(app: FastAPI) -> None:
    """Answer the services' refusals with problem documents."""

    @app.exception_handler(SheetError)
    async def unreadable(_: Request, exc: SheetError) -> JSONResponse:
        detail = f"{exc.message}; {exc.remedy}"
        if exc.line:
            detail = f"{exc.unit} {exc.line}: {detail}"
        errors = [ProblemField(field, exc.code, detail) for field in exc.choices or ("file",)]
        return Problem(422, "unreadable_file", detail, errors=errors).answer()

    @app.exception_handler(ImportRefusedError)
    async def refused(_: Request, exc: ImportRefusedError) -> JSONResponse:
        return _problem_of(exc).answer()

    @app.exception_handler(BatchCancelledError)
    @app.exception_handler(BatchGoneError)
    async def gone(_: Request, exc: Exception) -> JSONResponse:
        return Problem(409, "changed_meanwhile", str(exc)).answer()


_IN_FIELD = {
    Refusal.ID_UNFIT: ("id", "an id has 1 to 64 letters, digits, dots, underscores and dashes"),
    Refusal.ID_RESERVED: ("id", 'the id "ev" belongs to events'),
    Refusal.NO_ROWS: ("file", "there is no row below the names of the columns"),
    Refusal.NO_VALID_ROW: ("file", "no row can be sent; /v1/batches/check says why"),
}


def _problem_of(exc: ImportRefusedError) -> Problem:
    if exc.why in _IN_FIELD:
        field, detail = _IN_FIELD[exc.why]
        return Problem.of_field(field, exc.why, detail)
    batch = exc.batch
    if batch is None:
        return Problem(409, exc.why, "another batch had this content until just now: try again")
    batch_id = batch.batch_id
    match exc.why:
        case Refusal.CANCELLED:
            detail = (
                f"this content is batch {batch_id}, which was cancelled; to send what it did not "
                "send, submit its results of only=cancelled"
            )
        case Refusal.OTHER_CONTENT:
            detail = (
                f"batch {batch_id} was made from other content; to correct what failed, submit "
                "its results of only=failed, corrected; other customers take another id"
            )
        case Refusal.OTHER_ENCODING:
            how = f"with encoding {batch.encoding}" if batch.encoding else "without an encoding"
            detail = f"the import of batch {batch_id} was begun {how}: complete it the same way"
        case _:
            then = "" if batch.imported else f"; complete it with id={batch_id}"
            detail = (
                f"this content is batch {batch_id} already{then}; only if every row is to be sent "
                "once more, submit it with again=true and another id"
            )
    return Problem(409, exc.why, detail, batch_id=batch_id)
