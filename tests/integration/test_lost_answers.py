"""A connection to Redis that is lost in the middle: what was done is told as done, by all parts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from redis import Redis

from config import EVENT_QUEUE
from config.settings import Settings
from demo.world import EmbeddedValkey
from jobs.account import Account
from jobs.actions import recent_actions
from jobs.batches import Batches
from producer import send_code
from tests.faults.proxy import ProxyProcess
from tests.ledger_acts import row


@pytest.fixture
def proxy(valkey: EmbeddedValkey) -> Iterator[ProxyProcess]:
    with ProxyProcess(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def redis_url(redis_url: str, valkey: EmbeddedValkey, proxy: ProxyProcess) -> str:
    """The way through the proxy."""
    return redis_url.replace(str(valkey.port), str(proxy.port))


def test_an_accepted_event_is_published_at_once(
    settings: Settings, redis: Redis, proxy: ProxyProcess
) -> None:
    send_code("852", "99000001", settings=settings)

    proxy.order("lose EVALSHA 1")
    send_code("852", "99000002", settings=settings)

    assert redis.llen(EVENT_QUEUE) == 2


def test_the_same_key_again_is_published_once(
    settings: Settings, redis: Redis, proxy: ProxyProcess
) -> None:
    send_code("852", "99000001", key="k", settings=settings)

    proxy.order("lose EVALSHA 1")
    send_code("852", "99000001", key="k", settings=settings)

    assert redis.llen(EVENT_QUEUE) == 1


def test_halt_and_resume_report_what_they_did(account: Account, proxy: ProxyProcess) -> None:
    account.resume("person")  # its script is loaded

    proxy.order("lose EVALSHA 1")
    halted = account.halt("person", "Halted", "maintenance")
    again = account.halt("person", "Halted", "maintenance")
    proxy.order("lose EVALSHA 1")
    resumed = account.resume("person")
    once_more = account.resume("person")

    assert (halted, again) == (True, False)
    assert (resumed, once_more) == (True, False)


def test_what_a_person_does_to_a_batch_is_reported_and_listed_once(
    batches: Batches, redis: Redis, settings: Settings, proxy: ProxyProcess
) -> None:
    batches.open("b1", "digest", ["phone"])
    batches.append("b1", 0, [row(n) for n in range(3)], last=True)
    batches.steer("b1", "resume")

    reports = []
    for order in ("pause", "resume", "pause", "cancel"):
        proxy.order("lose EVALSHA 1")
        reports.append(batches.steer("b1", order))

    assert reports == [
        ("running", "paused"),
        ("paused", "running"),
        ("running", "paused"),
        ("paused", "cancelled"),
    ]
    assert [action.what for action in recent_actions(redis, settings, 4)] == [
        "batch cancel",
        "batch pause",
        "batch resume",
        "batch pause",
    ]


@pytest.mark.filterwarnings("ignore:Call to deprecated setex", "ignore:Exception raised outside")
def test_a_task_that_ended_well_is_no_failure_because_its_result_met_resets(
    celery_app: Celery, redis: Redis, proxy: ProxyProcess
) -> None:
    def sent() -> str:
        return "sent"

    task = celery_app.task(sent, name="sent", shared=False)
    trace = build_tracer("sent", task, app=celery_app)
    _ = trace("id-1", (), {}, {"id": "id-1"})

    proxy.order("break SET 2")
    _ = trace("id-2", (), {}, {"id": "id-2"})
    _ = trace("id-3", (), {}, {"id": "id-3"})

    results = [redis.get(f"celery-task-meta-id-{n}") for n in (1, 2, 3)]
    celery_app.backend.client.connection_pool.disconnect()
    assert [json.loads(text)["status"] for text in results if text] == ["SUCCESS", "SUCCESS"]
