"""Who may use the console: users with a role and a password, and the sessions of those signed in.

The ledger keeps a password's scrypt hash and a session's SHA-256. Each request asks the ledger, so
removing a user, or changing a password or role, takes effect at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from config import SendcodeError
from jobs.actions import Action, somebody
from jobs.job import iso
from jobs.scripts import LedgerPart, time_ms

SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200
IDLE_S = 2 * 3_600
"""A session ends when its user does nothing for so long; a page's own refresh does not count."""
LIFE_S = 12 * 3_600
"""A session ends after that in any case."""
_COST, _BLOCK, _PARALLEL = 2**14, 8, 5
"""Of scrypt: 16 MB and a fifth of a second, as OWASP's Password Storage Cheat Sheet advises."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


class Role(StrEnum):
    """What a user may do; each may do all that the one before may."""

    VIEWER = "viewer"
    """Look at everything; change nothing, and take no file with full numbers."""
    OPERATOR = "operator"
    """Submit and steer batches, deal with what failed, halt and resume."""
    ADMIN = "admin"
    """Users and tokens, too."""

    def includes(self, other: Role) -> bool:
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


class UserRefusedError(SendcodeError, ValueError):
    """A user cannot be made or changed so; `code` says why to programs, the message to people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LastAdminError(UserRefusedError):
    """Nobody could manage the users any more: another admin comes first."""


@dataclass(frozen=True, slots=True)
class User:
    """A user, without the password's hash."""

    name: str
    role: Role
    has_password: bool
    """Without one only a trusted proxy can vouch for them (`SENDCODE_TRUSTED_PROXY`)."""
    created_ms: int
    """Unix milliseconds on Redis' clock."""
    created_by: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "role": self.role,
            "has_password": self.has_password,
            "created_at": iso(self.created_ms),
            "created_by": self.created_by,
        }


