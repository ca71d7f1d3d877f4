"""Whose batch it is, when it starts, and the files that correct it: one view over all of them."""

from __future__ import annotations

import getpass
import re
import socket
import time
from pathlib import Path

import pytest
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.batches import Batches
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.scripts import time_ms
from producer.importing import Submission, Terms
from producer.sheet import open_sheet
from tests.commands import Command, on_terminal
from tests.ended_jobs import DEAD, SENT, end
from tests.files import correct, customer, read_csv, write_csv
from tests.ledger_acts import DEFAULTS, Acts

pytestmark = pytest.mark.settings(**DEFAULTS)


@pytest.fixture
def may(sendcode: Command, ledger: Ledger, tmp_path: Path) -> Path:
    """The failed rows of a batch of six: two were sent, three failed, one was rejected."""
    rows = [customer(n) for n in range(1, 7)]
    rows[5][2] = "call me"
    sendcode("batch", "submit", write_csv(tmp_path / "may.csv", rows), "--id", "may")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT if job_id in {"may-1", "may-2"} else DEAD)
    failed = tmp_path / "failed.csv"
    sendcode("batch", "results", "may", "--only", "failed", "--output", failed)
    return failed


def send_all(ledger: Ledger) -> None:
    while due := ledger.sweep():
        for _, job_id in due:
            end(ledger, job_id, SENT)


def in_12_hours() -> str:
    return time.strftime("%H:%M", time.localtime(time.time() + 12 * 3600))


def customers(sendcode: Command, batch_id: str) -> dict[str, object]:
    told: dict[str, object] = sendcode("batch", "status", batch_id, "--json").json["customers"]
    return told


def test_a_rejected_row_is_corrected_as_long_as_its_correction_is_to_be_sent(
    sendcode: Command, may: Path, redis: Redis, keys: Keys
) -> None:
    correct(may, {customer(6)[0]: {"phone_num": customer(6)[2]}})
    failed = may.with_name("again.csv")
    take = ("batch", "results", "may", "--only", "failed", "--output", failed, "--overwrite")

    sendcode("batch", "submit", may, "--id", "may-2")
    sendcode(*take)
    corrected = read_csv(failed)
    told = sendcode("job", "show", "may-6").err
    sendcode("batch", "cancel", "may-2", "--yes")
    sendcode(*take)

    assert corrected == []
    assert "was rejected (line 7)" in told
    assert "a corrected file took this customer over: may-2-4" in told
    assert [each["name"] for each in read_csv(failed)] == [customer(n)[0] for n in (3, 4, 5, 6)]
    assert "took this customer over" not in sendcode("job", "show", "may-6").err
    assert redis.hgetall(keys.corrected("may")) == {"6": "may-2-4"}


def test_one_view_shows_a_batch_and_the_files_that_corrected_it(
    sendcode: Command, ledger: Ledger, may: Path
) -> None:
    assert customers(sendcode, "may") == {
        "total": 6,
        "done": 2,
        "left": 0,
        "open": 4,
        "corrections": [],
    }
    correct(may, {customer(6)[0]: {"phone_num": customer(6)[2]}})

    told = sendcode("batch", "submit", may, "--id", "may-2")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, DEAD if job_id == "may-2-1" else SENT)
    sendcode("batch", "results", "may-2", "--only", "failed", "--output", may, "--overwrite")
    sendcode("batch", "submit", may, "--id", "may-3")

    expected = {"total": 6, "done": 5, "left": 0, "open": 1, "corrections": ["may-2", "may-3"]}
    assert "it corrects rows of batch may" in told.err
    assert customers(sendcode, "may") == expected
    shown = sendcode("batch", "status", "may").out
    assert "6: 5 done, 1 open; with its corrections: may-2, may-3" in shown
    assert "corrects   batch may" in sendcode("batch", "status", "may-3").out
    send_all(ledger)
    assert customers(sendcode, "may")["open"] == 0


def test_a_failed_job_that_a_file_corrected_is_tried_again_by_no_door(
    sendcode: Command, ledger: Ledger, may: Path
) -> None:
    """Its customer has a code at the new number, which the old one knows nothing of."""
    correct(may, {customer(3)[0]: {"phone_num": customer(13)[2]}})
    sendcode("batch", "submit", may, "--id", "may-2")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, DEAD if job_id == "may-2-2" else SENT)

    every = sendcode("dead", "requeue", "--all", "--may-send-twice", "--json").json
    named = sendcode("dead", "requeue", "may-3", "--force", "--json").json
    anew = sendcode("dead", "requeue", "may-3", "--phone", "+85299000077", "--json").json

    # of the two failures of customer 4, the younger one stands for the customer
    assert [job_id for _, job_id in ledger.sweep()] == ["may-2-2"]
    assert [each["count"] for each in every["refused"]] == [3]
    for report in (every, named, anew):
        assert "a corrected file took its customer over" in report["refused"][0]["reason"]
    assert (
        "a corrected file took this customer over: may-2-1" in sendcode("job", "show", "may-3").out
    )
    assert sendcode("dead", "list", "--json").json["codes"] == []


