"""Every Redis key, named once, for Python and for the Lua scripts alike.

The scripts build the keys of single jobs and numbers themselves, so the ledger lives on one Redis
primary (with replicas and Sentinel where wanted). A prefix in braces has all keys on one node of a
Redis Cluster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from operator import add
from typing import TypeAlias

from config import BATCH_QUEUE, DEAD_LETTER_QUEUE, EVENT_QUEUE, WEBHOOK_QUEUE, celery_prefix

_FIXED = {
    "dead": DEAD_LETTER_QUEUE,
    "event_queue": EVENT_QUEUE,
    "batch_queue": BATCH_QUEUE,
    "webhook_queue": WEBHOOK_QUEUE,
}
"""Named in Flower and by other programs: no prefix, unless it is in braces."""
ById: TypeAlias = Callable[[str], str]
"""Names one of the keys of which there is one for each id."""


def old_digest(country_code: str, digits: str) -> str:
    """Return what stood for a number in keys before they were sealed; as in numbers.lua."""
    text = f"{country_code}-{digits}".encode()
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()


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
    """hash: calls in a row that got no usable answer, and in a row that the account may not send"""
    pace: str
    """hash: the limiter's clock"""
    pace_ring: str
    """hash: slot number modulo the rate -> "slot:latest arrival, µs"."""
    workers: str
    """hash: worker/process -> its last sign of life, ms"""
    connections: str
    """hash: process -> the server's run on which its connection was open; since when it is
    closed, ms, and the sign of life then. With a colon and a process: the channel of that one"""
    sweeps: str
    """hash: when the last one was, until when expired leases are left alone; when the append-only
    file was rewritten; what `check` compares: events that have not ended, unknown dead letters,
    jobs that ended at least, the newest batch"""
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
    quotas: str
    """hash: "<rule>:refused" or "<rule>:watched" -> codes that it refused, or would have"""
    spending: str
    """hash: bounds on spending for batches that a worker is set to, as `Quotas.of_batches` packs
    them, or `off` -> when one last swept with them, ms; a minute after the last"""
    tokens: str
    """hash: SHA-256 of a token of the HTTP API -> its name and scopes, JSON"""
    tokens_used: str
    """hash: SHA-256 of a token -> when it was last used, ms; "created:<SHA-256>" -> when made"""
    users: str
    """hash: name of a user of the console -> role and password hash, JSON"""
    webhooks: str
    """hash: name of tokens -> where their outcomes go, and the secrets that sign them, JSON"""
    delivering: str
    """sorted set: "<name of tokens> <job id>" by until when its outcome is on its way, ms"""
    vault_unknown: str
    """hash: "<id of a data key>\t<worker that lacked it>" -> when it met a job under that, ms"""
    vault: str
    """hash: "index" -> the key of the index of numbers, sealed (jobs/vault.py)"""
    quarantine: str
    """list: messages that were no job, newest first, capped"""
    damage: str
    """list: what was lost, moved aside or put right, newest first, capped"""
    doctor: str
    """string: written by `sendcode doctor` and web's /readyz to see that it can be; for a second"""

    ended: str
    """channel: the id of each job that ends"""
    dead: str
    """list: ids of dead letters, the oldest first"""
    event_queue: str
    batch_queue: str
    webhook_queue: str
    """lists: Celery's messages"""

    job: ById
    """hash: one job"""
    unreadable: ById
    """whatever stood in the place of a job's hash and could not be read"""
    number: ById
    """hash, by a number's index (jobs/vault.py): who uses it, until when it is closed; codes sent,
    when the last; until when jobs for it count as perhaps sent before"""
    asked: ById
    """string, likewise: the youngest event job for it"""
    bound: ById
    """hash, by the id of the job that an idempotency key would have: the other event's job that it
    was answered with, and the terms that it came with"""
    decision: ById
    """hash, by token: what a person is about to do with dead letters, and how far it is; a day"""
    quota: ById
    """hash, "<rule>:<span, ms>:<whose>": bucket of time -> codes counted in it"""
    due: ById
    """sorted set, by lane or `aside` (parked batch jobs): job id by when a sweep checks it, ms"""
    batch: ById
    """hash: one batch"""
    content: ById
    """string, by SHA-256 of a file: the youngest batch made from it"""
    rows: ById
    """list: the heads of a batch's rows, in the file's order"""
    cells: ById
    """list: the rest of its rows, sealed, `BLOCK_ROWS` at a time"""
    counts: ById
    """hash: state, `code:<code>` or `possible_duplicate` -> jobs of a batch"""
    corrected: ById
    """hash: number of a rejected row of a batch -> the jobs of corrected files' rows that took its
    customer over, with commas between"""
    open: ById
    """set: a batch's jobs that were fed and are not final"""
    stopped: ById
    """set: those of them that came due while the batch was paused"""
    outbox: ById
    """sorted set, by name of tokens: job id by when its outcome is to be delivered, ms"""
    undelivered: ById
    """sorted set, by name of tokens: jobs whose outcome was given up, by when they ended, ms"""
    sent: ById
    """hash, by hours since 1970: minute of the hour -> codes sent in it"""
    ends: ById
    """hash, by ten minutes since 1970: worker, state, code -> jobs that ended so; 26 hours"""
    session: ById
    """hash, by SHA-256 of its secret: who is signed in to the console, and since when"""
    attempts: ById
    """string: attempts that a process counted here"""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        vars(self).update(_under(prefix))

    def lua(self) -> str:
        """Return the head of every script: `K.pace` is a key, `K.job(id)` makes one."""
        lines = ["local K = {}"]
        lines += [f'K.{name} = "{getattr(self, name)}"' for name in _NAMES]
        lines += [
            f'function K.{name}(id) return "{getattr(self, name)("")}" .. id end'
            for name in sorted(_BY_ID)
        ]
        return "\n".join(lines) + "\n"


_NAMES = tuple(name for name, kind in Keys.__annotations__.items() if kind == "str")
_BY_ID = Keys.__annotations__.keys() - {*_NAMES}


@cache
def _under(prefix: str) -> dict[str, str | ById]:
    """Return all keys by their names: made once for a prefix, as each command asks for them."""
    fixed = {name: celery_prefix(prefix) + key for name, key in _FIXED.items()}
    plain = {name: f"{prefix}:{name.replace('_', ':')}" for name in _NAMES}
    return {**plain, **fixed, **{name: partial(add, f"{prefix}:{name}:") for name in _BY_ID}}
