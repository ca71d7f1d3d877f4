"""The worker's transport: what it leaves in Redis about messages in work."""

from __future__ import annotations

from typing import Any

from kombu import Connection, Consumer, Message, Queue
from redis import Redis

from config.names import BATCH_QUEUE
from jobs.job import Lane
from jobs.publish import Publisher
from worker.transport import Transport


def receive(url: str) -> Message:
    """Take one message from the batch queue, and close the connection without acknowledging it."""
    got: list[Message] = []
    connection = Connection(url, transport=Transport)
    queue = Queue(BATCH_QUEUE, routing_key=BATCH_QUEUE)
    with connection, Consumer(connection, [queue], on_message=got.append, accept=["json"]):
        connection.drain_events(timeout=5)
    (message,) = got
    return message


def keys_of_messages(redis: Redis) -> list[Any]:
    return [key for key in redis.keys("*") if not str(key).startswith("_kombu")]


def test_a_message_in_work_is_nowhere_in_redis(
    redis_url: str, publisher: Publisher, redis: Redis
) -> None:
    publisher.publish([(Lane.BATCH, "b1-1")])

    message = receive(redis_url)

    assert message.headers["id"] == "b1-1"
    assert keys_of_messages(redis) == []


def test_a_message_that_outlived_its_connection_is_let_go_in_peace(
    redis_url: str, publisher: Publisher, redis: Redis
) -> None:
    publisher.publish([(Lane.BATCH, "b1-1"), (Lane.BATCH, "b1-2")])
    first, second = receive(redis_url), receive(redis_url)

    first.ack()
    second.requeue()

    assert keys_of_messages(redis) == []
