"""The day of the person with the spreadsheet, from the file to the last corrected row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings
from jobs.batches import Batches
from tests.commands import Ran, run
from tests.files import customer, read_csv, write_csv
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

OK, TWO_MANY, DOWN_FOR_FOUR = "9900", "9901", "9921"
"""An ordinary number; one with too many accounts; one refused four times by a busy service."""


@pytest.mark.settings(sendcode_max_attempts=2)
def test_every_customer_gets_one_code_in_the_end(
    sandbox: Sandbox,
    settings: Settings,
    batches: Batches,
    start_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
) -> None:
    def sendcode(*words: str) -> Ran:
        ran = run(settings, *words, cwd=tmp_path)
        assert ran.exit_code == 0, ran.err
        return ran

    def everything_ended() -> None:
        wait_until(lambda: (batch := batches.get("may")) and batch.is_over, "the batch")

    start_worker()
    rows = [customer(n, OK) for n in range(1, 9)]
    rows += [customer(n, TWO_MANY) for n in range(9, 12)]
    rows += [customer(n, DOWN_FOR_FOUR) for n in range(12, 18)]
    rows += [["Customer 18", "86", "13800000000", "Beijing"]]
    write_csv(tmp_path / "may.csv", rows)

    sendcode("batch", "check", "may.csv")
    sendcode("batch", "submit", "may.csv", "--id", "may", "--watch")

    status = sendcode("batch", "status", "may", "--json").json
    assert status["counts"] == {"sent": 8, "dead": 9, "rejected": 1}

    # the service was down: twice more, two attempts each, and the fifth is let through
    for _ in range(2):
        sendcode("dead", "requeue", "--batch", "may", "--code", "ServiceUnavailable")
        everything_ended()
    assert sendcode("dead", "list", "--json").json["total"] == 3

    # one customer rang up, the others are corrected in the file
    sendcode("dead", "requeue", "may-9", "--phone", "+852 9900 0099", "--reason", "rang up")
    everything_ended()
    sendcode("batch", "results", "may", "--only", "failed", "--output", "failed.csv")
    failed = read_csv(tmp_path / "failed.csv")
    assert [row["name"] for row in failed] == ["Customer 10", "Customer 11", "Customer 18"]
    for row in failed:
        row["country_code"] = "852"
        row["phone_num"] = row["phone_num"].replace("9901", "9900").replace("138000", "9900")
    write_csv(tmp_path / "failed.csv", [list(row.values()) for row in failed], list(failed[0]))
    sendcode("batch", "submit", "failed.csv", "--id", "may-again", "--watch")
    sendcode("dead", "drop", "--batch", "may", "--reason", "sent to corrected numbers as may-again")

    stats = sandbox.stats()
    assert sorted(stats["accepted_per_number"].values()) == [1] * 18
    assert stats["rejected_rate_limit"] == 0
    assert sendcode("dead", "list", "--json").json["total"] == 0
    story = sendcode("job", "show", "may-12", "--json").json["story"]
    assert [entry["what"] for entry in story] == [
        *["attempt", "attempt", "requeue"] * 2,
        "attempt",
    ]
    assert len({entry["request_id"] for entry in story if entry["what"] == "attempt"}) == 5
    again = sendcode("batch", "results", "may", "--json").json
    assert [row["status"] for row in again["rows"]].count("sent") == 15
