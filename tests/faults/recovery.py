"""What befell each job, and how long it lay idle after the worker that had it was killed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobs.ledger import Ledger


@dataclass(slots=True)
class Recoveries:
    """Fed with what workers tell (`workers.Listener`); times are monotonic seconds.

    A job is in a worker's hand from the moment at which its message was popped, and in its
    sweeper's until its message is published. It has recovered when its next attempt is journaled
    or its end is recorded, by whichever worker.
    """

    longest_s: float = 0.0
    longest_of: str = ""
    recovered: int = 0
    ended: dict[str, float] = field(default_factory=dict)
    """When each job's end was first told."""
    begun: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    """Each job's attempts: when they were journaled, and of what kind."""
    hits: Counter[str] = field(default_factory=Counter)
    """How often a fault befell a worker that had the job in hand."""
    absences: list[tuple[float, float]] = field(default_factory=list)
    """When Redis was away, from and until: nobody can recover then, so it does not count."""
    _hands: dict[str, set[str]] = field(default_factory=dict)
    _holders: dict[str, set[str]] = field(default_factory=dict)
    _waiting: dict[str, float] = field(default_factory=dict)

    def listen(self, worker: str, at: float, event: str, job_id: str, note: str) -> None:
        match event:
            case "received" | "claimed":
                self._take(worker, job_id)
            case "left":
                self._let_go(worker, job_id)
            case "swept":
                self._take(_sweeper(worker), job_id)
            case "published":
                self._let_go(_sweeper(worker), job_id)
            case "begun":
                self.begun.setdefault(job_id, []).append((at, note))
                self._is_back(job_id, at)
            case "ended" if job_id:
                self.ended.setdefault(job_id, at)
                self._is_back(job_id, at)
            case "killed":
                self.hit(worker)
                self._killed(worker, at)
                self._killed(_sweeper(worker), at)
            case _:
                pass

    def hit(self, worker: str) -> None:
        """Note that a fault befell this worker, and with it the jobs in its hand."""
        self.hits.update(self._hands.get(worker, set()))

    def settle_by(self, ledger: Ledger, unproved: Iterable[str] = ()) -> None:
        """Complete by the ledger's word what killed workers could not tell any more.

        That is when a job ended, and when the first attempt of an `unproved` one was journaled.
        """
        unix_minus_monotonic = time.time() - time.monotonic()
        for job_id in unproved:
            record = ledger.job(job_id)
            if record and record.story:
                self.began(job_id, record.story[0].at_ms / 1000 - unix_minus_monotonic)
        for job_id in list(self._waiting):
            record = ledger.job(job_id)
            if record and record.finished_ms:
                self._is_back(job_id, record.finished_ms / 1000 - unix_minus_monotonic)

    def began(self, job_id: str, at: float) -> None:
        """Note a job's first attempt, unless an earlier one is known."""
        begun = self.begun.setdefault(job_id, [])
        if not begun or at < begun[0][0]:
            begun.insert(0, (at, "first"))

    @property
    def open(self) -> list[str]:
        """Jobs that have not come back."""
        return sorted(self._waiting)

    def absent_s(self, start: float, end: float) -> float:
        """Return for how long Redis was away in between."""
        return sum(max(0.0, min(end, until) - max(start, since)) for since, until in self.absences)

    def _take(self, worker: str, job_id: str) -> None:
        self._hands.setdefault(worker, set()).add(job_id)
        self._holders.setdefault(job_id, set()).add(worker)

    def _killed(self, worker: str, at: float) -> None:
        for job_id in self._hands.pop(worker, set()):
            holders = self._holders.get(job_id, set())
            holders.discard(worker)
            if job_id not in self.ended and not holders and job_id not in self._waiting:
                self._waiting[job_id] = at

    def _let_go(self, worker: str, job_id: str) -> None:
        self._hands.get(worker, set()).discard(job_id)
        holders = self._holders.get(job_id)
        if holders is not None:
            holders.discard(worker)
            if not holders:
                del self._holders[job_id]

    def _is_back(self, job_id: str, at: float) -> None:
        since = self._waiting.pop(job_id, None)
        if since is None:
            return
        idle_s = max(0.0, at - since - self.absent_s(since, at))
        self.recovered += 1
        if idle_s > self.longest_s:
            self.longest_s, self.longest_of = idle_s, job_id


def _sweeper(worker: str) -> str:
    """Name the hand of a worker's sweeper."""
    return f"{worker}'s sweeper"
