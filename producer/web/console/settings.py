"""One's own password; for admins the users of the console and the tokens of the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from config.flower import FLOWER_PORT
from producer.tokens import Scope, TokenRefusedError
from producer.users import LastAdminError, Role, User, UserRefusedError
from producer.web.console.frame import (
    Admin,
    Viewer,
    Visitor,
    authenticate,
    keep_session,
    redirect,
    render,
    run_hashing,
)
from producer.web.problems import Problem, ask
from producer.web.services import services

router = APIRouter(include_in_schema=False)

Name = Annotated[str, Form(max_length=64)]
Password = Annotated[str, Form()]
Scopes = Annotated[tuple[str, ...], Form()]


@router.get("/settings")
async def settings(request: Request, visitor: Viewer) -> Response:
    """Show what this user may set."""
    return await _page(request, visitor)


async def _page(request: Request, visitor: Visitor, status: int = 200, **more: Any) -> Response:
    is_admin = visitor.may(Role.ADMIN)
    users = await ask(request, services(request).users.all) if is_admin else []
    tokens = await ask(request, services(request).tokens.all) if is_admin else []
    values: dict[str, Any] = {
        "users": users,
        "tokens": tokens,
        "roles": list(Role),
        "scopes": list(Scope),
        "flower": _flower(request),
        "wrong": None,
        "wrong_in": None,
        "token": None,
    }
    return render(request, "settings.html", status=status, **values | more)


def _flower(request: Request) -> str | None:
    """Return Flower's address, if the browser runs on the same machine as the console."""
    host = request.url.hostname
    return f"http://{host}:{FLOWER_PORT}/" if host in {"127.0.0.1", "localhost"} else None


@router.post("/settings/password")
async def change_own_password(
    request: Request, visitor: Viewer, password: Password = "", new: Password = ""
) -> Response:
    """Set the user's own password, and end their other sessions."""
    users = services(request).users
    if await authenticate(request, visitor.name, password) is None:
        return await _page(request, visitor, 422, wrong="password_wrong", wrong_in="own")
    try:
        await run_hashing(request, users.set_password, visitor.name, new, visitor.name)
    except UserRefusedError as exc:
        return await _page(request, visitor, 422, wrong=exc.code, wrong_in="own")
    response = redirect(request, "/settings", "settings.password_changed")
    keep_session(request, response, await ask(request, users.begin_session, visitor.user))
    return response


@router.post("/settings/users")
async def add_user(
    request: Request, admin: Admin, name: Name = "", role: Name = "", password: Password = ""
) -> Response:
    """Add a user; without a password they can only come through a trusted proxy."""
    try:
        await run_hashing(
            request, services(request).users.add, name.strip(), role, password or None, admin.name
        )
    except UserRefusedError as exc:
        return await _page(request, admin, 422, wrong=exc.code, wrong_in="user")
    return redirect(request, "/settings", "settings.user_added", name=name)


@router.get("/settings/users/{name}")
async def one_user(request: Request, name: str, _: Admin) -> Response:
    """Show the page to change or remove a user."""
    user = await _user(request, name)
    return render(request, "user.html", user=user, roles=list(Role), wrong=None)


@router.post("/settings/users/{name}/role")
async def change_role(
    request: Request, name: str, admin: Admin, role: Annotated[Role, Form()]
) -> Response:
    """Set another user's role."""
    user = await _other_user(request, name, admin)
    try:
        await ask(request, services(request).users.set_role, user.name, role, admin.name)
    except LastAdminError as exc:
        raise Problem(409, exc.code, str(exc)) from None
    return redirect(request, "/settings", "settings.role_changed", name=name)


@router.post("/settings/users/{name}/password")
async def change_password(
    request: Request, name: str, admin: Admin, password: Password = ""
) -> Response:
    """Set another user's password."""
    user = await _other_user(request, name, admin)
    try:
        await run_hashing(
            request, services(request).users.set_password, user.name, password, admin.name
        )
    except UserRefusedError as exc:
        roles = list(Role)
        return render(request, "user.html", status=422, user=user, roles=roles, wrong=exc.code)
    return redirect(request, "/settings", "settings.password_changed_of", name=name)


@router.post("/settings/users/{name}/remove")
async def remove_user(request: Request, name: str, admin: Admin) -> Response:
    """Remove another user."""
    user = await _other_user(request, name, admin)
    try:
        await ask(request, services(request).users.remove, user.name, admin.name)
    except LastAdminError as exc:
        raise Problem(409, exc.code, str(exc)) from None
    return redirect(request, "/settings", "settings.user_removed", name=name)


@router.post("/settings/tokens")
async def new_token(
    request: Request, admin: Admin, name: Name = "", scope: Scopes = ()
) -> Response:
    """Make a token, and show it, once."""
    try:
        token = await ask(request, services(request).tokens.new, name.strip(), scope, admin.name)
    except TokenRefusedError as exc:
        return await _page(request, admin, 422, wrong=str(exc), wrong_in="token")
    return await _page(request, admin, token=token)


@router.get("/settings/tokens/{token_id}")
async def one_token(request: Request, token_id: str, _: Admin) -> Response:
    """Ask for confirmation before a token is revoked."""
    tokens = await ask(request, services(request).tokens.all)
    token = next((each for each in tokens if each.id == token_id), None)
    if token is None:
        raise Problem(404, "not_found", "there is no such token")
    return render(request, "token.html", token=token)


@router.post("/settings/tokens/{token_id}/revoke")
async def revoke_token(request: Request, token_id: str, admin: Admin) -> Response:
    """Revoke a token."""
    revoked = await ask(request, services(request).tokens.revoke, token_id, admin.name)
    message = "settings.token_revoked" if revoked else "settings.token_gone"
    return redirect(request, "/settings", message, name=revoked[0].name if revoked else token_id)


async def _user(request: Request, name: str) -> User:
    user = await ask(request, services(request).users.get, name)
    if user is None:
        raise Problem(404, "not_found", "there is no such user")
    return user


async def _other_user(request: Request, name: str, admin: Visitor) -> User:
    """Return a user other than the admin who asks."""
    if name == admin.name:
        raise Problem(403, "oneself", "nobody removes or changes themselves here")
    return await _user(request, name)
