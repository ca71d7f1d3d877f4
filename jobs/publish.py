"""Puts jobs into Celery's queues: the one place that publishes, for producers and sweepers alike.

A message carries the job's id and nothing else, as its argument and as its task id.
"""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery

from config.names import BATCH_QUEUE, EVENT_QUEUE, SEND_CODE_TASK
from jobs.job import Lane

_QUEUE = {Lane.EVENT: EVENT_QUEUE, Lane.BATCH: BATCH_QUEUE}


class Publisher:
    """Publishes through one Celery app's connection pool; safe to share between threads."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, jobs: Iterable[tuple[Lane, str]]) -> None:
        """Send a message for each job, in one connection.

        Raises:
            kombu.exceptions.OperationalError: the broker is out of reach. Nothing is lost: a
                message that is missed in the ledger is published again by a sweeper.
        """
        with self._app.producer_or_acquire() as producer:
            for lane, job_id in jobs:
                self._app.send_task(
                    SEND_CODE_TASK,
                    args=(job_id,),
                    task_id=job_id,
                    queue=_QUEUE[lane],
                    producer=producer,
                    retry=False,
                    ignore_result=False,
                )
