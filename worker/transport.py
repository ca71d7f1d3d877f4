"""How a worker takes messages: kombu's transport, Celery's consumer and pool, made robust.

A raw entry that is not JSON, or a message with a field that Celery did not expect, would end the
worker, and Celery logs the body of a message that it cannot use. They go into quarantine here, and
what Celery sees of the others is their job's id alone. A Redis that refuses a command (it is full,
cannot write to its disk, has become a replica) is waited for like one that is down.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty
from time import monotonic, sleep
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.common import ignore_errors
from kombu.transport import virtual
from redis.exceptions import RedisError, ResponseError

from config import DELIVER_TASK, QUEUES, TASK_OF, WEBHOOK_QUEUE
from config import celery as ours
from config.logging import fields
from config.redis import error_code
from jobs.publish import URGENT, task_id
from jobs.quarantine import put_aside

log = logging.getLogger("sendcode.worker")
pool_log = logging.getLogger("sendcode.pool")

_UNREADABLE = (
    ValueError,  # no JSON, no UTF-8, a number of thousands of digits
    RecursionError,
    # kombu makes objects of {"__type__": …, "__value__": …}
    AttributeError,
    TypeError,
    ArithmeticError,
)
MAX_BODY_CHARACTERS = 8_192
"""A body of ours has about 250."""
_LONGEST_JOB_ID = 200


EVENTS_WAIT_S = 0.1
EVENTS_SHARE = 10
"""Where Redis is far away, the wait is this many times what sending them takes, as no message is
taken meanwhile."""
LONGEST_EVENTS_WAIT_S = 2.0
MOST_EVENTS = 1_000
"""How many are held back at most; the thread that finds more sends them itself."""
PROGRESS_S = 1.0
RECONNECT_S = 1.0
"""Between two tries to reach Redis, or to be served by it."""
_RESULT_LOST = (0, None, 0.0)
"""What a tracer returns: (failed, value, seconds)."""


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
    """A channel that survives garbage in its queues."""

    QoS = QoS  # type: ignore[assignment]  # kombu's own is not asked for by type
    has_stood_down: Callable[[], bool] = bool
    """Whether the worker takes no messages for now; its consumer sets it."""
    ack_emulation = True
    """Without it kombu puts a QoS in the place of ours."""
    from_transport_options = tuple(  # type: ignore[assignment]  # its length is no type
        name for name in ours.Channel.from_transport_options if name != "ack_emulation"
    )

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except _UNREADABLE as exc:
            content = exc.doc if isinstance(exc, json.JSONDecodeError) else ""
            self.connection.put_aside("?", f"unreadable ({type(exc).__name__})", content)
        except ResponseError as exc:
            if error_code(exc) != "WRONGTYPE":
                raise
            # no traceback: the fault is not ours
            log.error("a queue's place held another type: moved aside")  # noqa: TRY400
            self.connection.move_aside()
        raise Empty

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        if not message["headers"].get(URGENT):
            super()._put(queue, message, **options)
            return
        with self.conn_or_acquire() as client:
            client.rpush(queue, json.dumps(message))


class Transport(ours.Transport):
    """The transport of a worker."""

    Channel = Channel
    connection_errors = (*ours.Transport.connection_errors, ResponseError)
    put_aside: Callable[[str, str, str], object] = staticmethod(lambda *_: None)
    """Keeps a message that is not a job; the worker's consumer sets it."""
    move_aside: Callable[[], object] = staticmethod(lambda: None)
    """Moves a key of a wrong type out of a queue's place; the consumer sets it, too."""

    def _deliver(self, message: Any, queue: str) -> None:
        if queue in QUEUES:
            try:
                message = message_of(job_id_of(message), queue)
            except NotAJobError as exc:
                self.put_aside(queue, str(exc), json.dumps(message, default=repr))
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


class NotAJobError(Exception):
    """A message is not one of ours; the error's text is the reason, and shows nothing of it."""


def job_id_of(message: Any) -> str:
    """Return the job's id from a message: one of our tasks with one id.

    Raises:
        NotAJobError: it is not such a message.
    """
    if not isinstance(message, dict):
        raise NotAJobError("not a message")
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise NotAJobError("not a Celery message")
    if headers.get("task") not in TASK_OF.values():
        raise NotAJobError("unknown task")
    if message.get("content-type") != "application/json":
        raise NotAJobError("not JSON")
    body = message.get("body")
    if not isinstance(body, str) or len(body) > MAX_BODY_CHARACTERS:
        raise NotAJobError("body too large or missing")
    return _job_id_in(body, properties.get("body_encoding"))


