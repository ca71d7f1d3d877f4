"""Decisions about dead letters: surveyed, looked at first, then done, once, by whoever confirms."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from redis import Redis

from config.settings import Settings
from jobs.actions import recent_actions
from jobs.batches import Batches
from jobs.deadletters import WINDOW, DeadLetters, Fit, Verb
from jobs.job import SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from producer.deadletters import (
    Choice,
    Handling,
    Reason,
    Why,
    letters,
    replace_number,
    requeue,
)
from producer.decisions import (
    NUMBER_KEPT_S,
    Decided,
    Decisions,
    NoSuchDecisionError,
    NumberForgottenError,
    Plan,
    Step,
)
from producer.second_codes import Memory
from tests.ended_jobs import (
    BIND_UPPER,
    BUSY,
    DEAD,
    PERMANENT,
    SENT,
    UNKNOWN,
    customers,
    end,
    end_event,
    number,
    run_batch,
)
from tests.waiting import wait_until


@pytest.fixture
def decisions(redis: Redis, settings: Settings) -> Iterator[Decisions]:
    found = Decisions(redis, settings)
    yield found
    found.close()


def looked_at(decisions: Decisions, plan: Plan, phone: PhoneNumber | None = None) -> Decided:
    return step_of(decisions, decisions.propose(plan, phone), Step.READY)


def step_of(decisions: Decisions, token: str, step: Step) -> Decided:
    wait_until(lambda: decisions.get(token).step is step, step)
    return decisions.get(token)


def done(decisions: Decisions, decided: Decided, by: str = "ann") -> Decided:
    decisions.do(decided.token, decided.run, by)
    return step_of(decisions, decided.token, Step.DONE)


@pytest.fixture
def mixed(ledger: Ledger, batches: Batches) -> None:
    """Of batch b1 rows 1 to 3 busy, 4 and 5 permanent, 6 unknown, 7 sent; an event, of +65."""
    endings = {4: PERMANENT, 5: PERMANENT, 6: UNKNOWN, 7: SENT}
    run_batch(ledger, batches, "b1", customers(7), lambda row: endings.get(row, DEAD))
    end_event(ledger, 50)


@pytest.mark.usefixtures("mixed")
def test_a_survey_counts_by_code_country_and_batch_and_reads_the_newest_first(
    dead: DeadLetters,
) -> None:
    survey = dead.survey(Fit(code=BUSY), size=2)

    assert (survey.total, survey.looked, survey.fitting) == (7, 7, 4)
    assert survey.by_code == {BUSY: 4, BIND_UPPER: 2, "InternalError": 1}
    assert survey.perhaps_sent == {"InternalError": 1}
    assert survey.by_country == {"852": 7}
    assert survey.by_batch == {"b1": 6, "": 1}
    assert [letter.job_id for letter in survey.letters][1] == "b1-3"
    rest = dead.survey(Fit(code=BUSY), first=2, size=2)
    assert [letter.job_id for letter in rest.letters] == ["b1-2", "b1-1"]


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(
    "fit",
    [
        {},
        {"code": BUSY},
        {"code": ""},
        {"batch_id": "b1"},
        {"batch_id": "b2"},
        {"country": "852"},
        {"country": "65"},
        {"code": BUSY, "batch_id": "b1", "country": "852"},
        {"since_ms": 1},
        {"since_ms": 9_999_999_999_999},
        {"until_ms": 9_999_999_999_999},
        {"until_ms": 0},
    ],
)
def test_a_survey_and_a_walk_agree_which_ones_fit(
    fit: dict[str, str | int], dead: DeadLetters
) -> None:
    survey = dead.survey(Fit(**fit))  # type: ignore[arg-type]

    walked = [letter.job_id for letter in letters(dead, Choice(**fit))]  # type: ignore[arg-type]
    assert [letter.job_id for letter in survey.letters] == walked[::-1]
    assert survey.fitting == len(walked)


@pytest.mark.usefixtures("mixed")
def test_a_survey_shows_what_cannot_be_read(dead: DeadLetters, redis: Redis, keys: Keys) -> None:
    redis.hset(keys.job("b1-1"), "state", "no state")
    redis.delete(keys.job("b1-2"))
    redis.set(keys.job("b1-2"), "no hash", ex=100)

    survey = dead.survey(Fit(code=BUSY))

    assert survey.by_code["Ledger.Unreadable"] == 2
    assert {"b1-1", "b1-2"} <= {letter.job_id for letter in survey.letters}
    redis.delete(keys.job("b1-1"))


@pytest.mark.usefixtures("mixed")
def test_a_decision_is_looked_at_before_anything_is_done(
    decisions: Decisions, ledger: Ledger, dead: DeadLetters
) -> None:
    decided = looked_at(decisions, Plan("requeue", Choice(batch_id="b1")))

    assert decided.would.done == 3
    assert {reason.why: each.count for reason, each in decided.would.refused.items()} == {
        Why.PERMANENT: 2,
        Why.PERHAPS_SENT: 1,
    }
    assert dead.count() == 7
    assert ledger.job("b1-1").state is State.DEAD  # type: ignore[union-attr]


@pytest.mark.usefixtures("mixed")
def test_what_is_confirmed_is_done_and_noted_with_the_name(
    decisions: Decisions, redis: Redis, settings: Settings, dead: DeadLetters
) -> None:
    decided = looked_at(decisions, Plan("requeue", Choice(code=BUSY), "the service is back"))

    report = done(decisions, decided, by="ann").report

    assert (report.done, report.left_alone) == (4, 0)
    assert dead.by_code() == {BIND_UPPER: 2, "InternalError": 1}
    [action] = [each for each in recent_actions(redis, settings, 9) if each.what == "dead requeue"]
    assert (action.by, action.jobs, action.reason) == ("ann", 4, "the service is back")
    assert action.about.startswith(f"code {BUSY}, failed by 20")


@pytest.mark.usefixtures("mixed")
def test_dropping_takes_them_off_and_keeps_the_reason(
    decisions: Decisions, ledger: Ledger, dead: DeadLetters
) -> None:
    plan = Plan("drop", Choice(job_ids=("b1-4", "b1-6")), "customers told")

    report = done(decisions, looked_at(decisions, plan)).report

    assert report.done == 2
    assert dead.count() == 5
    record = ledger.job("b1-6")
    assert record is not None
    assert "customers told" in record.story[-1].note


def test_a_number_is_corrected_by_a_new_job(
    decisions: Decisions, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    record = end_event(ledger, ending=PERMANENT)
    plan = Plan("replace", Choice(job_ids=(record.job_id,)))

    decided = looked_at(decisions, plan, number(77))
    assert decided.would.done == 1
    assert decided.plan.new_number == number(77).masked
    assert number(77).phone_num not in str(redis.hgetall(keys.decision(decided.token)))
    report = done(decisions, decided).report

    assert report.new_job_id == f"{record.job_id}.r1"
    new = ledger.job(report.new_job_id)
    assert new is not None
    assert new.phone == number(77)
    assert decisions.number_of(decided.token) is None


def test_a_corrected_number_is_asked_for_again_after_a_new_start(
    decisions: Decisions, ledger: Ledger, redis: Redis, settings: Settings
) -> None:
    record = end_event(ledger, ending=PERMANENT)
    decided = looked_at(decisions, Plan("replace", Choice(job_ids=(record.job_id,))), number(77))

    with pytest.raises(NumberForgottenError):
        Decisions(redis, settings).do(decided.token, 0, "ann")


@pytest.mark.usefixtures("mixed")
def test_a_form_that_is_sent_again_does_nothing_twice(
    decisions: Decisions, ledger: Ledger, redis: Redis, settings: Settings
) -> None:
    decided = looked_at(decisions, Plan("requeue", Choice(job_ids=("b1-1",))))
    done(decisions, decided)
    ledger.sweep()
    end(ledger, "b1-1", DEAD)  # it failed anew

    decisions.do(decided.token, 0, "ann")
    decisions.do(decided.token, 1, "ann")

    assert decisions.get(decided.token).step is Step.DONE
    record = ledger.job("b1-1")
    assert record is not None
    assert record.state is State.DEAD
    assert len([a for a in recent_actions(redis, settings, 9) if a.what == "dead requeue"]) == 1


def test_what_failed_after_the_look_is_not_part_of_it(
    decisions: Decisions, ledger: Ledger, dead: DeadLetters
) -> None:
    first = end_event(ledger, 1)
    wait_until(lambda: dead.now_ms() > (first.finished_ms or 0), "another millisecond")
    decided = looked_at(decisions, Plan("requeue", Choice()))
    wait_until(lambda: dead.now_ms() > (decided.plan.choice.until_ms or 0), "another millisecond")
    later = end_event(ledger, 2)

    report = done(decisions, decided).report

    assert report.done == 1
    assert [letter.job_id for letter in dead.window(0)] == [later.job_id]


MANY = WINDOW + 49
"""More than one window, and a multiple of three."""


@pytest.fixture
def many(ledger: Ledger, batches: Batches) -> None:
    run_batch(ledger, batches, "b1", customers(MANY), lambda n: PERMANENT if n % 3 == 0 else DEAD)


@pytest.mark.usefixtures("many")
def test_a_long_one_is_stopped_and_continued_and_each_is_tried_once(
    decisions: Decisions, redis: Redis, settings: Settings, keys: Keys
) -> None:
    decided = looked_at(decisions, Plan("requeue", Choice(batch_id="b1")))
    decisions.stop(decided.token, 0)

    decisions.do(decided.token, 0, "ann")
    stopped = step_of(decisions, decided.token, Step.STOPPED)
    assert 0 < stopped.report.done < stopped.looked == WINDOW
    assert (stopped.run, stopped.total) == (1, MANY)
    decisions.do(decided.token, 0, "ann")  # the old form
    assert decisions.get(decided.token).step is Step.STOPPED

    # another process goes on with it
    others = Decisions(redis, settings)
    report = done(others, stopped, by="bob").report

    assert (report.done, report.left_alone) == (MANY * 2 // 3, MANY // 3)
    assert redis.zcard(keys.due("aside")) == MANY * 2 // 3


@pytest.mark.usefixtures("many")
def test_a_double_click_does_it_once(
    decisions: Decisions, redis: Redis, settings: Settings
) -> None:
    decided = looked_at(decisions, Plan("requeue", Choice(batch_id="b1")))
    clicks = [
        threading.Thread(target=decisions.do, args=(decided.token, 0, "ann")) for _ in range(4)
    ]

    for click in clicks:
        click.start()
    for click in clicks:
        click.join()

    report = step_of(decisions, decided.token, Step.DONE).report
    assert report.done == MANY * 2 // 3
    [action] = [each for each in recent_actions(redis, settings, 9) if each.what == "dead requeue"]
    assert action.jobs == MANY * 2 // 3


@pytest.mark.usefixtures("mixed")
def test_one_whose_process_ended_counts_as_stopped(
    decisions: Decisions, redis: Redis, keys: Keys
) -> None:
    decided = looked_at(decisions, Plan("requeue", Choice(code=BUSY)))
    key = keys.decision(decided.token)
    redis.hset(key, mapping={"step": "doing", "run:0": "ann", "beat": 1})

    stopped = decisions.get(decided.token)
    assert (stopped.step, stopped.run) == (Step.STOPPED, 1)
    assert done(decisions, stopped).report.done == 4


@pytest.mark.usefixtures("mixed")
def test_what_failed_anew_before_it_was_continued_is_not_tried_twice(
    decisions: Decisions, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    decided = looked_at(decisions, Plan("requeue", Choice(job_ids=("b1-1",))))
    done(decisions, decided)
    ledger.sweep()
    end(ledger, "b1-1", DEAD)
    redis.hset(keys.decision(decided.token), mapping={"step": "doing", "beat": 1})

    report = done(decisions, decisions.get(decided.token)).report

    assert list(report.refused) == [Reason(Why.NOT_DEAD)]
    record = ledger.job("b1-1")
    assert record is not None
    assert record.state is State.DEAD


def test_an_unknown_decision_is_refused(decisions: Decisions) -> None:
    with pytest.raises(NoSuchDecisionError):
        decisions.get("none")
    decisions.stop("none", 0)


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("verb", ["requeue", "drop"])
def test_what_was_dealt_with_between_look_and_act_is_left_alone(
    verb: Verb, decisions: Decisions
) -> None:
    decided = looked_at(decisions, Plan(verb, Choice(job_ids=("b1-1", "b1-2")), "why"))
    done(decisions, looked_at(decisions, Plan("requeue", Choice(job_ids=("b1-2",)))))

    report = done(decisions, decided).report

    assert report.done == 1
    assert list(report.refused) == [Reason(Why.NO_DEAD_LETTER)]


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("verb", ["requeue", "drop"])
def test_one_about_chosen_jobs_is_stopped_and_continued(verb: Verb, decisions: Decisions) -> None:
    plan = Plan(verb, Choice(job_ids=("b1-1", "b1-2", "b1-3")), "why")
    decided = looked_at(decisions, plan)
    decisions.stop(decided.token, 0)

    decisions.do(decided.token, 0, "ann")

    stopped = step_of(decisions, decided.token, Step.STOPPED)
    assert (stopped.looked, stopped.report.done) == (1, 1)
    report = done(decisions, stopped).report
    assert (report.done, report.left_alone) == (3, 0)


def test_a_corrected_number_that_nobody_confirms_is_forgotten_after_an_hour(
    redis: Redis, settings: Settings, ledger: Ledger
) -> None:
    record = end_event(ledger, ending=PERMANENT)
    seconds = [0]
    decisions = Decisions(redis, settings, now=lambda: seconds[0])
    decided = looked_at(decisions, Plan("replace", Choice(job_ids=(record.job_id,))), number(77))
    assert decisions.number_of(decided.token) == number(77)

    seconds[0] += NUMBER_KEPT_S

    assert decisions.number_of(decided.token) is None
    with pytest.raises(NumberForgottenError):
        decisions.do(decided.token, 0, "ann")
    decisions.close()


@pytest.fixture
def other_process(redis: Redis, settings: Settings) -> Iterator[Decisions]:
    """Decisions of another `sendcode web`: nothing but the ledger is shared."""
    found = Decisions(redis, settings)
    yield found
    found.close()


def test_two_processes_at_once_do_not_both_try_one_number(
    decisions: Decisions, other_process: Decisions, ledger: Ledger, batches: Batches
) -> None:
    count = 60
    looked = []
    for each, batch_id in ((decisions, "b1"), (other_process, "b2")):
        run_batch(ledger, batches, batch_id, customers(count), lambda _: DEAD)
        job_ids = tuple(f"{batch_id}-{n}" for n in range(1, count + 1))
        looked.append(looked_at(each, Plan("requeue", Choice(job_ids=job_ids))))

    decisions.do(looked[0].token, looked[0].run, "ann")
    other_process.do(looked[1].token, looked[1].run, "ben")

    first, second = (step_of(decisions, each.token, Step.DONE).report for each in looked)
    assert (first.done + second.done, first.left_alone + second.left_alone) == (count, count)


def test_what_was_looked_at_before_another_s_retry_is_not_tried_after_it(
    ledger: Ledger, dead: DeadLetters, redis: Redis, settings: Settings
) -> None:
    job = SendCodeJob.for_event(number(1), key="another of number 1")
    first = end_event(ledger, 1)
    ledger.submit(job)
    end(ledger, job.job_id, DEAD)
    elsewhere = end_event(ledger, 2, PERMANENT)
    how = [Handling(memory=Memory(redis, settings)) for _ in range(3)]
    assert not any(each.memory.waits_in(number(1)) for each in how if each.memory)  # all looked

    tried = requeue(dead, Choice(job_ids=(first.job_id,)), how[0])
    again = requeue(dead, Choice(job_ids=(job.job_id,)), how[1])
    corrected = replace_number(dead, elsewhere.job_id, number(1), how[2])

    assert (tried.done, again.done, corrected.done) == (1, 0, 0)
    for left in (again, corrected):
        assert list(left.refused) == [Reason(Why.WAITS_ELSEWHERE)]
    ledger.sweep()
    end(ledger, first.job_id, DEAD)
    later = Handling(memory=Memory(redis, settings))
    assert requeue(dead, Choice(job_ids=(job.job_id,)), later).done == 1
