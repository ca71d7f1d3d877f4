"""A job's whole story, for a person and for a ticket with the vendor: every attempt, every hand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis

from config.settings import Settings
from jobs.account import Account
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.codes import explain, explain_end
from jobs.job import JobRecord, State, batch_job_id, split_job_id
from jobs.ledger import Ledger
from jobs.scripts import time_ms
from producer.wording import WaitsFor, outcome_in_words


class Instead(StrEnum):
    """What there is under the id of a job that there is not."""

    REJECTED_ROW = "rejected_row"
    """A row of a batch that never became a job."""
    FORGOTTEN = "forgotten"
    """A row whose job ended so long ago that it is no longer kept."""
    BATCH = "batch"
    NOTHING = "nothing"


class NoSuchJobError(Exception):
    """There is no such job, but perhaps something else of that id."""

    def __init__(self, job_id: str, instead: Instead, row: BatchRow | None = None) -> None:
        super().__init__(job_id)
        self.job_id = job_id
        self.instead = instead
        self.row = row
        """The row that the id names, if there is one."""


@dataclass(frozen=True, slots=True)
class Story:
    """A job with what is known around it. Its number is masked wherever it is shown."""

    record: JobRecord
    row: BatchRow | None
    """The row of the file that it came from."""
    waits_for: WaitsFor = "its time"

    @property
    def words(self) -> str:
        return outcome_in_words(self.record, self.waits_for)

    def as_dict(self) -> dict[str, Any]:
        record = self.record
        telling = explain_end if record.state.is_for_a_person else explain
        known = telling(record.code) if record.code else None
        return {
            **record.as_dict(),
            "lane": str(record.lane),
            "line": self.row.line if self.row else None,
            "in_words": self.words,
            "meaning": known.meaning if known else None,
            "remedy": known.remedy if known else None,
            "story": [entry.as_dict() for entry in record.story],
        }


def story_of(client: redis.Redis, settings: Settings, job_id: str) -> Story:
    """Look a job up, also one that is only a row of a batch yet.

    Raises:
        NoSuchJobError: there is none.
    """
    batches = Batches(client, settings)
    record = Ledger(client, settings).job(job_id) or batches.waiting_job(job_id)
    row = batches.row(job_id)
    if record is not None:
        return Story(record, row, _waits_for(client, settings, record))
    batch_id, number = split_job_id(job_id)
    if job_id != batch_job_id(batch_id, number):
        row = None  # a job in another's place, or none at all
    if row is not None and row.phone is None:
        raise NoSuchJobError(job_id, Instead.REJECTED_ROW, row)
    if row is not None:
        raise NoSuchJobError(job_id, Instead.FORGOTTEN, row)
    is_batch = batches.get(job_id) is not None
    raise NoSuchJobError(job_id, Instead.BATCH if is_batch else Instead.NOTHING)


def _waits_for(client: redis.Redis, settings: Settings, record: JobRecord) -> WaitsFor:
    if record.state is not State.PARKED:
        return "its time"
    account = Account(client, settings).state()
    # a job in doubt is tried on all the same, unless a person halted it
    if account.state == "halted" and not (record.in_doubt and account.by == "api"):
        return "sending"
    return "its turn" if (record.due_ms or 0) < time_ms(client.time()) else "its time"
