"""An API that is out for a while costs time, and no job."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.account import Account
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.phone import PhoneNumber
from sandbox.client import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

ROWS = 60


def add_batch(batches: Batches) -> None:
    numbers = [PhoneNumber("852", f"9900{row:04}") for row in range(ROWS)]
    batches.open("b", "digest", ["phone"])
    rows = [BatchRow(line, [""], phone) for line, phone in enumerate(numbers, start=2)]
    batches.append("b", 0, rows, last=True)


@pytest.mark.settings(sendcode_rate_limit=20, sendcode_canary_interval=0.5)
@pytest.mark.parametrize("answer", ["ServiceUnavailable", "AuthFailure.SecretIdNotFound"])
def test_an_outage_halts_the_sending_and_its_end_lets_every_job_be_sent(
    answer: str,
    sandbox: Sandbox,
    batches: Batches,
    account: Account,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    sandbox.change(account_state=answer)
    add_batch(batches)
    worker = start_worker()

    wait_until(lambda: account.look().state == "halted", "the halt")
    wait_until(lambda: "account halted" in worker.log, "the line that an alert looks for")
    assert account.look().by == "api"
    assert account.look().code == answer
    assert "@" in account.look().worker, "the name of the worker that was answered so"
    sandbox.change(account_state=None)

    wait_until(lambda: (batch := batches.get("b")) and batch.is_over, "the batch's end")
    assert (batch := batches.get("b"))
    assert batch.counts == {"sent": ROWS}
    assert account.look().state == "running"
    assert sandbox.stats()["doubled"] == 0
    assert worker.log.count("account halted") == 1


@pytest.mark.settings(
    sendcode_rate_limit=50,
    sendcode_canary_interval=0.5,
    sendcode_phone_interval=20,
    sendcode_backoff=1,
)
def test_an_outage_that_leaves_every_job_in_doubt_ends_with_every_doubt_resolved(
    sandbox: Sandbox,
    batches: Batches,
    account: Account,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    sandbox.change(account_state="InternalError")
    add_batch(batches)
    worker = start_worker("--concurrency", "100")

    wait_until(lambda: account.look().state == "halted", "the halt")
    worker.kill()
    start_worker("--concurrency", "100")
    wait_until(
        lambda: sandbox.stats()["requests"] > 5 * ROWS + 20, "more tries than attempts allowed"
    )
    sandbox.change(account_state=None)

    wait_until(lambda: (batch := batches.get("b")) and batch.is_over, "the batch's end")
    assert (batch := batches.get("b"))
    assert batch.counts == {"sent": ROWS}
    assert sandbox.stats()["accepted"] == ROWS
    assert not any(record and record.possible_duplicate for _, _, record in batches.rows("b"))
