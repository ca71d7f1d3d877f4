"""A job's way through the sender, against the sandbox: every kind of answer and its end."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from celery import Celery
from redis import Redis

from config import DEAD_LETTER_QUEUE
from jobs.job import JobRecord, SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from sandbox.numbers import MAGIC_NUMBERS
from tests.expected_ends import ACCOUNT_WIDE, DEAD, ENDS, INFERRED, SENT, UNKNOWN
from tests.integration.conftest import PatientSender
from tests.ledger_acts import UNSENT, Acts
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from worker.background import Runtime
from worker.recorder import Ended, NotNow

INTERVAL_S = 60
"""Nothing waits for it, and a busy machine's probe must come well within it."""

pytestmark = pytest.mark.settings(
    sendcode_backoff=0.01, sendcode_http_timeout=2, sendcode_phone_interval=INTERVAL_S
)


def submit(ledger: Ledger, phone_num: str) -> str:
    return ledger.submit(SendCodeJob.for_event(PhoneNumber("852", phone_num))).record.job_id


def send_to_the_end(acts: Acts, sender: PatientSender, sandbox: Sandbox, job_id: str) -> JobRecord:
    """Send a job, again whenever it is due, without waiting until then."""
    for _ in range(10):
        result = sender.send(job_id)
        if isinstance(result, Ended):
            record = acts.job(job_id)
            assert (result.record.state, result.record.code) == (record.state, record.code)
            assert result.record.attempts == record.attempts
            assert result.record.possible_duplicate == record.possible_duplicate
            return record
        assert acts.state(job_id) is State.PARKED
        sandbox.change(phone_interval=0)
        acts.redis.delete(acts.keys.account)
        acts.run_out(job_id)
        acts.sweep()
    raise AssertionError("the job does not end")


def test_every_magic_number_has_an_expected_end() -> None:
    assert ENDS.keys() | ACCOUNT_WIDE == {magic.prefix for magic in MAGIC_NUMBERS}


@pytest.mark.parametrize("prefix", sorted(ENDS))
def test_each_kind_of_answer_has_its_end(
    prefix: str, acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, redis: Redis
) -> None:
    end = ENDS[prefix]
    sandbox.change(slow_ms=50)
    job_id = submit(ledger, f"{prefix}0001")

    record = send_to_the_end(acts, sender, sandbox, job_id)

    seen = sandbox.number(f"852{prefix}0001")
    assert (record.state, record.code) == (end.state, end.code)
    assert record.attempts == end.attempts
    assert [entry.what for entry in record.story] == end.story.split()
    # a busy machine may miss a slot: a try that made no call
    assert record.tries >= len(record.story) == seen["requests"]
    assert seen["accepted"] == end.sent
    assert record.possible_duplicate is end.perhaps_twice
    is_dead = end.state in {DEAD, UNKNOWN}
    assert redis.lrange(DEAD_LETTER_QUEUE, 0, -1) == ([job_id] if is_dead else [])
    assert bool(record.request_id) != record.code.startswith(("Network", "Answer"))


@pytest.mark.parametrize("prefix", sorted(ACCOUNT_WIDE))
def test_an_account_wide_answer_keeps_the_job_and_halts_the_sending(
    prefix: str, acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, redis: Redis
) -> None:
    job_id = submit(ledger, f"{prefix}0001")

    result = sender.send(job_id)

    record = acts.job(job_id)
    assert isinstance(result, NotNow)
    assert (record.state, record.attempts) == (State.PARKED, 0)
    assert not record.in_doubt
    assert redis.hget(acts.keys.account, "state") == "halted"
    assert redis.hget(acts.keys.account, "code") == record.code == result.reason
    # a busy machine may miss a slot: a try that made no call
    calls = 2 if prefix == "9971" else 1
    assert record.tries >= sandbox.stats()["requests"] == calls


