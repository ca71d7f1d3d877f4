"""What producers, sweepers and workers do to the ledger, in one line each, for tests.

Time is Redis' own and cannot be set; what would take time is done to the records instead: `run_out`
makes a lease, a wait or a grace period end now, `age_doubt` lets an attempt have begun earlier.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from redis import Redis

from config import BATCH_QUEUE, EVENT_QUEUE
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, Lane, SendCodeJob, State, batch_job_id
from jobs.keys import Keys
from jobs.ledger import Aftermath, Begun, Claim, Ending, Ledger, Pause, Tried
from jobs.phone import PhoneNumber
from jobs.scripts import time_ms

NOTHING = Tried()
IN_DOUBT = Aftermath(in_doubt=True)
UNSENT = Aftermath(in_doubt=False)
UNCOUNTED = Aftermath(in_doubt=False, counts=False)
MARGIN_MS = 500
DEFAULTS: dict[str, Any] = {
    "sendcode_rate_limit": 20,
    "sendcode_phone_interval": 60,
    "sendcode_http_timeout": 5,
    "sendcode_lease": 10,
    "sendcode_canary_interval": 30,
}
"""Settings under which nothing runs out while a test runs."""
_RUN_OUT = """
local now = redis.call('TIME')
for at = 2, #KEYS do
  redis.call('ZADD', KEYS[at], 'XX', now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
end
if KEYS[1] ~= '' and redis.call('HGET', KEYS[1], 'job') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'until', '1')
end
"""
_LET_PASS = """
local TIMES = {
  job = {'created', 'published', 'due', 'not_after', 'doubt', 'asked', 'doubt_before',
    'asked_before', 'canary_of'}, misses = {'from'},
  number = {'until', 'sent'}, batch = {'next_at', 'expires_at', 'not_before'},
  account = {'since', 'halted', 'ended', 'canary_due'},
  watermark = {'event', 'batch', 'event claimed'}, sweeps = {'at', 'patient_until'},
}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
  local kind = string.match(key, '^[^:]+:([^:]+)')
  if kind == 'due' then
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -ARGV[2], id)
    end
  end
  for _, name in ipairs(TIMES[kind] or {}) do
    local time = tonumber(redis.call('HGET', key, name))
    if time then redis.call('HSET', key, name, string.format('%.0f', time - ARGV[2])) end
  end
