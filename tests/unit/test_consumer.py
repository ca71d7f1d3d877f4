"""How long a worker waits between its tries to reach Redis."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from worker.consumer import Consumer


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
