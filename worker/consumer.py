"""Celery's consumer and thread pool, with what would hold up or leak a worker's work overridden."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from typing import Any

import redis
from celery.concurrency.thread import ApplyResult, TaskPool
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.common import ignore_errors

from config.logging import fields
from config.redis import error_code

worker_log = logging.getLogger("sendcode.worker")
log = logging.getLogger("sendcode.pool")

EVENTS_WAIT_S = 0.1
PROGRESS_S = 1.0
RECONNECT_S = 1.0
"""Between two tries to reach Redis, or to be served by it."""
_RESULT_LOST = (0, None, 0.0)
"""What a tracer returns: (failed, value, seconds)."""


class RefusedError(Exception):
    """Redis answers, but refuses what a worker asks. The text is an error code, for the log."""


class Consumer(CeleryConsumer):
    """The consumer of a worker (`worker_consumer`): back soon after Redis is, and cheaper to watch.

    Celery waits 2, 4, 6 … up to 30 s between its tries to connect: after ten minutes without Redis,
    events would stand still for half a minute more, and jobs in doubt outlive their proof. Where
    Redis answers, but refuses what a worker asks, Celery would not wait at all.

    Celery publishes what Flower shows event by event, as they come: at full speed that is a third
    of all that a worker does. Ten times a second is as good.
    """

    _flush_at = 0.0
    _progress_timer: Any = None

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
        """Log what happened, without the command that Redis repeats; wait if it would recur."""
        if not isinstance(exc, redis.ResponseError):
            super().on_connection_error_after_connected(exc)
            return
        super().on_connection_error_after_connected(RefusedError(error_code(exc)))
        sleep(RECONNECT_S)

    def on_ready(self) -> None:
        """Log from which broker messages are taken from now on; again after a reconnect."""
        self.task_consumer.channel.has_stood_down = self.app.sendcode.has_stood_down
        worker_log.info("taking messages", extra=fields(broker=self.connection.as_uri()))
        if self.hub:
            # shows that messages are taken: it runs between them, in the thread that takes them
            if self._progress_timer:
                self._progress_timer.cancel()
            self._progress_timer = self.hub.call_repeatedly(
                PROGRESS_S, self.app.sendcode.presence.note_progress, "consumer"
            )
        super().on_ready()

    def cancel_active_requests(self) -> None:
        """Have all threads hand back what they have not sent: a thread cannot be cancelled."""
        self.app.sendcode.stop()

    def on_send_event_buffered(self) -> None:
        """Send what is buffered for Flower soon. Any thread may call it."""
        now = monotonic()
        if self.hub and now >= self._flush_at:
            self._flush_at = now + EVENTS_WAIT_S
            self.hub.call_soon(self.hub.call_later, EVENTS_WAIT_S, self._flush_events)

    def shutdown(self) -> None:
        """End it, once the events are sent of jobs that ended while the worker was stopping."""
        ignore_errors(self, self._flush_events)
        super().shutdown()


class ThreadPool(TaskPool):
    """The pool of a worker (`worker_pool`): a slot comes back whatever happens in it.

    In Celery's own pool an exception outside the task's body (a result backend that is down or
    full) never calls back, so that the message's place among the prefetched ones is lost for ever.
    """

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> ApplyResult:
        """Run `target`; if it breaks, report success: the ledger knows the truth about the job."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return target(*args, **kwargs)
            except (redis.RedisError, OSError) as exc:
                log.warning(
                    "result not stored; the ledger has it", extra=fields(error=error_code(exc))
                )
                return _RESULT_LOST
            except Exception:  # any of them would leak the slot
                log.exception("result not stored; the ledger has it")
                return _RESULT_LOST

        return super().on_apply(guarded, args, kwargs, callback, accept_callback, **options)