def test_a_number_in_its_interval_waits_without_a_slot_and_without_a_thread(
    ledger: Ledger, sender: PatientSender, sandbox: Sandbox, redis: Redis, keys: Keys
) -> None:
    job_id = submit(ledger, "99050001")

    result = sender.send(job_id)
    slots = redis.hget(keys.pace, "slot")
    again = sender.send(job_id)

    assert isinstance(result, NotNow)
    assert result.due_in_s == pytest.approx(INTERVAL_S, abs=0.1)
    assert isinstance(again, NotNow)
    assert again.reason == "parked"
    assert redis.hget(keys.pace, "slot") == slots
    assert sandbox.stats()["requests"] == 1


def test_two_jobs_for_one_number_are_two_codes_an_interval_apart(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox
) -> None:
    first, second = submit(ledger, "99000001"), submit(ledger, "99000001")

    results = [sender.send(first), sender.send(second)]
    acts.free_number(PhoneNumber("852", "99000001"))
    sandbox.change(phone_interval=0)
    acts.run_out(second)
    sender.send(second)

    assert isinstance(results[0], Ended)
    assert isinstance(results[1], NotNow)
    assert acts.state(second) is State.SENT
    assert sandbox.number("85299000001")["accepted"] == 2


def test_a_job_that_has_ended_is_not_sent_again(
    ledger: Ledger, sender: PatientSender, sandbox: Sandbox
) -> None:
    job_id = submit(ledger, "99000001")
    sender.send(job_id)

    again = sender.send(job_id)

    assert isinstance(again, Ended)
    assert again.record.state is State.SENT
    assert sandbox.stats()["requests"] == 1


def three_jobs(acts: Acts, ledger: Ledger) -> tuple[str, str, str]:
    """Return the ids of an event's job, a batch's, and another event's."""
    (batch_job,) = acts.batch(1)
    acts.sweep()
    return submit(ledger, "50000008"), batch_job, submit(ledger, "50000009")


@pytest.mark.settings(sendcode_rate_limit=1)
def test_an_event_goes_before_a_batch_job_that_waits_for_its_slot(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, redis: Redis, keys: Keys
) -> None:
    first, batch_job, event = three_jobs(acts, ledger)
    sender.send(first)
    waiting = threading.Thread(target=sender.send, args=(batch_job,))
    waiting.start()
    wait_until(lambda: redis.hget(keys.pace, "held"), "the batch job to have a slot")

    sender.send(event)

    waiting.join()
    arrivals = sandbox.stats(numbers=False, arrivals=True)["arrivals"]
    # a busy machine may miss an answer, and probe
    assert list(dict.fromkeys(number[-2:] for _, number, _ in arrivals)) == ["08", "09", "00"]
    assert {acts.state(job) for job in (first, event, batch_job)} == {State.SENT}
    assert all(later - at >= 1 for (at, *_), (later, *_) in pairwise(arrivals))


@pytest.mark.settings(sendcode_rate_limit=1)
def test_a_slot_that_an_event_took_is_used_once_though_somebody_deletes_what_tells_of_it(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, redis: Redis, keys: Keys
) -> None:
    first, batch_job, event = three_jobs(acts, ledger)
    sender.send(first)
    waiting = [threading.Thread(target=sender.send, args=(job,)) for job in (batch_job, event)]
    for thread, noted in zip(waiting, ("held", "moved"), strict=True):
        thread.start()
        wait_until(lambda noted=noted: redis.hget(keys.pace, noted), noted)  # type: ignore[misc]

    redis.delete(keys.pace)

    for thread in waiting:
        thread.join()
    assert {acts.state(job) for job in (first, event, batch_job)} == {State.SENT}
    arrivals = sandbox.stats(numbers=False, arrivals=True)["arrivals"]
    assert all(later - at >= 1 for (at, *_), (later, *_) in pairwise(arrivals))
    assert acts.job(batch_job).attempts == 1


def test_a_message_for_no_job_is_no_harm(sender: PatientSender, sandbox: Sandbox) -> None:
    assert sender.send("nobody") == NotNow("absent")
    assert sandbox.stats()["requests"] == 0


