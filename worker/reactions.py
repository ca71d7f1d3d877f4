"""What follows from a verdict: one reaction for each kind, in a table.

A reaction is a value, which `Recorder.apply` carries out: the job ends, is parked, or is tried
again. A try that certainly sent nothing leaves no doubt, unless it was a probe: then the doubt that
it was to settle stays. A code that nobody documented may mean anything, so the next try is a probe;
a second one is taken for a refusal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import redis

from config.logging import fields
from config.redis import error_code
from config.settings import Settings
from jobs.account import Account
from jobs.codes import NEVER_LEFT, Kind, OwnCode
from jobs.job import State
from jobs.ledger import Aftermath, Ending, Pause
from worker.limiter import Limiter
from worker.reach import Reach
from worker.recorder import AttemptKind, Reaction, Work, unsent
from worker.retry import LONGEST_SLEEP_S, TOO_OFTEN_TRIES, Again, RetryPolicy
from worker.verdict import Verdict

log = logging.getLogger("sendcode.sender")

T = TypeVar("T")
STOOD_DOWN = "this worker takes no more work: the API refuses what it was set up with; others go on"
CUT_OFF = "this worker takes no more work: it cannot reach the API; others go on"
MOST_THROTTLED = 20
"""Refusals by the account's limit in a row, after which a job steps aside."""
MOST_MISSED = 3
"""Slots missed in a row, after which a job steps aside."""
STEP_ASIDE_S = 5.0
PERHAPS_OUR_DOING = {"FailedOperation.PhoneBindUpper"}
"""Refusals that the very code in doubt may have caused: the customer may have used it by now. All
other refusals for good would have met every attempt before, too."""
NO_SIGN_OF_LIFE = {
    Kind.ACCOUNT,
    Kind.CLOCK,
    Kind.TRANSIENT,
    Kind.AMBIGUOUS,
    Kind.STALE,
    Kind.UNKNOWN,
}
"""Answers that do not show that the API takes orders: a halted account stays halted after them."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A try's verdict, with what the try was."""

    work: Work
    kind: AttemptKind
    verdict: Verdict
    left_ms: int = 0
    """When its request left at the earliest, on Redis' clock."""
    fingerprint: str = ""
    """Of the credentials that it was signed with."""

    def pause(self, wait_s: float, reason: Literal["", "interval", "too often"] = "") -> Pause:
        """Return a pause with what the API answered."""
        return Pause(round(wait_s * 1000), self.verdict.code, self.verdict.message, reason)

    def unsent(self, *, counts: bool = True) -> Aftermath:
        return unsent(self.kind, counts=counts)


