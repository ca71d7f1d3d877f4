"""The rows of a file that cannot be sent, or are doubtful, as a file to be corrected and submitted.

Besides the customer's own columns it has some of ours, which are read when it comes back: so the
second submission knows what the first has sent, and its batch knows which one it corrects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from jobs.job import State, batch_job_id
from producer.second_codes import is_results_file
from producer.sheet import FAULTS, Row, Sheet
from producer.tally import NumberUse

REASON_COLUMN = "reason"
INVALID_COLUMNS = ("status", "code", "finished_at", "job_id", REASON_COLUMN)


def invalid_columns(sheet: Sheet) -> tuple[str, ...]:
    """Return the columns that we add: a file of results has the others already."""
    return (REASON_COLUMN,) if is_results_file(sheet) else INVALID_COLUMNS


def doubtful_rows(sheet: Sheet) -> Iterator[Row]:
    """Yield the rows that could be sent, but for a doubt, which each has as its problem.

    The file is read twice, so that memory does not grow with the numbers it holds.
    """
    with NumberUse() as use:
        for row in sheet:
            if row.phone is not None:
                use.add(row.phone, row.line, 0)
        repeated = use.repeated()
        next_line = next(repeated, None)
        for row in sheet:
            doubts = list(row.warnings)
            if row.line == next_line:
                doubts.append(FAULTS["repeated"])
                next_line = next(repeated, None)
            if doubts and row.phone is not None:
                yield replace(row, phone=None, problem=doubts[0], warnings=())


DOUBTFUL = "doubtful"
"""The status of a row that is sent unless somebody leaves it out."""


def invalid_cells(
    row: Row,
    batch_id: str,
    checked_at: str,
    columns: tuple[str, ...],
    status: str = State.REJECTED,
) -> list[str]:
    """Return the cells of these columns for a row that cannot be sent, or is `DOUBTFUL`.

    `batch_id` is of the batch that the file becomes, `checked_at` the time as `iso` writes it.
    """
    problem = row.problem
    if problem is None:
        raise ValueError("the row can be sent")
    reason = f"{problem.message}; {problem.remedy}"
    job_id = batch_job_id(batch_id, row.number)
    return [status, problem.code, checked_at, job_id, reason][-len(columns) :]
