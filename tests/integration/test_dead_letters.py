"""What a person's decisions do to dead letters in the ledger."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.deadletters import WINDOW, DeadLetter, DeadLetters, Decision, Verb
from jobs.job import JobRecord, State, StoryEntry
from jobs.keys import Keys
from jobs.ledger import Aftermath, Ending, Ledger, Tried
from jobs.mending import Mending
from producer.deadletters import Choice, Handling, Report, letters, requeue
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


def decided(verb: Verb, reason: str = "") -> Decision:
    return Decision(verb, "a test's choice", reason)


def letter(dead: DeadLetters, job_id: str) -> DeadLetter:
    found = dead.find(job_id)
    assert found is not None
    return found


def job(ledger: Ledger, job_id: str) -> JobRecord:
    found = ledger.job(job_id)
    assert found is not None
    return found


def everything_counted(redis: Redis, keys: Keys) -> Any:
    """All that adds up over jobs; two ways to the same end must leave the same."""
    return redis.hgetall(keys.totals), redis.hgetall(keys.dead_codes), redis.llen(keys.dead)


def test_a_requeued_job_is_due_at_once_with_its_attempts_given_back(
    ledger: Ledger, dead: DeadLetters
) -> None:
    record = end_event(ledger)

    settled = dead.requeue(decided("requeue"), [letter(dead, record.job_id)])

    assert settled == ["done"]
    again = job(ledger, record.job_id)
    assert (again.state, again.attempts, again.code) == (State.PARKED, 0, "")
    assert [job_id for _, job_id in ledger.sweep()] == [record.job_id]


def test_a_requeued_job_can_be_sent(ledger: Ledger, dead: DeadLetters) -> None:
    record = end_event(ledger)
    dead.requeue(decided("requeue"), [letter(dead, record.job_id)])
    ledger.sweep()

    assert end(ledger, record.job_id, SENT).state is State.SENT
    assert dead.count() == 0
    assert dead.by_code() == {}


def test_requeue_takes_the_job_off_the_list_and_out_of_the_counts(
    ledger: Ledger, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    first, second = end_event(ledger, 1), end_event(ledger, 2)

    dead.requeue(decided("requeue"), [letter(dead, first.job_id)])

    assert [left.job_id for left in dead.window(0)] == [second.job_id]
    assert dead.by_code() == {BUSY: 1}
    assert redis.hget(keys.totals, "dead") == "1"


def test_requeue_applied_twice_is_as_requeue_applied_once(
    ledger: Ledger, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    first, second = end_event(ledger, 1), end_event(ledger, 2)
    decision, letters = decided("requeue"), dead.window(0)
    dead.requeue(decision, letters)
    once = everything_counted(redis, keys), job(ledger, first.job_id), job(ledger, second.job_id)

    settled = dead.requeue(decision, letters)

    assert settled == ["done", "done"]
    twice = everything_counted(redis, keys), job(ledger, first.job_id), job(ledger, second.job_id)
    assert twice == once
    assert redis.llen(keys.actions) == 1


def test_a_wrong_place_hint_removes_the_right_entry(ledger: Ledger, dead: DeadLetters) -> None:
    records = [end_event(ledger, n) for n in range(1, 6)]
    wrong = DeadLetter(records[3].job_id, 0, records[3])

    dead.requeue(decided("requeue"), [wrong])

    left = [entry.job_id for entry in dead.window(0)]
    assert left == [record.job_id for n, record in enumerate(records) if n != 3]


def test_requeued_jobs_become_due_one_after_another(ledger: Ledger, dead: DeadLetters) -> None:
    for n in range(1, 5):
        end_event(ledger, n)

    dead.requeue(
        decided("requeue"), dead.window(0), first_ms=dead.now_ms() + 10_000, step_us=250_000
    )

    records = [job(ledger, f"{entry}") for entry in ids_of_events(ledger)]
    due = sorted(record.due_ms or 0 for record in records)
    assert [at - due[0] for at in due] == [0, 250, 500, 750]
    assert ledger.sweep() == []


def ids_of_events(ledger: Ledger) -> list[str]:
    found: Any = ledger.client.zrange(ledger.keys.due("event"), 0, -1)
    return [str(job_id) for job_id in found]


def test_what_was_perhaps_sent_is_flagged_when_a_person_sends_it_again(
    ledger: Ledger, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    record = end_event(ledger, ending=UNKNOWN)

    dead.requeue(decided("requeue"), [letter(dead, record.job_id)])

    again = job(ledger, record.job_id)
    assert again.possible_duplicate
    assert not again.in_doubt
    assert redis.hget(keys.totals, "possible_duplicate") == "1"


def test_the_story_tells_of_the_requeue_and_its_reason(ledger: Ledger, dead: DeadLetters) -> None:
    record = end_event(ledger)

    dead.requeue(decided("requeue", "the service is back"), [letter(dead, record.job_id)])

    entry = job(ledger, record.job_id).story[-1]
    assert entry.what == "requeue"
    assert entry.note == f"was dead {BUSY}; the service is back"


def test_a_decision_about_many_jobs_is_one_entry_in_the_list_of_actions(
    ledger: Ledger, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    for n in range(1, 4):
        end_event(ledger, n)
    decision = decided("requeue")

    dead.requeue(decision, dead.window(0, 2))
    dead.requeue(decision, dead.window(0, 2), done_before=2)

    actions: Any = redis.lrange(keys.actions, 0, -1)
    told = [json.loads(action) for action in actions]
    assert [(action["what"], action["jobs"]) for action in told] == [("dead requeue", 3)]


def test_a_batch_that_was_done_goes_on_until_its_requeued_job_has_ended(
    ledger: Ledger, batches: Batches, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    run_batch(ledger, batches, "b1", customers(3), lambda row: DEAD if row == 2 else SENT)

    dead.requeue(decided("requeue"), [letter(dead, "b1-2")])

    batch = batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.finished_ms, batch.is_over) == ("running", None, False)
    assert batch.counts == {"sent": 2, "parked": 1}
    assert batch.by_code == {}
    assert redis.ttl(keys.rows("b1")) == -1
    assert redis.ttl(keys.content("digest of b1")) == -1

    ledger.sweep()
    end(ledger, "b1-2", SENT)
    batch = batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.counts) == ("done", {"sent": 3})
    assert redis.ttl(keys.rows("b1")) > 0
    assert redis.ttl(keys.content("digest of b1")) > 0


def test_a_job_of_a_cancelled_batch_is_not_requeued(
    ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    batches.open("b1", "digest", ["name", "country_code", "phone_num"])
    batches.append("b1", 0, customers(2), last=True)
    ledger.sweep()
    end(ledger, "b1-1", DEAD)
    batches.steer("b1", "cancel")

    settled = dead.requeue(decided("requeue"), [letter(dead, "b1-1")])

    assert settled == ["cancelled"]
    assert job(ledger, "b1-1").state is State.DEAD
    assert dead.count() == 1


def test_a_corrected_number_is_a_new_job_and_both_know_each_other(
    ledger: Ledger, dead: DeadLetters
) -> None:
    record = end_event(ledger, ending=Ending(State.DEAD, BIND_UPPER, "too many", "req-9"))

    settled, new_id = dead.replace(decided("replace"), letter(dead, record.job_id), number(77))

    assert (settled, new_id) == ("done", f"{record.job_id}.r1")
    old, new = job(ledger, record.job_id), job(ledger, new_id)
    assert (old.state, old.replaced_by) == (State.DEAD, new_id)
    assert (new.state, new.replaces, new.phone) == (State.PARKED, record.job_id, number(77))
    assert [entry.what for entry in old.story] == ["attempt", "replaced"]
    assert [entry.what for entry in new.story] == ["replaces"]
    assert dead.count() == 0
    assert [job_id for _, job_id in ledger.sweep()] == [new_id]


def test_replacing_twice_makes_one_job(ledger: Ledger, dead: DeadLetters) -> None:
    record = end_event(ledger)
    decision, found = decided("replace"), letter(dead, record.job_id)
    dead.replace(decision, found, number(77))

    settled, new_id = dead.replace(decision, found, number(77))

    assert settled == "done"
    assert len(job(ledger, new_id).story) == 1
    settled, _ = dead.replace(decided("replace"), found, number(78))
    assert settled == "not dead"
    assert job(ledger, new_id).phone == number(77)


def test_a_row_shows_what_became_of_the_job_in_its_job_s_place(
    ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    run_batch(ledger, batches, "b1", customers(2), lambda row: DEAD if row == 2 else SENT)
    _, first = dead.replace(decided("replace"), letter(dead, "b1-2"), number(77))
    ledger.sweep()
    end(ledger, first, DEAD)
    _, second = dead.replace(decided("replace"), letter(dead, first), number(78))
    ledger.sweep()
    end(ledger, second, SENT)

    records = [record for _, _, record in batches.rows("b1")]

    assert second == "b1-2.r2"
    assert [record.job_id for record in records if record] == ["b1-1", "b1-2.r2"]
    batch = batches.get("b1")
    assert batch is not None
    assert (batch.state, batch.counts, batch.by_code) == ("done", {"sent": 2}, {})


def test_a_job_is_kept_as_long_as_the_one_in_its_place(
    ledger: Ledger, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    """Its id refuses doubles, and the id of the new job is made of it."""
    old = end_event(ledger).job_id
    _, new = dead.replace(decided("replace"), letter(dead, old), number(77))
    ledger.sweep()
    end(ledger, new, DEAD)

    assert [redis.ttl(keys.job(job_id)) for job_id in (old, new)] == [-1, -1]

    dead.requeue(decided("requeue"), [letter(dead, new)])
    assert redis.ttl(keys.job(old)) == -1
    ledger.sweep()
    end(ledger, new, SENT)

    assert redis.ttl(keys.job(old)) == redis.ttl(keys.job(new)) > 0


def test_a_dropped_job_leaves_the_list_keeps_its_state_and_is_forgotten_in_time(
    ledger: Ledger, batches: Batches, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    run_batch(ledger, batches, "b1", customers(1))

    settled = dead.drop(decided("drop", "the customer has left"), dead.window(0))

    assert settled == ["done"]
    record = job(ledger, "b1-1")
    assert record.state is State.DEAD
    assert record.dropped_ms is not None
    assert record.story[-1].note == f"was dead {BUSY}; the customer has left"
    assert (dead.count(), dead.by_code()) == (0, {})
    assert redis.ttl(keys.job("b1-1")) > 0
    batch = batches.get("b1")
    assert batch is not None
    assert batch.counts == {"dead": 1}


def test_a_dropped_job_can_be_requeued_after_all(ledger: Ledger, dead: DeadLetters) -> None:
    record = end_event(ledger)
    dead.drop(decided("drop"), dead.window(0))

    settled = dead.requeue(decided("requeue"), [letter(dead, record.job_id)])

    assert settled == ["done"]
    assert job(ledger, record.job_id).dropped_ms is None
    assert dead.by_code() == {}


def test_jobs_that_are_left_count_apart_in_their_batch_until_they_are_tried_again(
    ledger: Ledger, batches: Batches, dead: DeadLetters, redis: Redis, settings: Settings
) -> None:
    endings = {1: UNKNOWN, 2: SENT}
    run_batch(ledger, batches, "b1", customers(5), lambda row: endings.get(row, DEAD))
    left = [letter(dead, f"b1-{n}") for n in (1, 3, 4)]

    def counted() -> tuple[dict[str, int], int, int]:
        batch = batches.get("b1")
        assert batch is not None
        family = batches.family(batch)
        return batch.left, family.left, family.open

    assert counted() == ({}, 0, 4)
    for _ in range(2):  # also a colleague at the same time
        dead.drop(decided("drop", "told"), left)
    assert counted() == ({"dead": 2, "unknown": 1}, 3, 1)

    Mending(redis, settings).mend(["batch b1"])
    assert counted() == ({"dead": 2, "unknown": 1}, 3, 1)
    dead.requeue(decided("requeue"), [letter(dead, "b1-3")])
    dead.replace(decided("replace"), letter(dead, "b1-1"), number(77))
    assert counted() == ({"dead": 1}, 1, 3)


def test_one_that_was_left_is_no_more_when_its_lost_worker_tells_that_it_was_sent(
    ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    run_batch(ledger, batches, "b1", customers(1), lambda _: UNKNOWN)
    dead.drop(decided("drop", "told"), dead.window(0))

    assert ledger.finish(
        "b1-1", "a worker that was cut off", SENT, Tried(Aftermath(in_doubt=False))
    )

    batch = batches.get("b1")
    assert batch is not None
    assert (batch.counts, batch.left) == ({"sent": 1}, {})
    assert job(ledger, "b1-1").dropped_ms is None


def test_one_in_whose_place_is_another_job_tells_once_that_its_lost_worker_had_sent_a_code(
    ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    run_batch(ledger, batches, "b1", customers(1), lambda _: UNKNOWN)
    dead.replace(decided("replace"), dead.window(0)[0], number(77))
    sent = StoryEntry(5, "attempt", "", "req-1", 80)

    for _ in range(2):
        assert not ledger.finish(
            "b1-1", "a worker that was cut off", SENT, Tried(story=sent.encode())
        )

    record = job(ledger, "b1-1")
    assert (record.state, record.story.count(sent)) == (State.UNKNOWN, 1)


def test_an_entry_whose_job_is_gone_is_cleared_away(
    ledger: Ledger, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    record = end_event(ledger)
    redis.delete(keys.job(record.job_id))

    settled = dead.requeue(decided("requeue"), dead.window(0))

    assert settled == ["absent"]
    assert dead.count() == 0
    assert dead.by_code() == {}


@pytest.mark.parametrize("verb", ["requeue", "drop"])
def test_letters_whose_jobs_are_gone_are_counted_no_more(
    verb: Verb,
    ledger: Ledger,
    batches: Batches,
    dead: DeadLetters,
    redis: Redis,
    keys: Keys,
) -> None:
    endings = {2: PERMANENT, 3: UNKNOWN, 4: UNKNOWN}
    run_batch(ledger, batches, "b1", customers(5), lambda row: endings.get(row, DEAD))
    for row in (1, 2, 3):
        redis.delete(keys.job(f"b1-{row}"))

    choose = dead.requeue if verb == "requeue" else dead.drop
    choose(decided(verb), dead.window(0)[:3])

    assert dead.by_code() == {BUSY: 1, UNKNOWN.code: 1}
    assert redis.hgetall(keys.dead_unknown) == {UNKNOWN.code: "1"}
    assert redis.hget(keys.batch("b1"), "letters") == "2"


def test_a_batch_is_done_again_only_when_the_last_requeued_job_has_ended(
    ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    run_batch(ledger, batches, "b1", customers(2))
    dead.requeue(decided("requeue"), dead.window(0))
    ledger.sweep()

    end(ledger, "b1-1", SENT)

    batch = batches.get("b1")
    assert batch is not None
    assert batch.state == "running"
    end(ledger, "b1-2", SENT)
    batch = batches.get("b1")
    assert batch is not None
    assert batch.state == "done"


@pytest.fixture
def many(ledger: Ledger, batches: Batches) -> int:
    """Dead letters of more than one window, every third of them with another code."""
    count = WINDOW + 50
    run_batch(
        ledger,
        batches,
        "b1",
        customers(count),
        lambda row: Ending(State.DEAD, BIND_UPPER if row % 3 == 0 else BUSY, "", f"req-{row}"),
    )
    return count


def test_a_walk_over_windows_misses_none_while_the_list_shrinks(
    many: int, dead: DeadLetters
) -> None:
    report = requeue(dead, Choice(code=BUSY), Handling())

    assert report.done == many - many // 3
    assert dead.by_code() == {BIND_UPPER: many // 3}
    left = [each.job_id for each in letters(dead, Choice())]
    assert left == [f"b1-{row}" for row in range(3, many + 1, 3)]


class CutOffError(Exception):
    pass


def test_a_walk_that_is_cut_off_is_completed_by_the_same_choice_again(
    many: int, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    def cut_off(looked: int) -> None:
        if looked == WINDOW:
            raise CutOffError

    with pytest.raises(CutOffError):
        requeue(dead, Choice(code=BUSY), Handling(), cut_off)
    assert 0 < dead.by_code()[BUSY] < many

    requeue(dead, Choice(code=BUSY), Handling())

    assert dead.by_code() == {BIND_UPPER: many // 3}
    assert redis.zcard(keys.due("aside")) == many - many // 3


def test_two_people_at_once_requeue_each_job_once(
    many: int, dead: DeadLetters, redis: Redis, keys: Keys
) -> None:
    theirs: list[Report] = []

    def another_person(looked: int) -> None:
        if looked == WINDOW:
            theirs.append(requeue(dead, Choice(code=BUSY), Handling(limit=20)))

    mine = requeue(dead, Choice(code=BUSY), Handling(), another_person)

    assert theirs[0].done == 20
    assert mine.done + 20 <= many - many // 3
    # what moved away under the walk is had by walking again
    requeue(dead, Choice(code=BUSY), Handling())
    assert redis.zcard(keys.due("aside")) == many - many // 3
    assert dead.by_code() == {BIND_UPPER: many // 3}
