"""Writes to the ledger what becomes of a job in work, and logs it."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import redis
import tenacity

from config.logging import fields
from jobs.job import JobRecord, Undocumented
from jobs.ledger import Aftermath, Ending, Ledger, Pause, Tried
from worker.presence import Shutdown
from worker.retry import Again

log = logging.getLogger("sendcode.sender")

_DAMAGE_ERRORS = ("WRONGTYPE", "attempt to", "not an integer")
"""What the error of a script holds that met a damaged record, as in sweep.lua."""
_DAMAGE_TRIES = 5
"""Tries with such errors, 2 s in all: another key may be at fault, which is mended meanwhile."""

AttemptKind = Literal["first", "probe", "late", "resend"]


@dataclass(frozen=True, slots=True)
class Ended:
    """The job has its final state."""

    record: JobRecord


@dataclass(frozen=True, slots=True)
class NotNow:
    """The job is not this worker's to end now; `due_in_s` where that is known."""

    reason: str
    due_in_s: float | None = None


@dataclass(slots=True)
class Work:
    """A leased job in a worker's hands, and what its last try left to be recorded."""

    record: JobRecord
    token: str
    is_canary: bool
    tries: int = field(init=False)
    started: float = field(default_factory=time.monotonic)
    attempts: int = 0
    """Attempts that count towards the maximum, with the last one journaled."""
    throttled: int = 0
    missed: int = 0
    """Slots in a row that were over before the attempt was journaled."""
    undocumented: Undocumented = field(init=False)
    """See `JobRecord`."""
    clock_corrected: bool = False
    tried: Tried = field(default_factory=Tried)

    def __post_init__(self) -> None:
        self.tries = self.record.tries
        self.undocumented = self.record.undocumented

    @property
    def job_id(self) -> str:
        return self.record.job_id

    @property
    def is_in_doubt(self) -> bool:
        """An earlier try was perhaps accepted. Only a proof ends that, or the job."""
        return self.record.in_doubt or (self.tried.left is not None and self.tried.left.in_doubt)

    def leave(self, left: Aftermath | None) -> None:
        """Note what a try leaves, to be recorded with whatever is recorded next."""
        self.tried = replace(self.tried, left=left, undocumented=self.undocumented)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from a try (the job ends, is parked or tried again), and what the try leaves."""

    then: Ending | Pause | Again
    left: Aftermath | None


def set_aside(ledger: Ledger, job_id: str) -> JobRecord | None:
    """Replace a record that cannot be read by a dead letter, and log it.

    None if the record can be read, or another worker was quicker.
    """
    record = ledger.set_aside(job_id)
    if record is not None:
        log.error(
            "a job's record cannot be read; a dead letter stands in its place",
            extra=fields(job_id=job_id, code=record.code, why=record.message),
        )
    return record


def unsent(kind: AttemptKind, *, counts: bool) -> Aftermath:
    """Return what a try leaves that certainly sent nothing: a probe has resolved no doubt."""
    return Aftermath(in_doubt=kind == "probe", counts=counts)


class Recorder:
    """Ends and parks jobs in the ledger, trying until Redis takes it."""

    def __init__(self, ledger: Ledger, shutdown: Shutdown, worker: str = "") -> None:
        self._ledger = ledger
        self.worker = worker
        """Its name."""
        # What the API answered is known to the caller's thread alone: it gives up only when the
        # worker is being stopped, and then the job's next worker probes; or on a damaged record.
        self._writing = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(redis.RedisError),
            wait=tenacity.wait_exponential(multiplier=0.1, max=1),
            stop=lambda state: shutdown.out_of_patience(state) or _is_damaged(state),
            reraise=True,
        )

    def apply(self, work: Work, reaction: Reaction) -> Ended | NotNow | Again:
        """Carry a reaction out; `Again` is left to the caller."""
        work.leave(reaction.left)
        match reaction.then:
            case Ending() as ending:
                return self.finish(work, ending)
            case Pause() as pause:
                return self.park(work, pause)
            case again:
                return again

    def finish(self, work: Work, ending: Ending) -> Ended | NotNow:
        """Record the job's final state."""
        known = fields(job_id=work.job_id, state=ending.state, request_id=ending.request_id or "-")
        try:
            record = self._writing(
                lambda: self._ledger.finish(
                    work.job_id,
                    work.token,
                    ending,
                    work.tried,
                    self.worker,
                    work.record.phone,
                )
            )
        except redis.ResponseError:
            # without its text, which may repeat arguments
            log.error("outcome known but it cannot be recorded", extra=known)  # noqa: TRY400
            raise
        if record is None:
            log.warning(self._why_lost(work), extra=known)
            return NotNow("lease lost")
        return self.report(work, record)

    def _why_lost(self, work: Work) -> str:
        with suppress(redis.RedisError):
            now = self._ledger.job(work.job_id)
            if now is None or now.state.is_final:
                return "outcome known but the job has ended already, and is left as it is"
        return "outcome known but the lease was lost; the job's next worker finds it out"

    def park(self, work: Work, pause: Pause) -> NotNow:
        """Park the job; the sweeper publishes it when it is due."""
        parked = self._writing(
            lambda: self._ledger.park(work.job_id, work.token, pause, work.tried)
        )
        if parked is None:
            return NotNow("lease lost")
        if pause.reason:
            log.info(
                "number refused for now",
                extra=fields(job_id=work.job_id, code=pause.code, again_in_ms=pause.wait_ms),
            )
        return NotNow(pause.code or "not yet", pause.wait_ms / 1000)

    def report(self, work: Work, record: JobRecord) -> Ended:
        """Write the one log line of a finished job."""
        failed = record.state.is_for_a_person
        log.log(
            logging.ERROR if failed else logging.INFO,
            "job finished",
            extra=fields(
                job_id=record.job_id,
                batch_id=record.batch_id or "-",
                worker=self.worker,
                state=record.state,
                code=record.code or "-",
                attempts=record.attempts,
                duration_ms=round((time.monotonic() - work.started) * 1000),
            ),
        )
        return Ended(record)


def _is_damaged(state: tenacity.RetryCallState) -> bool:
    """Return whether a script failed once too often because of what it found."""
    error = state.outcome.exception() if state.outcome else None
    is_damage = isinstance(error, redis.ResponseError) and any(
        part in str(error) for part in _DAMAGE_ERRORS
    )
    return is_damage and state.attempt_number >= _DAMAGE_TRIES
