"""A few of a batch's rows at a time, as a page shows them: all, those in a state or with a text.

It takes about as long for a million rows as for ten: a search looks for a moment, then it says how
far it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import redis

from config.settings import Settings
from jobs.batch import Batch
from jobs.batches import Batches
from jobs.deadletters import DeadLetters
from jobs.finding import Finder
from jobs.job import State, split_job_id
from producer.results import CORRECTED, GROUPS, ResultRow, result_of, statuses_of
from producer.search import digits_of
from producer.second_codes import KEPT_BACK

LOOK_S = 0.025
"""For so long a page looks for rows."""
_WAITING = GROUPS["waiting"]
APART = {
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
    """The rows up to this number were looked at."""
    is_last: bool
    """None of the rows behind that one is to be shown."""


def rows_page(
    client: redis.Redis,
    settings: Settings,
    batch: Batch,
    count: int,
    after: int = 0,
    only: str | None = None,
    text: str = "",
) -> RowsPage:
    """Return up to `count` rows behind row number `after`: all, or `only` a group or state.

    Groups are those of results, and `APART`.

    With `text`, only those that have it in one of their cells, or are of that number.

    Raises:
        ValueError: `only` is no group or state.
    """
    states = APART.get(only) or statuses_of(only) if only is not None else None
    batches = Batches(client, settings)
    besides = KEPT_BACK if only == "failed" else frozenset()
    place = after
    if text:
        finder = Finder(client, settings, seconds=LOOK_S, most=count)
        trace = finder.in_batch(batch.batch_id, text, digits_of(text), after)
        numbers: Sequence[int] = [split_job_id(job_id)[1] for job_id in trace.job_ids]
        place = batch.total if trace.is_complete else trace.next_row
    elif states is not None:
        if states <= _WAITING:
            place = batches.first_open(batch, after)
        numbers, place = batches.in_state(batch, place, count, states, besides, LOOK_S)
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
