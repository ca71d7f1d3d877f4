"""Sends one job's code: claim, slot, journal, call, verdict, and again or done.

The ledger decides what may be done, the verdict table what an answer means, the reactions what
follows from it; this module is the order in which they are asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import redis

from config.logging import fields
from config.redis import error_code
from config.settings import PROBE_SLACK_S
from config.tracing import step
from jobs.codes import Kind, OwnCode
from jobs.job import Lane, State, StoryEntry
from jobs.ledger import LOCKED_WAIT_MS, Ending, Ledger, Pause, Tried
from jobs.phone import BARRED_COUNTRY_CODES, PhoneNumber
from worker.api import Answer, SendVerifyCodeClient
from worker.deadline import now_s
from worker.limiter import Limiter, Slot
from worker.meter import Meter
from worker.presence import Leases, Shutdown, Stopping
from worker.reactions import Answered, Reactions
from worker.recorder import AttemptKind, Ended, NotNow, Recorder, Work, set_aside, unsent
from worker.retry import Again, retrying

log = logging.getLogger("sendcode.sender")

_NOT_KEPT_MS = 1_000
_LOCKED_LEAST_MS = 2_000
MOST_SPARE_S = 0.03
"""How much earlier than Redis' distance asks for a batch job's try is journaled, at most."""


class Sender:
    """Sends jobs. Thread-safe; one per process."""

    def __init__(  # noqa: PLR0913, PLR0917 (what it works with)
        self,
        ledger: Ledger,
        limiter: Limiter,
        client: SendVerifyCodeClient,
        recorder: Recorder,
        reactions: Reactions,
        leases: Leases,
        shutdown: Shutdown,
        meter: Meter,
        has_stood_down: Callable[[], bool] = lambda: False,
        may_send_to: Callable[[PhoneNumber], bool] = lambda _: True,
    ) -> None:
        self._ledger = ledger
        self._limiter = limiter
        self._client = client
        self._recorder = recorder
        self._reactions = reactions
        self._leases = leases
        self._shutdown = shutdown
        self._meter = meter
        self._has_stood_down = has_stood_down
        self._may_send_to = may_send_to
        self._until_done = retrying(shutdown.sleep)
        self._locked_log_at: dict[str, float] = {}
        """By data key that is missing: when it may be logged again."""
        self._journal_s = 0.0
        """Seconds that journaling takes at least, creeping up. Where Redis is far away, all slots
        are used so much late, which keeps the distance between them."""
        self._lead_s, self._spread_s = 0.01, 0.0
        """Seconds that waking up and journaling take on average, and how much more or less."""

    def send(self, job_id: str) -> Ended | NotNow:
        """Work on a job as far as it goes now. Expected failures are results, not exceptions."""
        token = self._leases.token()
        try:
            asked = now_s()
            claim = self._ledger.claim(job_id, token)
            self._meter.claim.observe(now_s() - asked)
            record = claim.record
            if claim.verdict == "unreadable" or (record is not None and record.flaw):
                return self._set_aside(job_id)
            if claim.verdict == "final" and record:
                return Ended(record)
            if claim.verdict != "granted" or record is None:
                due = claim.due_in_ms / 1000 if claim.due_in_ms is not None else None
                return NotNow(claim.verdict, due)
            work = Work(record, token, claim.is_canary)
            with self._leases.hold(job_id, token):
                return self._work_on(work) if not record.locked else self._park_locked(work)
        except redis.RedisError as exc:
            if isinstance(exc, redis.ResponseError):
                # the scripts fail on a record that is broken
                with suppress(redis.RedisError):
                    if isinstance(ended := self._set_aside(job_id), Ended):
                        return ended
            # whatever was begun is journaled; the job is due again when its lease runs out
            log.warning("ledger out of reach", extra=fields(job_id=job_id, error=error_code(exc)))
            return NotNow("redis")

    def _set_aside(self, job_id: str) -> Ended | NotNow:
        record = set_aside(self._ledger, job_id)
        return Ended(record) if record is not None else NotNow("unreadable")

    def _park_locked(self, work: Work) -> NotNow:
        """Keep a job that is sealed under a data key that this worker lacks."""
        key_id, now = work.record.locked, now_s()
        if now >= self._locked_log_at.get(key_id, now):
            self._locked_log_at[key_id] = now + LOCKED_WAIT_MS / 1000
            log.error(
                "a job is sealed under a data key that is not in SENDCODE_DATA_KEYS: it waits",
                extra=fields(job_id=work.job_id, data_key=key_id),
            )
        self._ledger.note_locked(work.record, self._recorder.worker)
        # Soon to begin with: another worker may have the key, and an event or a proof little time.
        # A quarter of its age each time is 20 tries or so in the first minutes, if nobody has it.
        age_ms = time.time() * 1000 - work.record.created_ms
        wait_ms = round(min(LOCKED_WAIT_MS, max(_LOCKED_LEAST_MS, age_ms / 4)))
        return self._recorder.park(work, Pause(wait_ms, OwnCode.LOCKED, f"data key {key_id}"))

    def _work_on(self, work: Work) -> Ended | NotNow:
        if self._is_barred(work):
            return self._recorder.finish(work, Ending(State.DEAD, OwnCode.COUNTRY))
        try:
            result = self._until_done(self._attempt, work)
        except Stopping:
            return self._hand_back(work)
        if isinstance(result, Again):
            raise TypeError("the retry loop ended without a result")
        return result

    def _is_barred(self, work: Work) -> bool:
        """Return whether no code may be sent to the job's country; what left already is proved."""
        phone = work.record.phone
        is_barred = phone.country_code in BARRED_COUNTRY_CODES or not self._may_send_to(phone)
        return is_barred and not work.is_in_doubt

    def _attempt(self, work: Work) -> Ended | NotNow | Again:
        # a proof has a time limit, and a batch job may stand behind any number of events
        lane = Lane.EVENT if work.is_in_doubt else work.record.lane
        if self._has_stood_down():  # others take it
            return self._hand_back(work)
        self._client.make_ready()
        asked = now_s()
        slot = self._limiter.take(lane, self._journal_s)
        self._meter.limiter_wait.observe(max(0.0, slot.opens - asked))
        if self._has_stood_down():
            return self._hand_back(work)
        begun = self._begin(work, slot)
        if isinstance(begun, NotNow | Ended | Again):
            return begun
        kind, slot = begun
        try:
            self._shutdown.sleep(slot.opens - now_s())
        except Stopping:
            # nothing has left: the journaled try is taken back
            work.leave(unsent(kind, counts=False))
            return self._hand_back(work)
        # checked last of all, when connected; what a probe proves counts on the second bound
        not_after = min(slot.closes, slot.opens + self._client.timeout_s)
        phone = work.record.phone
        answer = self._client.send(
            phone.country_code,
            phone.phone_num,
            not_after=not_after,
            when_acknowledged=partial(self._limiter.acknowledged, slot),
        )
        _trace(work, kind, slot, answer)
        self._limiter.settle(slot)
        self._meter.api.labels(answer.verdict.kind).observe(answer.took_ms / 1000)
        if work.tries == 1:
            took_s = slot.at_us / 1e6 - work.record.created_ms / 1000
            self._meter.acceptance_to_api.labels(work.record.lane).observe(max(0.0, took_s))
        work.tried = _tried(kind, slot, answer)
        reaction = self._reactions.react(
            Answered(work, kind, answer.verdict, slot.at_us // 1000, answer.fingerprint)
        )
        result = self._recorder.apply(work, reaction)
        if isinstance(result, Again):
            self._report_arrival(work)
        return result

    def _hand_back(self, work: Work) -> NotNow:
        """Leave the job to any other worker, at once."""
        return self._recorder.park(work, Pause(0))

    def _report_arrival(self, work: Work) -> None:
        """Report at once when a request arrived, where a pause comes before the next record."""
        if work.tried.arrived:
            with suppress(redis.RedisError):
                self._limiter.report_arrival(work.tried.arrived)
                work.tried = replace(work.tried, arrived="")

    def _begin(self, work: Work, slot: Slot) -> tuple[AttemptKind, Slot] | NotNow | Ended | Again:
        while True:
            begins = now_s()
            if slot.held:  # as late as can be: until then an event may have it
                lead_s = min(self._journal_s + MOST_SPARE_S, self._lead_s + self._spread_s)
                begins = max(begins, slot.opens - lead_s)
                self._shutdown.sleep(begins - now_s())
            # until the request has arrived, at most: slot, writing, travelling (see docs/decisions)
            margin_s = slot.opens - now_s() + 2 * self._client.timeout_s + PROBE_SLACK_S
            asked = now_s()
            begun = self._ledger.begin(
                work.job_id,
                work.token,
                work.tries + 1,
                round(margin_s * 1000),
                work.tried,
                slot.at_us // 1000,
                slot.number if slot.held else None,
            )
            answered = now_s()
            took_s = answered - asked
            self._journal_s = min(took_s, self._journal_s + (took_s - self._journal_s) / 20)
            if slot.held:
                took_s = answered - begins
                self._spread_s += (abs(took_s - self._lead_s) - self._spread_s) / 16
                self._lead_s += (took_s - self._lead_s) / 16
            if begun.kind != "moved":
                break
            slot = slot.moved_to(*begun.moved_to)
        if begun.kind == "missed":  # what the try before left is recorded with the next, or now
            again = self._reactions.miss_slot(work, "an event may have the slot")
            return again if isinstance(again, Again) else self._recorder.park(work, again)
        work.tried = Tried()
        match begun.kind:
            case "unknown" | "over" | "lost":
                if begun.record is not None:
                    return self._recorder.report(work, begun.record)
                return NotNow("lease lost")
            case "wait":
                return self._recorder.park(work, Pause(begun.wait_ms))
            case kind if not begun.is_kept:  # a failover might forget that it was sent
                log.warning(
                    "too few replicas know of an attempt: not sent, trying later",
                    extra=fields(job_id=work.job_id),
                )
                work.leave(unsent(kind, counts=False))
                return self._recorder.park(work, Pause(_NOT_KEPT_MS))
            case kind:
                self._ledger.identity.attempted(begun.count, work.record.phone)
                work.tries += 1
                work.attempts = begun.attempts
                return kind, slot


def _trace(work: Work, kind: AttemptKind, slot: Slot, answer: Answer) -> None:
    """Add a call that is over to its job's trace."""
    record, verdict = work.record, answer.verdict
    began_ns = time.time_ns() - answer.took_ms * 1_000_000
    # whatever somebody's own sampler raises: the answer is still to be recorded
    with suppress(Exception), step("sendcode.attempt", "CLIENT", record.trace, began_ns) as call:
        call.note(
            job_id=record.job_id,
            batch_id=record.batch_id,
            lane=record.lane,
            attempt=work.attempts,
            kind=kind,
            waited_ms=max(0, slot.at_us // 1000 - record.created_ms),
            verdict=verdict.kind,
            code=verdict.code,
            request_id=verdict.request_id,
        )
        if verdict.kind is not Kind.SENT:
            call.fail(verdict.code)


def _tried(kind: AttemptKind, slot: Slot, answer: Answer) -> Tried:
    """Return what is to be recorded about a call, whatever follows from it."""
    verdict = answer.verdict
    arrived = slot.arrival(answer.sent_at, answer.answered_at, answer.acknowledged_at)
    if verdict.kind is Kind.STALE:  # a slot missed, and no attempt
        return Tried(arrived=arrived)
    entry = StoryEntry(
        slot.on_redis_clock_us(now_s()) // 1000,
        "attempt" if kind == "first" else kind,
        verdict.code,
        verdict.request_id or "",
        answer.took_ms,
    )
    return Tried(story=entry.encode(), arrived=arrived)
