"""Hears all that clients tell Redis outside of the ledger, and finds telephone numbers in it.

Messages, results, events and remote control all pass through Redis, so this is all that anybody
who looks at Celery, or at Flower, can ever see.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Collection
from typing import Self

from redis import Redis, exceptions

from tests.waiting import PATIENCE_S

_DIGITS = re.compile(r"\d+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")
_SCRIPTS = {"EVALSHA", "EVAL", "SCRIPT"}


def unwrapped(text: str) -> str:
    """Return a text with all that it holds in base64 beside it."""
    found = [text]
    for word in _BASE64.findall(text):
        try:
            found.append(base64.b64decode(word, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return "\n".join(found)


def numbers_in(text: str, numbers: Collection[str]) -> set[str]:
    """Return those of `numbers` that stand in a text, plainly or in base64."""
    return set(_DIGITS.findall(unwrapped(text))) & set(numbers)


class Eavesdropper:
    """Keeps each command, while it is entered, but for those on the ledger's own keys (`prefix`).

    The ledger and its scripts are left out: it is the one place that holds numbers.
    """

    def __init__(self, redis_url: str, prefix: str) -> None:
        self.commands: list[str] = []
        self._redis = Redis.from_url(redis_url, decode_responses=True)
        self._database = int(redis_url.rpartition("/")[2])
        self._prefix = f"{prefix}:"
        self._is_listening = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_listening.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._redis.ping()  # it hears this, and looks whether to stop
        self._thread.join(PATIENCE_S)
        self._redis.close()

    def _listen(self) -> None:
        with self._redis.monitor() as monitor:
            self._is_listening.set()
            while not self._stop.is_set():
                try:
                    heard = monitor.next_command()
                except exceptions.TimeoutError:  # silence, for as long as a client waits
                    continue
                if heard["db"] == self._database and self._is_outside(heard["command"]):
                    self.commands.append(heard["command"])

    def _is_outside(self, command: str) -> bool:
        name, _, rest = command.partition(" ")
        return name.upper() not in _SCRIPTS and not rest.startswith(self._prefix)
