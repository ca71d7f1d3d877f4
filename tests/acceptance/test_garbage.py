"""A real worker fed with garbage: it puts it aside, shows none of it, and works on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from redis import Redis

from config import BATCH_QUEUE, EVENT_QUEUE
from config.settings import Settings
from jobs.job import Lane, SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from jobs.quarantine import read_quarantine
from tests.commands import Command
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess
from worker.transport import MAX_BODY_CHARACTERS, message_of

SECRET = "51234567"


def message(**changes: Any) -> bytes:
    """A message of ours for a job that does not exist, with changes in any of its parts."""
    made = message_of(f"nobody-{SECRET}", EVENT_QUEUE)
    for part in (made, made["headers"], made["properties"]):
        part.update({name: value for name, value in changes.items() if name in part})
    return json.dumps(made).encode()


UNREADABLE = [
    SECRET.encode() + b" is no JSON",
    b"",
    b"\xff\xfe" + SECRET.encode(),
    b"9" * 5000,
    b"[" * 100_000,
    b'{"__type__": "decimal", "__value__": "%s?"}' % SECRET.encode(),
    b'{"__type__": "datetime", "__value__": "%s"}' % SECRET.encode(),
    b'{"__type__": [], "__value__": 1}',
    b'{"__type__": "bytes", "__value__": 1}',
]
NO_JOBS = [
    b"null",
    b'"%s"' % SECRET.encode(),
    b'{"body": "%s"}' % SECRET.encode(),
    message(task="os.system", argsrepr=SECRET),
    message(
        **{"content-type": "application/x-python-serialize", "body": "gASVBgAAAAAAAACMAm5vlC4="}
    ),
    message(body=SECRET * MAX_BODY_CHARACTERS),
    message(body=SECRET),
]
ODD_BUT_JOBS = [
    # each of these ends a worker that believes what is in a message
    message(id=[SECRET]),
    message(timelimit="soon"),
    message(delivery_info=7),
    message(**{"content-encoding": 7}),
]


def test_garbage_in_the_queues_is_put_aside_and_work_goes_on(
    sandbox: Sandbox,
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
    publisher: Publisher,
    start_worker: Callable[..., WorkerProcess],
    settings: Settings,
    sendcode: Command,
) -> None:
    worker = start_worker("--concurrency", "2")
    for queue in (EVENT_QUEUE, BATCH_QUEUE):
        redis.rpush(queue, *UNREADABLE, *NO_JOBS, *ODD_BUT_JOBS)

    ids = [
        ledger.submit(SendCodeJob.for_event(PhoneNumber("852", f"9900{n:04d}"))).record.job_id
        for n in range(5)
    ]
    publisher.publish([(Lane.EVENT, job_id) for job_id in ids])

    wait_until(
        lambda: all((job := ledger.job(i)) and job.state is State.SENT for i in ids), "jobs sent"
    )
    garbage = 2 * (len(UNREADABLE) + len(NO_JOBS))
    wait_until(lambda: redis.llen(keys.quarantine) >= garbage, "garbage read")
    assert sandbox.stats()["accepted"] == 5
    entries = read_quarantine(redis, settings)
    assert len(entries) == garbage
    assert any(entry.content and SECRET in entry.content for entry in entries)
    assert SECRET not in str(redis.lrange(keys.quarantine, 0, -1))
    assert redis.ttl(keys.quarantine) > 0
    assert {entry.queue for entry in entries} == {"?", EVENT_QUEUE, BATCH_QUEUE}
    shown = sendcode("ledger", "quarantine", "--json")
    assert len(shown.json) == garbage
    assert SECRET not in shown.out
    assert "unknown task" in sendcode("ledger", "quarantine").out
    assert worker.stop() == 0
    assert SECRET not in worker.log
    assert "Traceback" not in worker.log
