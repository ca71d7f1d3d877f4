"""The feed: rows of running batches become jobs in turns, a few seconds of work ahead."""

from __future__ import annotations

from collections import Counter

import pytest
from redis import Redis

from config import BATCH_QUEUE
from jobs.account import Account
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import AHEAD_S, FEED_SECONDS
from jobs.scripts import SPARE_THREADS, time_ms
from tests.ledger_acts import DEFAULTS, IN_DOUBT, REJECTED, Acts, number, number_key, row

pytestmark = pytest.mark.settings(**DEFAULTS)

DEPTH = 20 * FEED_SECONDS
AHEAD = round(20 * AHEAD_S)


def batch_of(job_id: str) -> str:
    return job_id.rpartition("-")[0]


def send_all(acts: Acts, job_ids: list[str]) -> None:
    for job_id in job_ids:
        acts.finish(job_id, acts.begun(job_id))


def test_rows_are_fed_in_their_order_and_no_deeper_than_a_few_seconds_of_work(acts: Acts) -> None:
    ids = acts.batch(100)

    fed = [*acts.sweep(), *acts.sweep()]

    assert fed == ids[:DEPTH]


def test_as_many_are_fed_as_have_ended_or_were_laid_aside(acts: Acts) -> None:
    ids = acts.batch(100)
    acts.sweep()
    send_all(acts, ids[:3])
    for job_id in ids[3:5]:
        acts.park(job_id, acts.claimed(job_id))

    assert acts.sweep() == ids[DEPTH : DEPTH + 5]


def test_a_claimed_job_still_takes_its_place_in_the_depth(acts: Acts) -> None:
    ids = acts.batch(100)
    acts.sweep()
    acts.claimed(ids[0])
    acts.begun(ids[1])

    assert acts.sweep() == []


def send_slowly(acts: Acts, fed: list[str]) -> None:
    """Send jobs to an API that does not answer yet."""
    for job_id in fed:
        acts.begun(job_id)


def worker_alive(acts: Acts, name: str) -> None:
    acts.redis.hset(acts.keys.workers, f"{name}/1.f", time_ms(acts.redis.time()))


def test_the_feed_is_deeper_while_many_requests_wait_for_their_answer(acts: Acts) -> None:
    ids = acts.batch(200)
    worker_alive(acts, "w1")
    worker_alive(acts, "w2")
    fed = acts.sweep(48)

    send_slowly(acts, fed[:35])
    more = acts.sweep(48)

    assert more == ids[DEPTH : DEPTH + AHEAD - 5]
    assert acts.sweep(48) == []


def test_requests_of_a_batch_whose_rows_are_all_fed_count_as_well(acts: Acts) -> None:
    acts.batch(35, "ends")
    worker_alive(acts, "w1")
    worker_alive(acts, "w2")
    send_slowly(acts, acts.sweep(48))
    acts.batch(100, "next", first=35)

    assert len(acts.sweep(48)) == AHEAD


def test_the_feed_leaves_threads_to_events_however_slow_the_api_is(acts: Acts) -> None:
    acts.batch(200)
    worker_alive(acts, "w1")
    fed = acts.sweep(48)
    send_slowly(acts, fed)
    assert acts.sweep(48) == []

    worker_alive(acts, "w2")

    assert len(acts.sweep(28)) == 2 * 28 - SPARE_THREADS - DEPTH


def test_threads_of_workers_that_are_gone_do_not_count(acts: Acts) -> None:
    acts.batch(200)
    worker_alive(acts, "w1")
    acts.redis.hset(acts.keys.workers, "gone/1.f", time_ms(acts.redis.time()) - 60_000)
    send_slowly(acts, acts.sweep(48))

    assert acts.sweep(48) == []


def test_many_sweepers_feed_no_more_than_one(acts: Acts) -> None:
    ids = acts.batch(100)

    fed = [job_id for _ in range(10) for job_id in acts.sweep()]

    assert fed == ids[:DEPTH]
    assert acts.redis.llen(BATCH_QUEUE) == DEPTH


