"""Who may use the HTTP API: tokens with a name and scopes, of which the ledger keeps the SHA-256.

A token is a random text that is shown once. A name has two at a time at most, so that a backend can
take the new one before the old one is revoked. What is revoked is refused from the next request on:
each asks the ledger.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from config import SendcodeError
from jobs.actions import Action, somebody
from jobs.job import iso
from jobs.scripts import LedgerPart, pairs, time_ms

PREFIX = "sct_"
"""How every token begins, so that a scanner of source code can find one."""
MOST_PER_NAME = 2
_USE_NOTED_EVERY_MS = 60_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Scope(StrEnum):
    """What a token allows."""

    SEND = "send"
    """One code at a time, and what became of those that a token of its name asked for."""
    READ = "read"
    """Jobs, batches and status; no results, which hold full numbers, and no other token's keys and
    references. With `test`: the jobs of tests, and figures."""
    BATCH = "batch"
    """Batches with all that belongs to them."""
    ADMIN = "admin"
    """All of that."""
    TEST = "test"
    """As `send`, but the jobs are tests. A release that does not know this scope
    lets its tokens send nothing at all."""


class TokenRefusedError(SendcodeError, ValueError):
    """A token cannot be made or revoked so; the message says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without its secret. Times are Unix milliseconds on Redis' clock."""

    id: str
    """The first eight hexadecimal digits of its SHA-256."""
    name: str
    scopes: tuple[str, ...]
    created_ms: int
    created_by: str = ""
    used_ms: int | None = None
    """When it was last used, to the minute."""

    @property
    def is_test(self) -> bool:
        """Whether nothing that it asks for is sent."""
        return Scope.TEST in self.scopes

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "scopes": list(self.scopes),
            "created_at": iso(self.created_ms),
            "created_by": self.created_by,
            "used_at": iso(self.used_ms) if self.used_ms else None,
        }


class Tokens(LedgerPart):
    """The tokens of one key prefix on one Redis."""

    def new(self, name: str, scopes: Collection[str], by: str | None = None) -> tuple[Token, str]:
        """Make a token; return it and its secret, which cannot be recovered.

        Raises:
            TokenRefusedError: the name or a scope makes no sense, or the name has two already.
        """
        if not _NAME.fullmatch(name):
            raise TokenRefusedError(
                "name: must be 1 to 64 letters, digits, dots, dashes and underscores"
            )
        strange = sorted(set(scopes) - set(Scope))
        if strange or not scopes:
            known = ", ".join(Scope)
            raise TokenRefusedError(f"scope: {', '.join(strange) or 'none'}: must be among {known}")
        if Scope.TEST in scopes and not set(scopes) <= {Scope.TEST, Scope.READ}:
            raise TokenRefusedError("scope: a test token may have read beside it, and nothing else")
        secret = PREFIX + secrets.token_urlsafe(32)
        digest = _digest(secret)
        action = Action(what="token new", about=name, by=by or somebody())
        values = {"name": name, "scopes": sorted(set(scopes)), "created_by": action.by}
        done, *when = self._change("new", name, action, digest=digest, values=json.dumps(values))
        if done == "full":
            raise TokenRefusedError(
                f"{name}: has {MOST_PER_NAME} tokens already: revoke the one that is not used"
            )
        return _decode(digest, json.dumps(values), {"created:" + digest: when[0]}), secret

    def all(self) -> list[Token]:
        """Return all tokens, by name and age."""
        names = (self.keys.tokens, self.keys.tokens_used)
        texts, used = self.ask_all(("HGETALL", name) for name in names)
        tokens = [_decode(digest, text, used) for digest, text in texts.items()]
        return sorted(tokens, key=lambda each: (each.name, each.created_ms))

    def revoke(self, name_or_id: str, by: str | None = None) -> list[Token]:
        """End all tokens of a name, or the one of an id; return them."""
        action = Action(what="token revoke", about=name_or_id, by=by or somebody())
        done, *gone = self._change("revoke", name_or_id, action)
        return [_decode(d, text, {}) for d, text in pairs(gone).items()] if done == "done" else []

    def authenticate(self, secret: str) -> Token | None:
        """Return the token with this secret, and note that it was used; None if there is none.

        The secret's SHA-256 is looked up, so the time it takes reveals nothing about other secrets.
        """
        if not secret.startswith(PREFIX):
            return None
        digest = _digest(secret)
        text, (used, created), now = self.ask_all(
            [
                ("HGET", self.keys.tokens, digest),
                ("HMGET", self.keys.tokens_used, digest, f"created:{digest}"),
                ("TIME",),
            ]
        )
        if text is None:
            return None
        now_ms = time_ms(now)
        if now_ms - int(used or 0) >= _USE_NOTED_EVERY_MS:
            self.client.hset(self.keys.tokens_used, digest, now_ms)
        return _decode(digest, text, {digest: used, f"created:{digest}": created})

    def _change(
        self, verb: str, name: str, action: Action, digest: str = "", values: str = ""
    ) -> list[Any]:
        reply: list[Any] = self.run_script(
            "tokens",
            verb=verb,
            digest=digest,
            name=name,
            values=values,
            most=MOST_PER_NAME,
            action=action.encode(),
        )
        return reply


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _decode(digest: str, text: str, times: Mapping[str, Any]) -> Token:
    values = json.loads(text)
    used = times.get(digest)
    return Token(
        digest[:8],
        values["name"],
        tuple(values["scopes"]),
        int(times.get(f"created:{digest}") or 0),
        values.get("created_by", ""),
        int(used) if used else None,
    )
