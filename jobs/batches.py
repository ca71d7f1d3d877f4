"""Batches in the ledger: rows waiting in their file's order, steering, counts and results."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import redis

from config import SendcodeError
from config.settings import Settings
from jobs.actions import Action, somebody
from jobs.batch import Batch, BatchRow, BatchState, Family, decode_batch, unfed_record
from jobs.identity import Identity
from jobs.job import EVENT, JobRecord, Lane, State, batch_job_id, split_job_id
from jobs.masking import without_numbers
from jobs.records import Records
from jobs.rows import CHUNK_ROWS, Rows
from jobs.scripts import LedgerPart, listed, pairs, parted, time_ms

_ROWS_SCANNED = 2_000
_BATCHES_AT_ONCE = 50
"""Read in one transaction: less than a millisecond of Redis'."""

_CANCELLED = -2
"""The reply of append_rows.lua for a batch that takes no more rows."""

Order = Literal["pause", "resume", "cancel", "undo"]
ORDERED: dict[Order, BatchState] = {
    "pause": BatchState.PAUSED,
    "resume": BatchState.RUNNING,
    "cancel": BatchState.CANCELLED,
    "undo": BatchState.CANCELLED,
}
"""The state that each order asks for."""


class BatchGoneError(SendcodeError):
    """The batch was removed, or its import was changed, while rows were appended."""


