"""Celery's consumer, made to come back soon after Redis does.

Celery waits 2, 4, 6 … up to 30 s between its tries to connect: after ten minutes without Redis,
events would stand still for half a minute more, and jobs in doubt outlive their proof.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):
    """The consumer of a worker (`worker_consumer`)."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, trying after 1 s and then every 2 s, for as long as it takes."""
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=1, interval_step=1, interval_max=1
        )
        return super().ensure_connected(conn)
