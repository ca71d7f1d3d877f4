"""Publishing: what a message carries, and what it costs the process that publishes."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import SecretStr
from redis import Redis

from config import BATCH_QUEUE, EVENT_QUEUE
from config.celery import make_celery
from config.settings import Settings
from jobs.job import Lane
from jobs.publish import NotPublishedError, Publisher


def test_a_message_carries_the_job_id_and_nothing_else(publisher: Publisher, redis: Redis) -> None:
    publisher.publish([(Lane.BATCH, "b1-1")])

    message = json.loads(str(redis.lindex(BATCH_QUEUE, 0)))
    body = json.loads(base64.b64decode(message["body"]))
    assert body[:2] == [["b1-1"], {}]
    assert message["headers"]["id"] == "b1-1"
    assert message["headers"]["ignore_result"] is False


def test_each_lane_has_its_queue(publisher: Publisher, redis: Redis) -> None:
    publisher.publish([(Lane.EVENT, "ev-1"), (Lane.BATCH, "b1-1"), (Lane.BATCH, "b1-2")])

    assert redis.llen(EVENT_QUEUE) == 1
    assert redis.llen(BATCH_QUEUE) == 2


def test_publishing_listens_for_no_result(publisher: Publisher, redis: Redis) -> None:
    redis.config_resetstat()

    publisher.publish([(Lane.EVENT, f"ev-{n}") for n in range(20)])

    assert "cmdstat_subscribe" not in redis.info("commandstats")


def test_a_broker_out_of_reach_is_one_error() -> None:
    settings = Settings(sendcode_redis_url=SecretStr("redis://127.0.0.1:9/0"))
    publisher = Publisher(make_celery(settings))

    with pytest.raises(NotPublishedError):
        publisher.publish([(Lane.EVENT, "ev-1")])