# what another worker left


def left_in_doubt(acts: Acts, ledger: Ledger, aged_ms: int, prefix: str = "9900") -> str:
    """A job whose worker died in mid-call, so long ago."""
    job_id = submit(ledger, f"{prefix}0001")
    acts.begun(job_id)
    acts.run_out(job_id)
    acts.age_doubt(job_id, aged_ms)
    acts.sweep()
    return job_id


@pytest.mark.parametrize("was_accepted", [True, False])
def test_a_job_left_in_mid_call_is_probed(
    was_accepted: bool, acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox
) -> None:
    if was_accepted:
        other = submit(ledger, "99000001")
        sender.send(other)
        acts.free_number(PhoneNumber("852", "99000001"))
    job_id = left_in_doubt(acts, ledger, 2_000)

    sender.send(job_id)

    assert acts.state(job_id) is (INFERRED if was_accepted else SENT)
    assert not acts.job(job_id).possible_duplicate
    assert sandbox.number("85299000001")["accepted"] == 1


@pytest.mark.usefixtures("sandbox")
def test_after_the_interval_it_is_sent_once_more_and_said_so_everywhere(
    acts: Acts, ledger: Ledger, sender: PatientSender
) -> None:
    job_id = left_in_doubt(acts, ledger, 8_000 * INTERVAL_S)

    result = sender.send(job_id)

    assert isinstance(result, Ended)
    assert result.record.possible_duplicate
    assert acts.job(job_id).possible_duplicate
    assert [entry.what for entry in acts.job(job_id).story] == ["attempt", "resend"]


@pytest.mark.usefixtures("sandbox")
def test_a_late_refusal_is_a_proof_and_no_duplicate(
    acts: Acts, ledger: Ledger, sender: PatientSender
) -> None:
    sender.send(submit(ledger, "99000001"))
    acts.free_number(PhoneNumber("852", "99000001"))
    job_id = left_in_doubt(acts, ledger, 1_000 * INTERVAL_S)

    result = sender.send(job_id)

    assert isinstance(result, Ended)
    assert result.record.state is INFERRED
    assert not result.record.possible_duplicate
    assert not acts.job(job_id).possible_duplicate
    assert [entry.what for entry in acts.job(job_id).story] == ["attempt", "late"]


@pytest.mark.parametrize(
    ("prefix", "state", "closed"), [("9901", UNKNOWN, True), ("9908", DEAD, False)]
)
@pytest.mark.usefixtures("sandbox")
def test_a_refused_probe_proves_only_what_it_can(
    prefix: str, state: State, closed: bool, acts: Acts, ledger: Ledger, sender: PatientSender
) -> None:
    """A number that has all its accounts may have the last by the very code that is in doubt."""
    job_id = left_in_doubt(acts, ledger, 2_000, prefix)

    sender.send(job_id)

    assert acts.state(job_id) is state
    assert (acts.closed_by(acts.job(job_id).phone) == job_id) is closed


@pytest.mark.parametrize("prefix", ["9901", "9908"])
@pytest.mark.usefixtures("sandbox")
def test_a_resend_that_is_refused_doubled_nothing(
    prefix: str, acts: Acts, ledger: Ledger, sender: PatientSender, redis: Redis, keys: Keys
) -> None:
    job_id = left_in_doubt(acts, ledger, 8_000 * INTERVAL_S, prefix)

    result = sender.send(job_id)

    assert isinstance(result, Ended)
    assert not result.record.possible_duplicate
    assert not acts.job(job_id).possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == "0"


@pytest.mark.settings(sendcode_max_attempts=1)
@pytest.mark.parametrize(("prefix", "state"), [("9930", SENT), ("9931", INFERRED)])
@pytest.mark.usefixtures("sandbox")
def test_the_last_attempt_too_is_probed(
    prefix: str, state: State, acts: Acts, ledger: Ledger, sender: PatientSender
) -> None:
    job_id = submit(ledger, f"{prefix}0001")

    sender.send(job_id)

    assert acts.state(job_id) is state
    assert [entry.what for entry in acts.job(job_id).story] == ["attempt", "probe"]


