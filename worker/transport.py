"""Kombu's Redis transport, made to outlive what others put into a queue or fill Redis with.

A raw entry that is no JSON, or a message with a field that Celery did not expect, would end the
worker, and Celery logs the body of a message that it cannot use. They go into quarantine here, and
what Celery sees of the others is their job's id alone. What lies in a queue's place and is no list
goes there, too. A Redis that refuses a command (it is full, cannot write to its disk, has become a
replica) is waited for like one that is down.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from queue import Empty
from typing import Any

from kombu.transport import virtual
from redis.exceptions import RedisError, ResponseError

from config import celery as ours
from config.names import QUEUES
from config.redis import error_code
from jobs.publish import URGENT
from worker.quarantine import NotAJobError, job_id_of, message_of, move_aside, put_aside

log = logging.getLogger("sendcode.worker")

_UNREADABLE = (
    ValueError,  # no JSON, no UTF-8, a number of thousands of digits
    RecursionError,
    # kombu makes objects of {"__type__": …, "__value__": …}
    AttributeError,
    TypeError,
    ArithmeticError,
)
QUARANTINE_OPTION = "quarantine_key"
"""The transport option that names the Redis list."""


class QoS(virtual.QoS):
    """Which messages are in work, for the limit on them.

    Kombu's own also writes each into Redis and takes it out again, four commands in two round
    trips, so as to put it back when its connection closes (each job in work would run twice after a
    mere reset) or an hour later. The ledger misses a message within seconds.
    """

    restore_at_shutdown = False

    def can_consume(self) -> bool:
        """Return whether to ask for another message; one that is asked for is read all the same."""
        channel: Any = self.channel
        takes_more = channel._in_poll or not channel.has_stood_down()
        return bool(takes_more and super().can_consume())

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: ARG002 (as above)
        super().reject(delivery_tag)


class Channel(ours.Channel):
    """A channel that reads garbage without dying of it."""

    QoS = QoS  # type: ignore[assignment]  # kombu's own is not asked for by type
    has_stood_down: Callable[[], bool] = bool
    """Whether the worker takes no messages for now; its consumer sets it."""
    ack_emulation = True
    """Without it kombu puts a QoS in the place of ours."""
    from_transport_options = tuple(  # type: ignore[assignment]  # its length is no type
        name for name in ours.Channel.from_transport_options if name != "ack_emulation"
    )

    @cached_property
    def _lasting_client(self) -> Any:
        return self._create_client()

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Give the channel's client. Kombu makes one for each command, at more than its cost."""
        yield client or self._lasting_client

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except _UNREADABLE as exc:
            content = exc.doc if isinstance(exc, json.JSONDecodeError) else ""
            self.put_aside("?", f"unreadable ({type(exc).__name__})", content)
        except ResponseError as exc:
            if error_code(exc) != "WRONGTYPE":
                raise
            self._clear_the_queues_places()
        raise Empty

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        if not message["headers"].get(URGENT):
            super()._put(queue, message, **options)
            return
        with self.conn_or_acquire() as client:
            client.rpush(queue, json.dumps(message))

    def put_aside(self, queue: str, reason: str, content: str) -> None:
        with self.conn_or_acquire() as client:
            put_aside(client, self._quarantine, queue, reason, content)

    def _clear_the_queues_places(self) -> None:
        with self.conn_or_acquire() as client:
            for queue in self.active_queues:
                for priority in self.priority_steps:
                    key = self._q_for_pri(queue, priority)
                    move_aside(client, self._quarantine, key)

    @property
    def _quarantine(self) -> str:
        return str(self.connection.client.transport_options[QUARANTINE_OPTION])


class Transport(ours.Transport):
    """The transport of a worker."""

    Channel = Channel
    connection_errors = (*ours.Transport.connection_errors, ResponseError)

    def _deliver(self, message: Any, queue: str) -> None:
        if queue in QUEUES:
            try:
                message = message_of(job_id_of(message), queue)
            except NotAJobError as exc:
                self._put_aside(message, queue, str(exc))
                return
        try:
            super()._deliver(message, queue)
        except (RedisError, OSError):
            raise
        except Exception:
            # kombu hands messages over while it reads them: this is a defect, and no garbage
            log.exception("message not handed over; a job's is published again")
            if queue in QUEUES:
                for channel in self.channels:  # its place among the prefetched ones
                    channel.qos.reject(message["properties"]["delivery_tag"])

    def _put_aside(self, message: Any, queue: str, reason: str) -> None:
        for channel in self.channels:
            channel.put_aside(queue, reason, json.dumps(message, default=repr))
            return
