"""The ledger: what became of every job, in Redis, changed only by small scripts.

The ledger is the truth, Celery is the engine (docs/decisions/0001). Every method here is one round
trip, and may be applied twice without harm. Redis' own errors (`redis.RedisError`) pass through:
a caller that cannot reach the ledger must not send.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import redis

from config.redis import NotReplicatedError
from config.settings import Settings
from jobs.actions import Action
from jobs.identity import Identity
from jobs.job import (
    TEST,
    JobRecord,
    Lane,
    SendCodeJob,
    State,
    StoryEntry,
    Undocumented,
    batch_job_id,
    split_job_id,
)
from jobs.keys import Keys
from jobs.magic_numbers import NOTE, end_of
from jobs.phone import PhoneNumber
from jobs.quotas import Quota, QuotaExceededError
from jobs.records import Records
from jobs.scripts import LEVEL_GROWTH, Argument, LedgerPart, pairs, time_ms, time_us
from jobs.vault import Vault

FEED_SECONDS = 2
"""Batch work that is published or in workers' hands: enough to never wait for the next sweep."""
AHEAD_S = 1.5
"""Batch work that is not sent yet, where more than those two seconds of it is in workers' hands."""
SWEEP_LIMIT = 500
LOCKED_WAIT_MS = 60_000
"""A job whose data key a worker lacks is tried again after that at the latest."""
LOCKED_SHOWN_MS = 90_000
"""How long a missing key is shown after a worker last met a job that needs it."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that the ledger holds; `is_new` is False if it held it already."""

    record: JobRecord
    is_new: bool
    is_same_number: bool = False
    """Another event asked for a code to this number: that one's job, and none was recorded."""
    is_bound: bool = False
    """If `is_same_number`: whether this key got that answer before."""
    differs: str = ""
    """The term that differs from the first time: `number`, `expires_in` or `reference`."""
    opens_ms: int | None = None
    """If `is_same_number`: when the number's interval ends, if its code was already sent."""
    next_slot_ms: int = 0
    """When the next event to be published will be sent, in Unix ms, by an estimate."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Whether a worker may work on a job.

    `granted`: it may, and holds the lease. `final`: it has ended, see `record`. Otherwise it must
    not, and need not: the sweeper publishes the job again when it is due.
    """

    verdict: Literal[
        "granted", "final", "absent", "unreadable", "busy", "parked", "paused", "halted", "refused"
    ]
    record: JobRecord | None = None
    due_in_ms: int | None = None
    is_canary: bool = False
    """The account is halted, and this job tries whether it still has to be."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What an attempt may be, if any; `unknown`, `over` and `lost` mean that it must not be made.

    `wait`: not yet. `over`: the job was cancelled or has expired meanwhile. `probe`: both success
    and a refusal for the number's interval prove something. `late`: only such a refusal does.
    `resend`: nothing does, and it is sent again once. `moved`: begin again at another slot.
    `missed`: take another one, as an event may have this one; nothing was recorded.
    """

    kind: Literal[
        "first", "probe", "late", "resend", "wait", "moved", "missed", "unknown", "over", "lost"
    ]
    wait_ms: int = 0
    moved_to: tuple[int, int] = (0, 0)
    """The slot to use instead of the one that was held: its number, its time in µs."""
    record: JobRecord | None = None
    """The job, where it ended by this (`unknown`, `over`)."""
    attempts: int = 0
    """The job's attempts, this one included."""
    count: int = 0
    """Which attempt of this process it is."""
    is_kept: bool = True
    """As many replicas have it as the settings ask for; if not, its request must not leave."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a try leaves."""

    in_doubt: bool
    """Its code was perhaps sent, or, of a probe, it did not resolve an earlier doubt."""
    counts: bool = True
    """It is an attempt, of which a job has `SENDCODE_MAX_ATTEMPTS`."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What is to be recorded about an HTTP call, with whatever is recorded next about its job."""

    left: Aftermath | None = None
    """None if there was no call, or none that may have left."""
    story: str = ""
    """A `StoryEntry`, encoded."""
    arrived: str = ""
    """A `Slot.arrival`, unless the limiter knows it already."""
    undocumented: Undocumented = ""
    """Of the job; see `JobRecord`."""

    def arguments(self) -> dict[str, Argument]:
        """Return what the scripts take of it; see begin.lua."""
        doubt, counts = "", True
        if self.left is not None:
            doubt, counts = "keep" if self.left.in_doubt else "clear", self.left.counts
        return {
            "doubt": doubt,
            "counts": int(counts),
            "story": self.story,
            "arrived": self.arrived,
        }


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, as finish.lua takes it. Code, message and request id: the API's, or ours."""

    state: State
    code: str = ""
    message: str = ""
    request_id: str = ""
    number: Literal["closed", "open", "keep"] = "open"
    """The phone number: closed for its interval from now on, open at once, or as it was."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Why and how long a job is laid aside, as park.lua takes it."""

    wait_ms: int
    code: str = ""
    message: str = ""
    reason: Literal["", "interval", "too often"] = ""
    """`interval`: its number is closed to every job; `too often`: one of the long waits."""


