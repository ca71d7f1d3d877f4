"""Each key of the ledger in turn is deleted, set back to an older copy, or of another type.

What follows from the jobs is derived anew, no code is sent twice unflagged, and what is lost is
named. With real workers and under load: tests/acceptance/test_damage.py.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from redis import Redis

from config.data_key import new_data_key
from config.settings import Settings
from jobs.batches import Batches
from jobs.job import JobRecord, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.mending import Mending
from tests.commands import Command
from tests.ledger_acts import DEFAULTS, REJECTED, Acts, row
from tests.ledger_checks import check_ledger, look

pytestmark = pytest.mark.settings(**{**DEFAULTS, "sendcode_rate_limit": 10})

RUNNING, PAUSED = "b1", "b2"
ROWS = 22
"""More than are fed at once."""
SPARE = "test:older copy"


class Life:
    """A ledger in which jobs come to every state, and the codes that it sent."""

    def __init__(self, acts: Acts) -> None:
        self.acts = acts
        self.sent: Counter[str] = Counter()
        acts.batch([REJECTED, *map(row, range(ROWS)), REJECTED], RUNNING)
        acts.batch(12, PAUSED, first=500)

    def go_on(self, first: int) -> None:
        """Take some events, numbered from `first` on, and some rows of both batches."""
        for job_id in [self.acts.event(first + n) for n in range(2)]:
            self.acts.park(job_id, self.acts.claimed(job_id))
        self.acts.event(first + 2)
        ended = [self.acts.event(first + 3 + n) for n in range(3)]
        self.acts.sweep()
        for batch_id in (RUNNING, PAUSED):
            fed = [each for each in self.acts.published() if each.startswith(f"{batch_id}-")]
            records = zip(fed, self.acts.ledger.records.read(fed), strict=True)
            fed = [each for each, record in records if record and record.state is State.QUEUED]
            ended += fed[:5]
            for job_id in fed[5:7]:
                self.acts.park(job_id, self.acts.claimed(job_id))
            if fed[7:]:
                self.acts.begun(fed[7])
        for job_id, state in zip(ended, [*State, *State, *State], strict=False):
            self.end(job_id, state if state.is_for_a_person else State.SENT)

    def end(self, job_id: str, state: State = State.SENT) -> None:
        """Try a job, if it may be had; the API accepts a code whenever it is asked for `SENT`."""
        claim, token = self.acts.claim(job_id)
        if claim.verdict != "granted":
            return
        if self.acts.begin(job_id, token).kind not in {"first", "probe", "late", "resend"}:
            return
        self.sent[job_id] += state is State.SENT
        self.acts.finish(job_id, token, state, "" if state is State.SENT else "InternalError")

    def go_to_the_end(self) -> None:
        """Resume what is paused, and send all that is left."""
        self.acts.batches.steer(PAUSED, "resume")
        for _ in range(12):
            for job_id in self.waiting():
                self.acts.run_out(job_id)
            if not (due := {*self.acts.sweep(), *self.acts.published()}):
                return
            for job_id in due:
                self.end(job_id)

    def waiting(self) -> list[str]:
        names: Any = [
            self.acts.redis.zrange(self.acts.keys.due(each), 0, -1)
            for each in ("event", "batch", "aside")
        ]
        due = [job_id for each in names for job_id in each]
        records = self.acts.ledger.records.read(due)
        return [job_id for job_id, record in zip(due, records, strict=True) if record]

    def records(self) -> dict[str, JobRecord]:
        job_ids = list(look(self.acts.redis, self.acts.keys).jobs)
        records = self.acts.ledger.records.read(job_ids)
        return {job_id: each for job_id, each in zip(job_ids, records, strict=True) if each}


@pytest.fixture
def mending(redis: Redis, settings: Settings) -> Mending:
    return Mending(redis, settings)


def spoil(redis: Redis, key: str, damage: str) -> None:
    if damage == "deleted":
        redis.delete(key)
    elif damage == "set back":
        redis.delete(key)
        if redis.exists(SPARE):
            redis.rename(SPARE, key)
    else:
        is_string = redis.type(key) == "string" or key.endswith(":doctor")
        redis.delete(key)
        if is_string:
            redis.rpush(key, "no such thing")
        else:
            redis.set(key, "no such thing")


def heal(acts: Acts, mending: Mending) -> None:
    """Do what the workers do in the next few seconds."""
    for _ in range(3):
        acts.sweep()
        if misfits := mending.misfits():
            mending.mend(misfits)


INDEXES = {
    "held": "held",
    "running": "running",
    "batches": "batches",
    "watermark": "watermark",
    "sweeps": "sweeps",
    "dead": "dead",
    "dead:codes": "dead_codes",
    "dead:unknown": "dead_unknown",
    "totals": "totals",
}
"""Keys of which nothing is lost, whatever is done to them."""
BY_ID = {
    "due:event": ("due", "event"),
    "due:batch": ("due", "batch"),
    "due:aside": ("due", "aside"),
    "counts": ("counts", RUNNING),
    "open": ("open", RUNNING),
    "stopped": ("stopped", PAUSED),
    "content": ("content", f"digest of {RUNNING}"),
}


DAMAGES = ["set back", "deleted", "of another type"]


@pytest.mark.parametrize("name", [*INDEXES, *BY_ID])
def test_what_follows_from_the_jobs_is_derived_anew(
    name: str, acts: Acts, redis: Redis, keys: Keys, mending: Mending
) -> None:
    life = Life(acts)
    life.go_on(first=1000)
    acts.batches.steer(PAUSED, "pause")
    key = (
        getattr(keys, INDEXES[name])
        if name in INDEXES
        else getattr(keys, BY_ID[name][0])(BY_ID[name][1])
    )
    assert redis.exists(key)
    redis.copy(key, SPARE)
    if name == "batches":
        acts.batch(3, "b3", first=700)
    life.go_on(first=2000)
    before = life.records()
    assert mending.mend_what_does_not_fit() == []  # workers have looked lately

    for damage in DAMAGES:
        spoil(redis, key, damage)
        heal(acts, mending)

        after = check_ledger(redis, keys)
        assert mending.misfits() == [], damage
        assert after.jobs.keys() >= before.keys(), damage
        redis.hdel(keys.sweeps, "checked")  # workers look again, and note how it stands
        assert mending.mend_what_does_not_fit() == [], damage

    now = life.records()
    ended = {job_id: each.state for job_id, each in before.items() if each.state.is_final}
    assert {job_id: now[job_id].state for job_id in ended} == ended
    life.go_to_the_end()
    assert not [job_id for job_id, codes in life.sent.items() if codes > 1]
    over = [acts.batches.get(batch_id) for batch_id in (RUNNING, PAUSED)]
    assert [each.is_over for each in over if each] == [True, True], over
    assert all(each.state.is_final for each in life.records().values())


def test_rows_left_out_as_their_number_got_a_code_are_counted_anew_as_such(
    acts: Acts, redis: Redis, keys: Keys, mending: Mending
) -> None:
    acts.batch(1, RUNNING, skip_sent=True)
    acts.sweep()
    event = acts.event()
    acts.finish(event, acts.begun(event))
    acts.run_out(event)
    acts.claim(f"{RUNNING}-1")
    before = acts.batches.get(RUNNING)

    redis.delete(keys.counts(RUNNING))
    heal(acts, mending)

    assert before is not None
    assert before.by_code == {"SentMeanwhile": 1}
    assert acts.batches.get(RUNNING) == before


def lived(acts: Acts, redis: Redis, key: str) -> Life:
    """Let jobs come to every state, and keep an older copy of a key."""
    life = Life(acts)
    life.go_on(first=1000)
    acts.batches.steer(PAUSED, "pause")
    redis.copy(key, SPARE)
    life.go_on(first=2000)
    return life


def send_the_rest(life: Life) -> None:
    """Go on to the end: no code is sent twice, unless the job says that it may have been."""
    life.go_to_the_end()
    twice = [job_id for job_id, codes in life.sent.items() if codes > 1]
    assert [job_id for job_id in twice if not life.acts.job(job_id).possible_duplicate] == []


@pytest.mark.parametrize("damage", [*DAMAGES, "deleted but for one field"])
def test_a_batch_whose_record_is_spoiled_feeds_no_row_twice(
    damage: str, acts: Acts, redis: Redis, keys: Keys, mending: Mending
) -> None:
    life = lived(acts, redis, keys.batch(RUNNING))
    fed = look(redis, keys).batches[RUNNING]["fed"]

    spoil(redis, keys.batch(RUNNING), damage.partition(" but")[0])
    if damage.endswith("one field"):
        redis.hset(keys.batch(RUNNING), "letters", 0)
    heal(acts, mending)

    check_ledger(redis, keys)
    batch = acts.batches.get(RUNNING)
    assert batch is not None
    assert (batch.total, batch.accepted, batch.rejected) == (ROWS + 2, ROWS, 2)
    assert batch.fed >= int(fed)
    assert batch.state == ("running" if damage == "set back" else "paused")
    assert batch.state == "running" or "record of batch b1 was lost" in told(mending)
    acts.batches.steer(RUNNING, "resume")
    send_the_rest(life)
    batch = acts.batches.get(RUNNING)
    assert batch is not None
    assert batch.is_over
    redis.delete(SPARE)


@pytest.mark.parametrize("limit_ms", [None, 4_000_000_000_000])
def test_a_batch_whose_record_is_lost_is_sent_on_within_its_time_limit(
    limit_ms: int | None, acts: Acts, redis: Redis, keys: Keys, mending: Mending
) -> None:
    rows = acts.batch([REJECTED, *map(row, range(30))], RUNNING, expires_ms=limit_ms)
    fed = acts.sweep()
    before = len(fed)
    assert 0 < before < len(rows)

    redis.delete(keys.batch(RUNNING))
    heal(acts, mending)
    acts.batches.steer(RUNNING, "resume")
    for job_id in fed:
        acts.finish(job_id, acts.begun(job_id))
    fed += acts.sweep()

    assert len(fed) == len(set(fed)) > before
    assert {acts.job(job_id).code for job_id in fed} == {""}
    assert {acts.job(job_id).not_after_ms for job_id in fed} == {limit_ms}
    batch = acts.batches.get(RUNNING)
    assert batch is not None
    assert batch.expires_ms == limit_ms
    assert "pace and start: resume it" in told(mending)


def test_a_batch_whose_time_limit_nobody_knows_any_more_is_not_resumed(
    acts: Acts, redis: Redis, keys: Keys, mending: Mending, sendcode: Command
) -> None:
    acts.batch([REJECTED, row(1)], RUNNING, expires_ms=4_000_000_000_000)

    redis.delete(keys.batch(RUNNING))
    heal(acts, mending)
    refused = sendcode("batch", "resume", RUNNING)

    assert (refused.exit_code, "time limit of batch b1 is lost" in refused.err) == (1, True)
    assert "time limit of batch b1 is lost" in sendcode("batch", "status", RUNNING).err
    assert "pace and time limit, for which its rows are sealed: cancel it" in told(mending)
    assert acts.sweep() == []
    assert not redis.exists(keys.job(f"{RUNNING}-2"))
    assert sendcode("batch", "cancel", RUNNING, "--yes").exit_code == 0


def test_a_batch_whose_record_is_lost_is_left_to_a_worker_that_has_its_key(
    acts: Acts, redis: Redis, keys: Keys, settings: Settings, mending: Mending
) -> None:
    acts.batch([REJECTED, row(1)], RUNNING)
    others = {**settings.model_dump(), "sendcode_data_keys": new_data_key("k9")}

    redis.delete(keys.batch(RUNNING))
    Mending(redis, Settings(**others)).mend()
    assert not redis.exists(keys.batch(RUNNING))
    mending.mend()

    assert redis.hget(keys.batch(RUNNING), "state") == "paused"


@pytest.mark.parametrize("damage", DAMAGES)
def test_lost_rows_are_named_and_come_back_with_their_file(
    damage: str,
    acts: Acts,
    redis: Redis,
    keys: Keys,
    mending: Mending,
    sendcode: Command,
) -> None:
    life = lived(acts, redis, keys.rows(RUNNING))
    rows = [REJECTED, *map(row, range(ROWS)), REJECTED]
    kept: Any = redis.lrange(keys.rows(RUNNING), 0, ROWS - 9)
    redis.delete(SPARE)
    redis.rpush(SPARE, *kept)

    spoil(redis, keys.rows(RUNNING), damage)
    heal(acts, mending)
    life.go_to_the_end()

    lost = ROWS + 2 - (len(kept) if damage == "set back" else 0)
    batch = acts.batches.get(RUNNING)
    assert batch is not None
    assert (batch.phase, batch.rows_lost) == ("importing", lost)
    assert f"{lost} rows are lost: submit its file again" in sendcode("status").out
    assert f"{lost} rows of batch {RUNNING} are lost" in sendcode("doctor").out
    acts.batches.append(RUNNING, batch.total, rows[batch.total :], last=True)
    send_the_rest(life)
    check_ledger(redis, keys)
    batch = acts.batches.get(RUNNING)
    assert batch is not None
    assert (batch.is_over, batch.rows_lost, batch.accepted) == (True, 0, ROWS)
    redis.delete(SPARE)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_job_whose_record_is_spoiled_sends_no_code_twice_unflagged(
    damage: str,
    ledger: Ledger,
    batches: Batches,
    redis: Redis,
    keys: Keys,
    mending: Mending,
) -> None:
    acts = Acts(ledger, batches, redis, keys)  # of the totals' number one job is lost
    life = Life(acts)
    states = [State.QUEUED, State.SENDING, State.PARKED, State.SENT]
    jobs = {
        **{acts.event(900 + n): state for n, state in enumerate(states)},
        **{f"{RUNNING}-{n}": state for n, state in enumerate(states, 2)},
    }
    acts.sweep()
    for job_id, state in jobs.items():
        redis.copy(keys.job(job_id), f"{SPARE} of {job_id}")  # as it was when it waited
        if state is State.SENDING:
            acts.begun(job_id)
        elif state is State.PARKED:
            acts.park(job_id, acts.claimed(job_id))
        elif state is State.SENT:
            life.end(job_id)

    for job_id in jobs:
        redis.rename(f"{SPARE} of {job_id}", SPARE)
        spoil(redis, keys.job(job_id), damage)
    redis.delete(SPARE)
    heal(acts, mending)
    mending.mend()
    for _ in range(2):
        for job_id in jobs:
            redis.zadd(keys.due("event"), {job_id: 1}, xx=True)
            redis.zadd(keys.due("batch"), {job_id: 1}, xx=True)
            redis.zadd(keys.due("aside"), {job_id: 1}, xx=True)
        heal(acts, mending)
    send_the_rest(life)

    assert mending.misfits() == []
    for job_id, state in jobs.items():
        record = acts.ledger.job(job_id)
        if state is State.SENT and damage == "deleted":
            assert record is None, job_id  # as if it had ended long ago
        elif damage == "set back" and state is not State.SENT:
            assert record is not None, job_id
            assert record.state is State.SENT, record
        else:
            assert record is not None, job_id
            assert (record.state, record.code) == (State.UNKNOWN, "Ledger.Unreadable"), record
    assert all(each.is_over for each in acts.batches.list())


@pytest.mark.parametrize(
    "name", ["account", "misses", "pace", "pace_ring", "workers", "quarantine", "actions", "doctor"]
)
def test_what_is_of_another_type_is_moved_aside_and_stands_in_nobody_s_way(
    name: str,
    acts: Acts,
    redis: Redis,
    keys: Keys,
    mending: Mending,
    sendcode: Command,
) -> None:
    life = Life(acts)
    life.go_on(first=1000)

    spoil(redis, getattr(keys, name), "deleted")
    heal(acts, mending)
    check_ledger(redis, keys)
    spoil(redis, getattr(keys, name), "of another type")
    heal(acts, mending)

    assert f"stood where {getattr(keys, name)} should be" in sendcode("status").out
    assert redis.type(f"{keys.quarantine}:{getattr(keys, name)}") != "none"
    send_the_rest(life)
    check_ledger(redis, keys)
    assert all(each.is_over for each in acts.batches.list())


def test_a_key_of_another_type_is_explained_where_no_worker_moves_it_aside(
    redis: Redis, keys: Keys, sendcode: Command
) -> None:
    redis.set(keys.batches, "no such thing")

    refused = sendcode("batch", "list")
    sendcode("doctor", "--repair")

    assert (refused.exit_code, "sendcode doctor --repair" in refused.err) == (1, True), refused.err
    assert sendcode("batch", "list").exit_code == 0


def test_the_doctor_repairs_what_numbers_remember_and_forgets_what_it_showed(
    acts: Acts, redis: Redis, keys: Keys, sendcode: Command
) -> None:
    life = Life(acts)
    life.go_on(first=1000)
    remembered = {key: redis.hget(key, "codes") for key in redis.keys(keys.number("*"))}
    redis.delete(*remembered, keys.totals, keys.held)
    redis.rpush(keys.pace, "no such thing")

    shown = sendcode("doctor", "--repair")

    assert {key: redis.hget(key, "codes") for key in remembered} == remembered
    check_ledger(redis, keys)
    assert "counted anew" in shown.out
    assert f"a list stood where {keys.pace} should be" in shown.out
    assert "counted anew" not in sendcode("doctor").out


def told(mending: Mending) -> str:
    return "\n".join(each.what for each in mending.damage())


def test_a_key_of_the_index_that_is_put_back_holds_up_no_other_mending(
    acts: Acts, mending: Mending, keys: Keys, redis: Redis
) -> None:
    Life(acts).go_on(0)
    redis.delete(keys.vault)

    done = mending.mend_what_does_not_fit()
    redis.hdel(keys.sweeps, "checked")  # its interval is over
    redis.delete(keys.batch(RUNNING))

    assert done == ["the key of the index of numbers was lost, and is put back"]
    assert mending.mend_what_does_not_fit()
    assert redis.hget(keys.batch(RUNNING), "state") == "paused"
