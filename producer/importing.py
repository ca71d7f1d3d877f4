"""A file becomes a batch: exactly one job per row, whatever interrupts it.

First the whole file is read: whatever is wrong with it comes to light before anything is written.
Its rows go to a temporary file in the form that the ledger takes. Then they are appended in chunks
that say where in the batch they belong, so any chunk may be sent again, by this process or by
another one that reads the same content later. `preflight` says what would become of a file, and
writes nothing.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any, Self

import redis

from config.settings import Settings
from jobs.batch import BLOCK_ROWS, Batch, BatchRow
from jobs.batches import Batches, BatchGoneError, ContentHeldError
from jobs.identity import Identity, state_file
from jobs.job import EVENT, batch_job_id, split_job_id
from jobs.rows import CHUNK_ROWS
from jobs.scripts import parted, time_ms
from producer.overview import Overview, read_overview
from producer.second_codes import (
    KEPT_BACK,
    NO_HISTORY,
    Memory,
    cell_of,
    last_named,
    rows_to_send,
)
from producer.sheet import Row, Sheet
from producer.tally import Doubles, NumberUse, Places, Tally

DEFAULT_ID_LENGTH = 12
MOST_CODES_PER_NUMBER = 5
"""The vendor limits accounts per number and does not say to how many: our assumption."""

_CHUNK_BYTES = 1 << 20
_REPORT_ROWS = 2_000
"""Rows between two reports of progress while the file is read."""
_MOST_OWNERS = 20
"""A column `job_id` that names more batches than that is the customer's own."""
_BATCH_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Progress = Callable[[int], None]
"""Called with the number of rows that are done."""


class Refusal(StrEnum):
    """Why a file cannot become a batch."""

    ID_UNFIT = "id_unfit"
    """A batch's id has 1 to 64 letters, digits, dots, underscores and dashes."""
    ID_RESERVED = "id_reserved"
    """The ids of events' jobs begin with it."""
    CONTENT_HELD = "content_held"
    """Another batch has the content: all its customers would get a second code."""
    CANCELLED = "cancelled"
    """The batch of this content was cancelled."""
    OTHER_CONTENT = "other_content"
    """The id belongs to a batch with other content."""
    OTHER_ENCODING = "other_encoding"
    """The import was begun in another encoding: other rows might come out of it now."""
    NO_ROWS = "no_rows"
    """There is none below the names of the columns."""
    NO_VALID_ROW = "no_valid_row"
    """There are rows, and none of them can be sent."""


