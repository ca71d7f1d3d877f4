"""An API that is out for a while costs time, and no job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.world import SandboxProcess
from jobs.account import Account
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import SendCodeJob, State
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from tests.commands import Command
from tests.conftest import marked_settings
from tests.forked import ForkedSandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

ROWS = 30
MANY = 80
"""Enough to be under way for some seconds."""
# a busy machine answers late, and proves all within the interval, for which nothing here waits
pytestmark = pytest.mark.settings(sendcode_phone_interval=60, sendcode_http_timeout=5)


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SandboxProcess]:
    """The sandbox as a process of its own: its answers must not wait for this one."""
    world = marked_settings(request)
    rate, interval_s = world["sendcode_rate_limit"], world["sendcode_phone_interval"]
    options = ("--rate-limit", str(rate), "--phone-interval", str(interval_s))
    with ForkedSandbox(*options, folder=tmp_path) as server:
        yield server


def add_batch(batches: Batches, count: int = ROWS) -> None:
    numbers = [PhoneNumber("852", f"9900{row:04}") for row in range(count)]
    batches.open("b", "digest", ["phone"])
    rows = [BatchRow(line, [""], phone) for line, phone in enumerate(numbers, start=2)]
    batches.append("b", 0, rows, last=True)


def is_over(batches: Batches) -> bool:
    return (batch := batches.get("b")) is not None and batch.is_over


def under_way(batches: Batches) -> set[str]:
    """Return the jobs that were tried and have not ended."""
    return {
        job.job_id for _, _, job in batches.rows("b") if job and job.tries and not job.finished_ms
    }


@pytest.mark.settings(sendcode_rate_limit=20, sendcode_canary_interval=0.5)
@pytest.mark.parametrize("answer", ["ServiceUnavailable", "AuthFailure.SecretIdNotFound"])
def test_an_outage_halts_the_sending_and_its_end_lets_every_job_be_sent(
    answer: str,
    sandbox: SandboxProcess,
    batches: Batches,
    account: Account,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    sandbox.change(account_state=answer)
    add_batch(batches)
    worker = start_worker()

    wait_until(lambda: account.state().state == "halted", "the halt")
    wait_until(lambda: "account halted" in worker.log, "the line that an alert looks for")
    assert account.state().by == "api"
    assert account.state().code == answer
    assert "@" in account.state().worker, "the name of the worker that was answered so"
    sandbox.change(account_state=None)

    wait_until(lambda: is_over(batches), "the batch's end")
    assert (batch := batches.get("b"))
    assert batch.counts == {"sent": ROWS}
    assert account.state().state == "running"
    assert sandbox.stats()["doubled"] == 0
    assert worker.log.count("account halted") == 1


@pytest.mark.settings(
    sendcode_rate_limit=20,
    sendcode_canary_interval=0.5,
    sendcode_backoff=1,
)
def test_an_outage_that_leaves_every_job_in_doubt_ends_with_every_doubt_resolved(
    sandbox: SandboxProcess,
    batches: Batches,
    account: Account,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    sandbox.change(account_state="InternalError")
    add_batch(batches)
    worker = start_worker("--concurrency", "40")

    wait_until(lambda: account.state().state == "halted", "the halt")
    worker.kill()
    start_worker("--concurrency", "40")
    wait_until(
        lambda: sandbox.stats()["requests"] > 5 * ROWS + 20, "more tries than attempts allowed"
    )
    sandbox.change(account_state=None)

    wait_until(lambda: is_over(batches), "the batch's end")
    assert (batch := batches.get("b"))
    assert batch.counts == {"sent": ROWS}
    assert sandbox.stats()["accepted"] == ROWS
    assert not any(record and record.possible_duplicate for _, _, record in batches.rows("b"))


@pytest.mark.settings(
    sendcode_rate_limit=20,
    sendcode_canary_interval=0.5,
    sendcode_phone_interval=5,
    sendcode_http_timeout=0.4,
    sendcode_lease=0.8,
    sendcode_sweep_interval=0.1,
    sendcode_max_attempts=50,  # the seconds until an outage is noticed are not scaled down
)
def test_after_an_outage_of_minutes_all_are_sent_and_only_those_under_way_flagged(
    sandbox: SandboxProcess,
    batches: Batches,
    account: Account,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    """Two minutes, each as long as a number's interval, five seconds here.

    With more of them, and one process: tests/integration/test_account.py.
    """
    add_batch(batches, MANY)
    start_worker("--concurrency", "40")
    wait_until(lambda: sandbox.stats()["accepted"] >= 20, "a batch in full swing")
    sandbox.change(account_state="hang-up-before")
    wait_until(lambda: account.state().state == "halted", "the halt")
    tried = under_way(batches)

    time.sleep(2 * 5)  # the outage itself
    tried |= under_way(batches)  # a canary, or a call that left while the halt was recorded
    sandbox.change(account_state=None)
    tried |= under_way(batches)

    wait_until(lambda: is_over(batches), "the batch's end")
    assert (batch := batches.get("b"))
    assert batch.counts.keys() <= {"sent", "sent_inferred"}
    assert sandbox.stats()["accepted"] == batch.total
    flagged = {job.job_id for _, _, job in batches.rows("b") if job and job.possible_duplicate}
    assert flagged <= tried


@pytest.mark.settings(sendcode_rate_limit=20, sendcode_canary_interval=0.5)
@pytest.mark.usefixtures("sandbox")
def test_a_poisoned_number_stops_nobody_and_is_set_aside(
    ledger: Ledger,
    batches: Batches,
    account: Account,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    poisoned = SendCodeJob.for_event(PhoneNumber("852", "99800001"))
    ledger.submit(poisoned)
    add_batch(batches, MANY)
    start_worker()

    wait_until(lambda: is_over(batches), "the batch's end")
    wait_until(lambda: (job := ledger.job(poisoned.job_id)) and job.state.is_final, "its end")

    assert (job := ledger.job(poisoned.job_id))
    assert (job.state, job.code, job.attempts) == (State.DEAD, "RefusedAlone", 1)
    assert job.message.startswith("LimitExceeded")
    assert (batch := batches.get("b"))
    assert batch.counts == {"sent": MANY}
    assert account.state().state == "running"


OLD_KEY = {"TENCENTCLOUD_SECRET_ID": "AKIDOLD", "TENCENTCLOUD_SECRET_KEY": "SECRETOLD"}
"""Of before a rotation: the API does not know it any more."""


# at a rate that leaves the good one work for many times as long as the commands take
@pytest.mark.settings(sendcode_rate_limit=10, sendcode_canary_interval=0.5)
def test_a_worker_with_an_old_key_stands_down_and_the_account_halts_with_the_last_good_one(
    batches: Batches,
    account: Account,
    sandbox: SandboxProcess,
    start_worker: Callable[..., WorkerProcess],
    sendcode: Command,
) -> None:
    """The others go on as long as there are any; one that has a new key goes on with the rest."""
    good, old = start_worker(), start_worker(**OLD_KEY)
    add_batch(batches, MANY)

    wait_until(lambda: "takes no more work" in old.log, "the old worker's word")
    before = sandbox.stats()["accepted"]
    wait_until(lambda: sandbox.stats()["accepted"] >= before + 10, "that the other one goes on")
    (refused,) = [each for each in sendcode("status", "--json").json["workers"] if each["refused"]]
    doctor = sendcode("doctor")
    assert old.log.count("takes no more work") == 1
    assert "account halted" not in good.log + old.log
    good.stop()
    wait_until(lambda: account.state().state == "halted", "the halt")
    assert account.state().since_ms is not None
    assert not is_over(batches), "it halted when all was sent"
    start_worker()
    wait_until(lambda: is_over(batches), "the batch's end")

    assert refused["name"].startswith("w2@")
    assert refused["refused"] == "AuthFailure.SecretIdNotFound"
    assert doctor.exit_code == 1
    assert "takes no work" in " ".join(doctor.out.split())
    assert "AKIDOLD" not in good.log + old.log + doctor.out
    assert (batch := batches.get("b"))
    assert batch.counts == {"sent": MANY}
    assert account.state().state == "running"
    assert sandbox.stats()["accepted"] == MANY