class ContentHeldError(Exception):
    """Another batch, which is kept still, was made from the same content."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"batch {batch_id} has this content already")
        self.batch_id = batch_id


class BatchCancelledError(SendcodeError):
    """The batch was cancelled: it takes no more rows."""


class Batches(LedgerPart):
    """All batches under one key prefix."""

    def __init__(
        self, client: redis.Redis, settings: Settings, identity: Identity | None = None
    ) -> None:
        """Bind it; `identity` is what is known of the ledger, where batches are opened."""
        super().__init__(client, settings)
        self._identity = identity or Identity(client, settings)
        self._records_of = Records(client, settings)
        self._rows = Rows(client, settings)

    def open(  # noqa: PLR0913 (what a batch is made with, each by its name)
        self,
        batch_id: str,
        digest: str,
        header: Sequence[str],
        *,
        name: str = "",
        delimiter: str = ",",
        encoding: str = "",
        columns: tuple[str, str] = ("", ""),
        max_rate: float | None = None,
        expires_ms: int | None = None,
        starts_ms: int | None = None,
        skip_sent: bool = False,
        again: bool = False,
        corrects: str = "",
        added: int = 0,
        kept_back: int = 0,
        codes: int | None = None,
        by: str = "",
        token: str = "",
    ) -> tuple[Batch, bool]:
        """Create a batch, or find it again; True if it is new. Rows are appended next.

        Of two that are opened at once with one content, one is refused, unless it is to be another
        batch of that content (`again`). `codes`: how many are to be sent. `token`: the name of the
        one with which it is submitted, whose webhook is told of its end. Numbers in its `name` are
        masked.

        Raises:
            ContentHeldError: another batch was made from the same content.
            LedgerRefusedError: this is not the ledger that was known.
        """
        action = Action(what="batch submit", about=batch_id, jobs=codes, by=by or somebody())
        values: dict[str, str | float | None] = {
            "by": action.by,
            "token": token,
            "header": json.dumps(list(header), ensure_ascii=False),
            "name": without_numbers(name),  # people name files after customers
            "delimiter": delimiter,
            "encoding": encoding,
            "phone_column": columns[0],
            "country_column": columns[1],
            "skip_sent": int(skip_sent),
            "max_rate": max_rate,
            "expires_at": expires_ms,
            "not_before": starts_ms,
            "corrects": corrects,
            "added": added,
            "kept_back": kept_back,
        }
        reply = self.run_script(
            "open_batch",
            [part for field, value in values.items() if value for part in (field, value)],
            batch=batch_id,
            digest=digest,
            again=int(again),
            known=self._identity.known,
            action=action.encode(),
        )
        if reply[0] == "refused":
            raise self._identity.refuse()
        if reply[0] == "held":
            raise ContentHeldError(reply[1])
        return decode_batch(batch_id, pairs(reply[1]), {}, 0), reply[0] == "new"

    def append(
        self,
        batch_id: str,
        first: int,
        rows: Sequence[BatchRow | str | bytes],
        *,
        last: bool = False,
    ) -> int:
        """Append rows, encoded or not, the first of which has index `first` (0, 1 …) in the file.

        Rows that the batch has already are passed over. Return the number of rows it has now.

        Raises:
            BatchGoneError: the batch is gone, or rows before `first` are missing.
            BatchCancelledError: it was cancelled, and nothing was appended.
            SealedError: its last rows, which are to be completed, cannot be opened.
        """
        have = self._rows.append(batch_id, first, rows, is_last=last)
        if have == _CANCELLED:
            raise BatchCancelledError(f"batch {batch_id} was cancelled: it takes no more rows")
        if have < 0:
            raise BatchGoneError(f"batch {batch_id}: rows are missing or it is gone; submit again")
        return have

    def note_corrections(self, corrected: Sequence[tuple[str, str]]) -> None:
        """Note which rows' jobs stand for the customers of failed jobs from now on.

        Each pair is the id of a failed job, or that which a rejected row's would be, and that of
        the row's job.
        """
        self.run_script("note_corrections", [part for pair in corrected for part in pair])

    def noted_rows(self, batch_id: str) -> frozenset[int]:
        """Return the numbers of its rejected rows that corrected files took over, or would have."""
        noted = self.client.hscan_iter(self.keys.corrected(batch_id), count=CHUNK_ROWS)
        return frozenset(int(number) for number, _ in noted)

    def get(self, batch_id: str) -> Batch | None:
        """Return a batch with its counts; None if there is none of that id."""
        return self._read([batch_id]).get(batch_id)

    def of_content(self, digest: str) -> Batch | None:
        """Return the youngest batch that was made from a content, if it is still kept."""
        batch_id: Any = self.client.get(self.keys.content(digest))
        return self.get(batch_id) if batch_id is not None else None

    def family(self, batch: Batch) -> Family:
        """Return a batch with those whose files corrected rows of it, the oldest first."""
        # what corrects it is younger
        ids: Any = self.client.zrangebyscore(self.keys.batches, batch.created_ms, "+inf")
        found = zip(ids, self._each(ids, "corrects"), strict=True)
        corrections = [batch_id for batch_id, corrects in found if corrects == batch.batch_id]
        read = self._read(corrections) if corrections else {}
        return Family(batch, tuple(read[each] for each in corrections if each in read))

    def list(self) -> list[Batch]:
        """Return all batches that are still kept, the newest first."""
        return list(self.newest())

    def under_way(self) -> Sequence[Batch]:
        """Return those that are not over, the newest first, without reading the others.

        Of most batches that are kept nothing happens any more.
        """
        ids: Any = self.client.zrevrange(self.keys.batches, 0, -1)
        states = (("HGET", self.keys.batch(batch_id), "state") for batch_id in ids)
        opens = (("SCARD", self.keys.open(batch_id)) for batch_id in ids)
        found = self.ask_all([*states, *opens])
        wanted = [
            batch_id
            for batch_id, state, jobs in zip(ids, found[: len(ids)], found[len(ids) :], strict=True)
            if jobs or (state and not BatchState(state).is_over)
        ]
        return [batch for batch in self._read(wanted).values() if not batch.is_over]

    def newest(self, before: str = "") -> Iterator[Batch]:
        """Yield all batches that are still kept, the newest first, and forget the others.

        `before`: only those that are older than this one.
        """
        ids: Any = self.client.zrevrange(self.keys.batches, 0, -1)
        if before:
            ids = ids[ids.index(before) + 1 :] if before in ids else []
        for chunk in parted(ids, _BATCHES_AT_ONCE):
            yield from self._kept(chunk)

    def page(self, first: int, size: int) -> Sequence[Batch]:
        """Return some of the newest batches, from index `first` (0: the newest) on."""
        ids: Any = self.client.zrevrange(self.keys.batches, first, first + size - 1)
        return self._kept(ids)

    def count(self) -> int:
        """Return how many batches there are, with those whose keys have just run out."""
        return int(self.client.zcard(self.keys.batches))

    def _kept(self, ids: Sequence[str]) -> Sequence[Batch]:
        found = self._read(ids)
        if forgotten := [batch_id for batch_id in ids if batch_id not in found]:
            self.client.zrem(self.keys.batches, *forgotten)
        return [found[batch_id] for batch_id in ids if batch_id in found]

    def _read(self, ids: Sequence[str]) -> dict[str, Batch]:
        """Read the batches that are there, each with its counts as they were at one time."""
        found: dict[str, Batch] = {}
        for chunk in parted(ids, _BATCHES_AT_ONCE):
            pipe = self.client.pipeline(transaction=True)
            pipe.time()
            pipe.hget(self.keys.account, "state")
            for batch_id in chunk:
                pipe.hgetall(self.keys.batch(batch_id))
                pipe.hgetall(self.keys.counts(batch_id))
            now, account, *hashes = pipe.execute()
            now_ms, halted = time_ms(now), account == "halted"
            for batch_id, values, counts in zip(chunk, hashes[::2], hashes[1::2], strict=True):
                if "state" in values:
                    found[batch_id] = decode_batch(
                        batch_id, values, counts, now_ms, is_halted=halted
                    )
        return found

    def names_of(self, ids: Iterable[str]) -> dict[str, str]:
        """Return what people call these batches, in one round trip: a name, or the id."""
        wanted = list(ids)
        names = zip(wanted, self._each(wanted, "name"), strict=True)
        return {batch_id: name or batch_id for batch_id, name in names}

    def _each(self, ids: Sequence[str], field: str) -> Sequence[str | None]:
        return self.ask_all(("HGET", self.keys.batch(batch_id), field) for batch_id in ids)

    def steer(self, batch_id: str, order: Order, by: str = "") -> tuple[str, BatchState] | None:
        """Steer a batch by an order; return the states before and after, or None: no such batch.

        An undo is a cancel that is done only as long as no row became a job.
        """
        action = Action(what=f"batch {order}", about=batch_id, by=by or somebody()).encode()
        steer = partial(self.run_script, "steer_batch", batch=batch_id, order=order, action=action)
        reply = steer()
        if reply[0] == "absent":
            return None
        before, after, ended = reply
        while ended:
            ended = steer()[2]
        return before, BatchState(after)

    def rows(self, batch_id: str) -> Iterator[tuple[int, BatchRow, JobRecord | None]]:
        """Yield the batch's rows in order: 1-based number, row, and what became of it.

        The record is that of the row's job, or of the job that a person put in its place. There is
        none for a rejected row, nor for one whose job ended so long ago that it was forgotten.
        Reads chunk by chunk: a batch of any size takes little memory.
        """
        first = 0
        while (batch := self.get(batch_id)) is not None:
            rows = self._rows.read(batch_id, first)
            if not rows:
                return
            yield from self._with_records(batch, list(enumerate(rows, first + 1)))
            first += len(rows)

    def rows_numbered(
        self, batch: Batch, numbers: Sequence[int]
    ) -> Iterator[tuple[int, BatchRow, JobRecord | None]]:
        """Yield those of a batch's rows, as `rows` does."""
        found = self._rows.at([(batch.batch_id, number) for number in numbers])
        rows = [(n, row) for n, row in zip(numbers, found, strict=True) if row is not None]
        yield from self._with_records(batch, rows)

    def _with_records(
        self, batch: Batch, rows: Sequence[tuple[int, BatchRow]]
    ) -> Iterator[tuple[int, BatchRow, JobRecord | None]]:
        batch_id = batch.batch_id
        records = self._records([batch_job_id(batch_id, n) for n, row in rows if row.phone])
        for number, row in rows:
            record = records.get(batch_job_id(batch_id, number))
            # a row that the feed had not passed before the jobs were read is waiting still
            if record is None and row.phone is not None and number > batch.cursor:
                record = unfed_record(batch, number, row)
            yield number, row, record

    def in_state(
        self,
        batch: Batch,
        first: int,
        most: int,
        states: Collection[str],
        besides: Collection[str],
        seconds: float,
    ) -> tuple[Sequence[int], int]:
        """Find rows by what became of them, from index `first` on, `most` at most.

        Return their numbers, and the index to go on with, if they are enough or the time is over.
        A state is a job's, or `forgotten`, `left`, `corrected`. Rows that were rejected with one of
        the codes `besides` are left out.
        """
        found: list[int] = []
        until = time.monotonic() + seconds
        while first < batch.total and len(found) < most and time.monotonic() < until:
            looked_at, *numbers = self.run_script(
                "rows_in_state",
                batch=batch.batch_id,
                first=first,
                count=_ROWS_SCANNED,
                most=most - len(found),
                states=listed(states),
                besides=listed(besides),
            )
            if not looked_at:
                return found, batch.total
            found += numbers
            first += looked_at
        return found, first

    def first_open(self, batch: Batch, after: int) -> int:
        """Return the index from which on, behind row `after`, a row may wait or be in work."""
        ids: Any = self.client.smembers(self.keys.open(batch.batch_id))
        numbers = [number for each in ids if (number := split_job_id(each)[1]) > after]
        return min([*(number - 1 for number in numbers), max(after, batch.cursor)])

    def waiting(self, besides: str) -> Iterator[tuple[str, str]]:
        """Yield the numbers to which a code waits or is in work, the oldest batch's first.

        Each comes as the id of its batch, or `EVENT`, and the number's index; the batch `besides`
        is left out. They are read from the batches themselves: an index of numbers would cost Redis
        memory for every row that waits, and be one more thing that can be lost.
        """
        for batch in reversed(self.list()):
            if batch.is_over or batch.batch_id == besides:
                continue
            # rows first: what the feed takes away meanwhile is among the jobs then
            if batch.state.takes_rows:
                yield from ((batch.batch_id, n) for n in self._unfed(batch))
            jobs: Any = self.client.sscan_iter(self.keys.open(batch.batch_id), count=CHUNK_ROWS)
            is_cancelled = not batch.state.takes_rows
            yield from (
                (batch.batch_id, n) for n in self._numbers(jobs, in_doubt_only=is_cancelled)
            )
        events: Any = self.client.zrange(self.keys.due(Lane.EVENT), 0, -1)
        yield from ((EVENT, number) for number in self._numbers(iter(events)))

    def _unfed(self, batch: Batch) -> Iterator[str]:
        rows = self.keys.rows(batch.batch_id)
        for _, texts in self.pages_of(rows, _ROWS_SCANNED, batch.cursor):
            for text in texts:
                # of a rejected row the first part is empty
                if (end := text.find("\t")) > 0:
                    yield self._index_of(text[:end], text[end + 1 : text.find("\t", end + 1)])

    def _numbers(self, job_ids: Iterator[str], *, in_doubt_only: bool = False) -> Iterator[str]:
        """Yield the numbers of jobs that have not ended, or only of those of them in doubt."""
        for chunk in parted(job_ids, CHUNK_ROWS):
            for state, cc, num, doubt in self.ask_all(
                ("HMGET", self.keys.job(job_id), "state", "cc", "num", "doubt") for job_id in chunk
            ):
                if state and not State(state).is_final and (doubt or not in_doubt_only):
                    yield self._index_of(cc, num)

    def _index_of(self, country_code: str, token: str) -> str:
        index, found, _ = token.partition(":")
        return index if found else self._records_of.vault.index(country_code, token)

    def _records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return jobs, each by the id asked for, even where another has replaced it."""
        found: dict[str, JobRecord] = {}
        wanted = {job_id: job_id for job_id in job_ids}
        while wanted:
            read = self._records_of.read(list(wanted.values()))
            records = {asked: record for asked, record in zip(wanted, read, strict=True) if record}
            found.update(records)
            wanted = {asked: r.replaced_by for asked, r in records.items() if r.replaced_by}
        return found

    def row(self, job_id: str) -> BatchRow | None:
        """Return the row that a batch job was made from, or will be; None for other jobs."""
        return self.rows_of([job_id]).get(job_id)

    def rows_of(self, job_ids: Sequence[str]) -> dict[str, BatchRow]:
        """Return, by batch job, the row that it was made from; no others' jobs."""
        found = self._rows.at([split_job_id(job_id) for job_id in job_ids])
        return {each: row for each, row in zip(job_ids, found, strict=True) if row is not None}

    def waiting_job(self, job_id: str) -> JobRecord | None:
        """Return a batch job that is only a row yet (or was cancelled as one)."""
        batch_id, number = split_job_id(job_id)
        batch, row = self.get(batch_id), self.row(job_id)
        if batch is None or row is None or number <= batch.cursor:
            return None
        return unfed_record(batch, number, row)
