"""The reckoning of `make faults` must see what it is there to see."""

from __future__ import annotations

from collections import Counter

import pytest

from jobs.job import JobRecord, Lane, State
from jobs.phone import PhoneNumber
from tests.faults.audit import Asked, Findings
from tests.faults.recovery import Recoveries
from tests.faults.result import Result, Unproved

PHONE = PhoneNumber("852", "50000001")
DIGITS = "85250000001"


def asked(job_id: str = "ev-1") -> Asked:
    return Asked(job_id, PHONE)


def record(state: State, *, job_id: str = "ev-1", flagged: bool = False) -> JobRecord:
    return JobRecord(job_id, state, PHONE, Lane.EVENT, possible_duplicate=flagged)


def findings(job: JobRecord | None, accepted: int) -> Findings:
    found = Findings()
    found.add([(asked(), job)], {DIGITS: accepted} if accepted else {})
    return found


def result(found: Findings, **more: Counter[int]) -> Result:
    return Result(Counter(), found, Recoveries(), 1.0, more.get("deaths", Counter()))


def test_a_job_sent_once_keeps_every_promise() -> None:
    assert list(result(findings(record(State.SENT), 1)).broken()) == []


@pytest.mark.parametrize(
    "job", [None, record(State.QUEUED), record(State.SENDING), record(State.DEAD)]
)
def test_a_job_without_a_good_end_is_lost(job: JobRecord | None) -> None:
    found = findings(job, 0)

    assert found.lost == ["ev-1"]
    assert list(result(found).broken())


def test_a_number_with_more_codes_than_jobs_is_doubled() -> None:
    found = findings(record(State.SENT), 2)

    assert found.doubled == [DIGITS]
    assert list(result(found).broken())


def test_a_number_that_nobody_asked_for_is_doubled() -> None:
    found = Findings()
    found.add([], {DIGITS: 1})

    assert found.doubled == [DIGITS]


def test_a_doubled_number_whose_job_says_so_is_told_apart() -> None:
    found = findings(record(State.SENT, flagged=True), 2)

    assert (found.doubled, found.doubled_and_flagged) == ([], [DIGITS])


@pytest.mark.parametrize("state", [State.SENT, State.SENT_INFERRED])
def test_a_job_said_to_be_sent_of_which_no_code_went_out_is_wrongly_inferred(state: State) -> None:
    found = findings(record(state), 0)

    assert found.wrongly_inferred == [DIGITS]
    assert list(result(found).broken())


def test_two_jobs_for_one_number_may_have_two_codes() -> None:
    found = Findings()
    jobs = [(asked(job_id), record(State.SENT, job_id=job_id)) for job_id in ("ev-1", "ev-2")]

    found.add(jobs, {DIGITS: 2})

    assert list(result(found).broken()) == []


def test_an_unknown_job_that_only_one_fault_befell_breaks_a_promise() -> None:
    assert list(result(findings(record(State.UNKNOWN), 1)).broken())


def test_a_worker_that_ends_unasked_breaks_a_promise() -> None:
    found = findings(record(State.SENT), 1)

    assert list(result(found, deaths=Counter({-9: 3, 1: 1})).broken())
    assert not list(result(found, deaths=Counter({-9: 3})).broken())


def test_a_recovery_lasts_from_the_kill_to_the_next_attempt() -> None:
    recoveries = Recoveries()

    recoveries.listen("w1", 1.0, "received", "ev-1", "")
    recoveries.listen("w1", 2.0, "killed", "", "")
    assert recoveries.open == ["ev-1"]
    recoveries.listen("w2", 4.5, "begun", "ev-1", "probe")

    assert (recoveries.open, recoveries.longest_s, recoveries.recovered) == ([], 2.5, 1)


def test_the_time_without_redis_is_not_part_of_a_recovery() -> None:
    recoveries = Recoveries()
    recoveries.absences.append((3.0, 8.0))

    recoveries.listen("w1", 1.0, "received", "ev-1", "")
    recoveries.listen("w1", 2.0, "killed", "", "")
    recoveries.listen("w2", 9.0, "begun", "ev-1", "probe")

    assert recoveries.longest_s == 2.0


def test_an_attempt_counts_from_its_journal_though_its_worker_could_not_tell_of_it() -> None:
    recoveries = Recoveries()
    recoveries.absences.append((3.0, 8.0))
    recoveries.listen("w2", 9.0, "begun", "ev-1", "late")

    recoveries.began("ev-1", 2.0)
    recoveries.began("ev-1", 2.5)

    unproved = Unproved.of("ev-1", recoveries, is_unknown=False)
    assert (unproved.idle_s, unproved.redis_away_s) == (7.0, 5.0)
    assert not unproved.is_inside
