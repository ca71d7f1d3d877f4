"""A batch's results: the customer's own columns, and what became of each row.

Read from the ledger chunk by chunk, at any time, while the batch runs or after: a batch of any size
takes little memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, State, batch_job_id, iso
from producer.second_codes import KEPT_BACK
from producer.stories import FORGOTTEN, FORGOTTEN_WORDS, outcome_in_words

RESULT_COLUMNS = ("status", "code", "message", "request_id", "attempts", "finished_at", "job_id")

GROUPS: dict[str, frozenset[str]] = {
    "sent": frozenset({State.SENT, State.SENT_INFERRED}),
    "failed": frozenset({State.DEAD, State.REJECTED, State.EXPIRED}),
    "waiting": frozenset({State.QUEUED, State.LEASED, State.SENDING, State.PARKED}),
}
"""What `--only` takes besides the states themselves."""


def result_cells(record: JobRecord) -> list[str]:
    """Return the cells of `RESULT_COLUMNS` for a job, but for the last."""
    return [
        record.state,
        record.code,
        outcome_in_words(record),
        record.request_id,
        str(record.attempts) if record.attempts else "",
        iso(record.finished_ms) if record.finished_ms else "",
    ]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of the file; `status` is a state's name, or `forgotten`."""

    number: int
    job_id: str
    """Of the job that stands for the row, or would."""
    line: int
    cells: list[str]
    status: str
    code: str = ""
    message: str = ""
    request_id: str = ""
    attempts: int = 0
    finished_at: str = ""

    def ours(self) -> list[str]:
        """Return the cells of `RESULT_COLUMNS`."""
        attempts = str(self.attempts) if self.attempts else ""
        return [
            self.status,
            self.code,
            self.message,
            self.request_id,
            attempts,
            self.finished_at,
            self.job_id,
        ]

    def as_dict(self) -> dict[str, Any]:
        return {
            "row": self.number,
            "job_id": self.job_id,
            "line": self.line,
            "cells": self.cells,
            "status": self.status,
            "code": self.code or None,
            "message": self.message or None,
            "request_id": self.request_id or None,
            "attempts": self.attempts,
            "finished_at": self.finished_at or None,
        }


def statuses_of(only: str) -> frozenset[str]:
    """Return the statuses that a group or a single state stands for.

    Raises:
        ValueError: there is no such group or state; the message lists what there is.
    """
    if only in GROUPS:
        return GROUPS[only]
    if only in {*State, FORGOTTEN}:
        return frozenset({only})
    names = ", ".join(sorted({*GROUPS, *State, FORGOTTEN}))
    raise ValueError(f'there is no status "{only}"; there are {names}')


def results(batches: Batches, batch_id: str, only: str | None = None) -> Iterator[ResultRow]:
    """Yield the rows in the file's order; `only` those of a group or state.

    `failed` leaves out what was only kept back, because it is done or under way elsewhere.

    Raises:
        ValueError: `only` is no group or state (raised by the first row).
    """
    wanted = statuses_of(only) if only is not None else None
    batch = batches.get(batch_id)
    created_at = iso(batch.created_ms) if batch is not None else ""
    for number, row, record in batches.rows(batch_id):
        result = _result(number, batch_job_id(batch_id, number), row, record, created_at)
        if wanted is not None and result.status not in wanted:
            continue
        if only == "failed" and result.code in KEPT_BACK:
            continue
        yield result


def _result(
    number: int, job_id: str, row: BatchRow, record: JobRecord | None, created_at: str
) -> ResultRow:
    """Return a row's result.

    What never was a job ended when its batch was made: a code that goes to its number after that
    is known as such when these results come back (see second_codes.py).
    """
    cells = list(row.cells)
    if row.phone is None:
        rejected = ResultRow(number, job_id, row.line, cells, State.REJECTED, row.code, row.reason)
        return replace(rejected, finished_at=created_at)
    if record is None:
        return ResultRow(number, job_id, row.line, cells, FORGOTTEN, message=FORGOTTEN_WORDS)
    return ResultRow(
        number,
        record.job_id,
        row.line,
        cells,
        record.state,
        record.code,
        outcome_in_words(record),
        record.request_id,
        record.attempts,
        _finished_at(record, created_at),
    )


def _finished_at(record: JobRecord, created_at: str) -> str:
    if record.finished_ms:
        return iso(record.finished_ms)
    # cancelled before its turn, in a batch of which others are in work still
    return created_at if record.state is State.CANCELLED else ""
