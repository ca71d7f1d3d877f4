"""Which Redis keys may stay without an expiry, and why. Every other key must have one."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from redis import Redis

from jobs.job import State

Excuse = Callable[[Redis, str], bool]

_KEPT_FOR_A_PERSON = {State.DEAD, State.UNKNOWN}


def _always(_redis: Redis, _key: str) -> bool:
    return True


def _job_has_not_ended_or_is_dead(redis: Redis, key: str) -> bool:
    state: Any = redis.hget(key, "state")
    return state is not None and (State(state) in _KEPT_FOR_A_PERSON or not State(state).is_final)


def _its_batch_goes_on(redis: Redis, key: str) -> bool:
    prefix, _, _ = key.split(":", 2)
    batch_id: Any = redis.get(key)
    return _batch_goes_on(redis, f"{prefix}:batch:{batch_id}")


def _batch_goes_on(redis: Redis, key: str) -> bool:
    prefix, _, batch_id = key.split(":", 2)
    values: Any = redis.hgetall(f"{prefix}:batch:{batch_id}")
    if "state" not in values:
        return False
    ended = (
        values["state"] in {"done", "cancelled"} and redis.scard(f"{prefix}:open:{batch_id}") == 0
    )
    return not ended or int(values.get("letters", 0)) > 0


LASTING: tuple[tuple[str, str, Excuse], ...] = (
    # (key, reason, whether the reason holds for this key)
    ("*:job:*", "work to be done, or a dead letter for a person", _job_has_not_ended_or_is_dead),
    ("*:batch:*", "the batch goes on, or has dead letters", _batch_goes_on),
    ("*:content:*", "its batch goes on, or has dead letters", _its_batch_goes_on),
    ("*:rows:*", "the batch goes on, or has dead letters", _batch_goes_on),
    ("*:cells:*", "the batch goes on, or has dead letters", _batch_goes_on),
    ("*:counts:*", "the batch goes on, or has dead letters", _batch_goes_on),
    ("*:corrected:*", "the batch goes on, or has dead letters", _batch_goes_on),
    ("*:open:*", "holds jobs that have not ended; empty ones vanish", _always),
    ("*:stopped:*", "holds jobs that have not ended; empty ones vanish", _always),
    ("*:due:event", "holds jobs that have not ended; empty ones vanish", _always),
    ("*:due:batch", "holds jobs that have not ended; empty ones vanish", _always),
    ("*:due:aside", "holds jobs that have not ended; empty ones vanish", _always),
    ("*:held", "holds jobs that have not ended; empty ones vanish", _always),
    ("*:batches", "an index, cleaned when it is read", _always),
    ("*:running", "batches with rows to feed, a list that empties itself", _always),
    ("*:quotas", "one hash of few fields", _always),
    ("*:tokens", "who may use the HTTP API, until revoked", _always),
    ("*:tokens:used", "as long as the tokens", _always),
    ("*:users", "who may use the console, until removed", _always),
    ("*:webhooks", "where outcomes go, until removed", _always),
    ("*:delivering", "bounded, cleaned at each sweep", _always),
    ("*:outbox:*", "holds what is to be delivered; empty ones vanish", _always),
    ("*:undelivered:*", "cleaned at each sweep; empty ones vanish", _always),
    ("*:watermark", "one hash of two fields", _always),
    ("*:sweeps", "one hash of few fields", _always),
    ("*:totals", "one hash of few fields", _always),
    ("*:dead:codes", "one hash, one field for each code", _always),
    ("*:dead:unknown", "one hash, one field for each code", _always),
    ("*:account", "one hash of few fields", _always),
    ("*:pace", "one hash of few fields", _always),
    ("*:pace:ring", "one hash, one field for each slot of a second", _always),
    ("*:workers", "one hash, one field for each worker; workers sign off", _always),
    ("*:connections", "one hash, one field for each worker; cleaned at each beat", _always),
    ("*:vault", "one hash: the key of the index, as old as the ledger", _always),
    ("*:quarantine", "capped", _always),
    ("*:ledger", "which ledger this is, one hash of few fields", _always),
    ("*:actions", "capped", _always),
    ("*:damage", "capped", _always),
    ("send-code.dead-letter", "dead letters for a person", _always),
    ("send-code.event", "messages on their way", _always),
    ("send-code.webhook", "messages on their way", _always),
    ("send-code.batch", "messages on their way", _always),
    ("unacked*", "messages on their way (kombu)", _always),
    ("_kombu.binding*", "which queues there are (kombu)", _always),
    ("*.pidbox", "remote control's messages on their way (kombu)", _always),
    ("celeryev.*", "events on their way (kombu)", _always),
    ("test:*", "made by a test of its own", _always),
)


def keys_that_last_without_reason(redis: Redis) -> list[str]:
    """Return the keys of this database that have no expiry and no excuse."""
    keys: list[str] = list(redis.scan_iter(count=1000))
    pipe = redis.pipeline(transaction=False)  # this is asked after each test
    for key in keys:
        pipe.ttl(key)
    lasting = [key for key, ttl in zip(keys, pipe.execute(), strict=True) if ttl == -1]
    return sorted(key for key in lasting if not _is_excused(redis, key))


def _is_excused(redis: Redis, key: str) -> bool:
    for pattern, _, holds in LASTING:
        if fnmatchcase(key, pattern):
            return holds(redis, key)
    return False
