"""What would happen if a file were submitted: looked at as a whole, sending and writing nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from config.settings import Settings
from jobs.batch import Batch
from jobs.batches import Batches
from jobs.numbers import NumberHistory
from jobs.phone import PhoneNumber
from producer.doubles import Doubles, NumberUse
from producer.importing import (
    REPORT_ROWS,
    ImportRefusedError,
    Progress,
    default_batch_id,
    find_batch,
)
from producer.memory import Memory
from producer.outlook import Outlook
from producer.overview import look
from producer.roundtrip import rows_to_send
from producer.sheet import Row, Sheet
from producer.tally import Lines, Tally

CHUNK_ROWS = 500
MOST_CODES_PER_NUMBER = 5
"""The vendor lets a number have only so many accounts and does not say how many: our assumption."""


@dataclass(frozen=True, slots=True)
class Question:
    """How the file would be submitted."""

    batch_id: str | None = None
    max_rate: float | None = None
    most_per_number: int = MOST_CODES_PER_NUMBER


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found. What needs the ledger is None where Redis was out of reach."""

    file: str
    unit: str
    notes: tuple[str, ...]
    batch_id: str
    tally: Tally
    doubles: Doubles
    most_per_number: int
    used_too_often: Lines
    sent_before: Lines
    in_interval: Lines
    outlook: Outlook | None
    eta_s: float | None
    existing: Batch | None
    refused: str
    """Why `submit` would refuse the whole file; empty if it would not."""

    def as_dict(self) -> dict[str, Any]:
        outlook, existing, doubles = self.outlook, self.existing, self.doubles
        known = outlook is not None
        return {
            "file": self.file,
            "notes": list(self.notes),
            "batch_id": self.batch_id,
            "refused": self.refused or None,
            "already_submitted": existing.phase if existing else None,
            **self.tally.as_dict(),
            "doubles": {
                "numbers": doubles.numbers,
                "rows": doubles.rows,
                "examples": [same.as_dict() for same in doubles.examples],
            },
            "used_too_often": {"limit": self.most_per_number, **self.used_too_often.as_dict()},
            "sent_before": self.sent_before.as_dict() if known else None,
            "in_interval": self.in_interval.as_dict() if known else None,
            "rate": outlook.rate if outlook else None,
            "waiting_before": outlook.waiting_before if outlook else None,
            "workers": outlook.workers if outlook else None,
            "halted": outlook.halted if outlook else None,
            "eta_seconds": round(self.eta_s, 1) if self.eta_s is not None else None,
        }


def preflight(
    sheet: Sheet,
    client: redis.Redis | None,
    settings: Settings,
    question: Question,
    *,
    on_invalid: Callable[[Row], None] = lambda _: None,
    progress: Progress = lambda _: None,
) -> Preflight:
    """Look at a file. `client` is None where the ledger is out of reach, and left out then.

    Each invalid row is given to `on_invalid`.

    Raises:
        SheetError: the file cannot be read to its end.
        redis.RedisError: the ledger was lost on the way.
    """
    tally, sent_before, in_interval = Tally(), Lines(), Lines()
    memory = Memory(client, settings) if client is not None else None
    with NumberUse() as use:
        for chunk in _chunks(rows_to_send(sheet, memory)):
            valid = []
            for row in chunk:
                tally.count(row)
                if row.phone is None:
                    on_invalid(row)
                else:
                    valid.append((row.phone, row.line))
            known = _look_up(memory, [phone for phone, _ in valid])
            for (_, line), history in zip(valid, known, strict=True):
                if history.codes:
                    sent_before.add(line)
                if history.is_closed:
                    in_interval.add(line)
            use.add(
                (phone, line, history.codes)
                for (phone, line), history in zip(valid, known, strict=True)
            )
            if tally.rows % REPORT_ROWS < CHUNK_ROWS:
                progress(tally.rows)
        doubles = use.doubles()
        used_too_often = use.used_more_than(question.most_per_number)
    batch_id = question.batch_id or default_batch_id(sheet.digest)
    outlook, existing, refused = None, None, ""
    if client is not None:
        outlook = Outlook.of(look(client, settings))
        try:
            existing = find_batch(Batches(client, settings), batch_id, sheet)
        except ImportRefusedError as exc:
            refused = str(exc)
    return Preflight(
        file=sheet.name,
        unit=sheet.unit,
        notes=tuple(sheet.notes),
        batch_id=batch_id,
        tally=tally,
        doubles=doubles,
        most_per_number=question.most_per_number,
        used_too_often=used_too_often,
        sent_before=sent_before,
        in_interval=in_interval,
        outlook=outlook,
        eta_s=outlook.seconds_for(tally.valid, question.max_rate) if outlook else None,
        existing=existing,
        refused=refused,
    )


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def _look_up(memory: Memory | None, phones: Sequence[PhoneNumber]) -> list[NumberHistory]:
    return memory.histories(phones) if memory else [NumberHistory()] * len(phones)
