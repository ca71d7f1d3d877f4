"""Notifies waiting requests when their job has ended; one subscription for the whole process.

The script that ends a job publishes its id. What is published while the subscription is down is
missed, so each waiter reads the ledger when it is up again, and once more when its time is over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from config.logging import fields
from config.redis import connect, error_code
from config.settings import Settings
from jobs.keys import Keys

log = logging.getLogger("sendcode.web")

_CHECK_EVERY_S = 0.5
_RETRY_AFTER_S = 1.0


class Endings:
    """Waiters by job. A thread listens; everything else runs in the event loop."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._channel = Keys(settings.sendcode_key_prefix).ended
        self._loop = loop
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="endings", daemon=True)
        self._thread.start()

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set when the job has or may have ended: read the ledger then."""
        event = asyncio.Event()
        self._waiters[job_id].add(event)
        try:
            yield event
        finally:
            self._waiters[job_id].discard(event)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    def close(self) -> None:
        """Stop listening, and wake every waiter."""
        self._stopping.set()
        self._wake_all()
        self._thread.join()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            client = connect(self._settings, retries=0)
            try:
                with client.pubsub(ignore_subscribe_messages=True) as channel:
                    channel.subscribe(self._channel)
                    self._loop.call_soon_threadsafe(self._wake_all)
                    while not self._stopping.is_set():
                        message = channel.get_message(timeout=_CHECK_EVERY_S)
                        if message is not None:
                            self._loop.call_soon_threadsafe(self._wake, message["data"])
            except redis.RedisError as exc:
                log.warning("cannot listen for ended jobs", extra=fields(code=error_code(exc)))
                self._loop.call_soon_threadsafe(self._wake_all)
                self._stopping.wait(_RETRY_AFTER_S)
            finally:
                client.close()

    def _wake(self, job_id: str) -> None:
        for event in self._waiters.get(job_id, ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._waiters.values():
            for event in events:
                event.set()
