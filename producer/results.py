"""A batch's results: the customer's own columns, and what became of each row.

They are read from the ledger chunk by chunk, while the batch runs or after, so a batch of any size
takes little memory; or a few at a time, as a page shows them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis

from config.settings import Settings
from jobs.batch import Batch, BatchRow
from jobs.batches import Batches
from jobs.deadletters import DeadLetters
from jobs.finding import Finder
from jobs.job import JobRecord, State, batch_job_id, iso, split_job_id
from jobs.phone import PhoneNumber
from producer.search import digits_of
from producer.second_codes import KEPT_BACK
from producer.stories import FORGOTTEN, FORGOTTEN_WORDS, outcome_in_words

RESULT_COLUMNS = ("status", "code", "message", "request_id", "attempts", "finished_at", "job_id")

PEOPLE_COLUMNS = frozenset(
    {
        *("What became of it", "Code sent to", "Ended", "Left because"),
        *("结果", "验证码发往", "结束时间", "保持原样的原因"),
    }
)
"""Columns before `RESULT_COLUMNS` in a file for people, named as in the console; no time zone."""


def own_columns(header: Sequence[str]) -> int:
    """Return how many of a file's columns are the customer's own; results are behind them."""
    own = len(header) - len(RESULT_COLUMNS)
    if tuple(header[max(0, own) :]) != RESULT_COLUMNS:
        return len(header)
    while own and header[own - 1].partition(" (")[0] in PEOPLE_COLUMNS:
        own -= 1
    return own


LEFT = "left"
"""In a group: jobs that a person left as they are; their status stays what it was."""
CORRECTED = "corrected"
"""In a group: jobs whose customers a corrected file took over, where that is looked up."""
GROUPS: dict[str, frozenset[str]] = {
    "sent": frozenset(state for state in State if state.is_sent),
    "failed": frozenset({State.DEAD, State.REJECTED, State.EXPIRED}),
    "waiting": frozenset(state for state in State if not state.is_final),
    "left": frozenset({LEFT}),
}
"""Statuses that are asked for together; whoever was left is in no other group."""


def result_cells(record: JobRecord, cancelled_at: str = "") -> list[str]:
    """Return the cells of `RESULT_COLUMNS` for a job.

    `cancelled_at` is the end of a job that was cancelled before its turn, while others of its batch
    are still in work.
    """
    ended_at = iso(record.finished_ms) if record.finished_ms else ""
    return [
        record.state,
        record.code,
        outcome_in_words(record),
        record.request_id,
        str(record.attempts) if record.attempts else "",
        ended_at or (cancelled_at if record.state is State.CANCELLED else ""),
        record.job_id,
    ]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of the file, and what became of it."""

    number: int
    line: int
    cells: list[str]
    """The customer's own."""
    ours: list[str]
    """Those of `RESULT_COLUMNS`. The status is a state's name, or `forgotten`."""
    phone: PhoneNumber | None = None
    """The number of the file's row, if it has one."""
    record: JobRecord | None = None
    """Of its job, or of the one that stands in its place; None if it has none (any more)."""

    corrected_by: str = ""
    """The job of a corrected file's row that stands for its customer; only `rows_page` looks."""

    @property
    def status(self) -> str:
        return self.ours[0]

    @property
    def code(self) -> str:
        return self.ours[1]

    @property
    def job_id(self) -> str:
        """Of its job, or what would be that of a row that never became one."""
        return self.ours[-1]

    @property
    def is_left(self) -> bool:
        """Whether a person left it as it is, without a code."""
        record = self.record
        return record is not None and bool(record.dropped_ms) and record.state.is_for_a_person

    def is_of(self, statuses: Collection[str]) -> bool:
        """Return whether a group of these statuses has it (`GROUPS`)."""
        if self.is_left:
            return LEFT in statuses
        return (CORRECTED if self.corrected_by else self.status) in statuses

    def as_dict(self) -> dict[str, Any]:
        status, code, message, request_id, attempts, finished_at, job_id = self.ours
        return {
            "row": self.number,
            "job_id": job_id,
            "line": self.line,
            "cells": self.cells,
            "status": status,
            "code": code or None,
            "message": message or None,
            "request_id": request_id or None,
            "attempts": int(attempts or 0),
            "finished_at": finished_at or None,
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


def results(batches: Batches, batch: Batch, only: str | None = None) -> Iterator[ResultRow]:
    """Yield the rows in the file's order, or `only` those of a group or state.

    `failed` leaves out what was only kept back, because it is done or under way elsewhere, and
    customers whom a corrected file took over.

    Raises:
        ValueError: `only` is no group or state (raised by the first row).
    """
    wanted = statuses_of(only) if only is not None else None
    letters = DeadLetters(batches.client, batches.settings)
    noted = batches.noted_rows(batch.batch_id) if only == "failed" else frozenset()
    for found in batches.rows(batch.batch_id):
        result = result_of(batch, *found)
        if wanted is not None:
            fits = result.is_of(wanted) if only in GROUPS else result.status in wanted
            if not fits:
                continue
        if only == "failed" and result.code in KEPT_BACK:
            continue
        # one that failed and was corrected is dealt with: its old number is not to come back
        was_noted = result.record.corrected if result.record else result.number in noted
        if only == "failed" and was_noted and letters.corrected_by(result.job_id):
            continue
        yield result


def result_of(batch: Batch, number: int, row: BatchRow, record: JobRecord | None) -> ResultRow:
    """Return what became of a row that `Batches` found.

    A row that never became a job ended when its batch was made: a code that goes to its number
    after that is known as such when these results come back (second_codes.py).
    """
    job_id, created_at = batch_job_id(batch.batch_id, number), iso(batch.created_ms)
    if row.phone is None:
        ours = [State.REJECTED, row.code, row.reason, "", "", created_at, job_id]
    elif record is None:
        ours = [FORGOTTEN, "", FORGOTTEN_WORDS, "", "", "", job_id]
    else:
        ours = result_cells(record, created_at)
    return ResultRow(number, row.line, list(row.cells), ours, row.phone, record)


SEARCH_S = 0.025
"""For how long a page searches for rows."""
MORE_GROUPS = {
    "unsent": frozenset({State.DEAD, State.EXPIRED}),
    "left_out": frozenset({State.REJECTED}),
    "corrected": frozenset({CORRECTED}),
}
"""Further groups: jobs that could not be sent, rows that never became jobs, and those of both whose
customers corrected files took over, which are in no other group."""
_MAY_BE_CORRECTED = frozenset({State.DEAD, State.UNKNOWN, State.REJECTED})


@dataclass(frozen=True, slots=True)
class RowsPage:
    """Some rows of a batch, and where to go on."""

    rows: list[ResultRow]
    looked_at: int
    """The rows up to this number were read."""
    is_last: bool
    """No row after that one is to be shown."""


def rows_page(
    client: redis.Redis,
    settings: Settings,
    batch: Batch,
    count: int,
    after: int = 0,
    only: str | None = None,
    text: str = "",
) -> RowsPage:
    """Return up to `count` rows after row number `after`: all, or `only` a group or state.

    Groups are those of results, and `MORE_GROUPS`. With `text`, only those with it in one of
    their cells, or with that number. It takes about as long for a million rows as for ten: a search
    stops after a moment and says how far it got.

    Raises:
        ValueError: `only` is no group or state.
    """
    states = MORE_GROUPS.get(only) or statuses_of(only) if only is not None else None
    batches = Batches(client, settings)
    besides = KEPT_BACK if only == "failed" else frozenset()
    place = after
    if text:
        finder = Finder(client, settings, seconds=SEARCH_S, most=count)
        trace = finder.in_batch(batch.batch_id, text, digits_of(text), after)
        numbers: Sequence[int] = [split_job_id(job_id)[1] for job_id in trace.job_ids]
        place = batch.total if trace.is_complete else trace.next_row
    elif states is not None:
        if states <= GROUPS["waiting"]:
            place = batches.first_open(batch, after)
        numbers, place = batches.in_state(batch, place, count, states, besides, SEARCH_S)
    else:
        place = min(batch.total, after + count)
        numbers = list(range(after + 1, place + 1))
    found = [result_of(batch, *each) for each in batches.rows_numbered(batch, numbers)]
    failed = [row.job_id for row in found if row.status in _MAY_BE_CORRECTED]
    by = DeadLetters(client, settings).all_corrected_by(failed)
    found = [replace(row, corrected_by=by.get(row.job_id, "")) for row in found]
    if text and states is not None:
        found = [row for row in found if row.is_of(states) and row.code not in besides]
    return RowsPage(found, place, place >= batch.total)
