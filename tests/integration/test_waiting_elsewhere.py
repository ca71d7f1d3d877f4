"""One customer in two files: nobody gets a second code unless somebody was told and wanted it."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from jobs.clock import time_ms
from jobs.job import SendCodeJob
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.outcome import State
from jobs.phone import PhoneNumber
from tests.commands import Command, Ran
from tests.ended_jobs import DEAD, SENT, end
from tests.files import correct, customer, write_csv
from tests.ledger_acts import DEFAULTS, Acts

pytestmark = pytest.mark.settings(**DEFAULTS)


def phone(n: int) -> PhoneNumber:
    return PhoneNumber("852", customer(n)[2])


class People:
    """Submit files of customers, and let workers send what is due."""

    def __init__(self, sendcode: Command, folder: Path, acts: Acts) -> None:
        self.sendcode, self.folder, self.acts = sendcode, folder, acts

    def file(self, batch_id: str, *customers: int) -> Path:
        """Write a file; no two of another name have the same content."""
        rows = [[*customer(n)[:3], batch_id] for n in customers]
        return write_csv(self.folder / f"{batch_id}.csv", rows)

    def submit(self, batch_id: str, *customers: int, options: tuple[str, ...] = ()) -> Ran:
        file = self.file(batch_id, *customers)
        return self.sendcode("batch", "submit", file, "--id", batch_id, "--json", *options)

    def event(self, n: int) -> None:
        """Have a code sent by an event."""
        job = SendCodeJob.for_event(phone(n))
        self.acts.ledger.submit(job)
        assert self.acts.finish(job.job_id, self.acts.begun(job.job_id))
        self.acts.free_number(phone(n))

    def work(self) -> list[str]:
        """Send all that is due, as a worker does whose every call succeeds; return whose codes."""
        sent = []
        while published := self.acts.sweep():
            for job_id in published:
                token = self.acts.claim(job_id)[1]
                if self.acts.state(job_id) is State.LEASED:
                    assert self.acts.begin(job_id, token).kind == "first"
                    assert self.acts.finish(job_id, token)
                    sent.append(job_id)
                self.acts.free_number(self.acts.job(job_id).phone)
                self.acts.redis.zadd(self.acts.keys.due("aside"), {job_id: 1}, xx=True)
        return sent


@pytest.fixture
def people(sendcode: Command, tmp_path: Path, acts: Acts) -> People:
    return People(sendcode, tmp_path, acts)


def status(sendcode: Command, batch_id: str) -> dict[str, int]:
    counts: dict[str, int] = sendcode("batch", "status", batch_id, "--json").json["counts"]
    return counts


def test_numbers_that_wait_in_another_batch_are_counted_and_named(
    people: People, sendcode: Command
) -> None:
    sendcode("halt")
    people.submit("a", 1, 2, 3)
    file = people.file("b", 1, 2, 3, 4)

    checked = sendcode("batch", "check", file, "--json").json
    seen = sendcode("batch", "check", file)
    dry = sendcode("batch", "submit", file, "--id", "b", "--dry-run")
    told = people.submit("b", 1, 2, 3, 4).json

    expected = {"count": 3, "lines": [2, 3, 4], "batches": {"a": 3}, "events": 0}
    assert checked["waiting_elsewhere"] == expected
    assert "number waits for a code already" in seen.out
    assert "3 in batch a: --skip-sent leaves them out" in " ".join(seen.out.split())
    assert "3 x the number waits for a code already (lines 2, 3, 4; 3 in batch a)" in dry.err
    assert told["file"]["waiting_elsewhere"] == expected
    assert told["accepted"] == 4


def test_a_number_waits_as_a_row_as_any_open_job_and_as_an_event(
    people: People, sendcode: Command, acts: Acts, keys: Keys
) -> None:
    people.submit("a", 1, 2, 3, 4, 5)
    published = acts.sweep()
    acts.begun(published[0])
    acts.park(published[1], acts.claimed(published[1]))
    acts.redis.rpush(keys.rows("a"), "852\t51000009\t9\t[]")
    sendcode("send", "--country-code", "852", "--phone", phone(6).phone_num)

    file = people.file("b", *range(1, 9))
    told = sendcode("batch", "check", file, "--json").json["waiting_elsewhere"]

    acts.redis.rpop(keys.rows("a"))
    assert told["lines"] == [2, 3, 4, 5, 6, 7]
    assert (told["batches"], told["events"]) == ({"a": 5}, 1)


def test_what_will_not_be_sent_any_more_does_not_wait(
    people: People, sendcode: Command, ledger: Ledger
) -> None:
    people.submit("cancelled", 1, 2)
    sendcode("batch", "cancel", "cancelled", "--yes")
    people.submit("ended", 3, 4)
    first, second = [job_id for _, job_id in ledger.sweep()]
    end(ledger, first, SENT)
    end(ledger, second, DEAD)

    told = sendcode("batch", "check", people.file("b", 1, 2, 3, 4), "--json").json

    assert told["waiting_elsewhere"]["count"] == 0
    assert told["sent_before"]["count"] == 1


def test_on_import_skip_sent_leaves_out_what_waits_elsewhere(
    people: People, sendcode: Command
) -> None:
    sendcode("halt")
    people.submit("a", 1, 2, 3)

    all_wait = people.submit("b", 1, 2, 3, options=("--skip-sent",))
    told = people.submit("c", 1, 2, 3, 4, options=("--skip-sent",)).json
    sendcode("resume")

    assert all_wait.exit_code == 1
    assert "3 x its number waits for a code in batch a already" in all_wait.err
    assert told["accepted"] == 1
    assert sorted(people.work()) == ["a-1", "a-2", "a-3", "c-4"]


def test_skip_sent_holds_at_the_moment_of_sending(
    people: People, sendcode: Command, acts: Acts
) -> None:
    sendcode("halt")
    people.submit("b", 1, 2, 3, 4, options=("--skip-sent",))
    people.submit("a", 3)
    acts.redis.lmove(acts.keys.running, acts.keys.running)  # it is the other's turn
    sendcode("resume")
    people.event(1)
    people.event(2)

    assert people.work() == ["a-1", "b-4"]
    assert status(sendcode, "b") == {"cancelled": 3, "sent": 1}
    assert acts.job("b-1").code == "SentMeanwhile"
    shown = sendcode("batch", "status", "b")
    assert "SentMeanwhile" in shown.out
    assert "Nothing: the customer has a code" in shown.out
    assert "its number got a code by another job meanwhile" in sendcode("job", "show", "b-1").out


def test_a_job_that_waited_for_its_slot_meanwhile_is_left_out_too(
    people: People, acts: Acts, redis: Redis, keys: Keys
) -> None:
    people.submit("b", 1, options=("--skip-sent",))
    acts.sweep()
    token = acts.claimed("b-1")
    # its lease was lost for a while, in which another job had the number
    redis.hset(keys.number("852", phone(1).phone_num), "sent", time_ms(redis.time()))

    assert acts.begin("b-1", token).kind == "over"
    assert (acts.state("b-1"), acts.job("b-1").code) == (State.CANCELLED, "SentMeanwhile")


def test_one_number_twice_in_a_file_gets_one_code_with_skip_sent_and_two_without(
    people: People,
) -> None:
    people.submit("a", 1, 1)
    people.submit("b", 2, 2, options=("--skip-sent",))

    assert sorted(people.work()) == ["a-1", "a-2", "b-1"]


def test_a_failed_row_of_another_job_does_not_keep_a_customer_from_a_code(
    people: People, ledger: Ledger
) -> None:
    people.submit("a", 1)
    end(ledger, ledger.sweep()[0][1], DEAD)
    people.submit("b", 1, options=("--skip-sent",))

    assert people.work() == ["b-1"]


def test_a_number_that_a_person_put_in_a_job_s_place_is_sent_to(
    people: People, sendcode: Command, ledger: Ledger, acts: Acts
) -> None:
    people.submit("old", 2)
    end(ledger, ledger.sweep()[0][1], SENT)
    people.submit("b", 1, options=("--skip-sent",))
    end(ledger, ledger.sweep()[0][1], DEAD)
    acts.free_number(phone(2))
    acts.let_pass(1)
    number = f"+852 {phone(2).phone_num}"
    sendcode("dead", "requeue", "b-1", "--phone", number, "--may-send-twice")

    assert people.work() == ["b-1.r1"]


def test_a_corrected_file_keeps_back_rows_whose_jobs_were_requeued(
    people: People, sendcode: Command, ledger: Ledger, tmp_path: Path
) -> None:
    people.submit("a", 1, 2)
    for _, job_id in ledger.sweep():
        end(ledger, job_id, DEAD)
    failed = tmp_path / "failed.csv"
    sendcode("batch", "results", "a", "--only", "failed", "--output", failed)
    sendcode("dead", "requeue", "a-1")

    told = sendcode("batch", "submit", failed, "--id", "a2", "--json").json

    assert told["accepted"] == 1
    reasons = told["file"]["invalid_by_reason"]
    assert [(each["code"], each["lines"]) for each in reasons] == [("waits_elsewhere", [2])]
    assert "clear its cell in the column status" in reasons[0]["remedy"]


def test_no_job_is_requeued_whose_row_was_submitted_again(
    people: People, sendcode: Command, ledger: Ledger, tmp_path: Path
) -> None:
    people.submit("a", 1, 2)
    for _, job_id in ledger.sweep():
        end(ledger, job_id, DEAD)
    failed = tmp_path / "failed.csv"
    sendcode("batch", "results", "a", "--only", "failed", "--output", failed)
    sendcode("batch", "submit", failed, "--id", "a2")

    waits = sendcode("dead", "requeue", "--batch", "a")
    assert people.work() == ["a2-1", "a2-2"]
    sent = sendcode("dead", "requeue", "--batch", "a")
    meant = sendcode("dead", "requeue", "a-1", "--may-send-twice")

    assert "2 left alone: its number waits for a code in batch a2 already" in waits.err + waits.out
    assert "has sent a code to its number since" in sent.err + sent.out
    assert meant.exit_code == 0
    assert people.work() == ["a-1"]


def test_a_corrected_number_that_has_a_code_or_waits_for_one_is_refused(
    people: People, sendcode: Command, ledger: Ledger
) -> None:
    people.submit("old", 2)
    people.work()
    people.submit("b", 1)
    end(ledger, ledger.sweep()[0][1], DEAD)
    people.submit("new", 3)

    for n, reason in ((2, "got a code before"), (3, "waits for a code in batch new already")):
        ran = sendcode("dead", "requeue", "b-1", "--phone", f"+852 {phone(n).phone_num}")
        assert ran.exit_code == 1
        assert reason in ran.err + ran.out
    assert people.work() == ["new-1"]


def test_rows_left_out_are_not_sent_when_the_results_come_back(
    people: People, sendcode: Command, tmp_path: Path
) -> None:
    people.submit("b", 1, 2, options=("--skip-sent",))
    people.event(1)
    people.work()
    results = tmp_path / "results.csv"
    sendcode("batch", "results", "b", "--output", results)
    correct(results, {customer(2)[0]: {"status": ""}})

    told = sendcode("batch", "submit", results, "--id", "b2", "--json").json

    assert told["accepted"] == 1
    assert [each["code"] for each in told["file"]["invalid_by_reason"]] == ["sent_since"]
