"""Celery's thread pool, without its leak: a slot comes back whatever happens in it.

In Celery's own pool an exception outside the task's body (a result backend that is down or full)
never calls back, so that the message's place among the prefetched ones is lost for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import redis
from celery.concurrency.thread import ApplyResult, TaskPool

from config.logging import fields
from config.redis import error_code

log = logging.getLogger("sendcode.pool")

_RESULT_LOST = (0, None, 0.0)
"""What a tracer returns: (failed, value, seconds)."""


class ThreadPool(TaskPool):
    """The pool of a worker (`worker_pool`)."""

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
