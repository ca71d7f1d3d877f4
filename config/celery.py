"""The Celery settings: what keeps Celery on Redis from losing, doubling, leaking or lagging.

Each setting that is not Celery's default has its reason beside it. The ledger in `jobs/` makes sure
that no job is lost or doubled; these settings make the engine under it quick and harmless.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import redis
from celery import Celery
from celery.backends.redis import RedisBackend
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import (
    BATCH_QUEUE,
    DELIVER_TASK,
    EVENT_QUEUE,
    QUEUES,
    SEND_CODE_TASK,
    WEBHOOK_QUEUE,
    celery_prefix,
)
from config.address import RedisAddress
from config.logging import fields
from config.redis import connection_class, error_code, make_pool
from config.settings import Settings

log = logging.getLogger("sendcode.results")

_EXCHANGE = Exchange("send-code", type="direct")


def make_celery(settings: Settings, **overrides: Any) -> Celery:
    """Return the Celery app. Nothing connects before its first use."""
    app = Celery("sendcode", set_as_current=False)
    app.conf.update(celery_settings(settings), **overrides)
    app.backend_cls = partial(Results, address=settings.redis)
    return app


class Channel(kombu_redis.Channel):
    """A channel to the Redis of our settings, however kombu reads a URL; speaks RESP2."""

    @property
    def address(self) -> RedisAddress:
        address: RedisAddress = self.connection.client.transport_options["address"]
        return address

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # kombu derives a class from it that tells its poller of each disconnect
        self.connection_class = connection_class(self.address)
        options: dict[str, Any] = super()._connparams(asynchronous)
        return options

    def _get_pool(self, asynchronous: bool = False) -> redis.ConnectionPool:
        options = self._connparams(asynchronous)
        for from_url in ("host", "port"):
            del options[from_url]
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=self.address.database)
        return make_pool(self.address, **options)

    @cached_property
    def _lasting_client(self) -> Any:
        return self._create_client()

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Yield the channel's client. Kombu would make one per command, at a higher cost."""
        yield client or self._lasting_client


class Transport(kombu_redis.Transport):
    """The transport of producers and Flower (`broker_transport`); `worker.transport` extends it."""

    Channel = Channel

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.can_parse_url = True  # kombu shows what `as_uri` returns
        self._place: str = client.transport_options["address"].place

    def as_uri(self, *_: Any, **__: Any) -> str:
        """Return where the broker is, without a login."""
        return self._place


class Results(RedisBackend):
    """Celery's results, in the Redis of our settings. Each is a copy of the ledger, for Flower."""

    def __init__(self, app: Celery, address: RedisAddress, **_: Any) -> None:
        super().__init__(app=app)
        self._address = address
        self._waiting: deque[tuple[str, str]] = deque()
        self.flush_soon: Callable[[], object] = self.flush
        """Called for each result stored, to write it at once or very soon; a worker sets it."""
        for replaced in ("host", "port"):
            del self.connparams[replaced]

    def as_uri(self, include_password: bool = False) -> str:  # noqa: ARG002 (there is none in it)
        return self._address.place

    def _get_pool(self, **options: Any) -> redis.ConnectionPool:
        # on the same connection: after a reset, Celery's own retry would find the next broken one
        return make_pool(self._address, **options, retry=Retry(NoBackoff(), 1))

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        """Store a result, if Redis takes it.

        Celery would first read the previous one, so as not to replace a success; ours always come
        from the ledger. It would also take a result that cannot be stored for a failure of the
        task, and store that as soon as it can.
        """
        result = self.encode_result(result, state)
        meta = self._get_result_meta(result, state, traceback, request) | {"task_id": task_id}
        self._waiting.append((self.get_key_for_task(task_id), self.encode(meta)))
        self.flush_soon()
        return result

    def flush(self) -> None:
        """Write the waiting results in one round trip. Only one thread at a time may call it."""
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not waiting:
            return
        try:
            with self.client.pipeline(transaction=False) as pipe:
                for key, value in waiting:
                    pipe.set(key, value, ex=self.expires)
                    pipe.publish(key, value)  # for whoever waits for the result
                done = pipe.execute(raise_on_error=False)[::2]
        except (redis.RedisError, OSError, OperationalError) as exc:
            done = [exc] * len(waiting)
        for reply in done:
            if isinstance(reply, Exception):
                log.warning(
                    "result not stored; the ledger has it", extra=fields(error=error_code(reply))
                )


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that producers, workers and Flower have in common."""
    (host, port), *_ = settings.redis.hosts
    prefix = celery_prefix(settings.sendcode_key_prefix)
    return {
        # Shown, not used: the transport takes the address from its options.
        "broker_url": f"redis://{f'[{host}]' if ':' in host else host}:{port}",
        "broker_transport": "config.celery:Transport",
        "broker_transport_options": {
            "address": settings.redis,
            "global_keyprefix": prefix,
            "queue_order_strategy": "priority",
            "priority_steps": [0],  # one list for each queue: kombu would ask for four
            # Half-open connections are noticed within this many seconds, plus the poll's one.
            "health_check_interval": 10,
            "socket_keepalive": True,
            "socket_timeout": 10,
            "socket_connect_timeout": 4,
            # Publishing fails at once with a clear error; a sweeper publishes what the ledger kept.
            "max_retries": 1,
            "interval_start": 0.1,
        },
        # A worker that starts before Redis, or outlives it for a while, waits and goes on.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend_transport_options": {"global_keyprefix": prefix},
        # else each thread has its own backend, and with it its own connection
        "result_backend_thread_safe": True,
        "redis_socket_timeout": 5,
        "redis_socket_connect_timeout": 4,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 10,
        # JSON only: a pickled message would be code.
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # Direct queues, emptied in strict order (the transport's `priority` cycle follows it).
        "task_queues": [Queue(name, _EXCHANGE, routing_key=name) for name in QUEUES],
        "task_default_queue": EVENT_QUEUE,
        "task_default_exchange": _EXCHANGE.name,
        "task_default_routing_key": EVENT_QUEUE,
        "task_create_missing_queues": False,  # a mistyped --queues is an error, not a new queue
        "task_routes": {
            SEND_CODE_TASK: {"queue": BATCH_QUEUE},
            DELIVER_TASK: {"queue": WEBHOOK_QUEUE},
        },
        # A message leaves the broker when its job's work is recorded, not before.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # No other worker can take what a worker has prefetched.
        "worker_prefetch_multiplier": 1,
        # A call under way is finished even if the broker is gone: the code may have been sent.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Redis does not support it, and Celery warns of that at every reconnect.
        "worker_enable_prefetch_count_reduction": False,
        # What Flower shows: a task's arguments, worker and steps.
        "result_extended": True,
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "worker_concurrency": settings.sendcode_concurrency,
    }
