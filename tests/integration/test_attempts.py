"""Attempts in the ledger: first, probe, resend, and what is recorded about each."""

from __future__ import annotations

import time

import pytest
from redis import Redis

from jobs.account import Account
from jobs.batches import Batches
from jobs.job import State, StoryEntry
from jobs.keys import Keys
from jobs.ledger import Ending, Ledger, Pause, Tried
from tests.ledger_acts import (
    DEFAULTS,
    IN_DOUBT,
    MARGIN_MS,
    NOTHING,
    UNCOUNTED,
    UNSENT,
    Acts,
    number,
)
from tests.ledger_checks import check_ledger

pytestmark = pytest.mark.settings(**DEFAULTS)

INTERVAL_MS = 60_000
HOLD = pytest.mark.settings(sendcode_ambiguous="hold")


def in_doubt(acts: Acts, aged_ms: int = 0) -> tuple[str, str]:
    """A job whose first worker died in mid-call, claimed by the next."""
    job_id = acts.event()
    acts.begun(job_id)
    acts.run_out(job_id)
    acts.age_doubt(job_id, aged_ms)
    return job_id, acts.claimed(job_id)


# begin


def test_an_attempt_is_journaled_before_it_is_made(acts: Acts) -> None:
    job_id = acts.event()
    token = acts.claimed(job_id)

    begun = acts.begin(job_id, token)

    record = acts.job(job_id)
    assert begun.kind == "first"
    assert record.state is State.SENDING
    assert (record.attempts, record.tries, record.in_doubt) == (1, 1, True)


def test_an_attempt_begun_twice_is_one_attempt(acts: Acts, ledger: Ledger) -> None:
    job_id = acts.event()
    token = acts.claimed(job_id)
    tried = Tried()

    kinds = [ledger.begin(job_id, token, 1, MARGIN_MS, tried).kind for _ in range(2)]

    assert kinds == ["first", "first"]
    assert (acts.job(job_id).attempts, acts.job(job_id).tries) == (1, 1)


def test_a_try_whose_slot_an_event_took_is_not_begun_but_moved(
    acts: Acts, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.pace, mapping={"held": "9:950 7:800", "moved": "5:7:800 4:6:700 7:9:950"})
    (job_id,) = acts.batch(1)
    acts.sweep()
    token = acts.claimed(job_id)

    begun = [ledger.begin(job_id, token, 1, MARGIN_MS, NOTHING, held=5) for _ in range(2)]

    assert [(each.kind, each.moved_to) for each in begun] == [("moved", (9, 950))] * 2
    assert acts.job(job_id).tries == 0
    assert ledger.begin(job_id, token, 1, MARGIN_MS, NOTHING, held=9).kind == "first"
    assert "9:950" not in str(redis.hget(keys.pace, "held"))


def test_a_try_whose_slot_an_event_may_have_is_not_begun_and_takes_another(
    acts: Acts, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    """As somebody deleted what was known of it. What the try before left is not lost."""
    redis.hset(keys.pace, mapping={"held": "15:800 6:700"})
    (job_id,) = acts.batch(1)
    acts.sweep()
    token = acts.begun(job_id)
    tried = Tried(UNCOUNTED, StoryEntry(1, "attempt", "RequestLimitExceeded").encode())

    begun = [ledger.begin(job_id, token, 2, MARGIN_MS, tried, held=5) for _ in range(2)]

    assert [each.kind for each in begun] == ["missed"] * 2
    assert acts.job(job_id).tries == 1
    assert ledger.begin(job_id, token, 2, MARGIN_MS, tried, held=6).kind == "first"
    record = acts.job(job_id)
    assert (record.attempts, record.tries) == (1, 2)
    assert [entry.code for entry in record.story] == ["RequestLimitExceeded"]


def test_what_a_try_left_is_recorded_once_with_the_next(acts: Acts, ledger: Ledger) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    tried = Tried(UNCOUNTED, StoryEntry(1, "attempt", "RequestLimitExceeded").encode())

    kinds = [ledger.begin(job_id, token, 2, MARGIN_MS, tried).kind for _ in range(2)]

    record = acts.job(job_id)
    assert kinds == ["first", "first"]
    assert (record.attempts, record.tries) == (1, 2)
    assert [entry.code for entry in record.story] == ["RequestLimitExceeded"]


def test_after_a_try_that_sent_nothing_the_next_is_a_first_one(acts: Acts) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)

    begun = acts.begin(job_id, token, UNSENT)

    assert begun.kind == "first"
    assert acts.job(job_id).attempts == 2


