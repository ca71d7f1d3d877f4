"""Submitting jobs, and claiming them: who may work on what, decided in one round trip."""

from __future__ import annotations

import pytest
from redis import Redis

from jobs.account import Account
from jobs.batches import Batches
from jobs.job import Lane, SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from tests.lasting_keys import keys_that_last_without_reason
from tests.ledger_acts import DEFAULTS, Acts, number

pytestmark = pytest.mark.settings(**DEFAULTS)


# submit


def test_a_new_event_is_queued_and_known_by_its_id(ledger: Ledger) -> None:
    job = SendCodeJob.for_event(PhoneNumber("852", "18888888888"), "order-1")

    submitted = ledger.submit(job)

    assert submitted.is_new
    assert submitted.record.state is State.QUEUED
    assert submitted.record.lane is Lane.EVENT
    assert (submitted.record.attempts, submitted.record.tries) == (0, 0)
    assert ledger.job(job.job_id) == submitted.record


def test_the_same_key_again_gives_the_job_that_there_is(acts: Acts, ledger: Ledger) -> None:
    job_id = acts.event(0, "order-1")
    acts.finish(job_id, acts.begun(job_id))

    again = ledger.submit(SendCodeJob.for_event(number(1), "order-1"))

    assert not again.is_new
    assert again.record.job_id == job_id
    assert again.record.state is State.SENT
    assert again.record.phone == number(0)


def test_an_event_whose_producer_died_before_publishing_is_published_by_a_sweep(
    acts: Acts,
) -> None:
    job_id = acts.event()
    assert acts.sweep() == []

    acts.run_out(job_id)

    assert acts.sweep() == [job_id]
    assert acts.sweep() == []


def test_an_unknown_id_is_no_job(acts: Acts, ledger: Ledger) -> None:
    assert ledger.job("nobody") is None
    assert acts.claim("nobody")[0].verdict == "absent"


# claim


def test_a_queued_job_is_granted_with_its_record(acts: Acts) -> None:
    job_id = acts.event()

    claim, _ = acts.claim(job_id)

    assert claim.verdict == "granted"
    assert claim.record is not None
    assert claim.record.phone == number()
    assert claim.record.state is State.LEASED
    assert not claim.is_canary
    assert 9_000 < (acts.due_in_ms(job_id) or 0) <= 10_000


def test_a_second_claim_of_the_same_job_is_refused(acts: Acts) -> None:
    job_id = acts.event()
    acts.claimed(job_id)

    claim, _ = acts.claim(job_id)

    assert claim.verdict == "busy"
    assert claim.record is None


def test_a_claim_repeated_with_its_token_is_granted_again(acts: Acts, ledger: Ledger) -> None:
    job_id = acts.event()
    token = acts.claimed(job_id)

    assert ledger.claim(job_id, token).verdict == "granted"
    assert acts.finish(job_id, token)


def test_a_canary_s_claim_repeated_with_its_token_is_a_canary_s_again(
    acts: Acts, ledger: Ledger, account: Account
) -> None:
    account.halt("api", "LimitExceeded", "used up")
    job_id = acts.event()
    acts.redis.hset(acts.keys.account, "canary", job_id)

    claims = [ledger.claim(job_id, "t") for _ in range(2)]

    assert [(each.verdict, each.is_canary) for each in claims] == [("granted", True)] * 2


@pytest.mark.parametrize("phase", ["leased", "sending"])
def test_a_job_whose_lease_ran_out_is_granted_to_the_next(phase: str, acts: Acts) -> None:
    job_id = acts.event()
    old = acts.claimed(job_id) if phase == "leased" else acts.begun(job_id)
    acts.run_out(job_id)

    new = acts.claimed(job_id)

    assert not acts.finish(job_id, old, State.DEAD, "Some.Code")
    assert not acts.park(job_id, old)
    assert acts.begin(job_id, old).kind == "lost"
    assert acts.state(job_id) is State.LEASED
    assert acts.begin(job_id, new).kind == ("first" if phase == "leased" else "probe")


@pytest.mark.parametrize("state", [State.SENT, State.SENT_INFERRED, State.DEAD, State.UNKNOWN])
def test_a_job_that_has_ended_is_granted_to_nobody(state: State, acts: Acts) -> None:
    job_id = acts.event()
    acts.finish(job_id, acts.begun(job_id), state, "Some.Code")

    claim, _ = acts.claim(job_id)

    assert claim.verdict == "final"
    assert claim.record is not None
    assert (claim.record.state, claim.record.code) == (state, "Some.Code")


def test_a_parked_job_is_refused_until_it_is_due(acts: Acts) -> None:
    job_id = acts.event()
    acts.park(job_id, acts.claimed(job_id), 60_000)

    claim, _ = acts.claim(job_id)
    acts.run_out(job_id)

    assert claim.verdict == "parked"
    assert 59_000 < (claim.due_in_ms or 0) <= 60_000
    assert acts.claim(job_id)[0].verdict == "granted"


def test_a_job_past_its_time_expires_when_it_is_claimed(acts: Acts) -> None:
    job_id = acts.event(life_s=60)
    acts.redis.hincrby(acts.keys.job(job_id), "not_after", -60_001)

    claim, _ = acts.claim(job_id)

    assert claim.verdict == "final"
    assert acts.state(job_id) is State.EXPIRED


