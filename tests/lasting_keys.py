"""Which Redis keys may stay without an expiry, and why. Every other key must have one."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from redis import Redis

from jobs.job import State

_RECORD = re.compile(r"[^:]*:(job|batch):")
_KEPT_FOR_A_PERSON = {State.DEAD, State.UNKNOWN}


class _Lasting:
    """The keys of a database that have no expiry; it is asked for many at once, after each test."""

    def __init__(self, redis: Redis) -> None:
        keys: list[str] = list(redis.scan_iter(count=1000))
        pipe = redis.pipeline(transaction=False)
        for key in keys:
            pipe.ttl(key)
        self.keys = [key for key, ttl in zip(keys, pipe.execute(), strict=True) if ttl == -1]
        records = [key for key in self.keys if _RECORD.match(key)]
        for key in records:
            pipe.hget(key, "state")
        self.states: dict[str, Any] = dict(zip(records, pipe.execute(), strict=True))
        self.redis = redis
        self.goes_on = cache(self._goes_on)

    def _goes_on(self, key: str) -> bool:
        """Return whether a batch goes on, or has dead letters; `key` is that of its record."""
        if (state := self.states.get(key)) is None:
            return False
        prefix, _, batch_id = key.split(":", 2)
        if state not in {"done", "cancelled"} or self.redis.scard(f"{prefix}:open:{batch_id}"):
            return True
        letters: Any = self.redis.hget(key, "letters")
        return int(letters or 0) > 0


Excuse = Callable[[_Lasting, str], bool]


def _always(_lasting: _Lasting, _key: str) -> bool:
    return True


def _job_has_not_ended_or_is_dead(lasting: _Lasting, key: str) -> bool:
    state = lasting.states.get(key)
    return state is not None and (State(state) in _KEPT_FOR_A_PERSON or not State(state).is_final)


def _its_batch_goes_on(lasting: _Lasting, key: str) -> bool:
    prefix, _, _ = key.split(":", 2)
    batch_id: Any = lasting.redis.get(key)
    return lasting.goes_on(f"{prefix}:batch:{batch_id}")


def _batch_goes_on(lasting: _Lasting, key: str) -> bool:
    prefix, _, batch_id = key.split(":", 2)
    return lasting.goes_on(f"{prefix}:batch:{batch_id}")


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
    lasting = _Lasting(redis)
    return sorted(key for key in lasting.keys if not _is_excused(lasting, key))


def _is_excused(lasting: _Lasting, key: str) -> bool:
    for pattern, _, holds in LASTING:
        if fnmatchcase(key, pattern):
            return holds(lasting, key)
    return False