def test_the_failed_rows_hold_nobody_any_more_whom_a_file_corrected(
    sendcode: Command, ledger: Ledger, may: Path, tmp_path: Path
) -> None:
    old = may.read_bytes()
    correct(may, {customer(n)[0]: {"phone_num": customer(10 + n)[2]} for n in (3, 4)})
    sendcode("batch", "submit", may, "--id", "may-2")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, DEAD if job_id == "may-2-2" else SENT)
    failed = tmp_path / "again.csv"
    for batch_id, names in (("may", ["Customer 6"]), ("may-2", ["Customer 4", "Customer 6"])):
        sendcode(
            "batch", "results", batch_id, "--only", "failed", "--output", failed, "--overwrite"
        )
        assert [row["name"] for row in read_csv(failed)] == names

    # the file as it was before, with the old numbers
    failed.write_bytes(old)
    told = sendcode("batch", "check", failed, "--json").json

    reasons = {each["code"]: each["count"] for each in told["invalid_by_reason"]}
    assert reasons["corrected_since"] == 1


def test_an_older_file_with_another_correction_of_a_rejected_row_sends_no_second_code(
    sendcode: Command, ledger: Ledger, may: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older.csv"
    older.write_bytes(may.read_bytes())
    correct(may, {customer(6)[0]: {"phone_num": customer(6)[2]}})
    correct(older, {customer(6)[0]: {"phone_num": customer(16)[2]}})
    sendcode("batch", "submit", may, "--id", "may-2")
    send_all(ledger)

    told = sendcode("batch", "check", older, "--json").json

    reasons = {each["code"]: each["count"] for each in told["invalid_by_reason"]}
    assert reasons["corrected_since"] == 1


def test_a_corrected_file_that_was_cut_off_goes_on_with_all_its_rows(
    sendcode: Command, settings: Settings, batches: Batches, may: Path
) -> None:
    """What it noted itself before it was cut off says of nobody that another file has them."""
    correct(may, {customer(n)[0]: {"phone_num": customer(10 + n)[2]} for n in (3, 4, 5, 6)})
    with (
        open_sheet(may) as sheet,
        Submission(batches.client, settings, sheet, Terms(), "may-2") as cut,
    ):
        cut.read()
        cut.open()
        for pairs in cut.spool.corrected_jobs("may-2"):
            batches.note_corrections(pairs)

    sendcode("batch", "submit", may, "--id", "may-2")

    batch = batches.get("may-2")
    assert batch is not None
    assert (batch.total, batch.rejected) == (4, 0)


def test_what_a_cancelled_file_would_have_corrected_waits_for_a_person_again(
    sendcode: Command, may: Path
) -> None:
    sendcode("batch", "submit", may, "--id", "may-2")
    refused = sendcode("dead", "requeue", "may-3", "--dry-run", "--json").json
    sendcode("batch", "cancel", "may-2", "--yes")

    assert refused["done"] == 0
    assert sendcode("dead", "requeue", "may-3", "--dry-run", "--json").json["done"] == 1
    assert sendcode("dead", "requeue", "--all", "--dry-run", "--json").json["done"] == 3


def test_customers_added_to_a_corrected_file_count_as_customers(
    sendcode: Command, ledger: Ledger, may: Path
) -> None:
    text = may.read_text("utf-8-sig")
    may.write_text(text + "New,852,99000123,,,,,,,,\n", "utf-8")

    sendcode("batch", "submit", may, "--id", "may-2")
    send_all(ledger)

    # the row of "call me" is in the file as it was
    assert customers(sendcode, "may") == {
        "total": 7, "done": 6, "left": 0, "open": 1, "corrections": ["may-2"]
    }  # fmt: skip


def test_the_invalid_rows_that_check_wrote_correct_the_batch_as_well(
    sendcode: Command, ledger: Ledger, tmp_path: Path
) -> None:
    rows = [customer(n) for n in range(1, 4)]
    rows[1][2] = "call me"
    file = write_csv(tmp_path / "june.csv", rows)
    invalid = tmp_path / "invalid.csv"
    sendcode("batch", "check", file, "--id", "june", "--output", invalid)
    sendcode("batch", "submit", file, "--id", "june")
    correct(invalid, {customer(2)[0]: {"phone_num": customer(2)[2]}})

    sendcode("batch", "submit", invalid, "--id", "june-2")
    send_all(ledger)

    assert customers(sendcode, "june") == {
        "total": 3, "done": 3, "left": 0, "open": 0, "corrections": ["june-2"]
    }  # fmt: skip


def test_a_column_job_id_of_the_customer_s_own_is_no_correction(
    sendcode: Command, tmp_path: Path
) -> None:
    rows = [["a", "852", "99000001", "JOB-1"], ["b", "852", "99000002", "may-7"]]
    file = write_csv(tmp_path / "own.csv", rows, ("name", "country_code", "phone_num", "job_id"))

    assert sendcode("batch", "submit", file, "--json").json["corrects"] is None


def test_those_left_out_as_they_had_a_code_are_not_open(
    sendcode: Command, ledger: Ledger, may: Path, tmp_path: Path
) -> None:
    assert may.exists()
    rows = [[*customer(n)[:3], "another city"] for n in (1, 2, 9)]
    file = write_csv(tmp_path / "june.csv", rows)
    sendcode("batch", "submit", file, "--id", "june", "--skip-sent")
    send_all(ledger)

    assert customers(sendcode, "june") == {
        "total": 1,
        "done": 1,
        "left": 0,
        "open": 0,
        "corrections": [],
    }


def test_who_submitted_is_recorded_and_shown(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert getpass.getuser() == "ada"
    who = f"ada@{socket.gethostname()}"

    file = write_csv(tmp_path / "may.csv", [customer(1)])
    told = sendcode("batch", "submit", file, "--id", "may", "--json").json

    assert told["by"] == who
    assert f"by {who}" in sendcode("batch", "status", "may").out
    assert "ada" in sendcode("batch", "list").out
    actions = sendcode("actions", "--json").json
    assert [(each["what"], each["about"], each["by"]) for each in actions] == [
        ("batch submit", "may", who)
    ]


def test_nothing_of_a_scheduled_batch_is_sent_before_its_time(
    sendcode: Command, acts: Acts, redis: Redis, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "may.csv", [customer(n) for n in (1, 2)])
    told = sendcode(
        "batch", "submit", file, "--id", "may", "--at", in_12_hours(), "--expires-in", "1h"
    )

    batch = acts.batches.get("may")
    assert batch is not None
    assert batch.starts_ms is not None
    assert batch.expires_ms == batch.starts_ms + 3_600_000
    assert "to start at " in told.out
    shown = sendcode("batch", "status", "may")
    assert "may.csv): scheduled" in shown.out
    assert "sendcode batch resume may" in shown.err
    acts.let_pass(batch.starts_ms - time_ms(redis.time()) - 60_000)
    assert acts.sweep() == []
    acts.let_pass(60_000)
    assert acts.sweep() == ["may-1", "may-2"]


def test_a_scheduled_batch_starts_at_once_when_it_is_resumed(
    sendcode: Command, acts: Acts, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "may.csv", [customer(1)])
    sendcode("batch", "submit", file, "--id", "may", "--at", in_12_hours())
    sendcode("batch", "pause", "may")

    assert "is to start at" in sendcode("batch", "resume", "may").out
    assert acts.sweep() == []
    assert "is running, 1 job to go" in sendcode("batch", "resume", "may").out
    assert acts.sweep() == ["may-1"]


def test_a_time_that_is_none_is_refused(sendcode: Command, tmp_path: Path, redis: Redis) -> None:
    file = write_csv(tmp_path / "may.csv", [customer(1)])

    ran = sendcode("batch", "submit", file, "--at", "10")

    assert ran.exit_code == 2
    assert "--at: must be a time such as 10:00" in ran.err
    assert redis.dbsize() == 0


def test_the_question_says_when_all_will_have_their_code(
    settings: Settings, redis: Redis, keys: Keys, tmp_path: Path, batches: Batches
) -> None:
    file = write_csv(tmp_path / "may.csv", [customer(n) for n in range(1, 6)])
    words = ("batch", "submit", file, "--id", "may")
    in_a_minute = time_ms(redis.time()) + 60_000  # so that it lives for as long as this takes
    redis.hset(keys.workers, "w1@here", str(in_a_minute))

    now = on_terminal(settings, *words, cwd=tmp_path, typed="\n")[1]
    later = on_terminal(settings, *words, "--at", in_12_hours(), cwd=tmp_path, typed="\n")[1]

    clock = r"(\d{4}-\d\d-\d\d )?\d\d:\d\d"
    assert re.search(rf"5 customers get a code now, done at {clock} \[y/N\]", now)
    assert re.search(rf"a code from {clock} on, done at ({clock}) \[y/N\]", later)
    assert batches.get("may") is None


@pytest.mark.parametrize(
    ("typed", "options", "halted"), [("n\n", (), False), ("y\n", (), True), ("", ("--yes",), True)]
)
def test_halt_asks_on_a_terminal_as_it_stops_everybody(
    settings: Settings,
    account: Account,
    acts: Acts,
    tmp_path: Path,
    typed: str,
    options: tuple[str, ...],
    halted: bool,
) -> None:
    acts.batch(3)

    exit_code, said = on_terminal(settings, "halt", *options, cwd=tmp_path, typed=typed)

    assert (account.state().state == "halted") is halted
    assert exit_code == (0 if halted else 1)
    question = "Stop all sending, for everybody: 1 batch with 3 codes to send, and all events?"
    assert (question in said) is bool(typed)


def test_an_expiry_counts_on_the_server_s_clock(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batches: Batches
) -> None:
    file = write_csv(tmp_path / "may.csv", [customer(1)])
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)

    sendcode("batch", "submit", file, "--id", "may", "--expires-in", "5min")

    batch = batches.get("may")
    assert batch is not None
    assert batch.expires_ms is not None
    assert 0 <= batch.created_ms + 300_000 - batch.expires_ms < 60_000