def test_parked_jobs_that_are_due_come_before_new_rows(acts: Acts) -> None:
    ids = acts.batch(100)
    acts.sweep()
    for job_id in ids[:5]:
        acts.park(job_id, acts.claimed(job_id))
        acts.run_out(job_id)

    found = acts.sweep()

    assert sorted(found) == sorted(ids[:5])


def test_parked_jobs_wait_for_room_as_well(acts: Acts) -> None:
    ids = acts.batch(2 * DEPTH)
    acts.sweep()
    for job_id in ids[:DEPTH]:
        acts.park(job_id, acts.claimed(job_id))
    acts.sweep()
    for job_id in ids[:DEPTH]:
        acts.run_out(job_id)

    assert acts.sweep() == []
    send_all(acts, ids[DEPTH : DEPTH + 2])
    assert len(acts.sweep()) == 2


@pytest.mark.settings(sendcode_lease=30)  # it must not run out on a busy machine
def test_rows_that_wait_for_one_number_take_no_room_from_others(acts: Acts) -> None:
    same = acts.batch([row(0, line) for line in range(2, 102)], "same")
    first = acts.sweep()
    acts.claimed(first[0])
    while waiting := acts.published():
        for job_id in waiting:
            acts.claim(job_id)
        acts.sweep()
    acts.batch(100, "others", first=1)
    acts.redis.zadd(acts.keys.due("aside"), dict.fromkeys(same, 1), xx=True)

    fed = acts.sweep()

    assert len(fed) > DEPTH / 2
    assert all(job_id.startswith("others-") for job_id in fed)
    until = acts.redis.hget(number_key(acts.ledger, number(0)), "until")
    assert acts.redis.zscore(acts.keys.due("aside"), same[-1]) == float(str(until))


def test_a_job_in_doubt_waits_for_no_room(acts: Acts) -> None:
    ids = acts.batch(2 * DEPTH)
    acts.sweep()
    acts.park(ids[0], acts.begun(ids[0]), 1000, IN_DOUBT)
    acts.sweep()
    acts.run_out(ids[0])

    assert acts.sweep() == [ids[0]]


