"""The web application: its routes, limits on request bodies, headers and access log."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.logging import fields, set_level
from config.rereading import CHECK_EVERY_S
from config.settings import Settings
from jobs.keys import Keys
from producer.web import batches, codes, description, metrics
from producer.web.console import ROUTERS, prepare_console
from producer.web.console.frame import problem_page, wants_page
from producer.web.guesses import LONGEST_DELAY_S
from producer.web.problems import Problem, answer_with_problems, ask, start_deadline
from producer.web.schemas import PROBLEM_SCHEMAS
from producer.web.services import Services, services
from producer.web.uploads import UPLOAD_PATHS, parts_of

log = logging.getLogger("sendcode.web")

BODY_S = 10.0
"""Seconds in which a body of at most the following size must arrive."""
MAX_BODY = 4_096
MAX_FORM = 262_144
"""Bytes of a page's form, which may hold many corrected cells and ticked rows."""
ANSWER_S = 1.8
"""Seconds that Redis may take, so that a caller learns within two that it does not answer."""
THREADS = 64
"""Requests that may wait for Redis at once."""
_HEADERS = (
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'; "
        b"object-src 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def make_app(
    settings: Settings, *, answer_s: float = ANSWER_S, guess_delay_s: float = LONGEST_DELAY_S
) -> FastAPI:
    """Return the application; nothing is connected before it starts.

    `answer_s`: how long Redis may take until the caller gets a 503. `guess_delay_s`: how long the
    answer to a wrong token is delayed at most.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        app.state.services = Services(settings, guess_delay_s)
        following = asyncio.create_task(_follow_log_level(settings))
        try:
            yield
        finally:
            following.cancel()
            app.state.services.close()

    app = _App(
        title="sendcode",
        description="Sends verification codes: nothing lost, nothing twice, never above the limit.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would send a caller, with the number, to http:// and any host
        separate_input_output_schemas=False,
        # its own spans hold raw paths and queries, and its logs what was refused: a caller may
        # have put a number there by mistake. Ours are in config/tracing.py.
        telemetry={"tracing": False, "logs": False, "metrics": False, "auto_configure": False},
    )
    app.state.settings = settings
    answer_with_problems(app, _problem_response)
    batches.answer_refusals(app)
    for router in (codes.router, batches.router, description.router, metrics.router, *ROUTERS):
        # as they are: include_router() would make each of them again, at the first request
        app.router.routes += router.routes
    prepare_console(app)

    @app.api_route("/livez", methods=["GET", "HEAD"], include_in_schema=False)
    async def live() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
    async def ready(request: Request) -> PlainTextResponse:
        await ask(request, _check_ledger, services(request))
        return PlainTextResponse("ok\n")

    app.add_middleware(_Frame, answer_s=answer_s)
    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["schemas"] |= PROBLEM_SCHEMAS
        return document


async def _follow_log_level(settings: Settings) -> None:
    """Keep the log level at what the settings' files say."""
    while True:
        await asyncio.sleep(CHECK_EVERY_S)
        set_level((await anyio.to_thread.run_sync(lambda: settings.now)).sendcode_log_level)


def _problem_response(request: Request, problem: Problem) -> Response:
    """Return a problem as a page for a browser, or as a document for a program."""
    return problem_page(request, problem) if wants_page(request) else problem.answer()


def _check_ledger(found: Services) -> None:
    """Raise unless Redis holds the ledger that it should, and takes writes."""
    found.identity.check()
    found.client.set(Keys(found.settings.sendcode_key_prefix).doctor, "", px=1000)


class _Frame:
    """Wraps every request: its id, a limit on its body, headers, one line in the access log.

    The line has the route as declared, not the path requested: a caller may have put a number
    there by mistake.
    """

    def __init__(self, app: ASGIApp, answer_s: float) -> None:
        self._app = app
        self._answer_s = answer_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        scope["sendcode.answer_s"] = self._answer_s
        start_deadline(scope)
        request_id = secrets.token_hex(8)
        status: int | None = None

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", request_id.encode())
                given = {name for name, _ in message["headers"]}
                more = [each for each in _HEADERS if each[0] not in given]
                message["headers"] = [*message["headers"], *more, own]
            await send(message)

        app = self._app
        try:
            if scope["path"] not in UPLOAD_PATHS:
                most = MAX_BODY if scope["path"].startswith("/v1/") else MAX_FORM
                try:
                    parts = parts_of(Request(scope, receive), most, BODY_S)
                    receive = _replay(b"".join([part async for part in parts]), receive)
                    start_deadline(scope)
                except Problem as exc:
                    app = _problem_response(Request(scope), exc)
            await app(scope, receive, framed)
        except Exception as exc:  # noqa: BLE001 (an answer already begun is cut off)
            place = traceback.extract_tb(exc.__traceback__)[-1]  # its text may hold a number
            where = f"{place.filename}:{place.lineno}"
            what = fields(request_id=request_id, error=type(exc).__name__, where=where)
            log.error("a request failed", extra=what)  # noqa: TRY400 (so may the traceback's)
            if status is None:
                problem = Problem(500, "internal_error", "an unexpected error; the log has it")
                await _problem_response(Request(scope), problem)(scope, receive, framed)
        finally:
            route = scope.get("route")
            log.info(
                "request",
                extra=fields(
                    method=scope["method"],
                    route=getattr(route, "path", None),
                    status=status,
                    duration_ms=round((time.monotonic() - began) * 1000, 1),
                    token=scope.get("sendcode.token"),
                    user=scope.get("sendcode.user"),
                    request_id=request_id,
                ),
            )


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields a body read already, and then whatever follows."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return parts.pop() if parts else await receive()

    return again