def test_a_job_past_its_time_expires_when_it_is_swept(acts: Acts) -> None:
    job_id = acts.event(life_s=60)
    acts.redis.hincrby(acts.keys.job(job_id), "not_after", -60_001)
    acts.run_out(job_id)

    assert acts.sweep() == []
    assert acts.state(job_id) is State.EXPIRED


def test_a_job_in_doubt_does_not_expire_but_is_probed(acts: Acts, redis: Redis, keys: Keys) -> None:
    job_id = acts.event()
    acts.begun(job_id)
    redis.hset(keys.job(job_id), "not_after", 1)
    acts.run_out(job_id)

    assert acts.sweep() == [job_id]
    assert acts.begin(job_id, acts.claimed(job_id)).kind == "probe"


# one number, several jobs


def test_a_number_in_work_is_closed_to_other_jobs(acts: Acts) -> None:
    first, second = acts.event(7), acts.event(7)
    acts.claimed(first)

    claim, _ = acts.claim(second)

    assert claim.verdict == "parked"
    assert 9_000 < (claim.due_in_ms or 0) <= 10_000
    assert acts.state(second) is State.PARKED


def test_other_numbers_are_not_held_up(acts: Acts) -> None:
    acts.claimed(acts.event(7))

    assert acts.claim(acts.event(8))[0].verdict == "granted"


def test_the_same_digits_in_another_country_are_another_number(acts: Acts, ledger: Ledger) -> None:
    one = SendCodeJob.for_event(PhoneNumber("852", "1234567"))
    other = SendCodeJob.for_event(PhoneNumber("8521", "234567"))
    ledger.submit(one)
    ledger.submit(other)
    acts.claimed(one.job_id)

    assert acts.claim(other.job_id)[0].verdict == "granted"


def test_after_a_code_was_sent_a_number_is_closed_for_its_interval(acts: Acts) -> None:
    first, second = acts.event(7), acts.event(7)
    acts.finish(first, acts.begun(first), State.SENT, number="closed")

    claim, _ = acts.claim(second)

    assert claim.verdict == "parked"
    assert 59_000 < (claim.due_in_ms or 0) <= 60_000


def test_a_job_that_waited_for_its_number_is_granted_when_the_interval_is_over(acts: Acts) -> None:
    first, second = acts.event(7), acts.event(7)
    acts.finish(first, acts.begun(first), State.SENT, number="closed")
    acts.claim(second)
    acts.free_number(number(7))
    acts.run_out(second)

    assert acts.sweep() == [second]
    assert acts.claim(second)[0].verdict == "granted"


def test_a_number_to_which_nothing_was_sent_is_open_at_once(acts: Acts) -> None:
    first, second = acts.event(7), acts.event(7)
    acts.finish(first, acts.begun(first), State.DEAD, "InvalidParameter", number="open")

    assert acts.claim(second)[0].verdict == "granted"


def test_a_number_whose_attempt_is_in_doubt_is_closed_past_all_its_probes(acts: Acts) -> None:
    first, second = acts.event(7), acts.event(7)
    acts.begun(first)
    acts.run_out(first)  # the worker died

    claim, _ = acts.claim(second)

    assert claim.verdict == "parked"
    assert (claim.due_in_ms or 0) > 60_000


def test_no_number_is_closed_for_ever(acts: Acts, redis: Redis, keys: Keys) -> None:
    for serial in range(4):
        job_id = acts.event(serial)
        token = acts.claimed(job_id) if serial == 0 else acts.begun(job_id)
        if serial == 2:
            acts.finish(job_id, token)
        if serial == 3:
            acts.park(job_id, token)

    found = list(redis.scan_iter(f"{keys.prefix}:number:*"))

    assert len(found) == 4
    assert all(redis.pttl(key) > 0 for key in found)
    assert keys_that_last_without_reason(redis) == []


# what may hold a batch's jobs back


def test_a_batch_row_becomes_a_job_when_it_is_fed(acts: Acts) -> None:
    (job_id,) = acts.batch(1)

    assert acts.sweep() == [job_id]

    record = acts.job(job_id)
    assert record.state is State.QUEUED
    assert (record.lane, record.batch_id, record.phone) == (Lane.BATCH, "b1", number(0))
    assert acts.claim(job_id)[0].verdict == "granted"


def test_jobs_of_a_paused_batch_are_refused_and_nobody_looks_at_them(
    acts: Acts, batches: Batches, redis: Redis, keys: Keys
) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    redis.hset(keys.batch("b1"), "state", "paused")  # between publishing and claim

    claim, _ = acts.claim(job_id)

    assert claim.verdict == "paused"
    assert acts.state(job_id) is State.PARKED
    assert acts.due_in_ms(job_id) is None
    batches.steer("b1", "resume")
    assert acts.sweep() == [job_id]


def test_jobs_of_a_cancelled_batch_end_when_they_are_claimed(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    redis.hset(keys.batch("b1"), "state", "cancelled", mapping={"imported": 1})

    claim, _ = acts.claim(job_id)

    assert claim.verdict == "final"
    assert acts.state(job_id) is State.CANCELLED


def test_a_halted_account_grants_nothing_and_keeps_the_job_due(
    acts: Acts, account: Account
) -> None:
    job_id = acts.event()
    account.halt("person", "Halted", "by hand")

    claim, _ = acts.claim(job_id)
    account.resume("person")

    assert claim.verdict == "halted"
    assert acts.sweep() == [job_id]
    assert acts.claim(job_id)[0].verdict == "granted"
