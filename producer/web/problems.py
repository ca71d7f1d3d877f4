"""Errors as RFC 9457 problem documents, each with a `code` that programs can rely on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import redis
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from config.settings import Settings
from config.unavailable import RedisUnavailableError
from jobs.identity import LedgerRefusedError
from jobs.vault import SealedError

T = TypeVar("T")

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
"""Seconds after which a caller may try again what Redis could not accept."""


@dataclass(frozen=True, slots=True)
class ProblemField:
    """One part of the request that is wrong."""

    field: str
    code: str
    detail: str


class Problem(Exception):  # noqa: N818 (RFC 9457's own word)
    """A refused request. `code` is one of those in docs/triggers.md, `detail` is for a person."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[ProblemField] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.headers, self.more = errors, dict(headers or {}), more

    @classmethod
    def of_field(cls, field: str, code: str, detail: str) -> Problem:
        """Return the answer to a request with one invalid part."""
        return cls(422, "invalid_request", detail, errors=[ProblemField(field, code, detail)])

    def document(self) -> dict[str, Any]:
        document = {
            "type": f"urn:sendcode:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.more,
        }
        if self.errors:
            document["errors"] = [asdict(each) for each in self.errors]
        return document

    def answer(self) -> JSONResponse:
        return JSONResponse(self.document(), self.status, self.headers, MEDIA_TYPE)


def media_type(request: Request) -> str:
    """Return the media type that a body declares, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_only(request: Request) -> None:
    """Refuse a body that is not declared as JSON."""
    if media_type(request) != "application/json":
        raise Problem(415, "unsupported_media_type", "send JSON as application/json")


def unavailable(detail: str, **more: Any) -> Problem:
    """Return the answer if Redis cannot accept a job: as far as is known, it was not accepted."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Problem(503, "unavailable", detail, headers=headers, **more)


def start_deadline(scope: MutableMapping[str, Any]) -> None:
    """Start the time within which Redis must answer; restart it after a deliberate wait."""
    now_s = asyncio.get_running_loop().time()
    scope["sendcode.deadline"] = now_s + scope["sendcode.answer_s"]


async def ask(request: Request, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that uses Redis in a thread, and wait for it until the request's deadline.

    Raises:
        Problem: 503, it took too long; the function may succeed all the same.
        RedisUnavailableError: it failed.
    """
    settings: Settings = request.app.state.settings
    try:
        async with asyncio.timeout_at(request.scope["sendcode.deadline"]):
            return await run_in_threadpool(function, *arguments)
    except TimeoutError:
        raise unavailable(f"Redis at {settings.redis.place} does not answer in time") from None
    except redis.RedisError as exc:
        raise RedisUnavailableError.from_redis(exc, settings) from exc


def _methods_of(app: FastAPI, path: str) -> set[str]:
    """Return the methods that a path allows: Starlette names those of one route only."""
    paths: dict[str, Any] = app.openapi()["paths"]
    matching = [path] if path in paths else paths
    return {
        method.upper()
        for each in matching
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), path)
        for method in paths[each]
    }


def answer_with_problems(app: FastAPI, answer: Callable[[Request, Problem], Response]) -> None:
    """Answer every error of the app, by `answer`: as a problem document, or as a page."""

    @app.exception_handler(Problem)
    async def refused(request: Request, exc: Problem) -> Response:
        return answer(request, exc)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> Response:
        # without input and context, as they may hold a number
        errors = [
            ProblemField(
                ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0]),
                str(error["type"]),
                str(error["msg"]),
            )
            for error in exc.errors()
        ]
        if any(error["type"] == "json_invalid" for error in exc.errors()):
            return answer(request, Problem(400, "malformed", "the body is not a JSON document"))
        names = ", ".join(error.field for error in errors)
        detail = f"wrong or missing: {names}"
        return answer(request, Problem(422, "invalid_request", detail, errors=errors))

    @app.exception_handler(LedgerRefusedError)
    @app.exception_handler(SealedError)
    @app.exception_handler(RedisUnavailableError)
    async def redis_gone(request: Request, exc: Exception) -> Response:
        return answer(request, unavailable(str(exc)))

    @app.exception_handler(redis.RedisError)
    async def redis_failed(request: Request, exc: redis.RedisError) -> Response:
        settings: Settings = request.app.state.settings
        return answer(request, unavailable(str(RedisUnavailableError.from_redis(exc, settings))))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, exc: HTTPException) -> Response:
        code = HTTPStatus(exc.status_code).phrase.lower().replace(" ", "_")
        if exc.status_code == HTTPStatus.BAD_REQUEST:  # by FastAPI, for an unparsable body
            code = "malformed"
        headers = dict(exc.headers or {})
        if exc.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = sorted(_methods_of(app, request.url.path))
            headers["Allow"] = ", ".join(allowed) or headers.get("Allow", "")
        return answer(request, Problem(exc.status_code, code, str(exc.detail), headers=headers))
