"""A worker's life: its sign of life, the leases of the jobs that it works on, and how it stops.

The thread that keeps the leases writes the sign of life, too. What counts is what the worker's
parts do, not a thread that can do nothing else: where a part has stood still for too long, the sign
is as old as that part's last progress.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
import tenacity

from config.logging import fields
from config.redis import error_code
from config.unavailable import will_not_pass
from jobs.ledger import Ledger

log = logging.getLogger("sendcode.worker")

PATIENCE_S = 5.0
"""Seconds after the order to stop in which a known outcome is still recorded."""
LAST_RESORT_S = 9.0
"""Seconds beyond the deadline of an HTTP call after which a stopping worker ends by force."""
_LAST_LOG_S = 3.0
_LOST_PINGS = 3
"""Unanswered pings after which a connection counts as lost, though nothing closed it."""
_REFUSED_FOR_S = 30.0
"""Wait before retrying a subscription that Redis refused: password or rights may be new."""
_NEAR_MS = 10_000
"""A sign of life of another process with this worker's name is not a leftover within that time."""
SILENT_S = 5.0
"""A sign of life takes about a millisecond; after this long, Redis does not answer."""
SETTLED_S = 10.0
"""After a sign of life that failed, before Redis is said to take writes again: one that is full
takes some and refuses others."""


class Stopping(Exception):  # noqa: N818 (no error: an order)
    """The worker is being stopped; hand back what has not been sent."""


class Shutdown:
    """Set once by the order to stop. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ordered = threading.Event()
        self._at = float("inf")
        self.asleep_until = 0.0
        """When the longest sleep so far is over, by `time.monotonic`."""

    def order(self) -> bool:
        """Order the stop: every sleep ends now. Return True the first time."""
        is_first = not self._ordered.is_set()
        self._at = min(self._at, self._clock())
        self._ordered.set()
        return is_first

    def sleep(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Stopping: the worker is being stopped, or was when it was called.
        """
        seconds = max(0.0, seconds)
        self.asleep_until = max(self.asleep_until, self._clock() + seconds)
        if self._ordered.wait(seconds):
            raise Stopping

    def out_of_patience(self, _: tenacity.RetryCallState) -> bool:
        """Return whether a `tenacity` loop must give up even on what should be recorded."""
        return self._clock() > self._at + PATIENCE_S


def end_by_force(after_s: float, log_it: Callable[[], None] = lambda: None) -> None:
    """End the process after `after_s` seconds, even if `log_it` hangs.

    Celery's and kombu's own shutdown waits for a silent Redis for a minute and more. Nothing
    is lost by it: the leases run out, and other workers probe what was in work.
    """

    def end() -> None:
        logger = threading.Thread(target=log_it, daemon=True)
        logger.start()
        logger.join(_LAST_LOG_S)
        os._exit(1)

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()


