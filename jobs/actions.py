"""What people did (halt, pause, requeue, drop …): a list in the ledger, the newest first.

Each entry is written by the script that does the thing, in the same step; `note` writes what no
script does. Its reason is sealed.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import redis

from config.logging import fields as log_fields
from config.redis import error_code
from config.settings import Settings
from jobs.job import iso
from jobs.keys import Keys
from jobs.scripts import time_ms
from jobs.vault import Vault, text_binding

log = logging.getLogger("sendcode.actions")


def somebody() -> str:
    """Return whose process this is, as far as the machine knows: `user@host`."""
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user needs no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a person did."""

    token: str = field(default_factory=lambda: secrets.token_hex(8))
    """Of one decision: a script recognizes by it what it has done already, in whatever call."""
    at_ms: int = 0
    """On Redis' clock: 0 until the script notes it."""
    what: str = ""
    """`halt`, `resume`, `batch pause`, `dead requeue` …"""
    about: str = ""
    """A batch's id, or which dead letters: "code InternalError of batch b1"."""
    jobs: int | None = None
    reason: str = ""
    by: str = field(default_factory=somebody)

    def encode(self, vault: Vault | None = None) -> str:
        """Return it as the list has it; a reason is sealed.

        Raises:
            ValueError: there is a reason, and no vault.
        """
        values = asdict(self)
        if self.reason:
            if vault is None:
                raise ValueError("a person's reason is not kept in the clear")
            values["reason"] = vault.seal_text(self.reason, text_binding("action", self.token))
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False)

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        del values["token"]
        return {"at": iso(values.pop("at_ms")), **values}


_KEPT = 10_000
_COMPARED = 50


def note(
    client: redis.Redis, settings: Settings, action: Action, *, not_within_s: float = 0
) -> None:
    """Note what was done without a script, such as a file that was taken; done now.

    `not_within_s`: unless the same was noted within that time, as far as the newest actions tell. A
    program that asks again and again would leave no room for anything else.

    Where Redis takes no writes (it is full, or lacks replicas), that is logged: what can still be
    read must not be held back.
    """
    key = Keys(settings.sendcode_key_prefix).actions
    now_ms = time_ms(client.time())
    if not_within_s:
        since_ms, same = now_ms - 1000 * not_within_s, (action.what, action.about, action.by)
        for each in recent_actions(client, settings, _COMPARED):
            if each.at_ms > since_ms and (each.what, each.about, each.by) == same:
                return
    pipe = client.pipeline(transaction=True)
    pipe.lpush(key, replace(action, at_ms=now_ms).encode())
    pipe.ltrim(key, 0, _KEPT - 1)
    try:
        pipe.execute()
    except redis.ResponseError as exc:
        # not what it is about: a file's name may hold numbers
        known = log_fields(what=action.what, by=action.by, code=error_code(exc))
        log.warning("not noted who took full numbers: Redis refused it", extra=known)


def recent_actions(
    client: redis.Redis, settings: Settings, count: int, first: int = 0
) -> list[Action]:
    """Return `count` actions, the newest first, without the `first` newest.

    The list keeps 10,000.
    """
    key = Keys(settings.sendcode_key_prefix).actions
    texts: Any = client.lrange(key, first, first + count - 1)
    found = [Action(**known_fields(Action, json.loads(text))) for text in texts]
    vault = Vault(client, settings)
    return [
        replace(each, reason=vault.open_text(each.reason, text_binding("action", each.token)))
        for each in found
    ]


def known_fields(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return those of `values` that a dataclass has: a newer release may have written others."""
    return {each.name: values[each.name] for each in fields(kind) if each.name in values}
