"""What all pages of the console share: visitors, form tokens, rendering, language, messages.

A page is a plain function of its router:

    @router.get("/batches")
    async def batches(request: Request, viewer: Viewer) -> Response:
        found = await ask(request, ...)
        return render(request, "batches.html", live="live", batches=found)

With `live`, a request by htmx gets only that block of the template. A form is sent by POST, has
`{{ csrf() }}` in it and is answered by `redirect`; one with a file has `?csrf={{ csrf_token }}` in
its action instead, as its body is read last.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timezone
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, unquote

import anyio
import anyio.to_thread
from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jobs.job import iso
from jobs.masking import without_numbers
from producer.users import LIFE_S, Role, User
from producer.web.console.texts import LANGUAGES, Texts, language_for
from producer.web.problems import RETRY_AFTER_S, Problem, ask, media_type, start_deadline
from producer.web.services import services

T = TypeVar("T")

SESSION = "sendcode_session"
MAX_REASON = 300
"""Characters of a reason that a person writes, at most."""
_MESSAGE = "sendcode_said"
_MESSAGE_S = 60
_NEW_SESSION = "sendcode.new_session"
PASSWORDS = 2
"""Passwords checked at once: each takes 16 MB and a fifth of a second of a processor."""
MOST_WAITING = 10
"""Requests that wait for a password check: the last of them waits a second or two."""
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
STATIC = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "docs.css": "text/css",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class RedirectTo(Exception):  # noqa: N818 (no error)
    """What was requested is on another page; `args` has its address."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """The user who requests a page."""

    user: User
    csrf: str
    """The token that a form must send back."""
    by_proxy: bool = False
    """A proxy signed them in, and signs them out."""

    @property
    def name(self) -> str:
        """The name under which their actions are noted (`Action.by`)."""
        return self.user.name

    def may(self, role: str) -> bool:
        return self.user.role.includes(Role(role))


def needs_role(role: Role) -> Callable[[Request], Awaitable[Visitor]]:
    """Return a dependency that requires this role, and the form's token for a change."""

    async def dependency(request: Request) -> Visitor:
        visitor = await visitor_of(request)
        if visitor is None:
            raise RedirectTo(_sign_in_first(request))
        request.scope["sendcode.visitor"] = visitor
        request.scope["sendcode.user"] = visitor.name
        if not visitor.may(role):
            raise Problem(403, "forbidden", f"this needs the role {role}")
        if request.method in _CHANGES:
            await check_form(request, visitor.csrf)
        return visitor

    return dependency


Viewer = Annotated[Visitor, Depends(needs_role(Role.VIEWER))]
Operator = Annotated[Visitor, Depends(needs_role(Role.OPERATOR))]
Admin = Annotated[Visitor, Depends(needs_role(Role.ADMIN))]

MOST_PLACES = 10**9
"""No list is longer, so a request for a later place is refused."""
Page = Annotated[int, Query(le=MOST_PLACES)]


async def visitor_of(request: Request) -> Visitor | None:
    """Return who is signed in, if anybody is."""
    return await ask(request, _find_visitor, request)


def _find_visitor(request: Request) -> Visitor | None:
    """Find the visitor by the cookie; begin a session for a user newly named by a proxy."""
    users, secret = services(request).users, request.cookies.get(SESSION, "")
    name = forwarded(request, "x-forwarded-user")
    by_proxy, is_active = bool(name), not is_fragment(request)
    user = users.user_of(secret, by_proxy=by_proxy, is_active=is_active) if secret else None
    if by_proxy and (user is None or user.name != name):
        user = users.get(name)
        if user is None:
            raise Problem(403, "unknown_user", f"{name} is no user here: sendcode user add")
        secret = request.scope[_NEW_SESSION] = users.begin_session(user, by_proxy=True)
    return Visitor(user, csrf_token(secret), by_proxy) if user else None


def forwarded(request: Request, header: str) -> str:
    """Return a header if a trusted proxy sent it, else nothing.

    Of several values the last one is the proxy's own.
    """
    networks = services(request).settings.trusted_proxies
    if not networks or request.client is None:
        return ""
    peer = ip_address(request.client.host)
    peer = getattr(peer, "ipv4_mapped", None) or peer  # as an IPv6 socket reports it
    if not any(peer in network for network in networks):
        return ""
    values = request.headers.getlist(header)
    return values[-1].rpartition(",")[2].strip() if values else ""