class Leases:
    """The leases that this process holds: which jobs its threads are working on. Thread-safe."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(4)
        """Marks this process among all; each of its tokens begins with it (beat.lua)."""
        self._held: dict[str, str] = {}
        self._progress_at = 0.0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def token(self) -> str:
        """Return a new token, to claim a job with."""
        return self.process + secrets.token_hex(4)

    @contextmanager
    def hold(self, job_id: str, token: str) -> Iterator[None]:
        """Have the lease renewed until the block ends."""
        with self._lock:
            self._held[job_id] = token
            self._progress_at = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._progress_at = time.monotonic()
                if self._held.get(job_id) == token:
                    del self._held[job_id]

    @property
    def progress_at(self) -> float | None:
        """`time.monotonic` when the work on any job began or ended; None if there is no work."""
        with self._lock:
            return self._progress_at if self._held else None

    def renew(self, ledger: Ledger) -> None:
        """Renew all. A lease that was lost is not renewed again: its thread will learn of it."""
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        for job_id in ledger.renew(list(held.items())):
            with self._lock:
                if self._held.get(job_id) == held[job_id]:
                    del self._held[job_id]


class Lifeline:
    """A connection that Redis sees closed when this process dies: a subscription, and no more.

    By it, beat.lua tells a killed worker from one that is only paused.
    """

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._subscription = client.pubsub()
        self._channel = channel
        self._unanswered = 0
        self._is_refused = False
        self._again_at = 0.0

    def keep(self) -> None:
        """Open it where it is not open; call this every second, where it may block."""
        if self._is_refused and time.monotonic() < self._again_at:
            return
        try:
            while self._subscription.subscribed and self._subscription.parse_response(
                block=False, timeout=0
            ):
                self._unanswered = 0
            if self._unanswered >= _LOST_PINGS:
                self.close()
            if not self._subscription.subscribed:
                self._subscription.subscribe(self._channel)
                self._subscription.parse_response(block=False, timeout=1)
            self._subscription.ping()  # else a firewall might take it for unused
            self._unanswered += 1
            self._is_refused = False
        except redis.RedisError as exc:
            self.close()
            if not will_not_pass(exc):
                return
            self._again_at = time.monotonic() + _REFUSED_FOR_S
            if self._is_refused:
                return
            self._is_refused = True
            log.warning(
                "if this worker is killed, its leases must run out: Redis refuses a subscription",
                extra=fields(error=error_code(exc)),
            )

    def close(self) -> None:
        self._subscription.close()
        self._unanswered = 0


class Presence:
    """One worker process among all. Thread-safe.

    Its entry is its name and what distinguishes its process from others of that name.
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
        self._progress: dict[str, float] = {}
        self._reached_at: float | None = None
        self._beating_since: float | None = None
        self._failed_at = 0.0
        self._failure = ""
        self._logged: set[str] = set()
        self.name = ""
        self.fingerprint = ""
        """Of the credentials that the worker holds; others may take their place."""
        self.idle = ""
        """Why it sends no codes: `OUTDATED` or `WEBHOOKS` in jobs/account.py."""
        self.clock_offset_s = 0.0
        """By how many seconds Redis' clock was ahead of this machine's at the last sign of life."""
        channel = f"{ledger.keys.connections}:{leases.process}"
        self.lifeline = Lifeline(ledger.client, channel)

    @property
    def entry(self) -> str:
        process, mark = f"{self.name}/{self._leases.process}", self.idle or self.fingerprint
        return f"{process}.{mark}" if mark else process

    def note_progress(self, part: str) -> None:
        """Note that a part of the worker makes progress, as it must from the first time on."""
        self._progress[part] = self._clock()

    def stuck(self) -> tuple[str, float] | None:
        """Return the part that has stood still for too long, and for how many seconds.

        As long as a sign of life waits for Redis, the parts may wait for it, too.
        """
        since = self._beating_since
        now = self._clock() if since is None else since
        progress = dict(self._progress)
        if (jobs_at := self._leases.progress_at) is not None:
            progress["jobs"] = max(jobs_at, self._shutdown.asleep_until)
        # while Redis was out of reach no part could make progress
        reached_at = self._reached_at if self._reached_at is not None else now
        part = min(progress, key=lambda part: progress[part], default="")
        still_s = now - max(progress.get(part, now), reached_at)
        return (part, still_s) if still_s > self._patience_s else None

    def why_not_shown(self) -> str:
        """Return why signs of life are not written, or were not just now, without asking Redis."""
        now, since = self._clock(), self._beating_since
        if since is not None and now - since > SILENT_S:
            return f"Redis has not answered for {now - since:.0f} s"
        if self._failure and (self._reached_at is None or now - self._failed_at < SETTLED_S):
            return f"Redis takes no write: {self._failure}"
        return "" if self._reached_at is not None else "no sign of life was written yet"

    def beat(self) -> None:
        """Keep the leases, and show that the worker lives.

        Raises:
            redis.RedisError: the sign of life was perhaps not written.
        """
        began = self._beating_since = self._clock()
        try:
            self._beat(began)
        except redis.RedisError as exc:
            self._reached_at = None
            self._failed_at, self._failure = self._clock(), error_code(exc)
            raise
        finally:
            self._beating_since = None

    def _beat(self, began: float) -> None:
        stuck = self.stuck()
        part, still_s = stuck or ("", 0.0)
        if part != "jobs":  # other workers take those over
            self._leases.renew(self._ledger)
        entry = self.entry
        asked_at = time.time()
        workers = self._ledger.beat(entry, round(still_s * 1000))
        self.clock_offset_s = workers.now_ms / 1000 - (asked_at + time.time()) / 2
        if replaced := [each for each in workers.silent_ms if self._is_own(each) and each != entry]:
            self._ledger.client.hdel(self._ledger.keys.workers, *replaced)
        now = self._clock()
        if self._reached_at is None or now - began > SILENT_S:
            self._reached_at = now
        for entry, jobs in workers.killed.items():
            log.warning(
                "a worker was killed: others go on with its jobs",
                extra=fields(worker=entry.rpartition("/")[0], jobs=jobs),
            )
        if self._is_new(f"{part} stuck", stuck is not None):
            log.error(
                "a part of this worker stands still: it is shown as silent",
                extra=fields(part=part, seconds=round(still_s)),
            )
        has_twin = any(self._is_twin(*each) for each in workers.silent_ms.items())
        if self._is_new("duplicate", has_twin):
            log.warning(
                "another worker has the same name: give each its own (sendcode worker --name)",
                extra=fields(worker=self.name),
            )

    def _is_twin(self, entry: str, silent_ms: int) -> bool:
        name, _, _ = entry.rpartition("/")
        return name == self.name and not self._is_own(entry) and silent_ms < _NEAR_MS

    def _is_own(self, entry: str) -> bool:
        """Return whether an entry is this process', by whatever credentials."""
        return entry.startswith(f"{self.name}/{self._leases.process}")

    def _is_new(self, trouble: str, is_present: bool) -> bool:
        """Return whether to log a trouble: once, until it is over."""
        is_new = is_present and trouble not in self._logged
        self._logged = self._logged | {trouble} if is_present else self._logged - {trouble}
        return is_new

    def sign_off(self) -> None:
        self._ledger.client.hdel(self._ledger.keys.workers, self.entry)
        self.lifeline.close()
