"""One customer in two files: nobody gets a second code unless somebody was told and wanted it."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.identity import LedgerRefusedError
from jobs.job import JobRecord, SendCodeJob, State, batch_job_id, split_job_id
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.scripts import time_ms
from tests.commands import Command, Ran
from tests.ended_jobs import DEAD, SENT, end
from tests.files import correct, customer, read_csv, write_csv
from tests.ledger_acts import DEFAULTS, Acts, number_key

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
    people: People, acts: Acts, redis: Redis
) -> None:
    people.submit("b", 1, options=("--skip-sent",))
    acts.sweep()
    token = acts.claimed("b-1")
    # its lease was lost for a while, in which another job had the number
    redis.hset(number_key(acts.ledger, phone(1)), "sent", time_ms(redis.time()))

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


def test_of_two_dead_letters_with_one_number_one_is_requeued(
    people: People, sendcode: Command, ledger: Ledger, acts: Acts
) -> None:
    """The service was down, the row was submitted once more, and the service was down still."""
    for batch_id in ("a", "a2"):
        people.submit(batch_id, 1)
        end(ledger, ledger.sweep()[0][1], DEAD)

    tried = sendcode("dead", "requeue", "--all", "--dry-run")
    ran = sendcode("dead", "requeue", "--all", "--pace", "1000")

    for each in (tried, ran):
        assert "1 left alone: its number waits for a code in batch a already" in each.out + each.err
    acts.let_pass(5_000)
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


# any order of commands

Draw = Callable[..., Any]
"""Chooses one of its arguments."""

QUICK = hypothesis_settings(
    max_examples=10, stateful_step_count=25, phases=[Phase.explicit, Phase.generate]
)
SEARCH = hypothesis_settings(max_examples=1_000, stateful_step_count=40)
CUSTOMERS = range(1, 4)
COMMANDS = (
    *("work",) * 9,
    *("submit",) * 5,
    *("submit_failed", "requeue") * 4,
    *("steer", "pass_time", "event") * 2,
    *("halt_or_resume", "empty_ledger"),
)


class OneCode(RuleBasedStateMachine):
    """People submit files, events, corrections and requeues; workers send; the ledger is emptied.

    A customer gets one code, and another one only for what people were told of as a second code,
    for an event, or flagged as perhaps sent twice.
    """

    def __init__(self, sendcode: Command, folder: Path, acts: Acts) -> None:
        super().__init__()
        self.people, self.sendcode, self.acts = People(sendcode, folder, acts), sendcode, acts
        self.folder, self.serial = folder, itertools.count(1)
        self.codes: Counter[str] = Counter()
        """By number, but for those of `told`."""
        self.told: set[str] = set()
        """Jobs that people were told of as second codes."""
        self.known: set[str] = set()
        """Numbers of which the ledger knows that a code was sent."""
        self.calls: list[tuple[str, str]] = []
        """Jobs and leases whose answer is under way."""

    @rule(what=st.sampled_from(COMMANDS), dice=st.binary(min_size=8, max_size=8))
    def something_happens(self, what: str, dice: bytes) -> None:
        throws = itertools.cycle(dice)
        getattr(self, what)(lambda *choices: choices[next(throws) % len(choices)])
        for phone_num, codes in self.codes.items():
            assert codes <= 1, f"after {what}: a second code to {phone_num}"

    # people

    def submit(self, draw: Draw) -> None:
        chosen = [n for n in CUSTOMERS if draw(True, False)] or [1]
        batch_id, options = f"b{next(self.serial)}", draw((), ("--skip-sent",))
        self._submit(self.people.file(batch_id, *chosen), batch_id, options)

    def submit_failed(self, draw: Draw) -> None:
        """Submit what failed once more, with all numbers as they are."""
        letters = [split_job_id(job_id)[0] for job_id in self.acts.dead()]
        if batches := [*filter(None, letters), *(b.batch_id for b in self.acts.batches.list())]:
            batch_id = draw(*batches)
            only, file = draw("failed", "cancelled"), self.folder / f"{next(self.serial)}.csv"
            self.sendcode("batch", "results", batch_id, "--only", only, "--output", file)
            if file.exists() and read_csv(file):
                self._submit(file, f"b{next(self.serial)}", draw((), ("--skip-sent",)))

    def _submit(self, file: Path, batch_id: str, options: tuple[str, ...]) -> None:
        ran = self.sendcode("batch", "submit", file, "--id", batch_id, "--json", *options)
        if ran.exit_code == 0:
            told = [
                ran.json["file"][what]["lines"] for what in ("sent_before", "waiting_elsewhere")
            ]
            assert not (options and any(told))
            self.told |= {batch_job_id(batch_id, line - 1) for line in {*told[0], *told[1]}}

    def event(self, draw: Draw) -> None:
        n = draw(*CUSTOMERS)
        if not self._is_refused():
            self.acts.ledger.submit(SendCodeJob.for_event(phone(n)))

    def steer(self, draw: Draw) -> None:
        if batches := self.acts.batches.list():
            batch_id = draw(*(each.batch_id for each in batches))
            order = draw("pause", "resume", "resume", "cancel")
            self.sendcode("batch", order, batch_id, *(("--yes",) if order == "cancel" else ()))

    def halt_or_resume(self, draw: Draw) -> None:
        self.sendcode(draw("halt", "resume", "resume"))

    def requeue(self, draw: Draw) -> None:
        if letters := self.acts.dead():
            words = draw((draw(*letters),), ("--all",), ("--all",))
            corrected = ("--phone", f"+852 {phone(draw(*CUSTOMERS)).phone_num}")
            is_corrected = words != ("--all",) and draw(True, False)
            self.sendcode("dead", "requeue", *words, *(corrected if is_corrected else ()))

    def empty_ledger(self, draw: Draw) -> None:
        """Have the ledger vanish under whoever knows it, and perhaps be accepted later."""
        if self.acts.redis.exists(self.acts.keys.ledger) and draw(True, False, False):
            self.acts.redis.flushdb()
            self.known.clear()
            assert self._is_refused()
            ran = self.people.submit(f"b{next(self.serial)}", *CUSTOMERS)
            assert "ledger accept" in ran.err
            assert self.acts.redis.llen(self.acts.keys.running) == 0
            if draw(True, True, False):
                self.sendcode("ledger", "accept", "--yes")

    def _is_refused(self) -> bool:
        try:
            self.acts.ledger.sweep()
        except LedgerRefusedError:
            return True
        return False

    # workers

    def work(self, draw: Draw) -> None:
        """Let the answer of a call come, or let some published job be called for."""
        if self.calls and draw(True, False):
            self._answer(draw)
            return
        if self._is_refused():
            if draw(True, False, False):
                self.sendcode("ledger", "accept", "--yes")
            return
        if published := self.acts.sweep() or self._queued():
            job_id = draw(*sorted(published))
            claim, token = self.acts.claim(job_id)
            if claim.verdict == "granted":
                begun = self.acts.begin(job_id, token)
                if begun.kind == "first":
                    self._check_skip_sent(self.acts.job(job_id))
                    self.calls.append((job_id, token))
                    if draw(True, False):
                        self._answer(draw)
                elif begun.kind == "wait":
                    self.acts.park(job_id, token, 1_000)

    def _check_skip_sent(self, job: JobRecord) -> None:
        batch = self.acts.batches.get(job.batch_id or "")
        is_left_out = batch is not None and batch.skip_sent and job.phone.phone_num in self.known
        assert not is_left_out, f"{job.job_id} is sent, though its number has a code"

    def _queued(self) -> list[str]:
        held: Any = self.acts.redis.smembers(self.acts.keys.held)
        events: Any = self.acts.redis.zrange(self.acts.keys.due("event"), 0, -1)
        return [*held, *events]

    def _answer(self, draw: Draw) -> None:
        job_id, token = self.calls.pop(draw(*range(len(self.calls))))
        job = self.acts.ledger.job(job_id)
        state = draw(State.SENT, State.DEAD)
        if job is None:  # the ledger was emptied meanwhile
            return
        is_told = job_id in self.told or job.batch_id is None
        if state is State.SENT and not (job.possible_duplicate or is_told):
            self.codes[job.phone.phone_num] += 1
        if state is State.SENT:
            self.known.add(job.phone.phone_num)
        code = "" if state is State.SENT else "OperationDenied.ServiceBusy"
        self.acts.finish(job_id, token, state, code, "closed" if not code else "open")

    def pass_time(self, _: Draw) -> None:
        """Let the intervals of all numbers be over; no call takes so long."""
        while self.calls:
            self._answer(lambda *choices: choices[0])
        self.acts.let_pass(61_000)

    def teardown(self) -> None:
        """Let everything that waits be sent."""
        self.sendcode("ledger", "accept", "--yes")
        self.sendcode("resume")
        for batch in self.acts.batches.list():
            self.sendcode("batch", "resume", batch.batch_id)
        for _ in range(60):
            self.something_happens("pass_time", b"0")
            self.something_happens("work", b"\1")
            if not self._queued() and not self.acts.redis.zcard(self.acts.keys.due("aside")):
                break


def test_no_order_of_commands_gives_a_customer_two_codes_that_nobody_was_told_of(
    sendcode: Command,
    redis: Redis,
    settings: Settings,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worlds = itertools.count(1)

    def make() -> OneCode:
        redis.flushdb()
        folder = tmp_path / str(next(worlds))
        folder.mkdir()
        monkeypatch.setenv("XDG_STATE_HOME", str(folder))  # a machine that has seen no ledger yet
        ledger = Ledger(redis, settings, folder / "worker.json")
        ledger.identity.work()
        acts = Acts(ledger, Batches(redis, settings, ledger.identity), redis, keys)
        return OneCode(sendcode, folder, acts)

    run_state_machine_as_test(
        make,  # type: ignore[arg-type]  # it takes whatever makes a machine
        settings=SEARCH if os.environ.get("HYPOTHESIS_SEARCH") else QUICK,
    )
