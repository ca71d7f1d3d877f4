"""The reckoning: what the ledger says of every job, against what the sandbox counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jobs.batches import Batches
from jobs.job import JobRecord, State
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber


@dataclass(frozen=True, slots=True)
class Asked:
    """One job as it was asked for."""

    job_id: str
    phone: PhoneNumber

    @property
    def digits(self) -> str:
        return self.phone.country_code + self.phone.phone_num


@dataclass(slots=True)
class Findings:
    """Each list names jobs, or numbers where a number is what is wrong."""

    jobs: int = 0
    states: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    """Without a record, without an end, or ended as not sent though nothing was wrong with it."""
    doubled: list[str] = field(default_factory=list)
    """Numbers with more accepted sends than jobs, none of those flagged `possible_duplicate`."""
    doubled_and_flagged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    possible_duplicate: list[str] = field(default_factory=list)
    wrongly_inferred: list[str] = field(default_factory=list)
    """Said to be sent, by an answer or by inference, with fewer accepted sends than that."""

    def add(
        self, asked: Iterable[tuple[Asked, JobRecord | None]], accepted: Mapping[str, int]
    ) -> None:
        """Judge jobs; those for one number must come in one call."""
        by_number: dict[str, list[tuple[str, JobRecord | None]]] = {}
        for job, record in asked:
            by_number.setdefault(job.digits, []).append((job.job_id, record))
        for digits, jobs in by_number.items():
            self._judge(digits, jobs, accepted.get(digits, 0))
        for digits in accepted.keys() - by_number.keys():
            self.doubled.append(digits)

    def _judge(self, digits: str, jobs: list[tuple[str, JobRecord | None]], accepted: int) -> None:
        said_sent = 0
        flagged = False
        for job_id, record in jobs:
            self.jobs += 1
            state = record.state if record else None
            self.states[str(state)] += 1
            if record is None or not record.state.is_final:
                self.lost.append(job_id)
                continue
            if record.state.is_sent:
                said_sent += 1
            elif record.state is State.UNKNOWN:
                self.unknown.append(job_id)
            else:
                self.lost.append(job_id)
            if record.possible_duplicate:
                flagged = True
                self.possible_duplicate.append(job_id)
        if accepted > len(jobs):
            (self.doubled_and_flagged if flagged else self.doubled).append(digits)
        if accepted < said_sent:
            self.wrongly_inferred.append(digits)


def records(
    asked: Mapping[str, Asked], batch_ids: Iterable[str], batches: Batches, ledger: Ledger
) -> list[tuple[Asked, JobRecord | None]]:
    """Look up every job that was asked for, and every row that a batch has beyond that."""
    found: list[tuple[Asked, JobRecord | None]] = []
    seen: set[str] = set()
    for batch_id in batch_ids:
        for number, row, record in batches.rows(batch_id):
            job_id = f"{batch_id}-{number}"
            seen.add(job_id)
            phone = row.phone
            assert phone is not None
            found.append((Asked(job_id, phone), record))
    found += [(job, ledger.job(job_id)) for job_id, job in asked.items() if job_id not in seen]
    return found


def leftovers(ledger: Ledger) -> dict[str, int]:
    """Count what should be empty when every job has ended."""
    redis, keys = ledger.client, ledger.keys
    sizes: dict[str, int] = {
        "held": int(redis.scard(keys.held)),
        "due events": int(redis.zcard(keys.due("event"))),
        "due batch jobs": int(redis.zcard(keys.due("batch"))),
        "parked batch jobs": int(redis.zcard(keys.due("aside"))),
    }
    return {name: size for name, size in sizes.items() if size}
