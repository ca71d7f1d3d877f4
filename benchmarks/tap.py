"""Counts at the Redis server how many round trips were made, and by which script."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Self

import redis

_QUIET = {"PING", "HELLO", "CLIENT", "AUTH", "SELECT", "INFO", "SCRIPT", "CONFIG", "MONITOR"}
"""Sent when a connection is made, or by us."""


class Tap:
    """Counts commands that clients send (not those that scripts run) while its block lasts.

    It slows the server a little: measure CPU and latency outside of it.
    """

    def __init__(self, url: str) -> None:
        self._client: redis.Redis = redis.Redis.from_url(url)
        self._lock = threading.Lock()
        self.commands: Counter[str] = Counter()
        """By name."""
        self.scripts: Counter[str] = Counter()
        """By SHA-1."""

    def __enter__(self) -> Self:
        self._is_over = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._client.ping()  # one more line, so that the listener wakes up
        self._thread.join(5)
        self._client.close()

    @property
    def round_trips(self) -> int:
        return sum(self.commands.values())

    def _listen(self) -> None:
        with self._client.monitor() as monitor:
            self._ready.set()
            for line in monitor.listen():
                if self._is_over:
                    return
                if line["client_type"] != "lua":
                    self._count(line["command"].split())

    def _count(self, words: list[str]) -> None:
        name = words[0].upper() if words else ""
        if name in _QUIET:
            return
        self.commands[name] += 1
        if name in {"EVALSHA", "EVAL"} and len(words) > 1:
            self.scripts[words[1]] += 1
