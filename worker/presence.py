"""How a worker shows that it lives: by what its parts do, not by a thread that can do nothing else.

The thread that keeps the leases writes the worker's sign of life, too. Where a part of the worker
has stood still for too long, the sign is as old as that part's last move.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import redis

from config.logging import fields
from jobs.clock import time_ms
from jobs.ledger import Ledger
from worker.leases import Leases
from worker.shutdown import Shutdown

log = logging.getLogger("sendcode.worker")

GONE_S = 86_400
"""A worker that was silent for so long does not come back."""
_NEAR_MS = 10_000
"""A sign of life of another process with this worker's name is not a leftover within that time."""


class Presence:
    """One worker process among all. Thread-safe.

    Its entry is its name and what tells its process from others of that name.
    """

    def __init__(
        self,
        ledger: Ledger,
        leases: Leases,
        shutdown: Shutdown,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._shutdown = shutdown
        self._patience_s = patience_s
        self._clock = clock
        self._moved: dict[str, float] = {}
        self._reached_at: float | None = None
        self._told: set[str] = set()
        self.name = ""
        self.fingerprint = ""
        """Of the credentials that the worker holds."""
        self._process = secrets.token_hex(4)

    @property
    def entry(self) -> str:
        process = f"{self.name}/{self._process}"
        return f"{process}.{self.fingerprint}" if self.fingerprint else process

    def moves(self, part: str) -> None:
        """Note that a part of the worker does its work; from its first time on it has to."""
        self._moved[part] = self._clock()

    def stuck(self) -> tuple[str, float] | None:
        """Return the part that has stood still for too long, and for how many seconds."""
        now = self._clock()
        moved = dict(self._moved)
        if (jobs_at := self._leases.moved_at) is not None:
            moved["jobs"] = max(jobs_at, self._shutdown.asleep_until)
        # while Redis was out of reach nothing could move
        reached_at = self._reached_at if self._reached_at is not None else now
        part = min(moved, key=lambda part: moved[part], default="")
        still_s = now - max(moved.get(part, now), reached_at)
        return (part, still_s) if still_s > self._patience_s else None

    def beat(self) -> None:
        """Keep the leases, and show that the worker lives.

        Raises:
            redis.RedisError: nobody heard of it.
        """
        try:
            self._beat()
        except redis.RedisError:
            self._reached_at = None
            raise

    def _beat(self) -> None:
        stuck = self.stuck()
        part, still_s = stuck or ("", 0.0)
        if part != "jobs":  # other workers take those over
            self._leases.renew(self._ledger)
        client, key = self._ledger.client, self._ledger.keys.workers
        # by Redis' clock: a worker whose own is wrong is alive all the same
        now_ms = time_ms(client.time())
        with client.pipeline(transaction=False) as pipe:
            pipe.hset(key, self.entry, str(now_ms - round(still_s * 1000)))
            pipe.hgetall(key)
            seen = pipe.execute()[1]
        if self._reached_at is None:
            self._reached_at = self._clock()
        self._tell(
            f"{part} stuck",
            stuck is not None,
            lambda: log.error(
                "a part of this worker stands still: it is shown as silent",
                extra=fields(part=part, seconds=round(still_s)),
            ),
        )
        self._tell(
            "duplicate",
            any(self._is_twin(entry, now_ms - int(at)) for entry, at in seen.items()),
            lambda: log.warning(
                "another worker has the same name: give each its own (sendcode worker --name)",
                extra=fields(worker=self.name),
            ),
        )

    def _is_twin(self, entry: str, silent_ms: int) -> bool:
        name, _, _ = entry.rpartition("/")
        return name == self.name and entry != self.entry and silent_ms < _NEAR_MS

    def _tell(self, what: str, is_so: bool, tell: Callable[[], None]) -> None:
        """Log what is so once, until it is over."""
        if is_so and what not in self._told:
            tell()
        self._told = self._told | {what} if is_so else self._told - {what}

    def sign_off(self) -> None:
        """Remove the worker's entry."""
        self._ledger.client.hdel(self._ledger.keys.workers, self.entry)


def forget_the_gone(ledger: Ledger) -> None:
    """Remove workers that ended long ago without signing off."""
    seen: Any = ledger.client.hgetall(ledger.keys.workers)
    oldest_ms = time_ms(ledger.client.time()) - GONE_S * 1000
    gone = [worker for worker, at_ms in seen.items() if int(at_ms) < oldest_ms]
    if gone:
        ledger.client.hdel(ledger.keys.workers, *gone)