class Due(list[tuple[Lane, str]]):
    """Jobs to be published now, each with the lane whose queue to use."""

    urgent: Set[str] = frozenset()
    """Those of them that were in work already and go in front."""
    broken: Set[str] = frozenset()
    """Jobs whose records the script could do nothing with."""
    outcomes: Sequence[str] = ()
    """Jobs whose outcome is to be delivered."""
    forgotten = 0
    """Attempts of this process that the ledger had forgotten, and flagged now."""


@dataclass(frozen=True, slots=True)
class Workers:
    """All workers, by their entries."""

    now_ms: int
    """On Redis' clock."""
    silent_ms: Mapping[str, int]
    """Since each one's last sign of life."""
    killed: Mapping[str, int]
    """Those found killed just now, and how many jobs of each are due again."""


@dataclass(frozen=True, slots=True)
class NumberHistory:
    """One number, as far back as jobs are kept. Times are Unix milliseconds on Redis' clock."""

    codes: int = 0
    """Codes sent to it."""
    sent_ms: int | None = None
    """When the last of them was."""
    is_closed: bool = False
    """A job has it just now, or it is in its interval."""
    waits_in: str = ""
    """Another batch in which a code to it waits or is in work, or `EVENT`; looked up apart."""


def rates(pace: Mapping[str, str], settings: Settings, now_us: int) -> tuple[float, float]:
    """Return the limit, and what of it is used now, per second, by the limiter's record.

    As `allowed_rate` in jobs/lua/shared/arrivals.lua.
    """
    limit = settings.sendcode_rate_limit
    if "per_window" in pace:
        limit = int(pace["per_window"]) * 1e6 / int(pace["window_us"])
    if "level" not in pace:
        return limit, limit
    level, since_s = float(pace["level"]), (now_us - int(pace["level_at_us"])) / 1e6
    past_s = max(0.0, since_s - float(pace["level_holds_s"]))
    return limit, min(limit, level + limit * LEVEL_GROWTH * past_s**3)


def histories(
    client: redis.Redis, settings: Settings, phones: Sequence[PhoneNumber]
) -> list[NumberHistory]:
    """Return what is known of numbers, all in two round trips.

    Where none is known, as usual in a file of new customers, one round trip is enough, at a tenth
    of the cost.
    """
    if not phones:
        return []
    keys, vault = Keys(settings.sendcode_key_prefix), Vault(client, settings)
    indexes = vault.indexes((phone.country_code, phone.phone_num) for phone in phones)
    names = [keys.number(index) for index in indexes]
    if not client.exists(*names):
        return [NumberHistory()] * len(phones)
    pipe = client.pipeline(transaction=False)
    pipe.time()
    for name in names:
        pipe.hmget(name, ["codes", "sent", "until"])
    now, *found = pipe.execute()
    now_ms = time_ms(now)
    return [
        NumberHistory(int(codes or 0), int(sent) if sent else None, int(until or 0) > now_ms)
        for codes, sent, until in found
    ]


def _own_ms() -> int:
    return time.time_ns() // 1_000_000


