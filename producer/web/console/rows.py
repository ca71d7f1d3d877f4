"""How a customer is called on a page: what names it in its file, with all numbers masked."""

from __future__ import annotations

from jobs.batch import Batch, BatchRow
from jobs.job import JobRecord
from producer.customers import Shown, naming_columns


def customer_of(batch: Batch | None, row: BatchRow | None, record: JobRecord | None = None) -> str:
    """Return what names a customer: cells of its row, or an event's reference."""
    if batch is None or row is None:
        return record.reference if record is not None else ""
    cells = Shown(batch.header, batch.columns[0]).cells(row.cells, row.phone)
    named = [cells[i] for i in naming_columns(batch.header) if i < len(cells)]
    return " ".join(filter(None, named))


def cells_of(batch: Batch | None, row: BatchRow | None) -> list[tuple[str, str]]:
    """Return a row's cells under the names of their columns, empty ones left out."""
    if batch is None or row is None:
        return []
    cells = Shown(batch.header, batch.columns[0]).cells(row.cells, row.phone)
    return [(name, cell) for name, cell in zip(batch.header, cells, strict=False) if cell.strip()]
