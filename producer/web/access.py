"""Who asks, and whether they may: bearer tokens, and patience with those who guess them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.security import HTTPBearer

from producer.tokens import Scope, Token, Tokens
from producer.web.problems import Problem, ask

_FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
_FORGOTTEN_AFTER_S = 600.0
_MOST_ADDRESSES = 10_000

bearer = HTTPBearer(auto_error=False, description="A token: sendcode token new NAME --scope send")


class Guesses:
    """Wrong tokens by address. Each answer to one more is later than the last, up to a bound."""

    def __init__(
        self, longest_s: float = LONGEST_DELAY_S, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._longest_s = longest_s
        self._now = now
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, address: str) -> float:
        """Count a wrong token; return the seconds to wait before the answer."""
        count, at = self._wrong.pop(address, (0, 0.0))
        now = self._now()
        count = count + 1 if now - at < _FORGOTTEN_AFTER_S else 1
        self._wrong[address] = count, now
        if len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)
        return float(min(self._longest_s, _FIRST_DELAY_S * 2 ** min(count - 1, 10)))

    def forget(self, address: str) -> None:
        """A right token came from there."""
        self._wrong.pop(address, None)


class Access:
    """Decides for one app."""

    def __init__(self, tokens: Tokens, guesses: Guesses) -> None:
        self._tokens = tokens
        self._guesses = guesses

    async def token(self, request: Request) -> Token:
        """Return the request's token.

        Raises:
            Problem: there is none, or it is not known; 401, after a while for those who guess.
        """
        address = request.client.host if request.client else ""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        headers = {"WWW-Authenticate": 'Bearer realm="sendcode"'}
        if kind.lower() != "bearer" or not secret:
            raise Problem(
                401, "unauthorized", "send a token: Authorization: Bearer …", headers=headers
            )
        token = await ask(request, self._tokens.authenticate, secret.strip())
        if token is None:
            await asyncio.sleep(self._guesses.add(address))
            raise Problem(
                401, "unauthorized", "this token is not known, or was revoked", headers=headers
            )
        self._guesses.forget(address)
        request.scope["sendcode.token"] = token.name
        return token


def needs(*scopes: Scope) -> Callable[[Request], Awaitable[Token]]:
    """Return a dependency that lets only tokens with one of these scopes in."""

    async def dependency(request: Request) -> Token:
        access: Any = request.app.state.access
        token: Token = await access.token(request)
        if not any(token.allows(scope) for scope in scopes):
            wanted = " or ".join(scopes)
            raise Problem(403, "forbidden", f"token {token.name} has no scope {wanted}")
        return token

    return dependency
