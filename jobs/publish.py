"""Puts jobs into Celery's queues: the one place that publishes, for producers and sweepers alike.

A message carries the job's id and nothing else, as its argument and as its task id; the one that
says to deliver a job's outcome has a task id of its own (`task_id`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable

import redis
from celery import Celery
from kombu.exceptions import BatchPublishError, OperationalError

from config import BATCH_QUEUE, EVENT_QUEUE, TASK_OF, WEBHOOK_QUEUE
from jobs.job import Lane

URGENT = "urgent"
"""A header of a message that a worker's transport puts in front of its queue."""
_QUEUE = {Lane.EVENT: EVENT_QUEUE, Lane.BATCH: BATCH_QUEUE}


def task_id(job_id: str, queue: str) -> str:
    """Return the id of the task that a message is for."""
    return f"outcome-{job_id}" if queue == WEBHOOK_QUEUE else job_id


class NotPublishedError(OperationalError):
    """The broker is out of reach or full. The ledger has the jobs: a sweeper publishes them."""


class Publisher:
    """Publishes through one Celery app's connection pool; safe to share between threads."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, jobs: Iterable[tuple[Lane, str]], urgent: Container[str] = ()) -> None:
        """Send a message for each job, in one pipeline.

        Those of `urgent` go in front of their queue, if this is a worker's app.

        Raises:
            NotPublishedError: some or all messages were perhaps not sent. Nothing is lost: a
                message that is missed in the ledger is published again by a sweeper.
        """
        self._publish([(_QUEUE[lane], job_id, job_id in urgent) for lane, job_id in jobs])

    def publish_outcomes(self, job_ids: Iterable[str]) -> None:
        """Send a message for each job whose outcome is to be delivered.

        Raises:
            NotPublishedError: as above; they are published again.
        """
        self._publish([(WEBHOOK_QUEUE, job_id, False) for job_id in job_ids])

    def _publish(self, messages: Iterable[tuple[str, str, bool]]) -> None:
        try:
            with self._app.producer_or_acquire() as producer, producer.batch():
                for queue, job_id, is_urgent in messages:
                    self._send(producer, queue, job_id, is_urgent=is_urgent)
        except (OperationalError, BatchPublishError, redis.RedisError, OSError) as exc:
            raise NotPublishedError(type(exc).__name__) from exc

    def _send(self, producer: object, queue: str, job_id: str, *, is_urgent: bool) -> None:
        """Do what `Celery.send_task` does, but without listening for the result.

        On the Redis result backend `send_task` subscribes to each task's result and unsubscribes
        when its `AsyncResult`, which nobody wants here, is collected: two commands more for each
        job, on a connection more, with a failure of its own (RuntimeError) when Redis is gone.
        """
        amqp = self._app.amqp
        message = amqp.create_task_message(
            task_id(job_id, queue),
            TASK_OF[queue],
            args=(job_id,),
            kwargs={},
            argsrepr=repr((job_id,)),
            kwargsrepr="{}",
            create_sent_event=self._app.conf.task_send_sent_event,
        )
        if is_urgent:
            message.headers[URGENT] = True
        # it goes to the queue by its name, which needs no declaring; checking whether that was done
        # would take a quarter of the time
        amqp.send_task_message(
            producer, TASK_OF[queue], message, queue=queue, retry=False, declare=()
        )
