"""Every Redis key, named once, for Python and for the Lua scripts alike.

The scripts build the keys of single jobs and numbers themselves, so the ledger lives on one Redis
primary (with replicas and Sentinel where wanted), not on a sharded Redis Cluster.
"""

from __future__ import annotations

import hashlib

from config import BATCH_QUEUE, DEAD_LETTER_QUEUE, EVENT_QUEUE

_FIXED = {
    "dead": DEAD_LETTER_QUEUE,
    "event_queue": EVENT_QUEUE,
    "batch_queue": BATCH_QUEUE,
}
"""Named in Flower and by other programs: no prefix."""


class Keys:
    """The keys under one prefix, and the same names as a Lua table `K`.

    A name's underscores are colons in its key: `dead_codes` is "sendcode:dead:codes".
    """

    ledger: str
    """hash: which ledger this is (jobs/identity.py)"""
    account: str
    """hash: whether the account's sending is halted, and why"""
    refused: str
    """hash: "key:<fingerprint>" or "worker:<entry>" -> what the API refuses of it, JSON; a day"""
    misses: str
    """hash: calls in a row that got no usable answer"""
    pace: str
    """hash: the limiter's clock"""
    pace_ring: str
    """hash: slot number modulo the rate -> "slot:latest arrival, µs"."""
    workers: str
    """hash: worker/process -> its last sign of life, ms"""
    sweeps: str
    """hash: when the last one was, until when expired leases are left alone; what `check` compares:
    events that have not ended, unknown dead letters, jobs that ended at least, the newest batch"""
    watermark: str
    """hash: lane -> publish time of the youngest claimed message, ms; `event claimed`: when"""
    held: str
    """set: batch jobs that are published or leased; bounds the feed"""
    batches: str
    """sorted set: batch id by creation time, ms"""
    running: str
    """list: batches with rows to feed, the next in turn at its head"""
    dead_codes: str
    """hash: code -> dead letters with it"""
    dead_unknown: str
    """hash: code -> those of them that were perhaps sent"""
    totals: str
    """hash: state -> jobs that ended so; `possible_duplicate`"""
    actions: str
    """list: what people did (requeue, drop, halt …), newest first, capped"""
    tokens: str
    """hash: SHA-256 of a token of the HTTP API -> its name and scopes, JSON"""
    tokens_used: str
    """hash: SHA-256 of a token -> when it was last used, ms; "created:<SHA-256>" -> when made"""
    quarantine: str
    """list: messages that were no job, newest first, capped"""
    damage: str
    """list: what was lost, moved aside or put right, newest first, capped"""
    doctor: str
    """string: written by `sendcode doctor` to see that it can be, for a second"""

    ended: str
    """channel: the id of each job that ends"""
    dead: str
    """list: ids of dead letters, the oldest first"""
    event_queue: str
    batch_queue: str
    """lists: Celery's messages"""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        for name in _NAMES:
            key = _FIXED.get(name, f"{prefix}:{name.replace('_', ':')}")
            setattr(self, name, key)

    def job(self, job_id: str) -> str:
        """Name a hash: one job."""
        return self._by_id("job", job_id)

    def unreadable(self, job_id: str) -> str:
        """Name whatever stood in the place of a job's hash and could not be read."""
        return self._by_id("unreadable", job_id)

    def number(self, country_code: str, phone_num: str) -> str:
        """Name a hash, by sha1 of the number.

        Who uses it, until when it is closed; codes sent, when the last; until when jobs for it
        count as perhaps sent before.
        """
        digest = hashlib.sha1(f"{country_code}-{phone_num}".encode(), usedforsecurity=False)
        return self._by_id("number", digest.hexdigest())

    def due(self, lane: str) -> str:
        """Name a sorted set, by lane or `aside` (parked batch jobs): job id by when to look, ms."""
        return self._by_id("due", lane)

    def batch(self, batch_id: str) -> str:
        """Name a hash: one batch."""
        return self._by_id("batch", batch_id)

    def content(self, digest: str) -> str:
        """Name a string, by SHA-256 of a file: the youngest batch made from it."""
        return self._by_id("content", digest)

    def rows(self, batch_id: str) -> str:
        """Name a list: a batch's rows, in the file's order."""
        return self._by_id("rows", batch_id)

    def counts(self, batch_id: str) -> str:
        """Name a hash: state, `code:<code>` or `possible_duplicate` -> jobs of a batch."""
        return self._by_id("counts", batch_id)

    def open(self, batch_id: str) -> str:
        """Name a set: a batch's jobs that were fed and are not final."""
        return self._by_id("open", batch_id)

    def stopped(self, batch_id: str) -> str:
        """Name a set: those of them that came due while the batch was paused."""
        return self._by_id("stopped", batch_id)

    def attempts(self, process: str) -> str:
        """Name a string: attempts that a process counted here."""
        return self._by_id("attempts", process)

    def lua(self) -> str:
        """Return the head of every script: `K.pace` is a key, `K.job(id)` makes one."""
        lines = ["local K = {}"]
        lines += [f'K.{name} = "{getattr(self, name)}"' for name in _NAMES]
        lines += [
            f'function K.{name}(id) return "{self._by_id(name, "")}" .. id end' for name in _BY_ID
        ]
        return "\n".join(lines) + "\n"

    def _by_id(self, name: str, each: str) -> str:
        return f"{self.prefix}:{name}:{each}"


_NAMES = tuple(Keys.__annotations__)
_BY_ID = tuple(name for name in vars(Keys) if not name.startswith("_") and name != "lua")
"""Keys of one each. A number's is made of its digest in Lua (numbers.lua)."""