async def run_hashing(request: Request, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that hashes a password; only a few run at once, as each takes long.

    Raises:
        Problem: 429, many are waiting already.
    """
    limiter: anyio.CapacityLimiter = request.app.state.hashing
    if limiter.statistics().tasks_waiting >= MOST_WAITING:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        raise Problem(429, "busy", "many passwords are being checked: try again", headers=headers)
    try:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter)
    finally:
        start_deadline(request.scope)  # Redis is not late because of a queue here


async def authenticate(request: Request, name: str, password: str) -> User | None:
    """Return the user if the password is right; None after a wait that grows by name and place."""
    guesses = services(request).user_guesses
    user = await run_hashing(request, services(request).users.authenticate, name, password)
    if user is not None:
        guesses.forget(f"user {name}")
        return user
    place = forwarded(request, "x-forwarded-for") or (request.client.host if request.client else "")
    of_place, of_name = guesses.add(place), guesses.add(f"user {name[:64]}")
    await asyncio.sleep(max(of_place, of_name))
    start_deadline(request.scope)
    return None


def csrf_token(secret: str) -> str:
    """Return the token for a session's forms; nobody can make it without the session's cookie."""
    return hmac.new(secret.encode(), b"form", hashlib.sha256).hexdigest()


async def check_form(request: Request, token: str) -> None:
    """Refuse what was not sent by one of our own forms."""
    given: Any = request.query_params.get("csrf")
    if given is None and media_type(request) == "application/x-www-form-urlencoded":
        given = (await request.form()).get("csrf")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), token.encode()):
        raise Problem(
            403, "stale_form", "this form belongs to another session: load the page again"
        )


def keep_session(request: Request, response: Response, secret: str) -> None:
    """Set the cookie of the browser's session."""
    _set_cookie(request, response, SESSION, secret, LIFE_S)


def _set_cookie(request: Request, response: Response, name: str, value: str, lives_s: int) -> None:
    is_over_tls = "https" in {
        request.url.scheme,
        forwarded(request, "x-forwarded-proto").lower(),
    }
    response.set_cookie(
        name, value, max_age=lives_s, httponly=True, samesite="lax", secure=is_over_tls
    )


def texts_of(request: Request) -> Texts:
    """Return the texts of the browser's language."""
    return Texts(language_for(request.headers.get("accept-language", "")))


def is_fragment(request: Request) -> bool:
    """Return whether htmx requests a part of the page that it shows."""
    return "hx-request" in request.headers


def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    live: str | None = None,
    is_over: bool = False,
    **values: Any,
) -> HTMLResponse:
    """Return a page, or only its title and the block `live` if htmx asks.

    `is_over`: what the page follows has ended, so htmx is told to stop polling.
    Templates have, besides `values`: `t` (texts), `visitor` (None on the sign-in page), `path`,
    `zone`, `message` (about the action just taken), `csrf()`, `csrf_token` and `is_over`.
    """
    visitor: Visitor | None = request.scope.get("sendcode.visitor")
    texts = texts_of(request)
    token = visitor.csrf if visitor else values.pop("csrf_token", "")
    hidden = Markup('<input type="hidden" name="csrf" value="{}">').format(token)
    message = None if is_fragment(request) else _message(request, texts)
    page = templates().get_template(template)
    context = {
        "t": texts,
        "lang": LANGUAGES[texts.language],
        "visitor": visitor,
        "path": request.url.path,
        "zone": zone_name(),
        "message": message,
        "csrf_token": token,
        "csrf": lambda: hidden,
        "is_over": is_over,
        **values,
    }
    if live is not None and is_fragment(request):
        whole = page.new_context(context)
        title = "".join(page.blocks["title"](whole)) if "title" in page.blocks else ""
        body = "".join(page.blocks[live](whole))
        status = 286 if is_over else status
        response = HTMLResponse(f"<title>{title} · sendcode</title>\n{body}", status)
    else:
        response = HTMLResponse(page.render(context), status)
    if _MESSAGE in request.cookies and not is_fragment(request):
        response.delete_cookie(_MESSAGE)
    if _NEW_SESSION in request.scope:
        keep_session(request, response, request.scope[_NEW_SESSION])
    return response


