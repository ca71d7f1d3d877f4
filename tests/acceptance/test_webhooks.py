"""Webhooks with real workers: whatever is killed or lost, the backend is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from redis import Redis

from config import QUEUES, WEBHOOK_QUEUE
from config.settings import Settings
from jobs.job import SendCodeJob
from jobs.webhooks import Webhooks
from producer.events import Events
from tests.ledger_acts import number
from tests.receiver import Received, Receiver
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess
from worker.webhooks import TIMEOUT_S

StartWorker = Callable[..., WorkerProcess]

pytestmark = pytest.mark.settings(sendcode_webhook_private=True)


@pytest.mark.usefixtures("sandbox")
def test_an_outcome_whose_worker_is_killed_while_it_delivers_is_delivered_by_another(
    settings: Settings, redis: Redis, events: Events, receiver: Receiver, start_worker: StartWorker
) -> None:
    Webhooks(redis, settings).set("shop", receiver.url)
    dead = threading.Event()
    receiver.answer = lambda _: 204 if dead.wait(PATIENCE_S) else 500
    first = start_worker()
    accepted = events.accept(SendCodeJob.for_event(number(), "signup-1"), "shop")
    events.publish(accepted)
    wait_until(lambda: receiver.received, "a first try")

    first.kill()
    dead.set()
    start_worker()

    wait_until(lambda: len(receiver.received) == 2, "a second try")
    assert [each.id for each in receiver.received] == [f"{accepted.record.job_id}_1"] * 2
    wait_until(lambda: Webhooks(redis, settings).all()[0].waiting == 0, "an empty outbox")


@pytest.mark.usefixtures("sandbox")
def test_every_outcome_is_delivered_though_the_broker_is_emptied_meanwhile(
    settings: Settings, redis: Redis, events: Events, receiver: Receiver, start_worker: StartWorker
) -> None:
    Webhooks(redis, settings).set("shop", receiver.url)
    jobs = [
        events.accept(SendCodeJob.for_event(number(serial), f"k{serial}"), "shop").record.job_id
        for serial in range(60)
    ]
    start_worker("--concurrency", "4")
    wait_until(lambda: receiver.received, "some delivered")

    redis.delete(*QUEUES)

    def told() -> set[str]:
        return {each.data["job_id"] for each in receiver.received}

    wait_until(lambda: told() == set(jobs), "all delivered")
    assert redis.llen(WEBHOOK_QUEUE) == 0


@pytest.mark.usefixtures("sandbox")
def test_endpoints_that_never_answer_keep_no_code_waiting(
    settings: Settings,
    redis: Redis,
    events: Events,
    receiver: Receiver,
    start_worker: StartWorker,
) -> None:
    over = threading.Event()

    def never(_: Received) -> int:
        over.wait(PATIENCE_S)
        return 204

    receiver.answer = never
    for name in ("a", "b", "c"):
        Webhooks(redis, settings).set(name, receiver.url)

    def send(serial: int, token: str) -> str:
        job = SendCodeJob.for_event(number(serial), f"k{serial}")
        submitted = events.accept(job, token)
        events.publish(submitted)
        return submitted.record.job_id

    start_worker("--concurrency", "2")
    for serial, token in enumerate("abcabcabc"):
        send(serial, token)
    # six of nine: four to one endpoint at most, and more than there are threads for codes
    wait_until(lambda: len(receiver.received) >= 6, "webhooks that hang", TIMEOUT_S)

    job_id = send(100, "")

    def is_sent() -> bool:
        record = events.job(job_id)
        return record is not None and record.state.is_sent

    wait_until(is_sent, "sent while they hang")
    over.set()
