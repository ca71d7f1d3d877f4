"""The worker's transport: what it leaves in Redis about messages in work."""

from __future__ import annotations

from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Queue
from redis import Redis

from config import BATCH_QUEUE
from config.celery import make_celery
from config.settings import Settings
from jobs.job import Lane
from jobs.publish import Publisher
from tests.waiting import PATIENCE_S
from worker.transport import Transport


def connection_of_a_worker(settings: Settings, **options: Any) -> Connection:
    app = make_celery(settings, broker_transport=Transport)
    app.conf.broker_transport_options |= options
    connection: Connection = app.connection()
    return connection


def receive(settings: Settings, **options: Any) -> Message:
    """Take one message from the batch queue, and close the connection without acknowledging it."""
    got: list[Message] = []
    connection = connection_of_a_worker(settings, **options)
    queue = Queue(BATCH_QUEUE, routing_key=BATCH_QUEUE)
    with connection, Consumer(connection, [queue], on_message=got.append, accept=["json"]):
        connection.drain_events(timeout=PATIENCE_S)
    (message,) = got
    return message


def keys_of_messages(redis: Redis) -> list[Any]:
    return [key for key in redis.keys("*") if not str(key).startswith("_kombu")]


def test_a_message_in_work_is_nowhere_in_redis(
    settings: Settings, publisher: Publisher, redis: Redis
) -> None:
    publisher.publish([(Lane.BATCH, "b1-1")])

    message = receive(settings)

    assert message.headers["id"] == "b1-1"
    assert keys_of_messages(redis) == []


def test_a_message_that_outlived_its_connection_is_let_go_in_peace(
    settings: Settings, publisher: Publisher, redis: Redis
) -> None:
    publisher.publish([(Lane.BATCH, "b1-1"), (Lane.BATCH, "b1-2")])
    first, second = receive(settings), receive(settings)

    first.ack()
    second.requeue()

    assert keys_of_messages(redis) == []


def test_kombu_s_way_of_redelivering_cannot_be_had(
    settings: Settings, publisher: Publisher, redis: Redis
) -> None:
    publisher.publish([(Lane.BATCH, "b1-1")])

    receive(settings, ack_emulation=False).requeue()

    assert keys_of_messages(redis) == []


@pytest.mark.parametrize("defect", [TypeError, ValueError, AttributeError, KeyError])
def test_a_defect_while_a_message_is_handed_over_is_logged_and_costs_no_place(
    defect: type[Exception],
    settings: Settings,
    publisher: Publisher,
    redis: Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher.publish([(Lane.BATCH, f"b1-{n}") for n in (1, 2, 3)])
    got: list[str] = []

    def broken(message: Message) -> None:
        got.append(message.headers["id"])
        raise defect

    connection = connection_of_a_worker(settings)
    queue = Queue(BATCH_QUEUE, routing_key=BATCH_QUEUE)
    with connection, Consumer(connection, [queue], on_message=broken, prefetch_count=1):
        for _ in range(3):
            connection.drain_events(timeout=PATIENCE_S)

    assert got == ["b1-1", "b1-2", "b1-3"]
    assert caplog.text.count(f"raise defect\n{defect.__name__}\n") == 3
    assert keys_of_messages(redis) == []