def test_after_an_ambiguous_try_the_next_is_a_probe(acts: Acts) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)

    assert acts.begin(job_id, token, IN_DOUBT).kind == "probe"


def test_after_a_worker_s_death_in_mid_call_the_next_try_is_a_probe(acts: Acts) -> None:
    job_id, token = in_doubt(acts)

    assert acts.begin(job_id, token).kind == "probe"
    assert acts.job(job_id).attempts == 2


def test_a_probe_must_arrive_inside_the_interval(acts: Acts) -> None:
    inside = INTERVAL_MS - MARGIN_MS - 2_000
    job_id, token = in_doubt(acts, inside)

    assert acts.begin(job_id, token).kind == "probe"


def test_a_probe_that_may_arrive_too_late_is_one_whose_success_proves_nothing(acts: Acts) -> None:
    job_id, token = in_doubt(acts, INTERVAL_MS - MARGIN_MS + 1)

    begun = acts.begin(job_id, token)

    assert begun.kind == "late"
    assert acts.job(job_id).possible_duplicate


def test_a_late_try_that_is_refused_proves_that_there_was_one_code(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    job_id, token = in_doubt(acts, INTERVAL_MS - MARGIN_MS + 1)
    assert acts.begin(job_id, token).kind == "late"

    acts.finish(job_id, token, State.SENT_INFERRED, left=UNSENT)

    assert not acts.job(job_id).possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == "0"


@pytest.mark.parametrize("aged_ms", [INTERVAL_MS, INTERVAL_MS + MARGIN_MS + 1])
def test_a_late_try_or_resend_that_sent_nothing_leaves_all_as_it_was(
    aged_ms: int, acts: Acts
) -> None:
    job_id, token = in_doubt(acts, aged_ms)
    begun = acts.begin(job_id, token)

    acts.park(job_id, token, 1_000, UNCOUNTED)

    record = acts.job(job_id)
    assert begun.kind in {"late", "resend"}
    assert (record.in_doubt, record.possible_duplicate, record.attempts) == (True, False, 1)
    acts.run_out(job_id)
    assert acts.begin(job_id, acts.claimed(job_id)).kind in {"late", "resend"}


def test_all_probes_are_measured_from_the_first_attempt_in_doubt(acts: Acts) -> None:
    job_id, token = in_doubt(acts, 30_000)
    assert acts.begin(job_id, token).kind == "probe"
    acts.age_doubt(job_id, 29_700)

    assert acts.begin(job_id, token, IN_DOUBT).kind == "late"


def test_the_interval_counts_from_the_slot_on_not_from_the_journal(
    acts: Acts, ledger: Ledger, redis: Redis
) -> None:
    job_id = acts.event()
    seconds, _ = redis.time()
    slot_ms = (seconds + 9) * 1_000
    ledger.begin(job_id, acts.claimed(job_id), 1, 10_000, NOTHING, slot_ms)
    acts.run_out(job_id)
    acts.age_doubt(job_id, INTERVAL_MS)

    assert acts.begin(job_id, acts.claimed(job_id)).kind == "probe"


def test_after_the_interval_a_code_is_sent_once_more_and_said_to_be_a_possible_duplicate(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    job_id, token = in_doubt(acts, INTERVAL_MS + MARGIN_MS + 1)

    begun = acts.begin(job_id, token)

    assert begun.kind == "resend"
    assert acts.job(job_id).possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == "1"


def refused_early(acts: Acts) -> str:
    """A job whose first attempt was refused: a code had just gone to its number."""
    job_id = acts.event()
    pause = Pause(60_000, "FailedOperation.SendVerifyCodeLimit60", "", "interval")
    acts.ledger.park(job_id, acts.begun(job_id), pause, Tried(UNSENT))
    acts.run_out(job_id)
    return job_id


def test_what_is_sent_after_a_refusal_for_a_code_of_somebody_s_is_a_possible_duplicate(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    job_id = refused_early(acts)
    before = acts.job(job_id).possible_duplicate
    token = acts.claimed(job_id)

    begun = acts.begin(job_id, token)

    assert (before, begun.kind, acts.job(job_id).possible_duplicate) == (False, "first", True)
    acts.finish(job_id, token)
    assert acts.job(job_id).possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == "1"


def test_it_is_none_as_long_as_nothing_was_sent(acts: Acts, redis: Redis, keys: Keys) -> None:
    job_id = refused_early(acts)
    token = acts.begun(job_id)

    acts.finish(job_id, token, State.DEAD, "Some.Code", "open", UNSENT)

    assert not acts.job(job_id).possible_duplicate
    assert redis.hget(keys.totals, "possible_duplicate") == "0"


def test_it_has_its_one_resend_all_the_same(acts: Acts) -> None:
    job_id = refused_early(acts)
    token = acts.begun(job_id)
    acts.age_doubt(job_id, INTERVAL_MS + MARGIN_MS + 1)

    assert acts.begin(job_id, token, IN_DOUBT).kind == "resend"


def test_a_batch_counts_its_jobs_that_were_perhaps_sent_twice(acts: Acts, batches: Batches) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    token = acts.begun(job_id)
    acts.age_doubt(job_id, INTERVAL_MS + MARGIN_MS + 1)
    assert acts.begin(job_id, token, IN_DOUBT).kind == "resend"
    flagged = check_ledger(acts.redis, acts.keys).counts["b1"]["possible_duplicate"]
    acts.park(job_id, token, 1_000, UNCOUNTED)
    assert (batch := batches.get("b1"))

    assert flagged == 1
    assert batch.possible_duplicates == 0
    assert (batch.counts, batch.unfinished) == ({"parked": 1}, 1)
    check_ledger(acts.redis, acts.keys)


def test_after_a_blind_resend_probes_are_measured_from_it(acts: Acts) -> None:
    job_id, token = in_doubt(acts, INTERVAL_MS + MARGIN_MS + 1)
    assert acts.begin(job_id, token).kind == "resend"

    assert acts.begin(job_id, token, IN_DOUBT).kind == "probe"


def test_there_is_no_second_blind_resend(acts: Acts, redis: Redis, keys: Keys) -> None:
    job_id, token = in_doubt(acts, INTERVAL_MS + MARGIN_MS + 1)
    assert acts.begin(job_id, token).kind == "resend"
    acts.age_doubt(job_id, INTERVAL_MS + MARGIN_MS + 1)

    begun = acts.begin(job_id, token, IN_DOUBT)

    assert begun.kind == "unknown"
    assert acts.state(job_id) is State.UNKNOWN
    assert acts.dead() == [job_id]
    assert redis.hget(keys.totals, "possible_duplicate") == "1"


@HOLD
def test_with_policy_hold_a_job_stays_unknown_instead(acts: Acts) -> None:
    job_id, token = in_doubt(acts, INTERVAL_MS - MARGIN_MS + 1)

    begun = acts.begin(job_id, token)

    record = acts.job(job_id)
    assert begun.kind == "unknown"
    assert (record.state, record.code) == (State.UNKNOWN, "Unproved")
    assert record.in_doubt
    assert not record.possible_duplicate
    assert acts.dead() == [job_id]


@HOLD
def test_with_policy_hold_a_job_in_doubt_is_probed_all_the_same(acts: Acts) -> None:
    job_id, token = in_doubt(acts)

    assert acts.begin(job_id, token).kind == "probe"


def test_a_try_is_late_as_long_as_any_try_before_it_can_close_the_number(acts: Acts) -> None:
    """A probe of 30 s ago may have been accepted: the number may be in its interval by it."""
    job_id, token = in_doubt(acts, 30_000)
    assert acts.begin(job_id, token).kind == "probe"
    acts.age_doubt(job_id, 30_000 + 2 * MARGIN_MS)  # of the probe only half a minute has gone by

    assert acts.begin(job_id, token, IN_DOUBT).kind == "late"


@HOLD
def test_with_policy_hold_no_late_try_is_made(acts: Acts) -> None:
    job_id, token = in_doubt(acts, 30_000)
    assert acts.begin(job_id, token).kind == "probe"
    acts.age_doubt(job_id, 30_000 + MARGIN_MS + 1)

    assert acts.begin(job_id, token, IN_DOUBT).kind == "unknown"


def test_a_number_that_another_job_has_meanwhile_is_not_called(acts: Acts, ledger: Ledger) -> None:
    """Redis was away for longer than a lease: both jobs believe that they have the number."""
    first, second = acts.event(7), acts.event(7)
    first_token = acts.claimed(first)
    acts.free_number(number(7))
    second_token = acts.claimed(second)
    assert acts.begin(second, second_token).kind == "first"

    begun = acts.begin(first, first_token)
    ledger.renew([(first, first_token)])

    assert begun.kind == "wait"
    assert begun.wait_ms > INTERVAL_MS
    assert acts.closed_by(number(7)) == second


STOPS = ["cancelled", "expired", "paused", "halted"]


def stop(acts: Acts, account: Account, how: str, job_id: str) -> None:
    """Have something come between a job and its next attempt."""
    if how == "halted":
        account.halt("person", "", "")
    elif how == "expired":
        acts.redis.hset(acts.keys.job(job_id), "not_after", "1")
    else:
        acts.batches.steer("b1", "cancel" if how == "cancelled" else "pause")


@pytest.mark.parametrize("how", STOPS)
def test_what_was_said_while_it_waited_for_its_slot_holds_for_a_job(
    how: str, acts: Acts, account: Account
) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    token = acts.claimed(job_id)
    stop(acts, account, how, job_id)

    begun = acts.begin(job_id, token)
    acts.park(job_id, token, begun.wait_ms)
    found = acts.sweep()

    record = acts.job(job_id)
    is_over = how in {"cancelled", "expired"}
    assert (begun.kind, begun.wait_ms, found) == ("over" if is_over else "wait", 0, [])
    assert str(record.state) == (how if is_over else "parked")
    assert (record.attempts, record.tries) == (0, 0)
    assert acts.closed_by(record.phone) is None


@pytest.mark.parametrize("how", STOPS)
def test_a_probe_is_past_all_that_but_a_person_s_halt(
    how: str, acts: Acts, account: Account
) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    token = acts.begun(job_id)
    stop(acts, account, how, job_id)

    begun = acts.begin(job_id, token, IN_DOUBT)

    assert begun.kind == ("wait" if how == "halted" else "probe")
    account.resume("person")
    assert acts.begin(job_id, token, IN_DOUBT).kind == "probe"


@pytest.mark.parametrize("how", ["cancelled", "expired"])
@pytest.mark.parametrize("aged_ms", [INTERVAL_MS, INTERVAL_MS + MARGIN_MS + 1])
def test_no_second_code_is_risked_for_a_job_that_is_over(
    aged_ms: int, how: str, acts: Acts, account: Account
) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    token = acts.begun(job_id)
    acts.age_doubt(job_id, aged_ms)
    stop(acts, account, how, job_id)

    begun = acts.begin(job_id, token, IN_DOUBT)

    assert begun.kind == "unknown"
    assert not acts.job(job_id).possible_duplicate


@pytest.mark.settings(sendcode_max_attempts=2)
def test_no_second_code_is_risked_beyond_the_attempts(acts: Acts) -> None:
    job_id, token = in_doubt(acts)
    assert acts.begin(job_id, token).kind == "probe"
    assert acts.begin(job_id, token, IN_DOUBT).kind == "probe"
    acts.age_doubt(job_id, INTERVAL_MS)

    assert acts.begin(job_id, token, IN_DOUBT).kind == "unknown"
    assert not acts.job(job_id).possible_duplicate


def test_no_second_code_is_risked_while_the_account_is_halted(acts: Acts, account: Account) -> None:
    job_id, token = in_doubt(acts, INTERVAL_MS * 3 // 4)
    account.halt("api", "LimitExceeded", "used up")

    too_slow_for_a_probe = INTERVAL_MS // 2
    assert acts.begin(job_id, token, margin_ms=too_slow_for_a_probe).kind == "wait"
    account.resume("api")
    assert acts.begin(job_id, token, margin_ms=too_slow_for_a_probe).kind == "late"


# finish


@pytest.mark.parametrize("state", [State.SENT, State.SENT_INFERRED, State.DEAD, State.UNKNOWN])
def test_an_end_is_recorded_with_all_that_is_known(
    state: State, acts: Acts, ledger: Ledger
) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    story = StoryEntry(1, "attempt", "Some.Code", "r-1", 12).encode()

    done = ledger.finish(
        job_id, token, Ending(state, "Some.Code", "words", "r-1"), Tried(story=story)
    )

    record = acts.job(job_id)
    assert done
    assert (record.state, record.code, record.message) == (state, "Some.Code", "words")
    assert record.request_id == "r-1"
    assert record.finished_ms is not None
    assert record.in_doubt == (state is State.UNKNOWN)
    assert [entry.request_id for entry in record.story] == ["r-1"]
    assert acts.dead() == ([job_id] if state in {State.DEAD, State.UNKNOWN} else [])


def test_an_end_recorded_twice_counts_once(acts: Acts, redis: Redis, keys: Keys) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)

    done = [acts.finish(job_id, token, State.DEAD, "Some.Code") for _ in range(2)]

    assert done == [acts.job(job_id)] * 2
    assert acts.dead() == [job_id]
    assert redis.hgetall(keys.totals) == {"dead": "1"}
    assert redis.hgetall(keys.dead_codes) == {"Some.Code": "1"}


def test_a_final_state_does_not_change(acts: Acts, ledger: Ledger) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    acts.finish(job_id, token, State.SENT)
    before = acts.job(job_id)

    acts.finish(job_id, token, State.DEAD, "Some.Code")
    acts.finish(job_id, "another", State.DEAD, "Some.Code")
    acts.park(job_id, token)
    acts.park(job_id, "another")
    acts.claim(job_id)
    ledger.begin(job_id, token, 2, MARGIN_MS, NOTHING)
    ledger.renew([(job_id, token)])

    assert acts.job(job_id) == before


def test_an_end_is_accepted_after_the_lease_ran_out_if_nobody_took_the_job(acts: Acts) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    acts.run_out(job_id)

    assert acts.finish(job_id, token)
    assert acts.sweep() == []


def test_an_end_is_refused_after_the_job_was_published_again(acts: Acts) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    acts.run_out(job_id)
    acts.sweep()

    assert not acts.finish(job_id, token, State.DEAD, "Some.Code")
    assert acts.state(job_id) is State.QUEUED


@pytest.mark.parametrize("phase", ["queued", "leased", "sending", "parked"])
def test_that_a_code_was_sent_is_a_fact_whoever_has_the_job_by_now(phase: str, acts: Acts) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    acts.run_out(job_id)
    acts.sweep()
    if phase in {"leased", "parked"}:
        other = acts.claimed(job_id)
        if phase == "parked":
            acts.park(job_id, other, 60_000)
    elif phase == "sending":
        other = acts.begun(job_id)

    assert acts.finish(job_id, token)

    assert acts.state(job_id) is State.SENT
    if phase in {"leased", "sending"}:
        assert acts.begin(job_id, other).kind == "lost"
        assert not acts.finish(job_id, other, State.DEAD, "Some.Code")


@pytest.mark.parametrize("end", [State.DEAD, State.UNKNOWN])
def test_that_a_code_was_sent_corrects_an_end_that_was_recorded_without_knowing_it(
    end: State, acts: Acts, redis: Redis, keys: Keys
) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    token = acts.begun(job_id)
    acts.run_out(job_id)
    acts.sweep()
    acts.finish(job_id, acts.begun(job_id), end, "Some.Code")

    told = [acts.finish(job_id, token) for _ in range(2)]

    assert told == [acts.job(job_id)] * 2
    assert acts.state(job_id) is State.SENT
    assert acts.dead() == []
    assert redis.hgetall(keys.dead_codes) == {}
    assert (batch := acts.batches.get("b1"))
    assert batch.counts == {"sent": 1}
    assert redis.hget(keys.totals, str(end)) == "0"


def test_a_late_news_of_a_code_does_not_take_the_number_from_the_job_that_has_it(
    acts: Acts,
) -> None:
    first, second = acts.event(7), acts.event(7)
    late = acts.begun(first)
    acts.run_out(first)
    acts.sweep()
    acts.finish(first, acts.begun(first), State.UNKNOWN, "Some.Code", "keep")
    acts.free_number(number(7))
    token = acts.begun(second)

    acts.finish(first, late)

    assert acts.closed_by(number(7)) == second
    assert acts.begin(second, token, IN_DOUBT).kind == "probe"


# park


def test_a_parked_job_holds_nothing_and_comes_again(acts: Acts, ledger: Ledger) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    pause = Pause(60_000, "ServiceUnavailable", "later")

    parked = ledger.park(job_id, token, pause, Tried(UNSENT))

    record = acts.job(job_id)
    assert parked == record
    assert (record.state, record.code, record.message) == (
        State.PARKED,
        "ServiceUnavailable",
        "later",
    )
    assert not record.in_doubt
    assert record.due_ms is not None
    assert acts.closed_by(number()) is None
    assert acts.sweep() == []
    acts.run_out(job_id)
    assert acts.sweep() == [job_id]


def test_a_job_parked_twice_is_parked_once(acts: Acts, ledger: Ledger) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    pause = Pause(60_000, "Too.Often", reason="too often")
    tried = Tried(UNCOUNTED, StoryEntry(1, "attempt").encode())

    parked = [ledger.park(job_id, token, pause, tried) for _ in range(2)]

    record = acts.job(job_id)
    assert parked == [record, record]
    assert (record.attempts, record.tries, record.waits) == (0, 1, 1)
    assert len(record.story) == 1


def test_a_number_refused_for_its_interval_is_closed_to_every_job(
    acts: Acts, ledger: Ledger
) -> None:
    job_id, other = acts.event(7), acts.event(7)
    token = acts.begun(job_id)

    ledger.park(job_id, token, Pause(60_000, reason="interval"), Tried(UNSENT))

    assert acts.closed_by(number(7)) == job_id
    assert acts.claim(other)[0].verdict == "parked"


def test_a_parked_job_in_doubt_keeps_its_number_and_its_doubt(acts: Acts) -> None:
    job_id, other = acts.event(7), acts.event(7)
    token = acts.begun(job_id)

    acts.park(job_id, token, 1_000, IN_DOUBT)

    assert acts.job(job_id).in_doubt
    assert acts.closed_by(number(7)) == job_id
    assert acts.claim(other)[0].verdict == "parked"
    acts.run_out(job_id)
    assert acts.begin(job_id, acts.claimed(job_id)).kind == "probe"


# renew


def test_a_renewed_lease_begins_anew(acts: Acts, ledger: Ledger) -> None:
    job_id = acts.event()
    token = acts.claimed(job_id)
    acts.run_out(job_id)

    lost = ledger.renew([(job_id, token)])

    assert lost == []
    assert acts.sweep() == []
    assert acts.closed_by(number()) == job_id


def test_leases_that_are_another_s_are_told(acts: Acts, ledger: Ledger) -> None:
    kept, ended, taken = acts.event(1), acts.event(2), acts.event(3)
    leases = [(job_id, acts.claimed(job_id)) for job_id in (kept, ended, taken)]
    acts.finish(*leases[1])
    acts.run_out(taken)
    acts.claimed(taken)

    assert ledger.renew([*leases, ("nobody", "t")]) == [ended, taken, "nobody"]
    assert ledger.renew([]) == []


def test_the_story_of_a_job_that_is_refused_for_ever_stays_short(
    acts: Acts, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    token = acts.claimed(job_id)
    for n in range(300):
        tried = Tried(UNCOUNTED if n else None, StoryEntry(n, "attempt").encode())
        assert ledger.begin(job_id, token, n + 1, MARGIN_MS, tried).kind == "first"

    story = acts.job(job_id).story

    assert len(story) <= 120
    assert story[-1].at_ms == 299
    assert redis.hlen(keys.job(job_id)) < 150


def test_an_attempt_whose_worker_died_is_in_the_story_all_the_same(acts: Acts) -> None:
    job_id = acts.event()
    acts.begun(job_id)
    acts.run_out(job_id)
    acts.sweep()
    token = acts.claimed(job_id)

    kinds = [acts.ledger.begin(job_id, token, 2, MARGIN_MS, NOTHING).kind for _ in range(2)]
    probe = StoryEntry(1, "probe", "Some.Code", "r-1", 12).encode()
    acts.ledger.begin(job_id, token, 3, MARGIN_MS, Tried(IN_DOUBT, probe))

    story = acts.job(job_id).story
    assert kinds == ["probe", "probe"]
    assert [(entry.what, entry.code) for entry in story] == [
        ("attempt", ""),
        ("probe", "Some.Code"),
    ]
    assert "outcome not known" in story[0].note
    assert abs(story[0].at_ms - time.time() * 1000) < 60_000


def test_a_try_that_was_taken_back_is_not_called_lost(acts: Acts) -> None:
    job_id = acts.event()
    token = acts.begun(job_id)
    acts.park(job_id, token, 0, UNCOUNTED)
    acts.sweep()

    acts.begun(job_id)

    assert acts.job(job_id).story == ()
