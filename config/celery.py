"""The Celery settings: what keeps Celery on Redis from losing, doubling, leaking or lagging.

Each setting that is not Celery's default says why. The ledger in `jobs/` is what makes a job
certain; these settings make the engine under it quick and harmless.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from config.names import BATCH_QUEUE, EVENT_QUEUE, QUEUES, SEND_CODE_TASK
from config.settings import Settings

_EXCHANGE = Exchange("send-code", type="direct")


def make_celery(settings: Settings, **overrides: Any) -> Celery:
    """Make the Celery app. Nothing connects before its first use."""
    app = Celery("sendcode", set_as_current=False)
    app.conf.update(celery_settings(settings), **overrides)
    return app


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Give the settings that producers, workers and Flower have in common."""
    broker_url, broker_options = _broker(settings)
    return {
        "broker_url": broker_url,
        "broker_transport_options": broker_options,
        # A worker that starts before Redis, or outlives it for a while, waits and goes on.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": broker_url,
        "result_backend_transport_options": {
            **broker_options,
            # A result is a copy of the ledger for Flower: no thread waits long to write one.
            "retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.2},
        },
        "redis_socket_timeout": 5,
        "redis_socket_connect_timeout": 4,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 10,
        # JSON alone: a pickled message would be code.
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # Two direct queues, emptied in strict order (the transport's `priority` cycle follows it).
        "task_queues": [Queue(name, _EXCHANGE, routing_key=name) for name in QUEUES],
        "task_default_queue": EVENT_QUEUE,
        "task_default_exchange": _EXCHANGE.name,
        "task_default_routing_key": EVENT_QUEUE,
        "task_create_missing_queues": False,  # a mistyped --queues is an error, no third queue
        "task_routes": {SEND_CODE_TASK: {"queue": BATCH_QUEUE}},
        # A message leaves the broker when its job's work is recorded, not before.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # What a worker holds back, no other worker can take.
        "worker_prefetch_multiplier": 1,
        # A call under way is finished whatever becomes of the broker: it may have been sent.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Redis cannot do it, and Celery says so at every reconnect.
        "worker_enable_prefetch_count_reduction": False,
        # What Flower shows: a task's arguments, worker and steps.
        "result_extended": True,
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "worker_concurrency": settings.sendcode_concurrency,
    }


def _broker(settings: Settings) -> tuple[str, dict[str, Any]]:
    options: dict[str, Any] = {
        "queue_order_strategy": "priority",
        # Half-open connections are noticed within this many seconds, plus the poll of one second.
        "health_check_interval": 10,
        "socket_keepalive": True,
        "socket_timeout": 10,
        "socket_connect_timeout": 4,
        # Publishing fails at once with a clear error; a sweeper publishes what the ledger kept.
        "max_retries": 1,
        "interval_start": 0.1,
    }
    url = settings.redis_url
    if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:
        # kombu would verify nothing, and Celery's result backend refuses to guess
        url += ("&" if "?" in url else "?") + "ssl_cert_reqs=required"
    if not url.startswith("sentinel://"):
        return url, options
    scheme_and_hosts, _, path = url.removeprefix("sentinel://").partition("/")
    service, _, database = path.partition("/")
    user, _, hosts = scheme_and_hosts.rpartition("@")
    prefix = f"{user}@" if user else ""
    broker_url = ";".join(f"sentinel://{prefix}{host}/{database or 0}" for host in hosts.split(","))
    return broker_url, {**options, "master_name": service}
