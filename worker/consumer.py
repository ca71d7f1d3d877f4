"""Celery's consumer, made to come back soon after Redis does, and to report at less cost.

Celery waits 2, 4, 6 … up to 30 s between its tries to connect: after ten minutes without Redis,
events would stand still for half a minute more, and jobs in doubt outlive their proof. Where Redis
answers, but refuses what a worker asks, Celery would not wait at all.

What Flower shows it publishes event by event, as they come: at full speed that is a third of all
that a worker does. Ten times a second is as good.
"""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic, sleep
from typing import Any

import redis
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.common import ignore_errors

from config.logging import fields
from config.redis import error_code

log = logging.getLogger("sendcode.worker")

EVENTS_WAIT_S = 0.1
MOVES_S = 1.0
RECONNECT_S = 1.0
"""Between two tries to reach Redis, or to be served by it."""


class RefusedError(Exception):
    """Redis answers, but refuses what a worker asks; says its error code. Only seen in the log."""


class Consumer(CeleryConsumer):
    """The consumer of a worker (`worker_consumer`)."""

    _flush_at = 0.0
    _moving: Any = None

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, trying every second for as long as it takes."""
        conn.ensure_connection = partial(
            conn.ensure_connection,
            interval_start=RECONNECT_S,
            interval_step=RECONNECT_S,
            interval_max=RECONNECT_S,
        )
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Say what happened, without what Redis repeats of a command; wait if it will again."""
        if not isinstance(exc, redis.ResponseError):
            super().on_connection_error_after_connected(exc)
            return
        super().on_connection_error_after_connected(RefusedError(error_code(exc)))
        sleep(RECONNECT_S)

    def on_ready(self) -> None:
        """Say from which broker messages are taken from now on; again after a reconnect."""
        account = self.app.sendcode.account
        self.task_consumer.channel.has_stood_down = lambda: bool(account.stood_down)
        log.info("taking messages", extra=fields(broker=self.connection.as_uri()))
        if self.hub:
            # shows that messages are taken: it runs between them, in the thread that takes them
            if self._moving:
                self._moving.cancel()
            presence = self.app.sendcode.presence
            self._moving = self.hub.call_repeatedly(MOVES_S, presence.moves, "consumer")
        super().on_ready()

    def cancel_active_requests(self) -> None:
        """Have all threads hand back what they have not sent: a thread cannot be cancelled."""
        self.app.sendcode.stop()

    def on_send_event_buffered(self) -> None:
        """Have what is buffered for Flower sent soon. Any thread may call it."""
        now = monotonic()
        if self.hub and now >= self._flush_at:
            self._flush_at = now + EVENTS_WAIT_S
            self.hub.call_soon(self.hub.call_later, EVENTS_WAIT_S, self._flush_events)

    def shutdown(self) -> None:
        """End it, once the events are sent of jobs that ended while the worker was stopping."""
        ignore_errors(self, self._flush_events)
        super().shutdown()
