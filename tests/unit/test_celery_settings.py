"""Celery's settings: those that keep it from losing, doubling or lagging, and the broker's URL."""

from __future__ import annotations

from typing import Any

from config import BATCH_QUEUE, EVENT_QUEUE, SEND_CODE_TASK, WEBHOOK_QUEUE
from config.celery import celery_settings, make_celery
from config.settings import Settings


def celery_of(url: str = "redis://127.0.0.1:6379/0", **more: Any) -> dict[str, Any]:
    return celery_settings(Settings(**{"sendcode_redis_url": url, **more}))


def test_events_stand_before_batches() -> None:
    settings = celery_of()

    assert [queue.name for queue in settings["task_queues"]] == [
        EVENT_QUEUE,
        BATCH_QUEUE,
        WEBHOOK_QUEUE,
    ]
    assert settings["broker_transport_options"]["queue_order_strategy"] == "priority"


def test_a_message_stays_until_its_job_s_work_is_recorded_and_is_fetched_one_by_one() -> None:
    settings = celery_of()

    assert settings["task_acks_late"] is True
    assert settings["worker_prefetch_multiplier"] == 1


def test_nothing_but_json_is_read() -> None:
    settings = celery_of()

    assert settings["accept_content"] == ["json"]
    assert settings["result_accept_content"] == ["json"]


def test_no_message_goes_to_a_queue_that_nobody_named() -> None:
    app = make_celery(Settings())

    assert app.conf.task_create_missing_queues is False
    assert app.amqp.router.route({}, SEND_CODE_TASK)["queue"].name == BATCH_QUEUE


def test_a_worker_waits_for_redis_as_long_as_it_takes() -> None:
    settings = celery_of()

    assert settings["broker_connection_retry_on_startup"] is True
    assert settings["broker_connection_max_retries"] is None


def test_a_worker_has_the_threads_that_are_set() -> None:
    assert celery_of(sendcode_concurrency=7)["worker_concurrency"] == 7


def test_making_the_app_changes_no_current_app() -> None:
    first, second = make_celery(Settings()), make_celery(Settings(sendcode_concurrency=3))

    assert first.conf.worker_concurrency == 48
    assert second.conf.worker_concurrency == 3
