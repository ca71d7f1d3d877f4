"""Every Redis key, named once, for Python and for the Lua scripts alike.

The scripts build the keys of single jobs and numbers themselves, so the ledger lives on one Redis
primary (with replicas and Sentinel where wanted), not on a sharded Redis Cluster.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from config.names import BATCH_QUEUE, DEAD_LETTER_QUEUE, EVENT_QUEUE

_PLAIN = {
    "held": "held",  # set: batch jobs that are published or leased; bounds the feed
    # hash: lane -> publish time of the youngest claimed message, ms; `event claimed`: when that was
    "watermark": "watermark",
    # hash: when the last one was, until when expired leases are left alone; what `check` compares:
    # events that have not ended, unknown dead letters, jobs that ended at least, the newest batch
    "sweeps": "sweeps",
    "damage": "damage",  # list: what was lost, moved aside or put right, newest first, capped
    "batches": "batches",  # sorted set: batch id by creation time, ms
    "running": "running",  # list: batches with rows to feed, the next in turn at its head
    "dead_codes": "dead:codes",  # hash: code -> dead letters with it
    "dead_unknown": "dead:unknown",  # hash: code -> those of them that were perhaps sent
    "totals": "totals",  # hash: state -> jobs that ended so; `possible_duplicate`
    "account": "account",  # hash: whether the account's sending is halted, and why
    # hash: "key:<fingerprint>" or "worker:<entry>" -> what the API refuses of it, JSON; for a day
    "refused": "refused",
    "misses": "misses",  # hash: calls in a row that got no usable answer
    "pace": "pace",  # hash: the limiter's clock
    "ring": "pace:ring",  # hash: slot number modulo the rate -> "slot:latest arrival, µs"
    "workers": "workers",  # hash: worker/process -> its last sign of life, ms
    "quarantine": "quarantine",  # list: messages that were no job, newest first, capped
    "doctor": "doctor",  # string: written by `sendcode doctor` to see that it can be, for a second
    # hash: which ledger this is (jobs/identity.py)
    "ledger": "ledger",
    "actions": "actions",  # list: what people did (requeue, drop, halt …), newest first, capped
}
_BY_ID = (
    "job",  # hash: one job
    "unreadable",  # whatever stood in the place of a job's hash and could not be read
    # hash by sha1 of the number: who uses it, until when it is closed; codes sent, when the last;
    # until when jobs for it count as perhaps sent before
    "number",
    "due",  # sorted set by lane (and `aside`: parked batch jobs): job id by when to look, ms
    "batch",  # hash: one batch
    "content",  # string by SHA-256 of a file: the youngest batch made from it
    "rows",  # list: a batch's rows, in the file's order
    "counts",  # hash: state, `code:<code>` or `possible_duplicate` -> jobs of a batch
    "open",  # set: a batch's jobs that were fed and are not final
    "attempts",  # string by process: attempts that it counted here
    "stopped",  # set: those of them that came due while the batch was paused
)
_FIXED = {
    "dead": DEAD_LETTER_QUEUE,
    "event_queue": EVENT_QUEUE,
    "batch_queue": BATCH_QUEUE,
}


@dataclass(frozen=True)
class Keys:
    """The keys under one prefix, and the same names as a Lua table `K`."""

    prefix: str

    def __getattr__(self, name: str) -> str:
        if name in _PLAIN:
            return f"{self.prefix}:{_PLAIN[name]}"
        if name in _FIXED:
            return _FIXED[name]
        raise AttributeError(name)

    def job(self, job_id: str) -> str:
        return self._by_id("job", job_id)

    def unreadable(self, job_id: str) -> str:
        return self._by_id("unreadable", job_id)

    def number(self, country_code: str, phone_num: str) -> str:
        digest = hashlib.sha1(f"{country_code}-{phone_num}".encode(), usedforsecurity=False)
        return self._by_id("number", digest.hexdigest())

    def due(self, lane: str) -> str:
        return self._by_id("due", lane)

    def batch(self, batch_id: str) -> str:
        return self._by_id("batch", batch_id)

    def content(self, digest: str) -> str:
        return self._by_id("content", digest)

    def rows(self, batch_id: str) -> str:
        return self._by_id("rows", batch_id)

    def counts(self, batch_id: str) -> str:
        return self._by_id("counts", batch_id)

    def open(self, batch_id: str) -> str:
        return self._by_id("open", batch_id)

    def attempts(self, process: str) -> str:
        return self._by_id("attempts", process)

    def stopped(self, batch_id: str) -> str:
        return self._by_id("stopped", batch_id)

    def lua(self) -> str:
        """Give the head of every script: `K.pace` is a key, `K.job(id)` makes one."""
        lines = ["local K = {}"]
        lines += [f'K.{name} = "{self.prefix}:{key}"' for name, key in _PLAIN.items()]
        lines += [f'K.{name} = "{key}"' for name, key in _FIXED.items()]
        lines += [
            f'function K.{name}(id) return "{self._by_id(name, "")}" .. id end' for name in _BY_ID
        ]
        return "\n".join(lines) + "\n"

    def _by_id(self, name: str, each: str) -> str:
        return f"{self.prefix}:{name}:{each}"
