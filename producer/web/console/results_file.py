"""A batch's results as a file for people: what became of each row in words, and real dates.

Before the columns that every door has (`RESULT_COLUMNS`, by which a file that comes back is
understood) stand those for a person, in the page's language.
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

_ENDING = re.compile(r"\.(csv|tsv|txt|xlsx|xlsm|jsonl|gz)$", re.IGNORECASE)
_NOT_IN_A_FILE_S_NAME = re.compile(r"[\\/:*?\"<>|;%\s\x00-\x1f\x7f]+")
_LONGEST_NAME = 80


def name_of_file(name: str, otherwise: str, which: str) -> str:
    """Return what a file of rows is called, without its ending: "July customers-failed".

    `name` is what a person calls the batch, or its file; `otherwise` stands for an empty one.
    """
    name = without_numbers(name)
    while (bare := _ENDING.sub("", name)) != name:
        name = bare
    name = _NOT_IN_A_FILE_S_NAME.sub(" ", name)[:_LONGEST_NAME].strip(" .")
    return f"{name or otherwise}-{which or 'results'}"


def results_for_people(
    texts: Texts, batches: Batches, batch: Batch, only: str, form: str
) -> Iterator[bytes]:
    """Yield the file of a batch's results, or `only` of a group, in portions."""
    zone = datetime.now().astimezone().tzinfo  # one for all times of a file
    told = (
        texts("results.outcome").unescape(),
        texts("results.sent_to").unescape(),
        f"{texts('results.ended').unescape()} ({zone_name()})",
        texts("results.left_because").unescape(),
    )
    rows = (
        (row.cells, (*_told(texts, batch, row, zone), *row.ours))
        for row in results(batches, batch, only or None)
        if only != State.UNKNOWN or not row.is_left  # those wait for nobody any more
    )
    return streamed_sheet(
        batch.header,
        (*told, *RESULT_COLUMNS),
        rows,
        separator_for(batch.delimiter),
        form,
        kept=own_columns(batch.header),
        title=name_of_file(batch.name, batch.batch_id, only),
    )


def _told(texts: Texts, batch: Batch, row: ResultRow, zone: tzinfo | None) -> tuple[Cell, ...]:
    """Return the cells for a person."""
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
    reason = texts.said(reason_left(record)) if row.is_left else ""
    return (words.unescape(), phone, ended, reason)