end
"""
_QUEUE = {Lane.EVENT: EVENT_QUEUE, Lane.BATCH: BATCH_QUEUE}


def number(serial: int = 0) -> PhoneNumber:
    return PhoneNumber("852", f"5{serial:07d}")


def number_key(ledger: Ledger, phone: PhoneNumber) -> str:
    """Name the hash of what the ledger remembers of a number."""
    return ledger.keys.number(ledger.records.vault.index(phone.country_code, phone.phone_num))


def row(serial: int = 0, line: int = 2) -> BatchRow:
    phone = number(serial)
    return BatchRow(line, [phone.country_code, phone.phone_num], phone)


REJECTED = BatchRow(2, ["852", "x"], None, "not_digits", "no digits")


@dataclass
class Acts:
    """All that can be done to one ledger."""

    ledger: Ledger
    batches: Batches
    redis: Redis
    keys: Keys
    _tokens: Any = field(default_factory=lambda: itertools.count(1))

    # producers

    def event(self, serial: int = 0, key: str | None = None, **more: Any) -> str:
        """Submit an event, and leave its publishing out."""
        job = SendCodeJob.for_event(number(serial), key, **more)
        return self.ledger.submit(job).record.job_id

    def batch(
        self, rows: int | Sequence[BatchRow], batch_id: str = "b1", *, first: int = 0, **more: Any
    ) -> list[str]:
        """Open and fill a batch; give its jobs' ids. Rows have numbers from `first` on."""
        if isinstance(rows, int):
            rows = [row(first + n) for n in range(rows)]
        self.batches.open(batch_id, f"digest of {batch_id}", ["cc", "num"], **more)
        self.batches.append(batch_id, 0, rows, last=True)
        return [batch_job_id(batch_id, n) for n, each in enumerate(rows, 1) if each.phone]

    # sweepers

    def sweep(self, threads: int = 0) -> list[str]:
        """Sweep and publish, as a worker with so many threads; return the jobs' ids."""
        found = self.ledger.sweep(threads)
        for job_id in found.broken:
            self.ledger.set_aside(job_id)
        for lane, job_id in found:
            self.redis.lpush(_QUEUE[lane], job_id)
        return [job_id for _, job_id in found]

    def published(self) -> list[str]:
        """The messages that no worker has taken yet, as jobs' ids."""
        pipe = self.redis.pipeline(transaction=False)
        for queue in _QUEUE.values():
            pipe.lrange(queue, 0, -1)
        return [job_id for ids in pipe.execute() for job_id in ids]

    def lose_messages(self) -> None:
        """Empty the broker's queues."""
        self.redis.delete(EVENT_QUEUE, BATCH_QUEUE)

    # workers

    def claim(self, job_id: str) -> tuple[Claim, str]:
        """Take a message for the job, and claim it."""
        pipe = self.redis.pipeline(transaction=False)
        for queue in _QUEUE.values():
            pipe.lrem(queue, 1, job_id)
        pipe.execute()
        token = f"t{next(self._tokens)}"
        return self.ledger.claim(job_id, token), token

    def claimed(self, job_id: str) -> str:
        """Claim a job that must be had; give the token."""
        claim, token = self.claim(job_id)
        assert claim.verdict == "granted", claim
        return token

    def begin(
        self, job_id: str, token: str, left: Aftermath | None = None, margin_ms: int = MARGIN_MS
    ) -> Begun:
        """Begin the job's next attempt."""
        return self.ledger.begin(job_id, token, self.job(job_id).tries + 1, margin_ms, Tried(left))

    def begun(self, job_id: str) -> str:
        """Claim a job and begin an attempt at it; give the token."""
        token = self.claimed(job_id)
        assert self.begin(job_id, token).kind in {"first", "probe", "resend"}
        return token

    def finish(
        self,
        job_id: str,
        token: str,
        state: State = State.SENT,
        code: str = "",
        number: Literal["closed", "open", "keep"] = "closed",
        left: Aftermath | None = None,
    ) -> JobRecord | None:
        ending = Ending(state, code, "", "", number)
        return self.ledger.finish(job_id, token, ending, Tried(left))

    def park(
        self, job_id: str, token: str, wait_ms: int = 60_000, left: Aftermath | None = None
    ) -> JobRecord | None:
        return self.ledger.park(job_id, token, Pause(wait_ms), Tried(left))

    # time

    def run_out(self, job_id: str) -> None:
        """Let what the job waits for (lease, pause, grace) be over."""
        job = self.job(job_id)
        number = "" if job.in_doubt else self._number_key(job.phone)
        due = [self.keys.due(str(lane)) for lane in (*Lane, "aside")]
        self.redis.eval(_RUN_OUT, 1 + len(due), number, *due, job_id)

    def free_number(self, phone: PhoneNumber) -> None:
        """Let the interval of a number be over."""
        if self.redis.exists(key := self._number_key(phone)):
            self.redis.hset(key, "until", "1")

    def age_doubt(self, job_id: str, by_ms: int) -> None:
        """Let the attempts in doubt have begun so much earlier."""
        for name in ("doubt", "asked"):
            if (begun := self.redis.hget(self.keys.job(job_id), name)) is not None:
                self.redis.hset(self.keys.job(job_id), name, str(int(begun) - by_ms))
        phone = self.job(job_id).phone
        key = self._number_key(phone)
        if (until := self.redis.hget(key, "until")) is not None:
            self.redis.hset(key, "until", str(int(until) - by_ms))

    def let_pass(self, ms: int) -> None:
        """Let all times in the ledger lie so much further back, as if that time had gone by."""
        self.redis.eval(_LET_PASS, 0, self.keys.prefix, ms)

    # looking

    def job(self, job_id: str) -> JobRecord:
        record = self.ledger.job(job_id)
        assert record is not None, f"there is no job {job_id}"
        return record

    def state(self, job_id: str) -> State:
        return self.job(job_id).state

    def due_in_ms(self, job_id: str) -> float | None:
        """When somebody looks at the job again; None: nobody does."""
        now_ms = time_ms(self.redis.time())
        for lane in (*Lane, "aside"):
            score = self.redis.zscore(self.keys.due(str(lane)), job_id)
            if score is not None:
                return float(score) - now_ms
        return None

    def closed_by(self, phone: PhoneNumber) -> str | None:
        """The job that has a number for itself just now."""
        values: Any = self.redis.hgetall(self._number_key(phone))
        now_ms = time_ms(self.redis.time())
        return values["job"] if int(values.get("until", 0)) > now_ms else None

    def dead(self) -> list[str]:
        found: Any = self.redis.lrange(self.keys.dead, 0, -1)
        return list(found)

    def _number_key(self, phone: PhoneNumber) -> str:
        return number_key(self.ledger, phone)
