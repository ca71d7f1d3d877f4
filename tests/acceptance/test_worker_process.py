"""`celery -A worker worker`, with no further option."""

from __future__ import annotations

from collections.abc import Callable

from jobs.job import Lane, SendCodeJob
from jobs.ledger import Ledger
from jobs.outcome import State
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from sandbox.server import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess


def test_an_event_is_sent_and_the_worker_stops_when_told_to(
    sandbox: Sandbox,
    ledger: Ledger,
    publisher: Publisher,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    worker = start_worker()

    job_id = ledger.submit(SendCodeJob.for_event(PhoneNumber("852", "99000001"))).record.job_id
    publisher.publish([(Lane.EVENT, job_id)])

    wait_until(lambda: (job := ledger.job(job_id)) and job.state is State.SENT)
    assert sandbox.stats()["accepted_per_number"] == {"85299000001": 1}
    assert worker.stop() == 0
