"""The leases that this process holds: which jobs its threads are working on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.ledger import Ledger


class Leases:
    """Kept by the threads that work, renewed by the one that beats. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}
        self._moved_at = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, job_id: str, token: str) -> Iterator[None]:
        """Have the lease renewed until the block ends."""
        with self._lock:
            self._held[job_id] = token
            self._moved_at = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._moved_at = time.monotonic()
                if self._held.get(job_id) == token:
                    del self._held[job_id]

    @property
    def moved_at(self) -> float | None:
        """`time.monotonic` when the work on any job began or ended; None if there is no work."""
        with self._lock:
            return self._moved_at if self._held else None

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