@pytest.mark.settings(sendcode_ambiguous="hold")
def test_with_policy_hold_it_is_not_sent_and_a_person_decides(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox
) -> None:
    job_id = left_in_doubt(acts, ledger, 8_000 * INTERVAL_S)

    result = sender.send(job_id)

    assert isinstance(result, Ended)
    assert (result.record.state, result.record.code) == (UNKNOWN, "Unproved")
    assert sandbox.stats()["requests"] == 0


def test_a_worker_that_comes_too_late_with_an_outcome_says_that_the_job_has_ended(
    acts: Acts,
    ledger: Ledger,
    sender: PatientSender,
    sandbox: Sandbox,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.change(answer_ms=1000)
    job_id = submit(ledger, "99010001")
    late = threading.Thread(target=sender.send, args=(job_id,))
    late.start()
    wait_until(lambda: sandbox.stats()["requests"] == 1)

    acts.run_out(job_id)
    acts.sweep()
    acts.finish(job_id, acts.begun(job_id))
    late.join()

    assert acts.state(job_id) is SENT
    assert "the job has ended already" in caplog.text


def test_a_code_that_was_sent_is_proved_also_after_an_answer_that_nobody_has_heard_of(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox
) -> None:
    sandbox.change(account_state={"behaviour": "failed-operation-after", "requests": 1})
    job_id = submit(ledger, "99000001")

    sender.send(job_id)

    record = acts.job(job_id)
    assert (record.state, record.possible_duplicate) == (INFERRED, False)
    assert sandbox.number("85299000001")["accepted"] == 1


def test_unheard_of_codes_settle_no_doubt_that_another_answer_left(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox
) -> None:
    sandbox.change(account_state={"behaviour": "InternalError", "requests": 1})
    job_id = submit(ledger, "99910001")

    sender.send(job_id)

    assert acts.state(job_id) is UNKNOWN
    assert [entry.what for entry in acts.job(job_id).story] == ["attempt", "probe", "probe"]


@pytest.mark.settings(sendcode_backoff=10)
@pytest.mark.parametrize(("is_killed", "state"), [(False, DEAD), (True, UNKNOWN)])
def test_the_next_worker_knows_that_one_try_was_made_after_an_unheard_of_code(
    is_killed: bool,
    state: State,
    acts: Acts,
    ledger: Ledger,
    sender: PatientSender,
    runtime: Runtime,
    celery_app: Celery,
    sandbox: Sandbox,
) -> None:
    sandbox.change(answer_ms=1000)
    job_id = submit(ledger, "99910001")
    stopped = threading.Thread(target=sender.send, args=(job_id,))
    stopped.start()
    wait_until(lambda: sandbox.stats()["requests"] == 1)
    runtime.shutdown.order()
    stopped.join()
    assert acts.job(job_id).in_doubt
    if is_killed:
        acts.sweep()
        acts.begun(job_id)
        acts.run_out(job_id)
    acts.sweep()
    other = Runtime(runtime.settings, celery_app)

    PatientSender(other.sender, acts).send(job_id)

    assert acts.state(job_id) is state
    assert sandbox.number("85299910001")["requests"] == 2
    other.sender._client.close()
    other.ledger.client.close()


def test_an_unheard_of_code_gets_one_more_try_also_late_in_a_job_s_life(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox
) -> None:
    job_id = submit(ledger, "99900001")
    token = acts.claimed(job_id)
    acts.begin(job_id, token)
    acts.begin(job_id, token, UNSENT)
    acts.park(job_id, token, 0, UNSENT)
    acts.run_out(job_id)

    sender.send(job_id)

    assert acts.state(job_id) is SENT
    assert sandbox.number("85299900001")["requests"] == 2