class Users(LedgerPart):
    """The users of one key prefix on one Redis."""

    def add(self, name: str, role: str, password: str | None, by: str | None = None) -> User:
        """Add a user; without a password only a trusted proxy can vouch for them.

        Raises:
            UserRefusedError: the name, role or password will not do, or there is such a user.
        """
        if not _NAME.fullmatch(name):
            raise UserRefusedError(
                "name",
                "name: must be 1 to 64 letters, digits and . _ @ + -, beginning with one of the "
                "first two",
            )
        values = {
            "role": _role(role),
            "hash": None if password is None else _hash(_checked(password)),
            "stamp": secrets.token_hex(8),
            "created": time_ms(self.client.time()),
            "created_by": by or somebody(),
        }
        action = Action(what="user add", about=f"{name} ({role})", by=by or somebody())
        if self._change("add", name, values, action) == "taken":
            raise UserRefusedError("taken", f"there is a user {name} already")
        return _decode(name, values)

    def all(self) -> list[User]:
        found: Any = self.client.hgetall(self.keys.users)
        return [_decode(name, json.loads(text)) for name, text in sorted(found.items())]

    def get(self, name: str) -> User | None:
        values = self._values(name)
        return _decode(name, values) if values else None

    def remove(self, name: str, by: str | None = None) -> bool:
        """Remove a user; all their sessions are over. Return whether there was one.

        Raises:
            LastAdminError: they are the only admin.
        """
        action = Action(what="user remove", about=name, by=by or somebody())
        return self._change("remove", name, {}, action) == "done"

    def set_password(self, name: str, password: str, by: str | None = None) -> bool:
        """Set a user's password; all their sessions are over. False if there is none.

        Raises:
            UserRefusedError: the password will not do.
        """
        changes = {"hash": _hash(_checked(password)), "stamp": secrets.token_hex(8)}
        action = Action(what="user password", about=name, by=by or somebody())
        return self._change("change", name, changes, action) == "done"

    def set_role(self, name: str, role: str, by: str | None = None) -> bool:
        """Set a user's role, from their next request on. False if there is no such user.

        Raises:
            UserRefusedError: there is no such role.
            LastAdminError: they are the only admin.
        """
        action = Action(what="user role", about=f"{name} ({role})", by=by or somebody())
        return self._change("change", name, {"role": _role(role)}, action) == "done"

    def authenticate(self, name: str, password: str) -> User | None:
        """Return the user if this is their password; it takes as long if there is none."""
        values = self._values(name)
        kept = (values or {}).get("hash") or _DUMMY_HASH
        is_right = hmac.compare_digest(_hash(password, kept), kept)
        return _decode(name, values) if values and is_right and kept != _DUMMY_HASH else None

    def begin_session(self, user: User, *, by_proxy: bool = False) -> str:
        """Return the secret of a new session; `by_proxy`: valid only for requests through it."""
        secret = secrets.token_urlsafe(32)
        key, values = self.keys.session(_digest(secret)), self._values(user.name) or {}
        began = time_ms(self.client.time())
        session: dict[Any, Any] = {
            "user": user.name,
            "stamp": values.get("stamp", ""),
            "began": began,
            "by_proxy": int(by_proxy),
        }
        pipe = self.client.pipeline()
        pipe.hset(key, mapping=session)
        pipe.expire(key, IDLE_S)
        pipe.execute()
        return secret

    def user_of(
        self, secret: str, *, by_proxy: bool = False, is_active: bool = True
    ) -> User | None:
        """Return the user of a valid session, which is extended if the request `is_active`."""
        key = self.keys.session(_digest(secret))
        session, now = self.ask_all([("HGETALL", key), ("TIME",)])
        if not session or time_ms(now) - int(session["began"]) >= LIFE_S * 1000:
            return None
        values = self._values(session["user"])
        if values is None or values["stamp"] != session["stamp"]:
            return None
        if session["by_proxy"] != str(int(by_proxy)):
            return None
        if is_active:
            self.client.expire(key, IDLE_S)
        return _decode(session["user"], values)

    def end_session(self, secret: str) -> None:
        self.client.delete(self.keys.session(_digest(secret)))

    def _values(self, name: str) -> dict[str, Any] | None:
        text: Any = self.client.hget(self.keys.users, name)
        values: dict[str, Any] | None = json.loads(text) if text else None
        return values

    def _change(self, verb: str, name: str, values: dict[str, Any], action: Action) -> str:
        done: str = self.run_script(
            "users", verb=verb, name=name, values=json.dumps(values), action=action.encode()
        )
        if done == "last_admin":
            raise LastAdminError(done, f"{name} is the only admin: add another one first")
        return done


def _role(role: str) -> str:
    if role not in set(Role):
        raise UserRefusedError("role", f"role: must be one of {', '.join(Role)}")
    return role


def _checked(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UserRefusedError(
            "password",
            f"password: must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters",
        )
    return password


def _hash(password: str, like: str = "") -> str:
    """Return "scrypt$n$r$p$salt$hash"; `like`: the hash whose salt to use."""
    _, n, r, p, salt, _ = like.split("$") if like else ("", _COST, _BLOCK, _PARALLEL, "", "")
    raw = base64.b64decode(salt) if salt else secrets.token_bytes(16)
    made = hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=raw,
        n=int(n),
        r=int(r),
        p=int(p),
        maxmem=2**27,
        dklen=32,
    )
    parts = ("scrypt", n, r, p, base64.b64encode(raw).decode(), base64.b64encode(made).decode())
    return "$".join(map(str, parts))


_DUMMY_HASH = "$".join(("scrypt", str(_COST), str(_BLOCK), str(_PARALLEL), "c2VuZGNvZGU=", "AA=="))
"""What a password is compared with where there is no such user; no password matches it."""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _decode(name: str, values: dict[str, Any]) -> User:
    return User(
        name, Role(values["role"]), bool(values["hash"]), values["created"], values["created_by"]
    )
