"""A customer's name and cells on a page: from the row of its file, with all numbers masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.batch import Batch, BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, split_job_id
from producer.customers import Shown, naming_columns
from producer.results import own_columns


def customer_of(batch: Batch | None, row: BatchRow | None, record: JobRecord | None = None) -> str:
    """Return the name of a customer: cells of its row, or an event's reference."""
    if batch is None or row is None:
        return record.reference if record is not None else ""
    cells = Shown(batch.header, batch.columns[0]).cells(row.cells, row.phone)
    besides = {
        i for i, name in enumerate(batch.header) if name.strip() and name.strip() in batch.columns
    }
    named = [cells[i] for i in naming_columns(batch.header, besides) if i < len(cells)]
    return " ".join(filter(None, named))


def customers_of(
    batches: Batches, job_ids: Sequence[str], records: Mapping[str, JobRecord]
) -> dict[str, str]:
    """Return the name of each job's customer; "" if nothing names it.

    `records`: at least those of events, which have no row.
    """
    rows = batches.rows_of(job_ids)
    of_batch = {job_id: split_job_id(job_id)[0] for job_id in job_ids}
    found = {batch_id: batches.get(batch_id) for batch_id in {*of_batch.values()} if batch_id}
    return {
        job_id: customer_of(found.get(batch_id), rows.get(job_id), records.get(job_id))
        for job_id, batch_id in of_batch.items()
    }


def cells_of(batch: Batch | None, row: BatchRow | None) -> list[tuple[str, str]]:
    """Return a row's cells under the names of their columns, empty ones left out."""
    if batch is None or row is None:
        return []
    cells = Shown(batch.header, batch.columns[0]).cells(row.cells, row.phone)
    own = batch.header[: own_columns(batch.header)]  # the others are those of a results file
    return [(name, cell) for name, cell in zip(own, cells, strict=False) if cell.strip()]


def matching_of(batch: Batch | None, row: BatchRow | None, text: str) -> list[tuple[str, str]]:
    """Return the cells that a search for a text found, under the names of their columns."""
    wanted = text.strip().casefold()
    return [each for each in cells_of(batch, row) if wanted and wanted in each[1].casefold()]
