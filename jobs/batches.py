"""Batches in the ledger: rows waiting in their file's order, steering, counts and results.

A row is one string, as the scripts read it: `cc TAB num TAB line TAB cells as JSON`, or, rejected,
`TAB code TAB line TAB [reason, cells] as JSON`. It becomes a job when the sweeper feeds it; until
then it costs its own length and little more.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import redis

from config.settings import Settings
from jobs.job import JobRecord, Lane, batch_job_id, iso, split_job_id
from jobs.keys import Keys
from jobs.outcome import State
from jobs.phone import PhoneNumber
from jobs.scripts import load_script

CHUNK_ROWS = 500

Order = Literal["pause", "resume", "cancel"]


RATE_FADES_S = 15.0
"""How quickly a batch's measured rate forgets (`note_pace` in common.lua has it in ms)."""
SLOWEST_RATE = 0.01
"""Jobs per second below which a batch is taken to stand still."""


class BatchGoneError(Exception):
    """The batch was removed, or its import was changed, while rows were appended."""


class BatchCancelledError(Exception):
    """The batch was cancelled: it takes no more rows."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One data record of the file: accepted with its number, or rejected with a reason."""

    line: int
    """Physical line in the file where the record begins."""
    cells: Sequence[str]
    phone: PhoneNumber | None = None
    code: str = ""
    """Why it was rejected, as a name, and in words:"""
    reason: str = ""

    def encode(self) -> str:
        if self.phone is not None:
            cells = json.dumps(self.cells, ensure_ascii=False, separators=(",", ":"))
            return f"{self.phone.country_code}\t{self.phone.phone_num}\t{self.line}\t{cells}"
        told = json.dumps([self.reason, self.cells], ensure_ascii=False, separators=(",", ":"))
        return f"\t{self.code}\t{self.line}\t{told}"

    @classmethod
    def decode(cls, text: str) -> BatchRow:
        country_code, second, line, told = text.split("\t", 3)
        if country_code:
            return cls(int(line), json.loads(told), PhoneNumber(country_code, second))
        reason, cells = json.loads(told)
        return cls(int(line), cells, None, second, reason)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the ledger has it. Times are Unix milliseconds."""

    batch_id: str
    state: str
    """`running`, `paused`, `cancelled` or `done`."""
    name: str
    digest: str
    """SHA-256 of the file's content."""
    header: tuple[str, ...]
    delimiter: str
    """Between the cells of its results, as in its file."""
    encoding: str
    """As which its file was read; an import is completed in the same one."""
    total: int
    accepted: int
    rejected: int
    fed: int
    cursor: int
    """Rows that the feed has passed: accepted ones became jobs, rejected ones were left out."""
    imported: bool
    created_ms: int
    finished_ms: int | None = None
    max_rate: float | None = None
    expires_ms: int | None = None
    rate: float = 0.0
    """Jobs of it that ended per second, lately."""
    counts: dict[str, int] = field(default_factory=dict)
    by_code: dict[str, int] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        """Accepted rows that have a final state."""
        return sum(n for state, n in self.counts.items() if State(state).is_final) - self.rejected

    @property
    def phase(self) -> str:
        """The state as people see it: a running batch that lacks rows is `importing`."""
        return "importing" if self.state == "running" and not self.imported else self.state

    @property
    def unfinished(self) -> int:
        return max(0, self.accepted - self.finished)

    @property
    def eta_s(self) -> float | None:
        """Seconds until it has ended at the measured rate; None where nothing moves or is known."""
        if self.is_over:
            return 0.0
        if self.state != "running" or not self.imported or self.rate < SLOWEST_RATE:
            return None
        return self.unfinished / self.rate

    @property
    def is_over(self) -> bool:
        return self.state in {"done", "cancelled"} and self.finished >= self.accepted

    def as_dict(self) -> dict[str, Any]:
        """Give what a person or program may see; times in ISO 8601, UTC."""
        eta_s = self.eta_s
        return {
            "batch_id": self.batch_id,
            "name": self.name,
            "state": self.phase,
            "total": self.total,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "finished": self.finished,
            "counts": self.counts,
            "by_code": self.by_code,
            "rate": round(self.rate, 2),
            "eta_seconds": round(eta_s, 1) if eta_s is not None else None,
            "max_rate": self.max_rate,
            "created_at": iso(self.created_ms),
            "expires_at": iso(self.expires_ms) if self.expires_ms else None,
            "finished_at": iso(self.finished_ms) if self.finished_ms else None,
        }


