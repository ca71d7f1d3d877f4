"""The account's halt: by the API with a canary, or by a person without; no job loses by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

import pytest
from redis import Redis

from config.settings import Settings
from jobs.account import OUTAGE_MISSES, OUTDATED, WEBHOOKS, Account
from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import SWEEP_LIMIT, Aftermath
from jobs.scripts import time_ms
from tests.ledger_acts import DEFAULTS, IN_DOUBT, UNCOUNTED, Acts

pytestmark = pytest.mark.settings(**DEFAULTS)


def canary_is_due(redis: Redis, keys: Keys) -> None:
    redis.hset(keys.account, "canary_due", "1")


def test_an_account_runs_unless_it_was_halted(account: Account) -> None:
    assert account.state().state == "running"
    assert not account.resume("person")
    assert not account.resume("api")


def test_the_first_halt_by_the_api_counts_and_says_why(account: Account) -> None:
    assert account.halt("api", "AuthFailure.TokenFailure", "expired")
    assert not account.halt("api", "LimitExceeded", "another reason")

    state = account.state()
    assert (state.state, state.by) == ("halted", "api")
    assert (state.code, state.message) == ("AuthFailure.TokenFailure", "expired")
    assert state.since_ms is not None


def test_a_halt_names_the_worker_that_was_answered_so(
    redis: Redis, settings: Settings, account: Account
) -> None:
    worker = Account(redis, settings, "w1@here")

    worker.halt("api", "AuthFailure.SignatureFailure", "wrong key")
    assert account.state().worker == "w1@here"
    account.resume("person")
    for _ in range(OUTAGE_MISSES):
        worker.record_miss("InternalError", "out")

    assert account.state().worker == "w1@here"


def test_a_person_s_halt_takes_the_place_of_the_api_s(account: Account) -> None:
    account.halt("api", "LimitExceeded", "used up")

    assert account.halt("person", "Halted", "by hand")
    assert not account.halt("person", "Halted", "again")
    assert not account.halt("api", "LimitExceeded", "used up")

    assert account.state().by == "person"


def test_the_api_s_success_undoes_no_person_s_halt(account: Account) -> None:
    account.halt("person", "Halted", "by hand")

    assert not account.resume("api")
    assert account.state().state == "halted"
    assert account.resume("person")
    assert account.state().state == "running"


def test_a_person_ends_the_api_s_halt(account: Account) -> None:
    account.halt("api", "LimitExceeded", "used up")

    assert account.resume("person")
    assert account.state().state == "running"


def test_a_halt_keeps_jobs_of_every_kind_and_a_resume_brings_all_back(
    acts: Acts, account: Account
) -> None:
    event, in_work = acts.event(1), acts.event(2)
    ids = acts.batch(3, first=10)
    acts.sweep()
    token = acts.claimed(in_work)
    account.halt("person", "Halted", "by hand")
    for job_id in (event, *ids):
        assert acts.claim(job_id)[0].verdict == "halted"
    acts.park(in_work, token, 0)
    assert acts.sweep() == []

    account.resume("person")

    assert sorted(acts.sweep()) == sorted([event, in_work, *ids])
    assert {acts.job(job_id).attempts for job_id in (event, in_work, *ids)} == {0}


def test_a_job_in_doubt_stays_in_doubt_through_a_person_s_halt(
    acts: Acts, account: Account
) -> None:
    job_id = acts.event()
    acts.park(job_id, acts.begun(job_id), 0, IN_DOUBT)
    acts.run_out(job_id)
    acts.sweep()
    account.halt("person", "Halted", "by hand")

    assert acts.claim(job_id)[0].verdict == "halted"

    assert acts.sweep() == []
    assert acts.job(job_id).in_doubt
    account.resume("person")
    acts.sweep()
    assert acts.begin(job_id, acts.claimed(job_id)).kind == "probe"


@pytest.mark.parametrize("way", ["its worker died", "it was handed back", "its message was lost"])
@pytest.mark.parametrize("lane", ["event", "batch"])
def test_a_job_in_doubt_is_probed_on_while_the_api_halts_the_account(
    lane: str, way: str, acts: Acts, account: Account
) -> None:
    job_id = acts.event() if lane == "event" else acts.batch(1)[0]
    acts.sweep()
    token = acts.begun(job_id)
    account.halt("api", "InternalError", "out")
    if way == "it was handed back":
        acts.park(job_id, token, 0, IN_DOUBT)
    else:
        acts.run_out(job_id)
        if way == "its message was lost":
            acts.sweep()
            acts.lose_messages()
            acts.run_out(job_id)

    assert acts.sweep() == [job_id]
    assert acts.sweep() == []

    claim, token = acts.claim(job_id)
    assert (claim.verdict, claim.is_canary) == ("granted", False)
    assert acts.begin(job_id, token).kind == "probe"


def doubt_behind_events(acts: Acts, account: Account, by: Literal["api", "person"]) -> str:
    """Halt, so that more events are due than a sweep looks at, and a job in doubt after them."""
    events = [acts.event(n, f"event {n}") for n in range(1, SWEEP_LIMIT + 101)]
    job_id = acts.event()
    acts.begun(job_id)
    account.halt(by, "Some.Code", "words")
    for event in events:
        assert acts.claim(event)[0].verdict == "halted"
    acts.run_out(job_id)
    return job_id


@pytest.mark.settings(sendcode_canary_interval=600)  # none is due, however slow the machine
def test_a_job_in_doubt_is_found_behind_any_number_of_halted_events(
    acts: Acts, account: Account
) -> None:
    job_id = doubt_behind_events(acts, account, "api")

    assert acts.sweep() == [job_id]


def test_a_job_in_doubt_goes_before_any_number_of_events_that_are_due(
    acts: Acts, account: Account
) -> None:
    job_id = doubt_behind_events(acts, account, "person")
    account.resume("person")

    assert acts.sweep()[0] == job_id


def test_where_sweeps_are_far_apart_a_job_in_doubt_is_spared_once(
    acts: Acts, account: Account, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    acts.begun(job_id)
    account.halt("api", "InternalError", "out")
    acts.sweep()
    swept = []
    for _ in range(2):
        acts.run_out(job_id)
        redis.hincrby(keys.sweeps, "at", -60_000)
        swept.append(acts.sweep())

    assert swept == [[], [job_id]]


def test_a_doubt_that_no_probe_can_resolve_any_more_waits_for_the_end_of_the_halt(
    acts: Acts, account: Account
) -> None:
    job_id = acts.event()
    acts.park(job_id, acts.begun(job_id), 0, IN_DOUBT)
    acts.age_doubt(job_id, 60_000 - 2 * 5_000)  # a probe may take two time-outs to arrive
    account.halt("api", "InternalError", "out")

    assert acts.sweep() == []
    assert acts.claim(job_id)[0].verdict == "halted"
    account.resume("api")
    assert acts.sweep() == [job_id]


# the canary


def test_halted_by_the_api_one_job_tries_from_time_to_time(
    acts: Acts, account: Account, redis: Redis, keys: Keys
) -> None:
    ids = [acts.event(n) for n in range(3)]
    for job_id in ids:
        acts.run_out(job_id)
    account.halt("api", "LimitExceeded", "used up")
    assert acts.sweep() == []

    canary_is_due(redis, keys)

    (canary,) = acts.sweep()
    assert acts.sweep() == []
    claim, _ = acts.claim(canary)
    assert (claim.verdict, claim.is_canary) == ("granted", True)
    others = [job_id for job_id in ids if job_id != canary]
    assert {acts.claim(job_id)[0].verdict for job_id in others} == {"halted"}


def test_halted_by_a_person_not_even_one_job_tries(
    acts: Acts, account: Account, redis: Redis, keys: Keys
) -> None:
    acts.run_out(acts.event())
    acts.batch(1, first=10)
    account.halt("person", "Halted", "by hand")

    canary_is_due(redis, keys)

    assert acts.sweep() == []


@pytest.mark.parametrize("kind", ["an event", "a parked batch job", "a batch's row"])
def test_any_job_can_be_the_canary(
    kind: str, acts: Acts, account: Account, redis: Redis, keys: Keys
) -> None:
    expected = acts.event() if kind == "an event" else acts.batch(2, first=10)[0]
    if kind == "a parked batch job":
        first, second = acts.sweep()
        for job_id in (first, second):
            acts.park(job_id, acts.claimed(job_id))
        acts.run_out(expected)
    if kind == "an event":
        acts.run_out(expected)
    account.halt("api", "LimitExceeded", "used up")

    canary_is_due(redis, keys)

    assert acts.sweep() == [expected]
    assert acts.claim(expected)[0].is_canary


def test_the_next_canary_may_be_another_job(
    acts: Acts, account: Account, redis: Redis, keys: Keys
) -> None:
    ids = [acts.event(n) for n in range(2)]
    for job_id in ids:
        acts.run_out(job_id)
    account.halt("api", "LimitExceeded", "used up")
    canary_is_due(redis, keys)
    (first,) = acts.sweep()
    token = acts.claimed(first)
    acts.finish(first, token, State.DEAD, "Some.Code")

    canary_is_due(redis, keys)

    assert acts.sweep() == [job_id for job_id in ids if job_id != first]


def refused_again(acts: Acts, job_id: str) -> None:
    """Let a canary be answered like the job whose answer halted the account."""
    token = acts.begun(job_id)
    acts.park(job_id, token, 0, UNCOUNTED)


def test_a_canary_that_was_refused_lets_all_others_try_before_it_tries_again(
    acts: Acts, account: Account, redis: Redis, keys: Keys
) -> None:
    event, *rows = acts.event(9), *acts.batch(2, first=10)
    acts.run_out(event)
    account.halt("api", "LimitExceeded", "used up")
    tried = []

    for _ in range(4):
        canary_is_due(redis, keys)
        (canary,) = acts.sweep()
        refused_again(acts, canary)
        tried.append(canary)

    assert tried == [event, *rows, event]
    assert account.state().canary == event


def test_trouble_that_comes_back_at_once_began_when_it_began(acts: Acts, account: Account) -> None:
    account.halt("api", "LimitExceeded", "used up")
    since_ms = account.state().since_ms
    for _ in range(3):
        acts.let_pass(1_000)
        account.resume("api")
        account.halt("api", "LimitExceeded", "used up")

    assert account.state().since_ms == (since_ms or 0) - 3_000


@pytest.mark.parametrize("change", ["another code", "long after", "a person's word"])
def test_other_trouble_begins_anew(change: str, acts: Acts, account: Account) -> None:
    account.halt("api", "LimitExceeded", "used up")
    since_ms = account.state().since_ms or 0
    account.resume("person" if change == "a person's word" else "api")
    acts.let_pass(600_000 if change == "long after" else 1_000)

    account.halt("api", "Other" if change == "another code" else "LimitExceeded", "again")

    assert (account.state().since_ms or 0) >= since_ms


def test_an_outage_began_with_the_first_call_that_got_no_answer(
    acts: Acts, account: Account
) -> None:
    account.record_miss("InternalError", "out")
    acts.let_pass(60_000)
    for _ in range(OUTAGE_MISSES):
        account.record_miss("InternalError", "out")

    state = account.state()
    now_ms = time_ms(acts.redis.time())
    assert state.since_ms is not None
    assert now_ms - state.since_ms >= 60_000


def test_an_answer_to_a_request_that_left_before_the_halt_ends_it_not(
    acts: Acts, account: Account
) -> None:
    before_ms = time_ms(acts.redis.time())
    account.halt("api", "InternalError", "out")

    assert not account.resume("api", before_ms)
    assert account.resume("api", before_ms + 60_000)


# one job's fault


def refuse(account: Account, job_id: str, tries: int, code: str = "LimitExceeded") -> str:
    return account.refuse(job_id, tries, code, "used up")


def send_another(acts: Acts, serial: int) -> None:
    other = acts.event(serial, f"another {serial}")
    acts.finish(other, acts.begun(other))


def test_a_job_that_is_refused_while_others_are_sent_halts_once_and_is_alone_in_the_end(
    acts: Acts, account: Account
) -> None:
    job_id, decided = acts.event(), []

    for tries in range(1, 4):
        decided.append(refuse(account, job_id, tries))
        account.resume("api")
        send_another(acts, tries)

    assert decided == ["halted now", "suspect", "alone"]
    assert refuse(account, job_id, 3) == "alone"


def test_where_nothing_is_sent_no_job_is_at_fault(acts: Acts, account: Account) -> None:
    job_id = acts.event()

    decided = [refuse(account, job_id, tries) for tries in range(1, 6)]

    assert decided == ["halted now", *["halted"] * 4]
    assert account.state().job == job_id


def test_of_many_poisoned_jobs_only_the_first_halts_the_sending(
    acts: Acts, account: Account
) -> None:
    poisoned, decided = [acts.event(n) for n in range(4)], []

    for serial, job_id in enumerate(poisoned, 10):
        decided.append(refuse(account, job_id, 1))
        account.resume("api")
        send_another(acts, serial)

    assert decided == ["halted now", *["suspect"] * 3]


def test_suspects_in_a_row_with_none_sent_between_them_are_an_account_in_trouble(
    acts: Acts, account: Account
) -> None:
    refuse(account, acts.event(1), 1)
    account.resume("api")
    send_another(acts, 9)

    decided = [refuse(account, acts.event(n), 1) for n in range(2, 6)]

    assert decided == ["suspect", "suspect", "halted now", "halted"]


def test_a_canary_whose_message_was_lost_is_followed_by_another(
    acts: Acts, account: Account, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    acts.run_out(job_id)
    account.halt("api", "LimitExceeded", "used up")
    canary_is_due(redis, keys)
    assert acts.sweep() == [job_id]
    acts.lose_messages()
    acts.run_out(job_id)

    canary_is_due(redis, keys)

    assert acts.sweep() == [job_id]


def test_after_a_resume_the_last_canary_is_a_job_like_others(
    acts: Acts, account: Account, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event()
    acts.run_out(job_id)
    account.halt("api", "LimitExceeded", "used up")
    canary_is_due(redis, keys)
    acts.sweep()

    account.resume("api")
    assert not acts.claim(job_id)[0].is_canary
    account.halt("api", "LimitExceeded", "again")

    other = acts.event(1)
    assert acts.claim(other)[0].verdict == "halted"


# an outage


def test_misses_in_a_row_halt_the_account_and_an_answer_between_them_does_not(
    account: Account,
) -> None:
    def miss(times: int) -> list[str]:
        return [account.record_miss("InternalError", "out") for _ in range(times)]

    assert set(miss(OUTAGE_MISSES - 1)) == {"going on"}
    account.clear_misses()
    assert set(miss(OUTAGE_MISSES - 1)) == {"going on"}

    assert miss(2) == ["halted now", "halted"]


def work(acts: Acts, account: Account, *, is_out: bool) -> None:
    """Let workers try what is published, and the API answer nothing, or take everything."""
    for job_id in acts.published():
        claim, token = acts.claim(job_id)
        if claim.verdict != "granted":
            continue
        begun = acts.begin(job_id, token)
        if begun.kind == "wait":
            acts.park(job_id, token, begun.wait_ms)
        elif is_out:
            account.record_miss("Network.Lost", "out")
            acts.park(job_id, token, 6_000, Aftermath(in_doubt=True, counts=False))
        elif begun.kind != "unknown":
            if claim.is_canary or begun.kind != "first":
                account.resume("api", 0 if claim.is_canary else time_ms(acts.redis.time()) + 1)
            acts.finish(job_id, token)


@pytest.mark.parametrize("minutes", [2, 12])
def test_after_an_outage_all_jobs_are_sent_and_only_those_under_way_flagged(
    minutes: int, acts: Acts, account: Account
) -> None:
    ids = acts.batch(OUTAGE_MISSES + 20)
    acts.sweep()
    under_way = acts.published()[:OUTAGE_MISSES]
    for job_id in under_way:
        acts.begun(job_id)
        account.record_miss("Network.Lost", "out")
    assert account.state().state == "halted"

    for step in range(minutes * 15 + 200):
        acts.let_pass(4_000)
        acts.sweep()
        work(acts, account, is_out=step < minutes * 15)
        if (batch := acts.batches.get("b1")) and batch.is_over:
            break

    records = [acts.job(job_id) for job_id in ids]
    assert {record.state for record in records} == {State.SENT}
    flagged = {record.job_id for record in records if record.possible_duplicate}
    assert flagged <= set(under_way)
    assert account.state().state == "running"


# one worker's fault

KEY = "AuthFailure.SecretIdNotFound"


@pytest.fixture
def worker(redis: Redis, settings: Settings, keys: Keys) -> Callable[[str], Account]:
    """Make a worker that is alive, by its entry: "name/process.fingerprint of its credentials"."""

    def make(entry: str) -> Account:
        redis.hset(keys.workers, entry, str(time_ms(redis.time())))
        return Account(redis, settings, entry)

    return make


def test_a_key_that_is_refused_concerns_the_workers_that_hold_it(
    acts: Acts, worker: Callable[[str], Account]
) -> None:
    old, same, new = worker("w1/a.0a"), worker("w2/b.0a"), worker("w3/c.0b")

    decided = refuse(old, acts.event(), 1, KEY)

    assert decided == "stood down"
    assert [each.stand() for each in (old, same, new)] == ["stood down", "stood down", "working"]
    assert [each.stood_down for each in (old, same, new)] == [KEY, KEY, ""]
    assert [each.refused for each in (old, same, new)] == [KEY, KEY, ""]
    assert new.state().state == "running"


def test_an_address_that_is_refused_concerns_the_one_worker(
    acts: Acts, worker: Callable[[str], Account]
) -> None:
    here, elsewhere = worker("w1/a.0a"), worker("w2/b.0a")

    assert refuse(here, acts.event(), 1, "IpNotInWhitelist") == "stood down"

    assert [here.stand(), elsewhere.stand()] == ["stood down", "working"]


def test_what_concerns_all_halts_all(acts: Acts, worker: Callable[[str], Account]) -> None:
    one, _other = worker("w1/a.0a"), worker("w2/b.0b")

    assert refuse(one, acts.event(), 1, "LimitExceeded") == "halted now"


@pytest.mark.parametrize("gone", ["refused, too", "silent"])
def test_when_no_worker_is_left_all_sending_halts_since_the_first_was_refused(
    gone: str, acts: Acts, worker: Callable[[str], Account], redis: Redis, keys: Keys
) -> None:
    old, other = worker("w1/a.0a"), worker("w2/b.0b")
    refuse(old, acts.event(), 1, KEY)
    (told,) = redis.hvals(keys.refused)

    if gone == "silent":
        redis.hset(keys.workers, "w2/b.0b", str(time_ms(redis.time()) - 60_000))
        assert old.stand() == "halted now"
    else:
        assert refuse(other, acts.event(1), 1, KEY) == "halted now"

    state = old.state()
    assert (state.state, state.by, state.code) == ("halted", "api", KEY)
    assert state.since_ms == json.loads(told)["since"]
    assert old.stand() == "halted", "it takes the canary"


@pytest.mark.parametrize("mark", [OUTDATED, WEBHOOKS])
def test_a_worker_that_sends_nothing_does_not_go_on_for_others_and_ends_no_halt(
    mark: str, acts: Acts, worker: Callable[[str], Account]
) -> None:
    only, idle = worker("w1/a.0a"), worker(f"w2/b.{mark}")

    assert refuse(only, acts.event(), 1, KEY) == "halted now"
    assert [idle.stand(), only.stand()] == ["working", "halted"]

    assert only.state().state == "halted"


def test_a_worker_with_a_new_key_ends_the_halt_and_the_old_ones_stay_where_they_are(
    acts: Acts, worker: Callable[[str], Account]
) -> None:
    old = worker("w1/a.0a")
    assert refuse(old, acts.event(), 1, KEY) == "halted now"

    new = worker("w2/b.0b")

    assert [new.stand(), old.stand()] == ["working", "stood down"]
    assert new.state().state == "running"


@pytest.mark.parametrize("by", ["api", "person"])
def test_a_canary_s_success_or_a_person_s_word_lets_a_refused_worker_go_on(
    by: Literal["api", "person"], acts: Acts, worker: Callable[[str], Account]
) -> None:
    old = worker("w1/a.0a")
    refuse(old, acts.event(), 1, KEY)

    assert old.resume(by)

    assert old.stand() == "working"


def test_a_person_s_word_also_lets_a_worker_go_on_that_stood_down_alone(
    acts: Acts, worker: Callable[[str], Account]
) -> None:
    old, _new = worker("w1/a.0a"), worker("w2/b.0b")
    refuse(old, acts.event(), 1, KEY)

    assert old.resume("person")

    assert old.stand() == "working"


CUT_OFF = ("Network.Connect", "ConnectionRefusedError")


def test_a_worker_that_cannot_reach_the_api_stands_down_until_it_can(
    worker: Callable[[str], Account],
) -> None:
    cut_off, other = worker("w1/a.0a"), worker("w2/b.0a")

    standing = [cut_off.stand(CUT_OFF), other.stand(), cut_off.stand(CUT_OFF)]

    assert standing == ["stood down", "working", "stood down"]
    assert cut_off.stood_down == "Network.Connect"
    assert other.state().state == "running"
    assert cut_off.stand() == "working"
    assert cut_off.stood_down == ""


def test_where_no_other_worker_is_left_one_that_cannot_reach_the_api_halts_and_goes_on_by_itself(
    worker: Callable[[str], Account],
) -> None:
    only = worker("w1/a.0a")

    assert only.stand(CUT_OFF) == "halted now"
    assert only.state().code == "Network.Connect"

    assert only.stand() == "working"
    assert only.state().state == "running"


def test_reaching_the_api_does_not_undo_that_it_refuses_a_worker(
    acts: Acts, worker: Callable[[str], Account]
) -> None:
    refused, _other = worker("w1/a.0a"), worker("w2/b.0a")
    refuse(refused, acts.event(), 1, "IpNotInWhitelist")

    assert [refused.stand(CUT_OFF), refused.stand()] == ["stood down", "stood down"]

    assert refused.stood_down == "IpNotInWhitelist"


def test_a_number_that_is_always_answered_like_a_wrong_key_is_alone_in_the_end(
    acts: Acts, worker: Callable[[str], Account]
) -> None:
    only, job_id, decided = worker("w1/a.0a"), acts.event(), []

    for tries in range(1, 4):
        decided.append(refuse(only, job_id, tries, KEY))
        only.resume("api")
        send_another(acts, tries)

    assert decided == ["halted now", "suspect", "alone"]
    assert only.stand() == "working"