def _job_id_in(body: str, encoding: Any) -> str:
    try:
        text = base64.b64decode(body, validate=True) if encoding == "base64" else body
        parts = json.loads(text)
        if not isinstance(parts, list):
            raise NotAJobError("body unreadable")  # an object would be unpacked by its names
        args, kwargs, _ = parts
        (job_id,) = args
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise NotAJobError("body unreadable") from None
    if not isinstance(job_id, str) or not 0 < len(job_id) <= _LONGEST_JOB_ID or kwargs:
        raise NotAJobError("not one job id")
    return job_id


def message_of(job_id: str, queue: str) -> dict[str, Any]:
    """Return a new message with all that counts in one, as Celery's protocol 2 has it.

    Celery and kombu trust every field of a message, and a wrong one ends the worker (a time
    limit that is no pair, a list for an id): nothing that came from outside is passed on to them.
    """
    own_id = task_id(job_id, queue)
    body = json.dumps([[job_id], {}, {"callbacks": None, "errbacks": None, "chain": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": TASK_OF[queue],
            "id": own_id,
            "root_id": own_id,
            "argsrepr": repr((job_id,)),
            "kwargsrepr": "{}",
            "retries": 0,
            "timelimit": [None, None],
            "ignore_result": queue == WEBHOOK_QUEUE,
        },
        "properties": {
            "correlation_id": own_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


class RefusedError(Exception):
    """Redis answers, but refuses what a worker asks. The text is an error code, for the log."""


class Consumer(CeleryConsumer):
    """The consumer of a worker (`worker_consumer`): quick to reconnect, cheap to watch.

    Celery waits 2, 4, 6 … up to 30 s between its tries to connect: after ten minutes without Redis,
    events would stand still for half a minute more, and jobs in doubt outlive their proof. Where
    Redis answers, but refuses what a worker asks, Celery would not wait at all.

    Celery publishes what Flower shows event by event, and stores results one by one, as they come:
    at full speed that is a third of all that a worker does. Ten times a second is as good.
    """

    _flush_at = 0.0
    _flush_wait_s = EVENTS_WAIT_S
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
        if not isinstance(exc, ResponseError):
            super().on_connection_error_after_connected(exc)
            return
        super().on_connection_error_after_connected(RefusedError(error_code(exc)))
        sleep(RECONNECT_S)

    def on_ready(self) -> None:
        """Log from which broker messages are taken from now on; again after a reconnect."""
        runtime, channel = self.app.sendcode, self.task_consumer.channel
        channel.has_stood_down = runtime.has_stood_down
        client, settings = runtime.ledger.client, runtime.settings
        channel.connection.put_aside = partial(put_aside, client, settings)
        channel.connection.move_aside = runtime.mending.misfits
        log.info("taking messages", extra=fields(broker=self.connection.as_uri()))
        if self.hub:
            # what is shown goes out together, also what threads at full speed have to show
            self.event_dispatcher.buffer_limit = MOST_EVENTS
            self.app.backend.flush_soon = self.on_send_event_buffered
            self.app.backend.flush()
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
        """Send what is buffered for Flower, events and results, soon. Any thread may call it."""
        now = monotonic()
        if self.hub and now >= self._flush_at:
            self._flush_at = now + self._flush_wait_s
            self.hub.call_soon(self.hub.call_later, self._flush_wait_s, self._flush_events)

    def _flush_events(self) -> None:
        began = monotonic()
        self.app.backend.flush()
        super()._flush_events()
        wait_s = EVENTS_SHARE * (monotonic() - began)
        self._flush_wait_s = min(max(EVENTS_WAIT_S, wait_s), LONGEST_EVENTS_WAIT_S)

    def shutdown(self) -> None:
        """Send what is buffered of jobs that ended while the worker was stopping, then end."""
        ignore_errors(self, self._flush_events)
        super().shutdown()


class ThreadPool(TaskPool):
    """The pool of a worker (`worker_pool`): a thread is free again whatever happened in it.

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
            except (RedisError, OSError) as exc:
                pool_log.warning(
                    "result not stored; the ledger has it", extra=fields(error=error_code(exc))
                )
                return _RESULT_LOST
            except Exception:  # noqa: BLE001 (logged; any of them would leak the slot)
                pool_log.exception("result not stored; the ledger has it")
                return _RESULT_LOST

        if args and args[0] == DELIVER_TASK:
            # Not in a thread that a code may wait for: an endpoint may take its ten seconds. There
            # are few (MOST_DELIVERIES), and at the worker's end nothing waits for them.
            done: Future[Any] = Future()
            work = (guarded, args, kwargs, callback, accept_callback)
            threading.Thread(target=apply_target, args=work, daemon=True).start()
            return ApplyResult(done)
        return super().on_apply(guarded, args, kwargs, callback, accept_callback, **options)
