"""Messages that were no job, as workers put them aside: the newest 100, for 30 days.

Nobody knows what a stranger's message holds, so its content is sealed (jobs/vault.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import redis

from config.settings import Settings
from jobs.actions import known_fields
from jobs.job import iso
from jobs.keys import Keys
from jobs.vault import SealedError, Vault

MAX_ENTRIES = 100
KEPT_S = 30 * 86_400
"""Seconds since the youngest entry."""
MAX_KEPT_CHARACTERS = 2_000
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


def seal_content(client: redis.Redis, content: str, settings: Settings) -> str:
    """Return what is kept of a content; nothing where there is no data key, as in Flower."""
    if settings.sendcode_data_keys is None:
        return ""
    start = content[:MAX_KEPT_CHARACTERS].encode(errors="backslashreplace")
    return Vault(client, settings).seal(start, BOUND_TO)


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