class ImportRefusedError(Exception):
    """The file cannot become this batch; nothing was written."""

    def __init__(self, why: Refusal, batch: Batch | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.batch = batch
        """The batch that stands in the way; None if it is the id, or if the batch is gone again."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a batch is submitted with. A batch keeps those of its first submission.

    `Batches.open` takes each by its name.
    """

    name: str = ""
    max_rate: float | None = None
    """Jobs per second at most; None for the account's limit."""
    expires_ms: int | None = None
    """Unix milliseconds after which its codes are of no use and are not sent."""
    again: bool = False
    """Another batch has its content, which is to be sent once more."""
    starts_ms: int | None = None
    """Unix milliseconds before which none of its codes is sent."""
    skip_sent: bool = False
    """Rows whose number got a code before, or waits for one, are left out: when the file is read,
    and again when their turn comes."""
    by: str = ""
    """Who submits it; by default this process' user."""
    token: str = ""
    """The name of the HTTP API's token with which they do, if so."""

    def timed(self, now_ms: int, starts_ms: int | None, life_s: float | None) -> Terms:
        """Return the terms with times; a code's life begins at the start. `now_ms`: by Redis."""
        expires_ms = (starts_ms or now_ms) + round(life_s * 1000) if life_s is not None else None
        return replace(self, starts_ms=starts_ms, expires_ms=expires_ms)


def check_batch_id(batch_id: str | None) -> None:
    """Refuse an id that a person may not choose; None is that of the content.

    A job's id is its batch's id, "-" and the row's number, so it is read from its end: "a-1-2" is
    row 2 of batch "a-1" and nothing else. Events' ids begin with "ev-", hence "ev" is taken.

    Raises:
        ImportRefusedError: `ID_UNFIT` or `ID_RESERVED`.
    """
    if batch_id is not None and not _BATCH_ID.fullmatch(batch_id):
        raise ImportRefusedError(Refusal.ID_UNFIT)
    if batch_id == EVENT:
        raise ImportRefusedError(Refusal.ID_RESERVED)


def default_batch_id(digest: str) -> str:
    """Return the id of a batch that nobody named: the same content gets the same id."""
    return digest[:DEFAULT_ID_LENGTH]


class Spool:
    """The rows of one file in the form that the ledger takes; deleted when closed."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="sendcode-rows-")  # noqa: SIM115 (see close)
        # which row to be sent corrects which job: "12 b1-7"
        self._origins = tempfile.TemporaryFile("w+", prefix="sendcode-origins-")  # noqa: SIM115
        self.tally = Tally()
        self._owners: Counter[str] = Counter()
        """How many rows to be sent correct a row of which batch, by their column `job_id`."""

    def close(self) -> None:
        self._file.close()
        self._origins.close()

    def read(
        self,
        sheet: Sheet,
        progress: Progress = lambda _: None,
        memory: Memory | None = None,
        *,
        have: int = 0,
        skip_sent: bool = False,
    ) -> None:
        """Read all of `sheet`, replacing what was read before; `memory` as for `rows_to_send`.

        The batch may already `have` its first rows. Codes sent to these are perhaps its own, so
        they do not count as sent before or waiting, and are not skipped.

        Raises:
            SheetError: the file is damaged further down, or was changed meanwhile.
        """
        self.tally, self._owners = Tally(), Counter()
        for file in (self._file, self._origins):
            file.seek(0)
            file.truncate()
        after = have if skip_sent else None
        origin = last_named(sheet.header, "job_id")
        for row, history in rows_to_send(sheet, memory, skip_sent_after=after):
            self.tally.count(row, history if row.number > have else NO_HISTORY)
            if row.phone is not None and origin is not None:
                job_id = cell_of(row, origin)
                owner, _ = split_job_id(job_id)
                if len(self._owners) < _MOST_OWNERS:
                    self._owners[owner] += 1
                if _BATCH_ID.fullmatch(owner):
                    self._origins.write(f"{row.number} {job_id}\n")
            self._file.write(_encode(row))
            self._file.write(b"\n")  # an encoded row has no line break of its own
            if self.tally.rows % _REPORT_ROWS == 0:
                progress(self.tally.rows)
        progress(self.tally.rows)

    def corrects(self, batches: Batches) -> tuple[str, int]:
        """Return the batch whose rows the file corrects, and how many of its rows are others.

        The id is empty if it corrects none, or several. The correction of a correction counts for
        the first batch of all.
        """
        found: Counter[str] = Counter()
        for owner, count in self._owners.items():
            batch = batches.get(owner) if owner else None
            if batch is not None:
                found[batch.corrects or batch.batch_id] += count
        if len(found) != 1 or len(self._owners) == _MOST_OWNERS:
            return "", 0
        ((batch_id, count),) = found.items()
        return batch_id, self.tally.valid - count

    def corrected_jobs(self, batch_id: str) -> Iterator[list[tuple[str, str]]]:
        """Return, in portions, each job that the file corrects with its row's job in the batch."""
        self._origins.seek(0)
        lines = (line.rstrip("\n").split(" ", 1) for line in self._origins)
        pairs = ((origin, batch_job_id(batch_id, int(number))) for number, origin in lines)
        return parted(pairs, CHUNK_ROWS)

    @property
    def kept_back(self) -> int:
        """The number of rows left out by a person, or as done or under way elsewhere."""
        return sum(
            places.count for fault, places in self.tally.rejected.items() if fault.code in KEPT_BACK
        )

    def chunks(self, start: int) -> Iterator[list[bytes]]:
        """Yield the rows from index `start` on, in portions that fit for one script call.

        But for the last, each ends with a block.
        """
        self._file.seek(0)
        chunk: list[bytes] = []
        size = 0
        for index, line in islice(enumerate(self._file), start, None):
            chunk.append(line[:-1])
            size += len(line)
            is_whole = (index + 1) % BLOCK_ROWS == 0
            if is_whole and (len(chunk) >= CHUNK_ROWS or size >= _CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk


def find_batch(
    batches: Batches, batch_id: str, sheet: Sheet, *, again: bool = False
) -> Batch | None:
    """Return the batch that this content continues; None if there is none of that id.

    Raises:
        ImportRefusedError: the id belongs to other content, its batch was cancelled, its import
            must go on in another encoding, or another batch has the content, which is not to be
            sent `again`.
    """
    batch = batches.get(batch_id)
    if batch is not None:
        return _same_content(batch, sheet)
    holder = batches.of_content(sheet.digest) if not again else None
    if holder is not None:
        raise _held(holder)
    return None


def _held(holder: Batch | None) -> ImportRefusedError:
    is_over = holder is not None and not holder.state.takes_rows
    return ImportRefusedError(Refusal.CANCELLED if is_over else Refusal.CONTENT_HELD, holder)


def _same_content(batch: Batch, sheet: Sheet) -> Batch:
    if batch.digest != sheet.digest:
        raise ImportRefusedError(Refusal.OTHER_CONTENT, batch)
    if not batch.state.takes_rows:
        raise ImportRefusedError(Refusal.CANCELLED, batch)
    if not batch.imported and batch.encoding != (sheet.named_encoding or ""):
        raise ImportRefusedError(Refusal.OTHER_ENCODING, batch)
    return batch


def append_all(
    batches: Batches, batch: Batch, spool: Spool, progress: Progress = lambda _: None
) -> None:
    """Append the rows that the batch lacks. After an interruption the next call completes it.

    Raises:
        BatchCancelledError: somebody cancelled the batch meanwhile.
        BatchGoneError: somebody removed it.
    """
    have = batch.total
    progress(have)
    for pairs in spool.corrected_jobs(batch.batch_id):  # first: nobody tries those again meanwhile
        batches.note_corrections(pairs)
    # One chunk travels while the next one is read.
    with ThreadPoolExecutor(1, "append") as line:
        on_its_way: Future[int] | None = None
        for chunk in spool.chunks(have):
            if on_its_way is not None:
                progress(on_its_way.result())
            on_its_way = line.submit(batches.append, batch.batch_id, have, chunk)
            have += len(chunk)
        if on_its_way is not None:
            progress(on_its_way.result())
    batches.append(batch.batch_id, have, [], last=True)


class Submission:
    """A file on its way to a batch: `read` it, and `write` it, unless it `is_complete`.

    The caller may report or ask anything between the steps. Only `write` changes the ledger.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        sheet: Sheet,
        terms: Terms,
        batch_id: str | None = None,
    ) -> None:
        """Prepare it.

        Raises:
            LedgerRefusedError: nothing may be sent.
        """
        identity = Identity(client, settings, state_file(settings))
        identity.check()
        self._client, self._settings = client, settings
        self._batches = Batches(client, settings, identity)
        self._sheet = sheet
        self._terms = terms
        self._asked_id = batch_id
        self.batch: Batch | None = None
        """The batch that this content continues, or has become."""
        self.is_complete = False
        """All of it was submitted before: there is nothing to write."""
        self.spool = Spool()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.spool.close()

    @property
    def batch_id(self) -> str:
        """The id asked for, or that of the content, which is known once it was read."""
        return self._asked_id or default_batch_id(self._sheet.digest)

    @property
    def left_aside(self) -> list[str]:
        """The terms without effect, as a batch keeps those of its first submission."""
        asked, batch = self._terms, self.batch
        if batch is None:
            return []
        pairs = (
            ("max_rate", asked.max_rate, batch.max_rate),
            ("expires_in", asked.expires_ms, None),
            ("starts_at", asked.starts_ms, batch.starts_ms),
            ("skip_sent", asked.skip_sent or None, batch.skip_sent),
        )
        return [name for name, wanted, kept in pairs if wanted is not None and wanted != kept]

    @property
    def lacking(self) -> Refusal | None:
        """Why no new batch can be made of what was read, if none can."""
        if self.batch is not None or self.spool.tally.valid:
            return None
        return Refusal.NO_VALID_ROW if self.spool.tally.rows else Refusal.NO_ROWS

    def read(self, progress: Progress = lambda _: None) -> None:
        """Read the whole file, and find the batch that it continues, if there is one.

        Raises:
            SheetError: as `Spool.read`.
            ImportRefusedError: as `find_batch`.
        """
        self._read(self._asked_id or "", None, progress)
        self.batch = find_batch(self._batches, self.batch_id, self._sheet, again=self._terms.again)
        self.is_complete = self.batch is not None and self.batch.imported
        if self.batch is not None and not self.is_complete:
            # the codes of rows that it has are perhaps its own
            self._read(self.batch_id, self.batch, progress)

    def _read(self, besides: str, begun: Batch | None, progress: Progress) -> None:
        memory = Memory(self._client, self._settings, besides)
        have = begun.total if begun is not None else 0
        skip_sent = (begun or self._terms).skip_sent
        self.spool.read(self._sheet, progress, memory, have=have, skip_sent=skip_sent)

    def open(self, not_within_ms: int = 0) -> Batch:
        """Create the batch, or find it again; none of its rows is sent within `not_within_ms`.

        Raises:
            ImportRefusedError: as `lacking` and `find_batch`.
        """
        if self.lacking:
            raise ImportRefusedError(self.lacking)
        sheet, spool, terms = self._sheet, self.spool, self._terms
        if not_within_ms:
            soonest_ms = time_ms(self._client.time()) + not_within_ms
            terms = replace(terms, starts_ms=max(terms.starts_ms or 0, soonest_ms))
        corrects, added = spool.corrects(self._batches)
        try:
            batch, _ = self._batches.open(
                self.batch_id,
                sheet.digest,
                sheet.header,
                **asdict(terms),
                delimiter=sheet.delimiter,
                encoding=sheet.named_encoding or "",
                columns=(sheet.asked.number or "", sheet.asked.country or ""),
                corrects=corrects,
                added=added,
                kept_back=spool.kept_back,
                codes=spool.tally.valid,
            )
        except ContentHeldError as exc:
            raise _held(self._batches.get(exc.batch_id)) from exc
        self.batch = _same_content(batch, sheet)
        return self.batch

    def write(self, progress: Progress = lambda _: None) -> Batch:
        """Write the rows that the batch lacks; after an interruption the same file completes it.

        Raises:
            ImportRefusedError: as `open`.
            BatchCancelledError, BatchGoneError: as `append_all`.
            redis.RedisError: it was cut off.
        """
        append_all(self._batches, self.open(), self.spool, progress)
        self.batch = self._batches.get(self.batch_id)
        if self.batch is None:
            raise BatchGoneError(f"batch {self.batch_id} is gone")
        return self.batch

    def as_dict(self) -> dict[str, Any]:
        return {
            "batch_id": self.batch_id,
            **(self.batch.as_dict() if self.batch is not None else {}),
            "already_submitted": self.is_complete,
            "file": None if self.is_complete else self.spool.tally.as_dict(),
        }


def _encode(row: Row) -> bytes:
    problem = row.problem
    code, reason = (problem.code, f"{problem.message}; {problem.remedy}") if problem else ("", "")
    return BatchRow(row.line, row.cells, row.phone, code, reason).encode().encode()


@dataclass(frozen=True, slots=True)
class Preflight:
    """What would become of a file that is submitted."""

    batch_id: str
    most_per_number: int
    tally: Tally
    doubles: Doubles
    used_too_often: Places
    overview: Overview | None = None
    """None where Redis was out of reach; then nothing from the ledger is known below, either."""
    existing: Batch | None = None
    """The batch that has this content already."""
    refused: ImportRefusedError | None = None
    """Why the whole file would be refused, if it would."""
    eta_s: float | None = None

    @property
    def adds_rows(self) -> bool:
        """Whether submitting it would add anything."""
        return not self.refused and (self.existing is None or not self.existing.imported)

    def as_dict(self) -> dict[str, Any]:
        tally, overview = self.tally, self.overview
        return {
            "batch_id": self.batch_id,
            "refused": str(self.refused.why) if self.refused else None,
            "already_submitted": self.existing.phase if self.existing else None,
            **tally.as_dict(),
            "doubles": asdict(self.doubles),
            "used_too_often": {"limit": self.most_per_number, **self.used_too_often.as_dict()},
            "sent_before": tally.sent_before.as_dict() if overview else None,
            "waiting_elsewhere": tally.waiting.as_dict() if overview else None,
            "in_interval": tally.in_interval.as_dict() if overview else None,
            "rate": overview.rate if overview else None,
            "waiting_before": overview.waiting_before if overview else None,
            "workers": overview.alive if overview else None,
            "halted": overview.is_halted if overview else None,
            "eta_seconds": round(self.eta_s, 1) if self.eta_s is not None else None,
        }


def preflight(
    sheet: Sheet,
    client: redis.Redis | None,
    settings: Settings,
    *,
    batch_id: str,
    terms: Terms,
    most_per_number: int = MOST_CODES_PER_NUMBER,
    on_noted: Callable[[Row], None] = lambda _: None,
    progress: Progress = lambda _: None,
) -> Preflight:
    """Read a file as if to submit it. `client` is None to look at the file alone.

    Each row with a problem or a doubt is given to `on_noted`.

    Raises:
        SheetError: the file cannot be read to its end.
        redis.RedisError: the ledger was lost on the way.
    """
    memory = Memory(client, settings, batch_id) if client is not None else None
    tally = Tally()
    with NumberUse() as use:
        after = 0 if terms.skip_sent else None
        for row, history in rows_to_send(sheet, memory, skip_sent_after=after):
            tally.count(row, history)
            if row.phone is not None:
                use.add(row.phone, row.line, history.codes + bool(history.waits_in))
            if row.phone is None or row.warnings:
                on_noted(row)
            if tally.rows % _REPORT_ROWS == 0:
                progress(tally.rows)
        progress(tally.rows)
        used_too_often, doubles = use.used_more_than(most_per_number), use.doubles()
    found = Preflight(batch_id, most_per_number, tally, doubles, used_too_often)
    if client is None:
        return found
    overview = read_overview(client, settings)
    eta_s = overview.seconds_for(tally.valid, terms.max_rate)
    try:
        existing = find_batch(Batches(client, settings), batch_id, sheet)
    except ImportRefusedError as exc:
        return replace(found, overview=overview, eta_s=eta_s, refused=exc)
    return replace(found, overview=overview, eta_s=eta_s, existing=existing)
