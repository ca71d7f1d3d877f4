"""Request bodies, within limits. A file goes to disk, never into memory, and is always removed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from producer.web.problems import RETRY_AFTER_S, Problem, media_type, start_deadline
from producer.web.schemas import BatchForm

T = TypeVar("T")

UPLOAD_PATHS = frozenset({"/v1/batches", "/v1/batches/check", "/batches/new"})
"""Paths whose bodies are read here, after the token or session was checked."""
MAX_UPLOAD = 200_000_000
"""Bytes of a request with a file, at most."""
FILES_AT_ONCE = 4
"""Files that one process reads: each takes temporary disk space and processor time."""
STALLED_S = 30.0
"""A caller that sends nothing for so long is taken to be gone."""
SLOWEST = 10_000
"""Least average bytes per second after the first `STALLED_S`: slower ones would block a place."""
_MOST_FIELDS, _MAX_FIELD = 30, 4_096


class Uploads:
    """Reads files in threads of their own, so that events never wait for one of them."""

    def __init__(self, stalled_s: float = STALLED_S) -> None:
        self._stalled_s = stalled_s
        self._free = asyncio.Semaphore(FILES_AT_ONCE)
        self._threads = anyio.CapacityLimiter(FILES_AT_ONCE)

    async def take(self, request: Request, work: Callable[[FormData], T]) -> T:
        """Receive the request's form with its file, and return `work`'s result, from a thread.

        Nothing is done if the caller goes away before everything is received; after that, the work
        is finished in any case.
        """
        if self._free.locked():
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            detail = f"{FILES_AT_ONCE} files are being read already: try again"
            raise Problem(503, "busy", detail, headers=headers)
        async with self._free:
            form = await _receive(request, self._stalled_s)
            try:
                return await anyio.to_thread.run_sync(work, form, limiter=self._threads)
            finally:
                await form.close()
                start_deadline(request.scope)


async def _receive(request: Request, stalled_s: float) -> FormData:
    if media_type(request) != "multipart/form-data":
        raise Problem(415, "unsupported_media_type", "send the file as multipart/form-data")
    parser = MultiPartParser(
        request.headers,
        parts_of(request, MAX_UPLOAD, stalled_s, SLOWEST),
        max_files=1,
        max_fields=_MOST_FIELDS,
        max_part_size=_MAX_FIELD,
    )
    try:
        return await parser.parse()
    except (MultiPartException, ValueError) as exc:
        detail = (
            f"the body is not multipart/form-data with one file and fields of {_MAX_FIELD} bytes"
        )
        raise Problem(400, "malformed", detail) from exc


async def parts_of(
    request: Request, most: int, stalled_s: float, slowest: float = math.inf
) -> AsyncGenerator[bytes, None]:
    """Yield a body as it arrives.

    Raises:
        Problem: 413, it has more than `most` bytes; 408, nothing came for `stalled_s`, or after
            that fewer than `slowest` bytes per second; 400, the caller went away.
    """
    too_large = Problem(413, "too_large", f"the body of this request has at most {most:,} bytes")
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > most:
        raise too_large
    size, began, stream = 0, time.monotonic(), request.stream()
    while True:
        left_s = stalled_s + size / slowest - (time.monotonic() - began)
        try:
            async with asyncio.timeout(min(stalled_s, left_s)):
                part = await anext(stream, b"")
        except TimeoutError:
            text = "the rest of the body did not come in time"
            raise Problem(408, "request_timeout", text) from None
        except ClientDisconnect:
            raise Problem(400, "disconnected", "the caller went away") from None
        if not part:
            return
        size += len(part)
        if size > most:
            raise too_large
        yield part


def parse_form(form: FormData) -> tuple[UploadFile, BatchForm]:
    """Return a form's file and its other fields, or raise a `Problem` if they are wrong."""
    items = form.multi_items()
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise Problem.of_field("file", "missing", "send the file in the field file, with its name")
    if len({name for name, _ in items}) < len(items):
        raise Problem(422, "invalid_request", "a field may be given only once")
    try:
        return file, BatchForm.model_validate(
            {name: value for name, value in items if name != "file"}
        )
    except ValidationError as exc:
        errors = [{**error, "loc": ("body", *error["loc"])} for error in exc.errors()]
        raise RequestValidationError(errors) from None
