"""Messages that were no job, as workers put them aside: the newest 100, for 30 days.

Nobody knows what a stranger's message holds, so its content is sealed (jobs/vault.py).
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

import redis

from config.logging import fields
from config.redis import error_code
from config.settings import Settings
from jobs.actions import known_fields
from jobs.job import iso
from jobs.keys import Keys
from jobs.scripts import time_ms
from jobs.vault import SealedError, Vault

log = logging.getLogger("sendcode.quarantine")

_MAX_ENTRIES = 100
_KEPT_S = 30 * 86_400
"""Seconds since the youngest entry."""
_MAX_KEPT_CHARACTERS = 2_000
BOUND_TO = "quarantine"


@dataclass(frozen=True, slots=True)
class PutAside:
    """A message that was no job."""

    at_ms: int = 0
    """On Redis' clock."""
    queue: str = ""
    reason: str = ""
    size: int = 0
    """Of all of it, in characters."""
    content: str | None = None
    """How it begins; None if the key that sealed it is not here."""

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {"at": iso(values.pop("at_ms")), **values}


def put_aside(
    client: redis.Redis, settings: Settings, queue: str, reason: str, content: str
) -> None:
    """Keep the start of a message's content, sealed; never raises an error of Redis."""
    size = len(content)
    log.error(
        "message put aside: it is no job", extra=fields(queue=queue, reason=reason, size=size)
    )
    key = Keys(settings.sendcode_key_prefix).quarantine
    start = content[:_MAX_KEPT_CHARACTERS].encode(errors="backslashreplace")
    try:
        sealed = Vault(client, settings).seal(start, BOUND_TO)
        entry = PutAside(time_ms(client.time()), queue, reason, size, sealed)
        with client.pipeline() as pipe:
            pipe.lpush(key, json.dumps(asdict(entry)))
            pipe.ltrim(key, 0, _MAX_ENTRIES - 1)
            pipe.expire(key, _KEPT_S)
            pipe.execute()
    except redis.RedisError as exc:
        log.warning("message not kept", extra=fields(error=error_code(exc)))


def read_quarantine(client: redis.Redis, settings: Settings) -> list[PutAside]:
    """Return what was put aside, the newest first."""
    vault = Vault(client, settings)
    texts: Any = client.lrange(Keys(settings.sendcode_key_prefix).quarantine, 0, -1)
    found = []
    for text in texts:
        values = known_fields(PutAside, json.loads(text))
        try:
            values["content"] = vault.open(values.get("content", ""), BOUND_TO).decode()
        except SealedError:
            values["content"] = None
        found.append(PutAside(**values))
    return found
