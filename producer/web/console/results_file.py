"""A batch's results as a file for people: what became of each row in words, and real dates.

Columns for people, in the page's language, come before `RESULT_COLUMNS`, which every results file
has, and by which a file that is submitted again is understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, tzinfo

from jobs.batch import Batch
from jobs.batches import Batches
from jobs.job import NO_NUMBER, State
from jobs.masking import without_numbers
from producer.results import RESULT_COLUMNS, ResultRow, own_columns, results
from producer.sheet.writing import Cell, separator_for, streamed_sheet
from producer.stories import reason_left
from producer.web.console.frame import zone_name
from producer.web.console.texts import Texts

_EXTENSION = re.compile(r"\.(csv|tsv|txt|xlsx|xlsm|jsonl|gz)$", re.IGNORECASE)
_UNFIT_IN_NAME = re.compile(r"[\\/:*?\"<>|;%\s\x00-\x1f\x7f]+")
_LONGEST_NAME = 80


def name_of_file(name: str, default: str, which: str) -> str:
    """Return the name of a file of rows, without its extension: "July customers-failed".

    `name` is the batch's or file's name for people; `default` is used if it is empty.
    """
    name = without_numbers(name)
    while (bare := _EXTENSION.sub("", name)) != name:
        name = bare
    name = _UNFIT_IN_NAME.sub(" ", name)[:_LONGEST_NAME].strip(" .")
    return f"{name or default}-{which or 'results'}"


def results_for_people(
    texts: Texts, batches: Batches, batch: Batch, only: str, form: str
) -> Iterator[bytes]:
    """Yield the file of a batch's results, or `only` those of a group, in chunks."""
    zone = datetime.now().astimezone().tzinfo  # the same for all times of a file
    columns = (
        texts("results.outcome").unescape(),
        texts("results.sent_to").unescape(),
        f"{texts('results.ended').unescape()} ({zone_name()})",
        texts("results.left_because").unescape(),
    )
    rows = (
        (row.cells, (*_cells(texts, batch, row, zone), *row.ours))
        for row in results(batches, batch, only or None)
        if only != State.UNKNOWN or not row.is_left  # nobody needs to ask those customers
    )
    return streamed_sheet(
        batch.header,
        (*columns, *RESULT_COLUMNS),
        rows,
        separator_for(batch.delimiter),
        form,
        kept=own_columns(batch.header),
        title=name_of_file(batch.name, batch.batch_id, only),
    )


def _cells(texts: Texts, batch: Batch, row: ResultRow, zone: tzinfo | None) -> tuple[Cell, ...]:
    """Return a row's cells for people."""
    record, phone = row.record, ""
    if record is None:
        if row.status != State.REJECTED:
            return (texts("job.forgotten").unescape(), "", "", "")
        why = texts.get(f"fault.{row.code}", row.ours[2])
        return (texts("results.left_out", why=why).unescape(), "", "", "")
    if record.phone != NO_NUMBER and (record.attempts or record.replaces):
        phone = record.phone.e164
    ending = texts.ending(record, batch=batch)
    words = texts("state.left") if row.is_left else ending
    ended = datetime.fromtimestamp(record.finished_ms / 1000, zone) if record.finished_ms else ""
    reason = texts.readable(reason_left(record)) if row.is_left else ""
    return (words.unescape(), phone, ended, reason)
