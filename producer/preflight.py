"""What would happen if a file were submitted: looked at as a whole, sending and writing nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from config.settings import Settings
from jobs.batch import Batch
from jobs.batches import Batches
from producer.importing import (
    REPORT_ROWS,
    ImportRefusedError,
    Progress,
    default_batch_id,
    find_batch,
)
from producer.overview import Outlook, look
from producer.second_codes import Memory, rows_to_send
from producer.sheet import Row, Sheet
from producer.tally import Doubles, NumberUse, Places, Tally, Waiting

MOST_CODES_PER_NUMBER = 5
"""The vendor lets a number have only so many accounts and does not say how many: our assumption."""


@dataclass(frozen=True, slots=True)
class Question:
    """How the file would be submitted."""

    batch_id: str | None = None
    max_rate: float | None = None
    most_per_number: int = MOST_CODES_PER_NUMBER
    skip_sent: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """What the rows of the file are. Without the ledger no number seems to have had a code."""

    tally: Tally
    doubles: Doubles
    used_too_often: Places
    sent_before: Places
    waiting: Waiting
    in_interval: Places


@dataclass(frozen=True, slots=True)
class Prospect:
    """What awaits the file, as the ledger knows it."""

    outlook: Outlook
    eta_s: float
    existing: Batch | None
    """The batch that has this content already."""
    refused: ImportRefusedError | None
    """Why the whole file would be refused, if it would."""

    @property
    def adds_rows(self) -> bool:
        """Whether submitting it would add anything."""
        return not self.refused and (self.existing is None or not self.existing.imported)


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found."""

    file: str
    unit: str
    notes: tuple[str, ...]
    batch_id: str
    most_per_number: int
    contents: Contents
    prospect: Prospect | None
    """None where Redis was out of reach."""

    def as_dict(self) -> dict[str, Any]:
        contents, prospect = self.contents, self.prospect
        outlook = prospect.outlook if prospect else None
        existing = prospect.existing if prospect else None
        return {
            "file": self.file,
            "notes": list(self.notes),
            "batch_id": self.batch_id,
            "refused": str(prospect.refused.why) if prospect and prospect.refused else None,
            "already_submitted": existing.phase if existing else None,
            **contents.tally.as_dict(),
            "doubles": contents.doubles.as_dict(),
            "used_too_often": {"limit": self.most_per_number, **contents.used_too_often.as_dict()},
            "sent_before": contents.sent_before.as_dict() if prospect else None,
            "waiting_elsewhere": contents.waiting.as_dict() if prospect else None,
            "in_interval": contents.in_interval.as_dict() if prospect else None,
            "rate": outlook.rate if outlook else None,
            "waiting_before": outlook.waiting_before if outlook else None,
            "workers": outlook.workers if outlook else None,
            "halted": outlook.halted if outlook else None,
            "eta_seconds": round(prospect.eta_s, 1) if prospect else None,
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
    batch_id = question.batch_id or default_batch_id(sheet.digest)
    memory = Memory(client, settings, batch_id) if client is not None else None
    contents = _read(sheet, memory, question, on_invalid, progress)
    prospect = None
    if client is not None:
        outlook = Outlook.of(look(client, settings))
        eta_s = outlook.seconds_for(contents.tally.valid, question.max_rate)
        prospect = Prospect(outlook, eta_s, *_find(Batches(client, settings), batch_id, sheet))
    return Preflight(
        file=sheet.name,
        unit=sheet.unit,
        notes=tuple(sheet.notes),
        batch_id=batch_id,
        most_per_number=question.most_per_number,
        contents=contents,
        prospect=prospect,
    )


def _read(
    sheet: Sheet,
    memory: Memory | None,
    question: Question,
    on_invalid: Callable[[Row], None],
    progress: Progress,
) -> Contents:
    tally, sent_before, waiting, in_interval = Tally(), Places(), Waiting(), Places()
    with NumberUse() as use:
        after = 0 if question.skip_sent else None
        for row, history in rows_to_send(sheet, memory, skip_sent_after=after):
            tally.count(row)
            if row.phone is None:
                on_invalid(row)
            else:
                use.add(row.phone, row.line, history.codes + bool(history.waits_in))
            if history.codes:
                sent_before.add(row.line)
            if history.waits_in:
                waiting.add_in(history.waits_in, row.line)
            if history.is_closed:
                in_interval.add(row.line)
            if tally.rows % REPORT_ROWS == 0:
                progress(tally.rows)
        progress(tally.rows)
        used_too_often = use.used_more_than(question.most_per_number)
        doubles = use.doubles()
        return Contents(tally, doubles, used_too_often, sent_before, waiting, in_interval)


def _find(
    batches: Batches, batch_id: str, sheet: Sheet
) -> tuple[Batch | None, ImportRefusedError | None]:
    """Return the batch that has this content already, or why the file would be refused."""
    try:
        return find_batch(batches, batch_id, sheet), None
    except ImportRefusedError as exc:
        return None, exc
