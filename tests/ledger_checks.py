"""What must hold for a ledger at every moment, whoever did whatever in whatever order."""

from __future__ import annotations

from collections import Counter
from typing import Any

from redis import Redis

from config.names import DEAD_LETTER_QUEUE
from jobs.job import Lane
from jobs.keys import Keys
from jobs.outcome import State

IN_WORK = {State.LEASED, State.SENDING}


def check_ledger(redis: Redis, keys: Keys) -> None:
    """Fail if a job is lost, counted wrongly, or in an index that it should not be in."""
    jobs = _jobs(redis, keys)
    for job_id, job in jobs.items():
        _check_job(redis, keys, job_id, job)
    _check_indexes_name_jobs(redis, keys, jobs)
    _check_dead_letters(redis, keys, jobs)
    _check_totals(redis, keys, jobs)
    for batch_id in _strings(redis.zrange(keys.batches, 0, -1)):
        _check_batch(redis, keys, batch_id, jobs)


def _check_job(redis: Redis, keys: Keys, job_id: str, job: dict[str, str]) -> None:
    state, lane, batch = State(job["state"]), job["lane"], job.get("batch")
    looked_after = [
        name for name in (lane, "aside") if redis.zscore(keys.due(name), job_id) is not None
    ]
    steering = redis.hget(keys.batch(batch), "state") if batch else None

    is_stopped = state is State.PARKED and steering == "paused" and "doubt" not in job
    if state.is_final:
        assert looked_after == [], f"{job_id} is {state} and still looked after"
    elif not is_stopped:
        assert len(looked_after) == 1, f"{job_id} is {state} and lost: in {looked_after}"
    if state is not State.PARKED or "doubt" in job or lane == Lane.EVENT:
        assert "aside" not in looked_after, f"{job_id} is {state} and laid aside"
    assert ("lease" in job) == (state in IN_WORK), f"{job_id} is {state}, lease {'lease' in job}"
    assert ("finished" in job) == state.is_final
    if batch:
        is_held = bool(redis.sismember(keys.held, job_id))
        assert is_held == (state in {State.QUEUED, *IN_WORK}), (
            f"{job_id} is {state}, held {is_held}"
        )
        is_open = bool(redis.sismember(keys.open(batch), job_id))
        assert is_open != state.is_final, f"{job_id} is {state}, open {is_open}"
    assert 0 <= int(job["attempts"]) <= int(job["tries"]) or "requeued" in job
    has_expiry = redis.pttl(keys.job(job_id)) > 0
    stays = not state.is_final or state in {State.DEAD, State.UNKNOWN}
    assert has_expiry != stays, f"{job_id} is {state}, expires {has_expiry}"


def _check_indexes_name_jobs(redis: Redis, keys: Keys, jobs: dict[str, Any]) -> None:
    for index in (*Lane, "aside"):
        named = set(_strings(redis.zrange(keys.due(str(index)), 0, -1)))
        assert named <= jobs.keys(), f"due:{index} names jobs that do not exist"
    assert set(_strings(redis.smembers(keys.held))) <= jobs.keys()


def _check_dead_letters(redis: Redis, keys: Keys, jobs: dict[str, dict[str, str]]) -> None:
    listed = _strings(redis.lrange(DEAD_LETTER_QUEUE, 0, -1))
    dead = {
        job_id: job for job_id, job in jobs.items() if job["state"] in {State.DEAD, State.UNKNOWN}
    }
    assert sorted(listed) == sorted(dead), "the dead-letter list and the dead differ"
    codes = Counter(job.get("code", "") for job in dead.values())
    assert _counts(redis, keys.dead_codes) == codes


def _check_totals(redis: Redis, keys: Keys, jobs: dict[str, dict[str, str]]) -> None:
    ended = Counter(job["state"] for job in jobs.values() if State(job["state"]).is_final)
    ended["possible_duplicate"] = sum(job.get("dup") == "1" for job in jobs.values())
    for batch_id in _strings(redis.zrange(keys.batches, 0, -1)):
        batch: Any = redis.hgetall(keys.batch(batch_id))
        if batch["state"] == "cancelled":
            ended[State.CANCELLED] += int(batch["accepted"]) - int(batch["fed"])
    assert _counts(redis, keys.totals) == +ended


def _check_batch(redis: Redis, keys: Keys, batch_id: str, jobs: dict[str, dict[str, str]]) -> None:
    batch: Any = redis.hgetall(keys.batch(batch_id))
    states = Counter(job["state"] for job in jobs.values() if job.get("batch") == batch_id)
    counts = _counts(redis, keys.counts(batch_id))
    counted = Counter({name: n for name, n in counts.items() if not name.startswith("code:")})
    assert counted == states, f"{batch_id} counts {counted}, its jobs are {states}"
    assert sum(states.values()) == int(batch["fed"]) <= int(batch["accepted"])
    assert int(batch["accepted"]) + int(batch["rejected"]) == int(batch["total"])
    assert int(batch["cursor"]) <= int(batch["total"]) == redis.llen(keys.rows(batch_id))
    open_jobs = redis.scard(keys.open(batch_id))
    if batch["state"] == "done":
        assert open_jobs == 0
        assert batch["cursor"] == batch["total"]
    if batch["state"] == "running":
        turns = redis.lrange(keys.running, 0, -1).count(batch_id)
        waiting = batch["cursor"] != batch["total"] or batch.get("imported") != "1"
        assert turns <= 1, f"{batch_id} has {turns} turns"
        assert turns == 1 or not waiting, f"{batch_id} has rows and is never fed"


def _jobs(redis: Redis, keys: Keys) -> dict[str, dict[str, str]]:
    prefix = keys.job("")
    found: Any = redis.scan_iter(f"{prefix}*", count=1000)
    jobs: dict[str, Any] = {key.removeprefix(prefix): redis.hgetall(key) for key in found}
    return jobs


def _counts(redis: Redis, key: str) -> Counter[str]:
    values: Any = redis.hgetall(key)
    return Counter({name: int(n) for name, n in values.items() if int(n)})


def _strings(found: Any) -> list[str]:
    return list(found)
