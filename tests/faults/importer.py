"""An import as a process of its own, so that it can be killed at any row.

`python -m tests.faults.importer BATCH_ID PREFIX ROWS MAX_RATE` reads Redis' address from the
settings in its environment, as `sendcode batch submit` does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from config.redis import connect
from config.settings import load_settings
from jobs.batches import Batches, BatchRow
from jobs.phone import PhoneNumber

CHUNK = 20
"""Small, so that an import takes long enough to be killed."""


def number_of(prefix: str, row: int) -> PhoneNumber:
    """Give the number of a row (1, 2 …). Every row has one of its own."""
    return PhoneNumber("852", f"{prefix}{row:05d}")


def rows_of(prefix: str, count: int) -> Iterator[BatchRow]:
    for row in range(1, count + 1):
        phone = number_of(prefix, row)
        yield BatchRow(row + 1, [phone.country_code, phone.phone_num], phone)


def submit(batches: Batches, batch_id: str, prefix: str, count: int, max_rate: float) -> None:
    """Open the batch and append its rows, or what is missing of them."""
    rows = list(rows_of(prefix, count))
    header = ["country_code", "phone_num"]
    batches.open(batch_id, f"digest of {prefix}", header, max_rate=max_rate)
    for first in range(0, count, CHUNK):
        chunk = rows[first : first + CHUNK]
        batches.append(batch_id, first, chunk, last=first + len(chunk) == count)


def main() -> None:
    """Import, from the beginning each time."""
    batch_id, prefix, count, max_rate = sys.argv[1:]
    settings = load_settings(None)
    batches = Batches(connect(settings), settings)
    submit(batches, batch_id, prefix, int(count), float(max_rate))


if __name__ == "__main__":
    main()
