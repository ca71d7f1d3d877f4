"""Signing in and out, and the static files, which the sign-in page needs, too."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from producer.web.console.frame import (
    SESSION,
    STATIC,
    Viewer,
    authenticate,
    check_form,
    csrf_token,
    keep_session,
    own_path,
    redirect,
    render,
    static_file,
    visitor_of,
)
from producer.web.problems import Problem, ask
from producer.web.services import services

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Return a static file; besides the sign-in page, only these need no session."""
    if name not in STATIC:
        raise Problem(404, "not_found", "there is no such file")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(static_file(name), 200, headers, STATIC[name])


@router.get("/login")
async def sign_in(request: Request, next: str = "/") -> Response:  # noqa: A002 (in the address)
    """Show the sign-in page."""
    if await visitor_of(request):
        return redirect(request, own_path(next))
    return await _sign_in_page(request, next)


@router.post("/login")
async def signed_in(
    request: Request,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002 (in the form)
) -> Response:
    """Begin a session; each wrong password is answered later than the last."""
    await check_form(request, csrf_token(request.cookies.get(SESSION) or secrets.token_hex()))
    user = await authenticate(request, name, password)
    if user is None:
        return await _sign_in_page(request, next, name=name, status=401)
    response = redirect(request, own_path(next))
    secret = await ask(request, services(request).users.begin_session, user)
    keep_session(request, response, secret)
    return response


@router.post("/logout")
async def sign_out(request: Request, _: Viewer) -> Response:
    """End the session."""
    await ask(request, services(request).users.end_session, request.cookies[SESSION])
    response = redirect(request, "/login", "login.signed_out")
    response.delete_cookie(SESSION)
    return response


async def _sign_in_page(
    request: Request, back: str, *, name: str = "", status: int = 200
) -> HTMLResponse:
    """Return the page; its form's token belongs to a cookie that is not a session yet."""
    secret = request.cookies.get(SESSION) or secrets.token_urlsafe(32)
    has_users = bool(await ask(request, services(request).users.all))
    page = render(
        request,
        "login.html",
        status=status,
        csrf_token=csrf_token(secret),
        name=name,
        next=own_path(back),
        is_wrong=status != 200,  # noqa: PLR2004
        has_users=has_users,
    )
    keep_session(request, page, secret)
    return page
