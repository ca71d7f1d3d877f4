"""Authentication and authorization by bearer tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from producer.tokens import Scope, Token
from producer.web.problems import Problem, ask
from producer.web.services import services

_bearer = HTTPBearer(auto_error=False, description="A token: sendcode token new NAME --scope send")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def needs(*scopes: Scope) -> Callable[[Request, Credentials], Awaitable[Token]]:
    """Return a dependency that lets only tokens with one of these scopes in.

    It raises a problem: 401 without a known token, after a growing delay for wrong ones; else 403.
    """

    async def dependency(request: Request, credentials: Credentials) -> Token:
        if credentials is None:
            raise _unauthorized("send a token: Authorization: Bearer …")
        guesses = services(request).token_guesses
        address = request.client.host if request.client else ""
        token = await ask(request, services(request).tokens.authenticate, credentials.credentials)
        if token is None:
            await asyncio.sleep(guesses.add(address))
            raise _unauthorized("this token is not known, or was revoked")
        guesses.forget(address)
        request.scope["sendcode.token"] = token.name
        if not any(token.allows(scope) for scope in scopes):
            wanted = " or ".join(scopes)
            raise Problem(403, "forbidden", f"token {token.name} has no scope {wanted}")
        return token

    return dependency


def _unauthorized(detail: str) -> Problem:
    headers = {"WWW-Authenticate": 'Bearer realm="sendcode"'}
    return Problem(401, "unauthorized", detail, headers=headers)
