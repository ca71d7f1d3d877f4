"""A Celery app as the usual advice has it: acks late, prefetch 1, results, events."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.peers.call import call_api

URL = os.environ["SENDCODE_REDIS_URL"]

app = Celery("bare")
app.conf.update(
    broker_url=URL,
    result_backend=URL,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    result_extended=True,
)


@app.task(name="bare.send")
def send(country_code: str, phone_num: str) -> str:
    return call_api(country_code, phone_num)


publish = send.delay
