"""What must hold for a ledger at every moment, whoever did whatever in whatever order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from jobs.job import Lane, State
from jobs.keys import Keys

IN_WORK = {State.LEASED, State.SENDING}
FOR_A_PERSON = {State.DEAD, State.UNKNOWN}


@dataclass(frozen=True)
class Snapshot:
    """A whole ledger, read at once."""

    jobs: dict[str, dict[str, str]]
    expire: dict[str, bool]
    due: dict[str, set[str]]
    held: set[str]
    open: dict[str, set[str]]
    stopped: dict[str, set[str]]
    dead: list[str]
    dead_codes: Counter[str]
    dead_unknown: Counter[str]
    totals: Counter[str]
    batches: dict[str, dict[str, str]]
    batch_expires: dict[str, bool]
    counts: dict[str, Counter[str]]
    rows: dict[str, int]
    running: list[str]


_READ = """
local read = {
  hash = function(key) return redis.call('HGETALL', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1) end,
  string = function(key) return {} end,
}
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local rows = string.find(key, ARGV[1], 1, true) == 1
  local value = rows and {redis.call('LLEN', key)} or read[redis.call('TYPE', key).ok](key)
  all[#all + 1] = {key, redis.call('PTTL', key), value}
end
return cjson.encode(all)
"""


def look(redis: Redis, keys: Keys) -> Snapshot:
    """Read a ledger in one round trip, so that looking often costs little."""
    reply: Any = redis.eval(_READ, 0, keys.rows(""))
    every = json.loads(reply)
    found = {key: value or [] for key, _, value in every}
    expire = {key: ttl > 0 for key, ttl, _ in every}

    def hashes(prefix: str) -> dict[str, dict[str, str]]:
        return {
            key.removeprefix(prefix): _pairs(value)
            for key, value in found.items()
            if key.startswith(prefix)
        }

    jobs, batches = hashes(keys.job("")), hashes(keys.batch(""))
    return Snapshot(
        jobs=jobs,
        expire={job_id: expire[keys.job(job_id)] for job_id in jobs},
        batches=batches,
        batch_expires={b: expire[keys.batch(b)] for b in batches},
        counts={b: _counter(_pairs(found.get(keys.counts(b), []))) for b in batches},
        rows={b: int(found.get(keys.rows(b), [0])[0]) for b in batches},
        open={b: set(found.get(keys.open(b), [])) for b in batches},
        stopped={b: set(found.get(keys.stopped(b), [])) for b in batches},
        due={index: set(found.get(keys.due(index), [])) for index in (*map(str, Lane), "aside")},
        held=set(found.get(keys.held, [])),
        dead=found.get(keys.dead, []),
        dead_codes=_counter(_pairs(found.get(keys.dead_codes, []))),
        dead_unknown=_counter(_pairs(found.get(keys.dead_unknown, []))),
        totals=_counter(_pairs(found.get(keys.totals, []))),
        running=found.get(keys.running, []),
    )


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def check_ledger(redis: Redis, keys: Keys) -> Snapshot:
    """Fail if a job is lost, counted wrongly, or in an index that it should not be in."""
    seen = look(redis, keys)
    for job_id, job in seen.jobs.items():
        _check_job(seen, job_id, job)
    for index, named in seen.due.items():
        assert named <= seen.jobs.keys(), f"due:{index} names jobs that do not exist"
    assert seen.held <= seen.jobs.keys()
    _check_dead_letters(seen)
    _check_totals(seen)
    for batch_id, batch in seen.batches.items():
        _check_batch(seen, batch_id, batch)
    return seen


def _check_job(seen: Snapshot, job_id: str, job: dict[str, str]) -> None:
    state, lane, batch = State(job["state"]), job["lane"], job.get("batch")
    looked_after = [index for index, named in seen.due.items() if job_id in named]
    if batch and job_id in seen.stopped[batch]:
        looked_after.append("stopped")
        assert state is State.PARKED
        assert "doubt" not in job, f"{job_id} is in doubt and stopped"
    if state.is_final:
        assert looked_after == [], f"{job_id} is {state} and still looked after"
    else:
        assert len(looked_after) == 1, f"{job_id} is {state} and lost: in {looked_after}"
    assert set(looked_after) <= {lane, "aside", "stopped"}
    if state is not State.PARKED or "doubt" in job or lane == Lane.EVENT:
        assert "aside" not in looked_after, f"{job_id} is {state} and laid aside"
    assert ("lease" in job) == (state in IN_WORK), f"{job_id} is {state}, lease {'lease' in job}"
    assert ("finished" in job) == state.is_final
    if batch:
        is_held = job_id in seen.held
        assert is_held == (state in {State.QUEUED, *IN_WORK}), (
            f"{job_id} is {state}, held {is_held}"
        )
        is_open = job_id in seen.open[batch]
        assert is_open != state.is_final, f"{job_id} is {state}, open {is_open}"
    assert 0 <= int(job["attempts"]) <= int(job["tries"])
    stays = _stays(seen, job)
    assert seen.expire[job_id] != stays, f"{job_id} is {state}, expires {seen.expire[job_id]}"


def _stays(seen: Snapshot, job: dict[str, str]) -> bool:
    """Whether the job is kept without a date: something is to be done about its end, or heir's."""
    while "replaced_by" in job:
        job = seen.jobs[job["replaced_by"]]
    state = State(job["state"])
    return not state.is_final or (state in FOR_A_PERSON and "dropped" not in job)


def _is_settled(job: dict[str, str]) -> bool:
    """Whether a person dropped this dead letter, or put another job in its place."""
    return "dropped" in job or "replaced_by" in job


def _check_dead_letters(seen: Snapshot) -> None:
    dead = {
        job_id: job
        for job_id, job in seen.jobs.items()
        if job["state"] in FOR_A_PERSON and not _is_settled(job)
    }
    assert sorted(seen.dead) == sorted(dead), "the dead-letter list and the dead differ"
    assert seen.dead_codes == Counter(job.get("code", "") for job in dead.values())
    assert seen.dead_unknown == Counter(
        job.get("code", "") for job in dead.values() if job["state"] == State.UNKNOWN
    )


def _check_totals(seen: Snapshot) -> None:
    ended = Counter(job["state"] for job in seen.jobs.values() if State(job["state"]).is_final)
    ended["possible_duplicate"] = sum(job.get("dup") == "1" for job in seen.jobs.values())
    for batch in seen.batches.values():
        if batch["state"] == "cancelled":
            ended[State.CANCELLED] += int(batch["accepted"]) - int(batch["fed"])
    assert seen.totals == +ended


def _check_batch(seen: Snapshot, batch_id: str, batch: dict[str, str]) -> None:
    states = Counter(
        job["state"]
        for job in seen.jobs.values()
        # the job in another's place stands for its row
        if job.get("batch") == batch_id and "replaced_by" not in job
    )
    counts = seen.counts[batch_id].copy()
    flagged = sum(
        job.get("batch") == batch_id and job.get("dup") == "1" for job in seen.jobs.values()
    )
    assert counts.pop("possible_duplicate", 0) == flagged, f"{batch_id} has {flagged} flagged jobs"
    counted = Counter({name: n for name, n in counts.items() if not name.startswith("code:")})
    assert counted == states, f"{batch_id} counts {counted}, its jobs are {states}"
    assert sum(states.values()) == int(batch["fed"]) <= int(batch["accepted"])
    assert int(batch["accepted"]) + int(batch["rejected"]) == int(batch["total"])
    assert int(batch["cursor"]) <= int(batch["total"]) == seen.rows[batch_id]
    letters = sum(seen.jobs[job_id].get("batch") == batch_id for job_id in seen.dead)
    assert letters == int(batch.get("letters", 0)), f"{batch_id} has {letters} dead letters"
    is_over = batch["state"] in {"done", "cancelled"} and batch.get("imported") == "1"
    assert seen.batch_expires[batch_id] == (is_over and not seen.open[batch_id] and not letters), (
        f"{batch_id} expires {seen.batch_expires[batch_id]}"
    )
    if batch["state"] == "done":
        assert seen.open[batch_id] == set()
        assert batch["cursor"] == batch["total"]
    if batch["state"] == "running":
        turns = seen.running.count(batch_id)
        waits = batch["cursor"] != batch["total"] or batch.get("imported") != "1"
        assert turns <= 1, f"{batch_id} has {turns} turns"
        assert turns == 1 or not waits, f"{batch_id} has rows and is never fed"


def _counter(values: dict[str, str]) -> Counter[str]:
    return Counter({name: int(n) for name, n in values.items() if int(n)})


def all_of(redis: Redis) -> str:
    """Return all values of the database as text."""
    read: dict[str, Callable[[str], Any]] = {
        "hash": redis.hgetall,
        "list": lambda key: redis.lrange(key, 0, -1),
        "string": redis.get,
        "set": redis.smembers,
        "zset": lambda key: redis.zrange(key, 0, -1),
    }
    return "\n".join(
        f"{key} {read[str(redis.type(key))](key)}" for key in sorted(redis.scan_iter())
    )