class Ledger(LedgerPart):
    """The scripts of one key prefix on one Redis."""

    def __init__(
        self, client: redis.Redis, settings: Settings, state_file: Path | None = None
    ) -> None:
        """Bind it; `state_file` remembers the ledger for the next process."""
        super().__init__(client, settings)
        self.identity = Identity(client, settings, state_file)
        self.records = Records(client, settings)
        self.is_bound_by_others = False
        """Another worker has stricter bounds on spending for batches, as of the last sweep."""
        self._redis_ahead_ms = 0
        """Of this machine's clock, by the last reply: a start, as the script checks each time."""
        self._depth = max(4, round(settings.sendcode_rate_limit * FEED_SECONDS))

    def submit(
        self,
        job: SendCodeJob,
        quotas: Sequence[Quota] = (),
        *,
        token: str = "",
        trace: str = "",
        resend: bool = True,
    ) -> Submitted:
        """Accept an event job, or find the one that has its id. Publishing is the caller's.

        Without `resend`, another event that waits with a code for the same number, or has just sent
        one, stands for it, and its key belongs to that. `token`: the name of the one that asks,
        whose webhook is called; `trace`: the `traceparent` that the calls of the API follow. A test
        has ended by this, and counts in no quota.

        Raises:
            LedgerRefusedError: this is not the ledger that was known.
            QuotaExceededError: one of the `quotas` refuses it.
            redis.TimeoutError: Redis' clock leaps; nothing was recorded.
        """
        asked: dict[str, Argument] = {
            "id": job.job_id,
            "cc": job.phone.country_code,
            "life_ms": job.life_ms or 0,
            "reference": job.reference,
            "token": token,
            "key": job.key,
            "known": self.identity.known,
            "call": secrets.token_hex(8),
        }
        if job.is_test:
            return self._end_test(job, asked)
        asked |= {"resend": int(resend), "trace": trace}
        reply = self._submit_sealed(job, quotas, asked)
        if reply[0] == "refused":
            raise self.identity.refuse()
        if reply[0] == "quota":
            self.identity.remember(reply[3])
            quota = quotas[int(reply[1])]
            raise QuotaExceededError(quota.rule, str(quota.limit), int(reply[2]) / 1000)
        verdict, fields, remember, (now_ms, waiting, pace) = reply[:4]
        self.identity.remember(remember)
        next_ms = self._next_slot_ms(int(now_ms) * 1000, waiting, pairs(pace))
        if verdict in {"same", "bound", "reused"}:
            record = self.records.decode(reply[4], pairs(fields))
            if verdict == "reused":
                return Submitted(record, False, True, True, differs=reply[5])
            opens_ms = int(reply[5]) or None
            return Submitted(record, False, True, verdict == "bound", "", opens_ms, next_ms)
        record = self.records.decode(job.job_id, pairs(fields))
        return Submitted(record, verdict == "new", next_slot_ms=next_ms)

    def _submit_sealed(
        self, job: SendCodeJob, quotas: Sequence[Quota], asked: Mapping[str, Argument]
    ) -> Any:
        """Seal an event for the time on Redis' clock at which it expires; return the reply.

        Each reply bounds how far that clock is ahead of this machine's. Where the time was too far
        off, it is asked again. The last time goes by the lower bound: where Redis hangs each time,
        the event expires early, by as long as that took, and never late.
        """
        parts = [part for quota in quotas for part in quota.packed()]
        ahead_ms, least_ms, most_ms = self._redis_ahead_ms, -math.inf, math.inf
        for is_last in (False, False, True):
            asked_ms, term = _own_ms(), None
            if job.life_ms is not None:
                term = asked_ms + int(least_ms if is_last else ahead_ms) + job.life_ms
            num = self.records.seal(job.phone, job.job_id, Lane.EVENT, term)
            reply = self.run_script(
                "submit", parts, **asked, num=num, term=term or "", is_last=int(is_last)
            )
            if reply[0] in {"refused", "quota"}:
                return reply
            now_ms = int(reply[1] if reply[0] == "clock" else reply[3][0])
            least_ms = max(least_ms, now_ms - _own_ms())
            most_ms = min(most_ms, now_ms - asked_ms)
            self._redis_ahead_ms = ahead_ms = int(most_ms)  # with the way to it: as long, mostly
            if reply[0] != "clock":
                return reply
        raise redis.TimeoutError("its clock leaps: nobody knows when the event would expire")

    def _end_test(self, job: SendCodeJob, asked: Mapping[str, Argument]) -> Submitted:
        end = end_of(job.phone)
        reply = self.run_script(
            "submit_test",
            **asked,
            num=self.records.seal(job.phone, job.job_id, TEST, None),
            state=str(end.state),
            code=end.code,
            message=NOTE,
            attempts=end.attempts,
            duplicate=int(end.possible_duplicate),
            story=StoryEntry(0, "test", end.code, note=NOTE).encode(),
        )
        if reply[0] == "refused":
            raise self.identity.refuse()
        verdict, fields, remember = reply
        self.identity.remember(remember)
        return Submitted(self.records.decode(job.job_id, pairs(fields)), verdict == "new")

    def job(self, job_id: str) -> JobRecord | None:
        """Return a job; None if there is none, or it is a batch row that was not fed yet."""
        return self.records.read([job_id])[0]

    def job_of_key(self, job_id: str) -> JobRecord | None:
        """Return the job of an idempotency key, given the id that its own has, or would have.

        That is another event's where the key was answered with it, as for the same number.
        """
        record = self.job(job_id)
        other: Any = None if record else self.client.hget(self.keys.bound(job_id), "job")
        return self.job(other) if other else record

    def next_slot_ms(self) -> int:
        """Return when the next event to be published will be sent, in Unix ms, by an estimate.

        It comes after the events in the queue, at the rate that is now.
        """
        now, waiting, pace = self.ask_all(
            [("TIME",), ("LLEN", self.keys.event_queue), ("HGETALL", self.keys.pace)]
        )
        return self._next_slot_ms(time_us(now), waiting, pace)

    def _next_slot_ms(self, now_us: int, waiting: int, pace: Mapping[str, str]) -> int:
        _, rate = rates(pace, self.settings, now_us)
        starts_us = max(now_us, float(pace.get("next_us") or 0))
        return round(starts_us / 1000 + int(waiting) * 1000 / rate)

    def set_aside(self, job_id: str) -> JobRecord | None:
        """Replace a job's record that cannot be read by a dead letter, and return that.

        Where it belongs is taken from what can still be read of it, and from its batch's row.
        """
        record = self.job(job_id)
        if record is None or not record.flaw:
            return None
        try:
            values: dict[str, str] = self.client.hgetall(self.keys.job(job_id))  # type: ignore[assignment]
        except redis.ResponseError:  # it is no hash
            values = {}
        batch_id, row_number = split_job_id(job_id)
        lane, batch = values.get("lane"), values.get("batch")
        if lane not in {*Lane, TEST}:
            single = TEST if job_id.startswith(f"{TEST}-") else Lane.EVENT
            lane = Lane.BATCH if batch_id or batch else single
        values["lane"] = str(lane)
        if job_id == batch_job_id(batch_id, row_number):
            row: Any = self.client.lindex(self.keys.rows(batch_id), row_number - 1)
            if row is not None:
                term: Any = self.client.hget(self.keys.batch(batch_id), "expires_at")
                values["cc"], values["num"] = str(row).split("\t")[:2]
                values["term"] = term or ""
                values.pop("life", None)  # an event's alone
        done = self.run_script(
            "set_aside",
            id=job_id,
            code=record.code,
            message=record.flaw,
            lane=str(lane),
            batch=batch or batch_id,
            **self.records.kept(job_id, values),
        )
        return self.job(job_id) if done else None

    def note_locked(self, record: JobRecord, worker: str) -> None:
        """Note for `status` and `doctor` that a job is sealed under a key that this worker lacks.

        It is forgotten soon after nobody meets such a job any more (`LOCKED_SHOWN_MS`).
        """
        now_ms = time_ms(self.client.time())
        pipe = self.client.pipeline()
        pipe.hset(self.keys.vault_unknown, f"{record.locked}\t{worker}", now_ms)
        pipe.pexpire(self.keys.vault_unknown, LOCKED_SHOWN_MS)
        pipe.execute()

    def cancel(self, job_id: str, reason: str = "") -> str:
        """Cancel one waiting job, or the row that it is yet.

        Returns "cancelled", or why it was not: "absent", "in work", "in doubt" (an attempt may have
        sent it), or its final state.
        """
        batch_id, row = split_job_id(job_id)
        if job_id != batch_job_id(batch_id, row):
            row = 0
        action = Action(what="job cancel", about=job_id, reason=reason)
        story = StoryEntry(0, "cancel", note=self.records.seal_note(reason, job_id))
        done: str = self.run_script(
            "cancel_job",
            id=job_id,
            action=action.encode(self.records.vault),
            story=story.encode(),
            batch=batch_id,
            row=row,
        )
        return done

    def claim(self, job_id: str, token: str) -> Claim:
        """Take the lease of a job, if it is due."""
        claim = partial(self.run_script, "claim", id=job_id, token=token, known=self.identity.known)
        reply = claim()
        if reply[0] == "plain":
            if not self.records.adopt(job_id, pairs(reply[1])):
                return Claim("unreadable")
            reply = claim()
        verdict = reply[0]
        if verdict in {"granted", "final"}:
            values = pairs(json.loads(reply[1]) if verdict == "granted" else reply[1])
            if verdict == "granted" and not self.records.is_upgraded():
                self.records.adopt(job_id, values)
            record = self.records.decode(job_id, values)
            return Claim(verdict, record, is_canary=reply[-1] == "canary")
        return Claim(verdict, due_in_ms=reply[1] if verdict == "parked" else None)

    def begin(
        self,
        job_id: str,
        token: str,
        number: int,
        margin_ms: int,
        tried: Tried,
        slot_ms: int = 0,
        held: int | None = None,
    ) -> Begun:
        """Journal the job's HTTP call `number` (1, 2 …) before it is made.

        `margin_ms` is the longest time from now until its request has arrived at the API; `tried`
        is what the call before left; before `slot_ms` (Redis' clock) the request does not leave.
        `held` is the number of a slot that an event may have taken.
        """
        is_kept = True
        try:
            reply = self.run_script(
                "begin",
                id=job_id,
                token=token,
                tries=number,
                margin_ms=margin_ms,
                slot_ms=slot_ms,
                process=self.identity.process,
                held="" if held is None else held,
                undocumented=tried.undocumented,
                **tried.arguments(),
            )
        except NotReplicatedError as exc:
            reply, is_kept = exc.reply, False
        kind = reply[0]
        if kind == "moved":
            return Begun(kind, moved_to=(int(reply[1]), int(reply[2])))
        if kind in {"unknown", "over"}:
            return Begun(kind, record=self.records.decode(job_id, pairs(reply[1])))
        if kind in {"wait", "missed", "lost"}:
            return Begun(kind, reply[1] if kind == "wait" else 0)
        _, attempts, count = reply
        return Begun(kind, attempts=attempts, count=count, is_kept=is_kept)

    def finish(
        self,
        job_id: str,
        token: str,
        ending: Ending,
        tried: Tried,
        worker: str = "",
        phone: PhoneNumber | None = None,
    ) -> JobRecord | None:
        """Record a job's end, and return it as it is then; `worker` is the name of whose it was.

        `phone` is its number, where that was opened already: its seal is not checked again.
        None: the lease was lost, somebody else decides about the job.
        """
        reply = self.run_script(
            "finish",
            id=job_id,
            token=token,
            worker=worker,
            **asdict(ending),
            **tried.arguments(),
        )
        return self._decode_if_ok(job_id, reply, phone)

    def park(self, job_id: str, token: str, pause: Pause, tried: Tried) -> JobRecord | None:
        """Lay a job aside for a while, and return it as it is then. None: the lease was lost."""
        reply = self.run_script(
            "park",
            id=job_id,
            token=token,
            undocumented=tried.undocumented,
            **asdict(pause),
            **tried.arguments(),
        )
        return self._decode_if_ok(job_id, reply)

    def renew(self, leases: Sequence[tuple[str, str]]) -> list[str]:
        """Keep the leases (job id, token); return the ids that are no longer the caller's."""
        flat = [part for lease in leases for part in lease]
        lost: list[str] = self.run_script("renew", flat)
        return lost

    def beat(self, entry: str, silent_ms: int = 0) -> Workers:
        """Write a worker's sign of life, and let the jobs of killed ones be due at once.

        `silent_ms`: how long a part of the worker has made no progress.
        """
        now_ms, signs, killed = self.run_script("beat", entry=entry, silent_ms=silent_ms)
        silent = {each: now_ms - int(at) for each, at in pairs(signs).items()}
        return Workers(now_ms, silent, {each: int(jobs) for each, jobs in pairs(killed).items()})

    def sweep(self, threads: int = 0) -> Due:
        """Return the jobs that must be published now, and mark them as published.

        `threads` are those of one worker: a slow API is fed more deeply, as far as they suffice.

        Raises:
            LedgerRefusedError: this is not the ledger that was known.
        """
        reply = self.run_script(
            "sweep",
            limit=SWEEP_LIMIT,
            depth=self._depth,
            ahead=round(self._depth * AHEAD_S / FEED_SECONDS),
            threads=threads,
            known=self.identity.known,
        )
        if reply[0] == "refused":
            raise self.identity.refuse()
        flat, urgent, remember, known, broken, outcomes, is_bound_by_others = reply
        due = Due(zip(map(Lane, flat[::2]), flat[1::2], strict=True))
        due.urgent, due.broken, due.outcomes = set(urgent), set(broken), outcomes
        self.is_bound_by_others = bool(is_bound_by_others)
        self.identity.remember(remember)
        if known >= 0:
            due.forgotten = self.identity.flag_forgotten(known)
        return due

    def _decode_if_ok(
        self, job_id: str, reply: Any, phone: PhoneNumber | None = None
    ) -> JobRecord | None:
        if reply[0] != "ok":
            return None
        # as one string, and no list: redis-py reads a list part by part, which takes longer
        return self.records.decode(job_id, pairs(json.loads(reply[1])), phone)
