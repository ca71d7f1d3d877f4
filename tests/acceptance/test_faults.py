"""A quick selection of `make faults`: real workers, killed or frozen at named points."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from config.settings import Settings
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, Lane, SendCodeJob, State, batch_job_id
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from tests.faults import doomed
from tests.faults.audit import leftovers
from tests.faults.workers import Crew, crew
from tests.ledger_acts import number_key
from tests.sandbox import Sandbox
from tests.waiting import wait_until

pytestmark = pytest.mark.settings(
    sendcode_phone_interval=20,
    sendcode_lease=1,
    sendcode_sweep_interval=0.2,
    sendcode_http_timeout=0.75,
    sendcode_concurrency=4,
)

PHONE = PhoneNumber("852", "50000001")
SENT_AT_ONCE = {State.SENT: 1}
PROBED = {State.SENT: 2}
INFERRED = {State.SENT_INFERRED: 2}
ENDINGS = {
    doomed.POPPED: SENT_AT_ONCE,
    doomed.BEFORE_CLAIM: SENT_AT_ONCE,
    doomed.AFTER_CLAIM: SENT_AT_ONCE,
    doomed.AFTER_BEGIN: PROBED,
    doomed.IN_CALL: INFERRED,
    doomed.AFTER_ANSWER: INFERRED,
    doomed.AFTER_RECORD: SENT_AT_ONCE,
    doomed.BEFORE_ACK: SENT_AT_ONCE,
    doomed.AFTER_SWEEP: SENT_AT_ONCE,
}
"""How a job ends, with how many attempts, whose worker was killed at a point."""


class Witness:
    """Remembers what the workers told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def listen(self, worker: str, _at: float, event: str, _job_id: str, _note: str) -> None:
        self.told.append((worker, event))


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def start_crew(
    settings: Settings, tmp_path: Path, witness: Witness
) -> Iterator[Callable[..., Crew]]:
    """Start watched workers by their names; each is ready then, and started again if it dies."""
    with ExitStack() as stack:

        def start(*names: str) -> Crew:
            chosen = dict.fromkeys(names, settings)
            workers = crew(chosen, tmp_path, witness.listen, forked=True)
            stack.enter_context(workers)
            workers.wait_ready()
            return workers

        yield start


def final(ledger: Ledger, job_id: str) -> JobRecord:
    def ended() -> JobRecord | None:
        record = ledger.job(job_id)
        return record if record and record.state.is_final else None

    record = wait_until(ended, f"{job_id} has ended")
    assert record is not None
    return record


@pytest.mark.parametrize("point", doomed.POINTS)
def test_a_worker_killed_at_any_point_neither_loses_nor_doubles_a_job(
    point: str,
    start_crew: Callable[..., Crew],
    sandbox: Sandbox,
    ledger: Ledger,
    batches: Batches,
) -> None:
    workers = start_crew("w1")
    workers.workers["w1"].arm(point)

    batches.open("b1", "digest", ["country_code", "phone_num"])
    batches.append("b1", 0, [BatchRow(2, ["852", PHONE.phone_num], PHONE)], last=True)

    wait_until(lambda: workers.deaths[-signal.SIGKILL] == 1, "the worker was killed")
    record = final(ledger, batch_job_id("b1", 1))
    assert {record.state: record.attempts} == ENDINGS[point]
    assert sandbox.stats()["accepted_per_number"] == {"85250000001": 1}
    assert not record.possible_duplicate
    assert leftovers(ledger) == {}


@pytest.mark.settings(sendcode_phone_interval=4.5, sendcode_http_timeout=0.5)
def test_a_worker_frozen_for_longer_than_the_interval_sends_nothing_when_it_thaws(
    start_crew: Callable[..., Crew],
    witness: Witness,
    sandbox: Sandbox,
    ledger: Ledger,
    publisher: Publisher,
) -> None:
    frozen, other = start_crew("w1", "w2").workers.values()
    other.signal(signal.SIGSTOP)
    frozen.arm(doomed.FREEZE + doomed.AFTER_BEGIN)
    job_id = ledger.submit(SendCodeJob.for_event(PHONE)).record.job_id
    publisher.publish([(Lane.EVENT, job_id)])
    wait_until(lambda: ("w1", "freezes") in witness.told, "the worker is frozen")

    other.signal(signal.SIGCONT)
    record = final(ledger, job_id)
    wait_until(lambda: _is_open(ledger, PHONE), "the number's interval is over")
    frozen.signal(signal.SIGCONT)
    wait_until(lambda: ("w1", "left") in witness.told, "the worker let go of the job")

    assert record.state is State.SENT
    assert sandbox.number("85250000001")["requests"] == 1
    assert ledger.job(job_id) == record


def _is_open(ledger: Ledger, phone: PhoneNumber) -> bool:
    """Whether the API would let another code to this number through."""
    key = number_key(ledger, phone)
    until = int(ledger.client.hget(key, "until") or 0)
    seconds, _ = ledger.client.time()
    return until < seconds * 1000