def redirect(request: Request, url: str, message: str | None = None, **values: Any) -> Response:
    """Return the answer to a form: a redirect to the page that shows the result.

    `message` is the key of a text that the page shows once, with its values.
    """
    response = RedirectResponse(url, 303)
    if message is not None:
        kept = json.dumps([message, values], default=str)
        _set_cookie(request, response, _MESSAGE, quote(kept), _MESSAGE_S)
    return response


def _message(request: Request, texts: Texts) -> Markup | None:
    kept = request.cookies.get(_MESSAGE)
    if not kept:
        return None
    try:
        key, values = json.loads(unquote(kept))
        return texts(key, **values)
    except (ValueError, TypeError, KeyError):  # not set by us
        return None


def answer_redirect(request: Request, exc: Exception) -> Response:
    """Redirect a page, or htmx when it asked for a part of one, to where `RedirectTo` says."""
    (url,) = exc.args
    if is_fragment(request):
        return Response(None, 204, {"HX-Redirect": url})
    return RedirectResponse(url, 303)


def _sign_in_first(request: Request) -> str:
    """Return the address of the sign-in page, which leads back to the requested page."""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if back == "/" or request.method in _CHANGES or is_fragment(request):
        return "/login"
    return f"/login?next={quote(back, safe='/')}"


def own_path(text: str | None) -> str:
    """Return `text` if it is a path of ours to redirect to, else the home page's."""
    text = text or "/"
    is_ours = text.startswith("/") and not text.startswith("//") and "\\" not in text
    return text if is_ours and text.isprintable() else "/"


def wants_page(request: Request) -> bool:
    """Return whether a browser asks, which shows the answer to a person."""
    is_api = request.url.path.startswith("/v1/")
    return not is_api and ("text/html" in request.headers.get("accept", "") or is_fragment(request))


def problem_page(request: Request, problem: Problem) -> Response:
    """Return a page that says what is wrong and what to do."""
    page = render(request, "problem.html", status=problem.status, problem=problem)
    page.headers.update(problem.headers)
    return page


def reason_of(text: str) -> str:
    """Return a person's reason in the form in which it is kept: on one line, without numbers.

    Raises:
        Problem: 422 `reason_too_long`.
    """
    reason = " ".join(text.split())
    if len(reason) > MAX_REASON:
        detail = f"a reason has at most {MAX_REASON} characters"
        raise Problem(422, "reason_too_long", detail)
    return without_numbers(reason)


@cache
def templates() -> Environment:
    """Return the template environment, with filters for numbers and times."""
    environment = Environment(
        loader=PackageLoader("producer.web", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset
    environment.globals["MAX_REASON"] = MAX_REASON
    environment.globals["HTTPStatus"] = HTTPStatus
    environment.filters.update(number=number, moment=moment, clock=clock, iso=iso)
    environment.filters.update(first_upper=first_upper, without_numbers=without_numbers)
    return environment


def number(value: float) -> str:
    """Return a number as people read it: 12,345."""
    return f"{value:,.0f}" if isinstance(value, int) else f"{value:,.4g}"


def first_upper(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def moment(at_ms: int | None) -> Markup:
    """Return a past time in the server's zone: 10:02:31 if it is today, else with its date."""
    return _time(at_ms, "%H:%M:%S") if at_ms else Markup("-")


def clock(at_ms: int) -> Markup:
    """Return a future time, or one that needs no seconds: 10:02."""
    return _time(at_ms, "%H:%M")


def _time(at_ms: int, of_day: str) -> Markup:
    """Return a `<time>` element; console.js shows it in the browser's zone, in the same format."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    local = at.astimezone()
    is_today = local.date() == datetime.now(UTC).astimezone().date()
    text = f"{local:{of_day}}" if is_today else f"{local:%Y-%m-%d %H:%M}"
    return Markup('<time datetime="{}">{}</time>').format(f"{at:%Y-%m-%dT{of_day}Z}", text)


def zone_name() -> str:
    """Return the server's zone, for pages without scripts: "UTC", "UTC+08:00"."""
    offset = datetime.now().astimezone().utcoffset()
    return str(timezone(offset)) if offset is not None else "UTC"


@cache
def static_file(name: str) -> bytes:
    """Return the content of a file in `pages/`."""
    return (files("producer.web") / "pages" / name).read_bytes()


@cache
def asset(name: str) -> str:
    """Return a static file's address, which changes with its content, so browsers may cache it."""
    return f"/static/{name}?v={hashlib.sha256(static_file(name)).hexdigest()[:12]}"