class Reactions:
    """Decides what follows from verdicts. Thread-safe; one per process."""

    def __init__(
        self, account: Account, limiter: Limiter, settings: Settings, reach: Reach
    ) -> None:
        self._account = account
        self._reach = reach
        self._limiter = limiter
        self._settings = settings
        self._policy = RetryPolicy(settings)
        self._table: dict[Kind, Callable[[Answered], Reaction]] = {
            Kind.SENT: self._sent,
            Kind.TRANSIENT: self._failed,
            Kind.AMBIGUOUS: self._failed,
            Kind.THROTTLED: self._throttled,
            Kind.TOO_EARLY: self._too_early,
            Kind.TOO_OFTEN: self._too_often,
            Kind.PERMANENT: self._permanent,
            Kind.CLOCK: self._clock,
            Kind.ACCOUNT: self._halt,
            Kind.UNKNOWN: self._unknown,
            Kind.STALE: self._stale,
        }

    def react(self, answered: Answered) -> Reaction:
        """Return what the verdict asks for; what it means for the account is recorded here."""
        work, kind = answered.work, answered.verdict.kind
        if kind is not Kind.STALE:
            work.missed = 0
        if kind is not Kind.STALE and answered.verdict.code not in NEVER_LEFT:
            self._reach.note_reached()
        if kind not in NO_SIGN_OF_LIFE and kind is not Kind.SENT:
            self._report(self._account.clear_misses)
        if kind not in NO_SIGN_OF_LIFE and (work.is_canary or answered.kind != "first"):
            left_ms = 0 if work.is_canary else answered.left_ms
            resumed = self._report(lambda: self._account.resume("api", left_ms))
            by = "its canary" if work.is_canary else "a job in doubt"
            work.is_canary = work.is_canary and resumed is None
            if resumed:
                log.warning(f"account resumed by {by}", extra=fields(job_id=work.job_id))
        return self._table[kind](answered)

    def _sent(self, a: Answered) -> Reaction:
        return self._end(a, State.SENT, "closed")

    def _too_early(self, a: Answered) -> Reaction:
        if a.kind in {"probe", "late"}:
            # the proof: an attempt in doubt had been accepted, and this one was not
            return self._end(a, State.SENT_INFERRED, "closed", a.unsent())
        if a.work.attempts >= self._settings.sendcode_max_attempts:
            state = State.DEAD if a.kind == "first" else State.UNKNOWN
            return self._end(a, state, "closed", a.unsent())
        pause = a.pause(self._settings.sendcode_phone_interval, "interval")
        return Reaction(pause, a.unsent())

    def _too_often(self, a: Answered) -> Reaction:
        waits = a.work.record.waits
        if waits >= TOO_OFTEN_TRIES:
            return self._end_unsent(a)
        pause = a.pause(self._policy.too_often_pause_s(waits), "too often")
        return Reaction(pause, a.unsent())

    def _permanent(self, a: Answered) -> Reaction:
        if a.verdict.code in PERHAPS_OUR_DOING:
            return self._end_unsent(a)
        return self._end(a, State.DEAD, "open", a.unsent())

    def _failed(self, a: Answered) -> Reaction:
        """Go on after a passing failure, until the attempts are spent."""
        work, verdict = a.work, a.verdict
        is_open = verdict.kind in {Kind.AMBIGUOUS, Kind.UNKNOWN}
        left = Aftermath(in_doubt=True) if is_open else a.unsent()
        if verdict.kind is Kind.AMBIGUOUS and work.undocumented:
            work.undocumented = "among"
        sending = None
        if verdict.kind is not Kind.UNKNOWN:  # that has one more try, whatever else is the matter
            sending = self._report(lambda: self._account.record_miss(verdict.code, verdict.message))
        if sending == "halted now":
            log.error(
                "account halted: the API is out, all jobs are kept",
                extra=fields(job_id=work.job_id, code=verdict.code),
            )
        in_doubt = left.in_doubt
        if sending in {"halted", "halted now"}:
            # the API is out: no attempt is spent on that, and probes go on while they can prove
            if in_doubt:
                pause_s = self._policy.longest_probe_pause_s
                return Reaction(Again(pause_s), replace(left, counts=False))
            return Reaction(a.pause(0), a.unsent(counts=False))
        if verdict.code in NEVER_LEFT and self._others_send(verdict):
            log.warning(
                "the API was not reached, while others send: the job is left to them",
                extra=fields(job_id=work.job_id, code=verdict.code),
            )
            return Reaction(a.pause(0), a.unsent(counts=False))
        # the last attempt, too, has the right to a probe
        may_be_proved = in_doubt and a.kind != "probe"
        if work.attempts >= self._settings.sendcode_max_attempts and not may_be_proved:
            return self._end(a, State.UNKNOWN, "keep", left) if in_doubt else self._end_unsent(a)
        pause_s = self._policy.pause_s(work.attempts, in_doubt=in_doubt)
        log.warning(
            "attempt failed, trying again",
            extra=fields(
                job_id=work.job_id,
                code=verdict.code,
                attempts=work.attempts,
                again_in_ms=round(pause_s * 1000),
            ),
        )
        if pause_s > LONGEST_SLEEP_S and not in_doubt:
            return Reaction(a.pause(pause_s), left)
        return Reaction(Again(pause_s), left)

    def _others_send(self, verdict: Verdict) -> bool:
        """Return whether others send codes, though this process does not reach the API."""
        sent = self._report(self._account.codes_sent)
        return sent is not None and self._reach.note_failed(verdict.code, verdict.message, sent)

    def _unknown(self, a: Answered) -> Reaction:
        """Try once more; a second such code ends the job."""
        work = a.work
        if not work.undocumented:
            work.undocumented = "alone" if a.kind == "first" else "among"
            return self._failed(a)
        if work.undocumented == "alone":
            return self._end(a, State.DEAD, "open", a.unsent())
        return self._end_unsent(a)

    def _throttled(self, a: Answered) -> Reaction:
        work = a.work
        factor = self._report(lambda: self._limiter.slow_down(work.tried.arrived))
        if factor is not None:
            log.warning(
                "refused by the account's limit, which we kept: somebody else spends its quota, "
                "or requests bunch on their way; all workers go slower for a while",
                extra=fields(job_id=work.job_id, rate_factor=round(factor, 3)),
            )
        work.throttled += 1
        if work.throttled >= MOST_THROTTLED:
            return Reaction(a.pause(STEP_ASIDE_S), a.unsent(counts=False))
        return Reaction(Again(0), a.unsent(counts=False))

    def _clock(self, a: Answered) -> Reaction:
        """Sign once more by the server's clock; if that is refused as well, halt."""
        if a.work.clock_corrected:
            return self._halt(a)
        a.work.clock_corrected = True
        return Reaction(Again(0), a.unsent(counts=False))

    def _halt(self, a: Answered) -> Reaction:
        work, verdict = a.work, a.verdict
        code, message = verdict.code, verdict.message
        refused = self._report(
            lambda: self._account.refuse(work.job_id, work.tries, code, message, a.fingerprint)
        )
        cause = fields(job_id=work.job_id, code=code, request_id=verdict.request_id or "-")
        left = a.unsent(counts=False)
        pause_s = 0.0
        if refused == "halted now":
            log.error("account halted: no job is at fault, all are kept", extra=cause)
        elif refused == "stood down" and self._account.announce():
            log.error(STOOD_DOWN, extra=cause)
        elif refused == "alone":
            alone = replace(verdict, code=OwnCode.ALONE, message=f"{code}: {message}")
            return self._end_unsent(replace(a, verdict=alone))
        elif refused == "suspect":
            log.warning("refused as if the account were, while other jobs are sent", extra=cause)
            pause_s = self._settings.sendcode_canary_interval
        if left.in_doubt:
            # a job in doubt goes on being tried while that can prove something
            pause_s = self._policy.longest_probe_pause_s
        return Reaction(a.pause(pause_s), left)

    def _stale(self, a: Answered) -> Reaction:
        """Leave a slot unused: a stalled process must not send in a burst what it had reserved.

        Should the job's lease be lost meanwhile, the ledger refuses to journal it again.
        """
        return Reaction(self.miss_slot(a.work, a.verdict.message), a.unsent(counts=False))

    def miss_slot(self, work: Work, why: str) -> Again | Pause:
        """Count a slot that was left unused; return when the job may take another one."""
        work.missed += 1
        if work.missed < MOST_MISSED:
            return Again(0)
        log.warning(
            "too slow for its slots, trying later: Redis or the API is far away or busy, or this "
            "machine is",
            extra=fields(job_id=work.job_id, late=why),
        )
        return Pause(round(STEP_ASIDE_S * 1000))

    def _report(self, report: Callable[[], T]) -> T | None:
        """Report something to all workers, if Redis is there; the verdict counts without it."""
        try:
            return report()
        except redis.RedisError as exc:
            log.warning("other workers not informed", extra=fields(error=error_code(exc)))
            return None

    def _end(
        self,
        a: Answered,
        state: State,
        number: Literal["closed", "open", "keep"],
        left: Aftermath | None = None,
    ) -> Reaction:
        verdict = a.verdict
        ending = Ending(state, verdict.code, verdict.message, verdict.request_id or "", number)
        return Reaction(ending, left)

    def _end_unsent(self, a: Answered) -> Reaction:
        """End a job whose last try sent nothing; an earlier one may still be in doubt."""
        if a.kind == "first":
            return self._end(a, State.DEAD, "open", a.unsent())
        return self._end(a, State.UNKNOWN, "keep", a.unsent())