class Batches:
    """All batches under one key prefix."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self._keys = Keys(settings.sendcode_key_prefix)
        self._retention_ms = round(settings.sendcode_retention_days * 86_400_000)
        self._open = load_script(client, self._keys, "open_batch")
        self._append = load_script(client, self._keys, "append_rows")
        self._steer = load_script(client, self._keys, "steer_batch")

    def open(
        self,
        batch_id: str,
        digest: str,
        header: Sequence[str],
        *,
        name: str = "",
        delimiter: str = ",",
        encoding: str = "",
        max_rate: float | None = None,
        expires_ms: int | None = None,
    ) -> tuple[Batch, bool]:
        """Create a batch, or find it again; True if it is new. Rows are appended next."""
        values: dict[str, str | float] = {
            "digest": digest,
            "header": json.dumps(list(header), ensure_ascii=False),
            "name": name,
            "delimiter": delimiter,
            "encoding": encoding,
        }
        if max_rate is not None:
            values["max_rate"] = max_rate
        if expires_ms is not None:
            values["expires_at"] = expires_ms
        flat: list[str | float] = [part for pair in values.items() for part in pair]
        verdict, pairs = self._open(args=[batch_id, *flat])
        found = dict(zip(pairs[::2], pairs[1::2], strict=True))
        return self._decode(batch_id, found, {}, 0), verdict == "new"

    def append(
        self, batch_id: str, first: int, rows: Sequence[BatchRow], *, last: bool = False
    ) -> int:
        """Append rows, the first of them having index `first` (0, 1 …) in the file.

        Rows that the batch has already are passed over. Gives the number of rows it has now.

        Raises:
            BatchGoneError: the batch is gone, or rows before `first` are missing.
            BatchCancelledError: it was cancelled, and nothing was appended.
        """
        return self.append_encoded(batch_id, first, [row.encode() for row in rows], last=last)

    def append_encoded(
        self, batch_id: str, first: int, rows: Sequence[str | bytes], *, last: bool = False
    ) -> int:
        """Append rows as `BatchRow.encode` gives them; see `append`."""
        have = int(self._append(args=[batch_id, first, int(last), *rows]))
        if have == _CANCELLED:
            raise BatchCancelledError(f"batch {batch_id} was cancelled: it takes no more rows")
        if have < 0:
            raise BatchGoneError(f"batch {batch_id}: rows are missing or it is gone; submit again")
        return have

    def get(self, batch_id: str) -> Batch | None:
        """Look at a batch and its counts; None if there is none of that id."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hgetall(self._keys.batch(batch_id))
        pipe.hgetall(self._keys.counts(batch_id))
        pipe.time()
        values, counts, (seconds, micros) = pipe.execute()
        if "state" not in values:
            return None
        return self._decode(batch_id, values, counts, seconds * 1000 + micros // 1000)

    def list(self) -> list[Batch]:
        """Give all batches, the newest first; those whose time of keeping is over are forgotten."""
        ids: Any = self.client.zrevrange(self._keys.batches, 0, -1)
        found = []
        for batch_id in ids:
            batch = self.get(batch_id)
            if batch is None:
                self.client.zrem(self._keys.batches, batch_id)
            else:
                found.append(batch)
        return found

    def steer(self, batch_id: str, order: Order, *, by: str = "cli") -> tuple[str, str] | None:
        """Pause, resume or cancel; give the states before and after, None if there is no batch."""
        action = json.dumps(
            {"at_ms": round(time.time() * 1000), "what": order, "batch": batch_id, "by": by}
        )
        args: list[str | bytes | int | float] = [batch_id, order, self._retention_ms, action]
        reply = self._steer(args=args)
        if reply[0] == "absent":
            return None
        before, after, ended = reply
        while ended:
            ended = self._steer(args=args)[2]
        return before, after

    def rows(self, batch_id: str) -> Iterator[tuple[int, BatchRow, JobRecord | None]]:
        """Give the batch's rows in order: 1-based number, row, and what became of it.

        The record is that of the row's job, or of the job that a person put in its place. There is
        none for a rejected row, nor for one whose job ended so long ago that it was forgotten.
        Reads chunk by chunk: a batch of any size takes little memory.
        """
        first = 0
        while (batch := self.get(batch_id)) is not None:
            texts: Any = self.client.lrange(
                self._keys.rows(batch_id), first, first + CHUNK_ROWS - 1
            )
            if not texts:
                return
            rows = [(n, BatchRow.decode(text)) for n, text in enumerate(texts, first + 1)]
            records = self._records([batch_job_id(batch_id, n) for n, row in rows if row.phone])
            for number, row in rows:
                record = records.get(batch_job_id(batch_id, number))
                # a row that the feed had not passed before the jobs were read is waiting still
                if record is None and row.phone is not None and number > batch.cursor:
                    record = unfed_record(batch, number, row)
                yield number, row, record
            first += len(texts)

    def _records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Look jobs up, each under the id asked for, though another may stand in its place."""
        found: dict[str, JobRecord] = {}
        wanted = {job_id: job_id for job_id in job_ids}
        while wanted:
            pipe = self.client.pipeline(transaction=False)
            for current in wanted.values():
                pipe.hgetall(self._keys.job(current))
            records = {
                asked: JobRecord.decode(current, values)
                for (asked, current), values in zip(wanted.items(), pipe.execute(), strict=True)
                if "state" in values
            }
            found.update(records)
            wanted = {asked: r.replaced_by for asked, r in records.items() if r.replaced_by}
        return found

    def row(self, job_id: str) -> BatchRow | None:
        """Look up the row that a batch job was made from, or will be; None for other jobs."""
        batch_id, number = split_job_id(job_id)
        if not number:
            return None
        text: Any = self.client.lindex(self._keys.rows(batch_id), number - 1)
        return BatchRow.decode(text) if text is not None else None

    def waiting_job(self, job_id: str) -> JobRecord | None:
        """Look up a batch job that is only a row yet (or was cancelled as one)."""
        batch_id, number = split_job_id(job_id)
        batch, row = self.get(batch_id), self.row(job_id)
        if batch is None or row is None or number <= batch.cursor:
            return None
        return unfed_record(batch, number, row)

    def _decode(
        self, batch_id: str, values: dict[str, str], counts: dict[str, str], now_ms: int
    ) -> Batch:
        accepted, fed = int(values["accepted"]), int(values["fed"])
        rejected = int(values["rejected"])
        states = {
            name: int(n) for name, n in counts.items() if not name.startswith("code:") and int(n)
        }
        by_code = {
            name.removeprefix("code:"): int(n)
            for name, n in counts.items()
            if name.startswith("code:") and int(n)
        }
        waiting = State.CANCELLED if values["state"] == "cancelled" else State.QUEUED
        if accepted > fed:
            states[waiting] = states.get(waiting, 0) + accepted - fed
        if rejected:
            states[State.REJECTED] = rejected
        finished, max_rate = values.get("finished"), values.get("max_rate")
        expires = values.get("expires_at")
        return Batch(
            batch_id=batch_id,
            state=values["state"],
            name=values.get("name", ""),
            digest=values["digest"],
            header=tuple(json.loads(values["header"])),
            delimiter=values.get("delimiter", ","),
            encoding=values.get("encoding", ""),
            total=int(values["total"]),
            accepted=accepted,
            rejected=rejected,
            fed=fed,
            cursor=int(values["cursor"]),
            imported=values.get("imported") == "1",
            created_ms=int(values["created"]),
            finished_ms=int(finished) if finished else None,
            max_rate=float(max_rate) if max_rate else None,
            expires_ms=int(expires) if expires else None,
            rate=_rate(values, now_ms),
            counts=states,
            by_code=by_code,
        )


_CANCELLED = -2
"""The reply of append_rows.lua for a batch that takes no more rows."""


def _rate(values: dict[str, str], now_ms: int) -> float:
    """Read the fading count of ended jobs that `note_pace` in common.lua keeps."""
    if "pace" not in values:
        return 0.0
    fades_ms = RATE_FADES_S * 1000
    # where the time is not known (0), nor is the rate
    count = float(values["pace"]) * math.exp(min(0, int(values["pace_at"]) - now_ms) / fades_ms)
    # a count that has only begun is as yet too small, by a known share
    begun = 1 - math.exp(min(0, int(values["pace_from"]) - now_ms) / fades_ms)
    return count / RATE_FADES_S / begun if begun > 0 else 0.0


def unfed_record(batch: Batch, number: int, row: BatchRow) -> JobRecord | None:
    """Give the record of a row that never became a job's hash; None for a rejected row."""
    if row.phone is None:
        return None
    cancelled = batch.state == "cancelled"
    return JobRecord(
        job_id=batch_job_id(batch.batch_id, number),
        state=State.CANCELLED if cancelled else State.QUEUED,
        phone=row.phone,
        lane=Lane.BATCH,
        batch_id=batch.batch_id,
        created_ms=batch.created_ms,
        finished_ms=batch.finished_ms if cancelled else None,
    )
