"""Loads the Lua scripts: each is the key table, the functions they share, and its own text.

`pairs` reads the hashes in their replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import redis

from jobs.keys import Keys

_SHARED = (
    *("damage", "fields", "clock", "actions", "account", "numbers", "identity"),
    *("jobs", "doubts", "story", "arrivals", "endings"),
)
"""In the order in which they build upon each other."""


class Script(Protocol):
    """A script bound to one Redis client and one key prefix."""

    def __call__(self, *, args: list[str | bytes | int | float]) -> Any:
        """Run it. It may be applied twice by a client that tries again: each is made for that."""


def load_script(client: redis.Redis, keys: Keys, name: str, package: str = "jobs.lua") -> Script:
    """Bind `name`.lua of `package` to `client`; nothing is sent before its first call."""
    script: Script = client.register_script(prelude(keys) + _text(package, name))
    return script


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """Read a hash in a script's reply, where names and values take turns."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def prelude(keys: Keys) -> str:
    """Give what stands in front of every script."""
    return keys.lua() + "".join(_text("jobs.lua", f"shared/{name}") for name in _SHARED)


@cache
def _text(package: str, name: str) -> str:
    return files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")