def test_a_job_whose_worker_died_stands_behind_no_number_of_parked_jobs(
    acts: Acts, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.ledger.SWEEP_LIMIT", 100)  # of the 150 that are parked
    ids = acts.batch(250)
    fed: list[str] = []
    while len(fed) < 150:
        for job_id in acts.sweep():
            acts.park(job_id, acts.claimed(job_id))
            fed.append(job_id)
    in_work = acts.sweep()
    doomed = in_work[1]
    acts.begun(doomed)
    now_ms = time_ms(acts.redis.time())
    parked_and_in_work = dict.fromkeys((*fed, in_work[0]), now_ms)
    for due in map(acts.keys.due, ("aside", "batch")):
        acts.redis.zadd(due, parked_and_in_work, xx=True)
    acts.run_out(doomed)
    redis.hdel(keys.sweeps, "at")  # however long a busy machine took: nobody was silent

    assert doomed in acts.sweep()
    assert ids


# several batches


def test_batches_take_turns_row_by_row(acts: Acts) -> None:
    acts.batch(100, "big")
    acts.batch(5, "small", first=100)
    acts.batch(100, "other", first=200)

    fed = Counter(batch_of(job_id) for job_id in acts.sweep())

    assert fed["small"] == 5
    assert abs(fed["big"] - fed["other"]) <= 1
    assert fed.total() == DEPTH


def test_a_small_batch_does_not_stand_behind_a_big_one_that_was_there_before(acts: Acts) -> None:
    big = acts.batch(500, "big")
    acts.sweep()
    small = acts.batch(3, "small", first=500)
    send_all(acts, big[:6])

    assert set(small) <= set(acts.sweep())


def test_turns_are_remembered_from_sweep_to_sweep(acts: Acts) -> None:
    for n, name in enumerate("abc"):
        acts.batch(50, name, first=100 * n)
    fed: Counter[str] = Counter()
    waiting = acts.sweep()
    for _ in range(30):
        fed[batch_of(waiting[0])] += 1
        send_all(acts, [waiting.pop(0)])
        waiting += acts.sweep()

    assert max(fed.values()) - min(fed.values()) <= 1


def test_pausing_and_resuming_wins_no_second_turn(acts: Acts, batches: Batches) -> None:
    acts.batch(100, "greedy")
    acts.batch(100, "patient", first=100)
    for _ in range(5):
        batches.steer("greedy", "pause")
        batches.steer("greedy", "resume")

    fed = Counter(batch_of(job_id) for job_id in acts.sweep())

    assert fed == {"greedy": DEPTH // 2, "patient": DEPTH // 2}


# a batch's own pace


def test_a_gentle_batch_is_fed_at_its_own_pace(acts: Acts, redis: Redis, keys: Keys) -> None:
    acts.batch(100, "gentle", max_rate=5)
    acts.batch(100, "other", first=100)

    fed = Counter(batch_of(job_id) for job_id in acts.sweep())

    assert fed["gentle"] <= 6  # a second's worth at the start, and the first
    assert fed.total() == DEPTH
    swept_ms = float(redis.hget(keys.sweeps, "at") or 0)
    ahead_ms = float(redis.hget(keys.batch("gentle"), "next_at") or 0) - swept_ms
    assert 0 < ahead_ms <= 200


def test_a_gentle_batch_makes_up_for_no_more_than_a_second(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    acts.batch(100, "gentle", max_rate=5)
    redis.hset(keys.batch("gentle"), "next_at", "1")  # nobody swept for years

    assert len(acts.sweep()) <= 6


def test_even_a_batch_of_less_than_one_a_second_goes_on(acts: Acts) -> None:
    ids = acts.batch(5, "gentle", max_rate=0.1)

    assert acts.sweep() == ids[:1]
    assert acts.sweep() == []


# rows that were rejected, and the end


def test_rejected_rows_are_passed_over(acts: Acts, batches: Batches) -> None:
    ids = acts.batch([REJECTED, row(1), REJECTED, REJECTED, row(2), REJECTED])

    fed = acts.sweep()
    send_all(acts, fed)
    acts.sweep()

    batch = batches.get("b1")
    assert fed == ids == ["b1-2", "b1-5"]
    assert batch is not None
    assert (batch.state, batch.counts) == ("done", {"sent": 2, "rejected": 4})


@pytest.mark.parametrize("rows", [[], [REJECTED] * 3])
def test_a_batch_without_a_row_to_send_is_done(
    rows: list[object], acts: Acts, batches: Batches
) -> None:
    acts.batch(rows)  # type: ignore[arg-type]

    acts.sweep()

    batch = batches.get("b1")
    assert batch is not None
    assert batch.is_over


def test_any_number_of_rejected_rows_costs_a_sweep_little(acts: Acts, redis: Redis) -> None:
    redis.config_resetstat()
    for first in range(0, 30_000, 3_000):
        acts.batches.open("b1", "digest", ["cc", "num"])
        acts.batches.append("b1", first, [REJECTED] * 3_000, last=first == 27_000)

    acts.sweep()

    reads = redis.info("commandstats")["cmdstat_lrange"]["calls"]
    assert reads <= 20
    assert acts.batches.get("b1").state == "running"  # type: ignore[union-attr]
    acts.sweep()
    acts.sweep()
    assert acts.batches.get("b1").state == "done"  # type: ignore[union-attr]


def test_a_batch_whose_rows_are_still_coming_keeps_its_turn(acts: Acts, batches: Batches) -> None:
    batches.open("b1", "digest", ["cc", "num"])
    batches.append("b1", 0, [row(1)])
    assert acts.sweep() == ["b1-1"]
    acts.sweep()

    batches.append("b1", 1, [row(2)], last=True)

    assert acts.sweep() == ["b1-2"]


def test_a_batch_is_done_when_its_last_job_has_ended(acts: Acts, batches: Batches) -> None:
    ids = acts.batch(3)
    acts.sweep()
    send_all(acts, ids[:2])
    assert batches.get("b1").state == "running"  # type: ignore[union-attr]

    acts.finish(ids[2], acts.begun(ids[2]), State.DEAD, "Some.Code")

    batch = batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.is_over, batch.finished) == ("done", True, 3)
    assert batch.by_code == {"Some.Code": 1}


def test_rows_that_come_too_late_end_without_taking_others_places(
    acts: Acts, batches: Batches
) -> None:
    acts.batch(1_000, "late", expires_ms=1, max_rate=1)
    other = acts.batch(100, "other", first=1_000)

    found = acts.sweep()
    send_all(acts, found)
    found_next = acts.sweep()

    assert found == other[:DEPTH]
    assert found_next == other[DEPTH : 2 * DEPTH]
    assert batches.get("late").counts["expired"] == 2 * DEPTH  # type: ignore[union-attr]


def test_a_batch_that_comes_too_late_is_over_soon_and_ends_boundedly(
    acts: Acts, batches: Batches
) -> None:
    acts.batch(350, "late", expires_ms=1)

    acts.sweep()
    after_one = batches.get("late")
    acts.sweep()

    late = batches.get("late")
    assert after_one is not None
    assert after_one.finished == 200
    assert late is not None
    assert (late.state, late.counts) == ("done", {"expired": 350})


def test_while_the_account_is_halted_nothing_is_fed(acts: Acts, account: Account) -> None:
    acts.batch(100)
    account.halt("person", "Halted", "by hand")

    assert acts.sweep() == []
    account.resume("person")
    assert len(acts.sweep()) == DEPTH


@pytest.mark.parametrize("end", [State.DEAD, State.UNKNOWN])
@pytest.mark.parametrize("way", ["dropped", "requeued", "replaced"])
def test_a_batch_is_kept_as_long_as_its_dead_letters(
    end: State, way: str, acts: Acts, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    """Its rows would be sent again if it was forgotten before they are decided."""
    ids = acts.batch(2)
    acts.sweep()
    for job_id in ids:
        acts.finish(job_id, acts.begun(job_id), end, "Some.Code", "open", IN_DOUBT)
    of_batch = [keys.batch("b1"), keys.rows("b1"), keys.counts("b1")]
    dead.drop(Decision("drop", "one"), dead.window(0)[:1])

    assert [redis.ttl(key) for key in of_batch] == [-1, -1, -1]

    if way == "dropped":
        dead.drop(Decision("drop", "the other"), dead.window(0))
    else:
        if way == "requeued":
            dead.requeue(Decision("requeue", "the other"), dead.window(0))
        else:
            (letter,) = dead.window(0)
            dead.replace(Decision("replace", "it"), letter, number(7))
        assert [redis.ttl(key) for key in of_batch] == [-1, -1, -1]
        send_all(acts, acts.sweep())

    assert all(redis.ttl(key) > 0 for key in of_batch)


def test_a_code_that_turns_out_to_be_sent_takes_its_dead_letter_from_the_batch(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    (job_id,) = acts.batch(1)
    acts.sweep()
    token = acts.begun(job_id)
    acts.run_out(job_id)
    acts.sweep()
    acts.finish(job_id, acts.begun(job_id), State.UNKNOWN, "Some.Code", "keep", IN_DOUBT)
    assert redis.ttl(keys.batch("b1")) == -1

    acts.finish(job_id, token, State.SENT, "", "closed")

    assert redis.ttl(keys.batch("b1")) > 0
