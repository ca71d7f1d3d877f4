"""How long a worker waits between its tries to reach Redis, and with what it tells Flower."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from worker.transport import EVENTS_WAIT_S, Consumer


def test_a_worker_never_waits_longer_than_two_seconds_to_try_redis_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection("redis://127.0.0.1:9/0")
    waits: list[float] = []
    tries = iter([ConnectionError] * 20)

    def connect(*_: Any) -> str:
        if error := next(tries, None):
            raise error
        return "connected"

    monkeypatch.setattr(connection, "_connection_factory", connect)
    monkeypatch.setattr("kombu.utils.functional.sleep", waits.append)
    app = Celery(set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True
    app.conf.broker_connection_max_retries = None
    consumer = Consumer.__new__(Consumer)
    consumer.app = app
    consumer.controller = SimpleNamespace()
    consumer.first_connection_attempt = True
    consumer.broker_connection_retry_attempt = 0

    consumer.ensure_connected(connection)

    assert next(tries, None) is None
    assert sum(waits) <= 2 * 20


def test_events_that_come_together_are_sent_together() -> None:
    asked: list[tuple[Any, ...]] = []
    consumer = Consumer.__new__(Consumer)
    consumer.hub = SimpleNamespace(call_soon=lambda *call: asked.append(call), call_later="later")

    for _ in range(3):
        consumer.on_send_event_buffered()

    assert asked == [("later", EVENTS_WAIT_S, consumer._flush_events)]


def test_an_event_after_the_others_were_sent_is_sent_too() -> None:
    asked: list[tuple[Any, ...]] = []
    consumer = Consumer.__new__(Consumer)
    consumer.hub = SimpleNamespace(call_soon=lambda *call: asked.append(call), call_later="later")
    consumer.on_send_event_buffered()
    consumer._flush_at -= EVENTS_WAIT_S

    consumer.on_send_event_buffered()

    assert len(asked) == 2
