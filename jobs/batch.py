"""A batch and its rows as values, and how the ledger holds them. No I/O.

A row is one string: `cc TAB num TAB line TAB cells as JSON`, or, rejected, `TAB code TAB line TAB
[reason, cells] as JSON`. It becomes a job when the sweeper feeds it. One that a person cancelled
until then has a minus in front. How the ledger keeps it: jobs/rows.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jobs.codes import OwnCode
from jobs.job import JobRecord, Lane, State, batch_job_id, iso, iso_or_none
from jobs.phone import PhoneNumber

BLOCK_ROWS = 64
"""Rows whose cells are sealed together."""
RATE_FADES_S = 15.0
"""How quickly a batch's measured rate forgets what has ended."""
_SILENCE_MS, _SILENT_JOBS = 5_000, 5
SLOWEST_RATE = 0.01
"""Jobs per second below which a batch is taken to stand still."""
_COUNTS = ("total", "accepted", "rejected", "fed", "cursor", "rows_lost", "added", "kept_back")
_TEXTS = ("name", "digest", "encoding", "bound", "by", "corrects")
_FLAGS = ("imported", "expiry_lost", "skip_sent")
"""Of a `Batch`, as they stand in the batch's hash."""


class BatchState(StrEnum):
    """Where a batch stands. The steps between them are a table in lua/shared/batches.lua."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    """All of its rows became jobs, and all of them ended; a requeue makes it run again."""
    CANCELLED = "cancelled"

    @property
    def is_fed(self) -> bool:
        """Whether its rows become jobs."""
        return self is BatchState.RUNNING

    @property
    def is_over(self) -> bool:
        """Whether none of its rows becomes a job any more; some jobs may be in work still."""
        return self in {BatchState.DONE, BatchState.CANCELLED}

    @property
    def takes_rows(self) -> bool:
        return self is not BatchState.CANCELLED

    @classmethod
    def _missing_(cls, value: object) -> BatchState | None:
        """Take a state that is none of these for paused: the scripts feed no such batch."""
        return cls.PAUSED if isinstance(value, str) else None


_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""As `json.dumps`, which would make an encoder for each row."""


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
    is_cancelled: bool = False
    """A person cancelled it before it became a job."""

    def encode(self) -> str:
        if self.phone is not None:
            cells = _as_json(self.cells)
            return f"{self.phone.country_code}\t{self.phone.phone_num}\t{self.line}\t{cells}"
        cells = _as_json([self.reason, self.cells])
        return f"\t{self.code}\t{self.line}\t{cells}"

    @classmethod
    def decode(cls, text: str) -> BatchRow:
        country_code, second, line, cells = text.split("\t", 3)
        if country_code:
            phone = PhoneNumber(country_code.removeprefix("-"), second)
            is_cancelled = country_code.startswith("-")
            return cls(int(line), json.loads(cells), phone, is_cancelled=is_cancelled)
        reason, rejected = json.loads(cells)
        return cls(int(line), rejected, None, second, reason)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the ledger has it. Times are Unix milliseconds."""

    batch_id: str
    state: BatchState
    name: str
    digest: str
    """SHA-256 of the file's content."""
    header: tuple[str, ...]
    delimiter: str
    """Between the cells of its file."""
    encoding: str
    """That a person named, if not the one detected; an import must be completed with the same."""
    columns: tuple[str, str]
    """The columns of number and country that a person named; empty if they were found."""
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
    rows_lost: int = 0
    """Rows that are no longer there: its file must be submitted again, for them to be sent."""
    expiry_lost: bool = False
    """Its rows are sealed for an expiry that nobody knows any more: it cannot be resumed."""
    skip_sent: bool = False
    """Rows whose number got a code are left out: on import, and when they would be sent."""
    starts_ms: int | None = None
    """No row is sent before that."""
    is_scheduled: bool = False
    """Whether `starts_ms` is still to come."""
    is_halted: bool = False
    """Whether all sending is halted now."""
    bound: str = ""
    """The bound on spending that paused it."""
    by: str = ""
    """Who submitted it, as `user@host`."""
    corrects: str = ""
    """The batch whose customers its file corrects."""
    added: int = 0
    """Rows to send that correct no row of that batch."""
    kept_back: int = 0
    """Its rejected rows that are done, or under way, elsewhere, or that a person left out."""
    rate: float = 0.0
    """Jobs of it that ended per second, lately."""
    counts: dict[str, int] = field(default_factory=dict)
    by_code: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    """Of the jobs in `counts` that are for a person, by state: those that one left as they are."""
    possible_duplicates: int = 0
    """Jobs that were perhaps sent twice, whatever became of them; they are in `counts` too."""

    @property
    def finished(self) -> int:
        """Accepted rows that have a final state."""
        return sum(n for state, n in self.counts.items() if State(state).is_final) - self.rejected

    @property
    def cancelled(self) -> int:
        return self.counts.get(State.CANCELLED, 0)

    @property
    def sent(self) -> int:
        return sum(n for state, n in self.counts.items() if State(state).is_sent)

    @property
    def is_undone(self) -> bool:
        """Whether it was taken back before its first code; its content is free again."""
        return self.state is BatchState.CANCELLED and not self.digest

    @property
    def phase(self) -> str:
        """The state as people see it: a running batch may be `importing` or `scheduled` yet."""
        if not self.state.is_fed:
            return self.state.value
        if not self.imported:
            return "importing"
        return "scheduled" if self.is_scheduled else "running"

    @property
    def unfinished(self) -> int:
        return max(0, self.accepted - self.finished)

    @property
    def eta_s(self) -> float | None:
        """Seconds until it has ended at the measured rate.

        None where nothing moves, or where all that is left waits for another try.
        """
        if self.is_over:
            return 0.0
        moving = self.unfinished - self.counts.get(State.PARKED, 0)
        if self.phase != "running" or self.is_halted or self.rate < SLOWEST_RATE or moving <= 0:
            return None
        return self.unfinished / self.rate

    @property
    def is_over(self) -> bool:
        return self.state.is_over and self.finished >= self.accepted

    def as_dict(self) -> dict[str, Any]:
        """Return what a person or program may see; times in ISO 8601, UTC."""
        eta_s = self.eta_s
        return {
            "batch_id": self.batch_id,
            "name": self.name,
            "state": self.phase,
            "total": self.total,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "rows_lost": self.rows_lost,
            "finished": self.finished,
            "counts": self.counts,
            "by_code": self.by_code,
            "possible_duplicate": self.possible_duplicates,
            "rate": round(self.rate, 2),
            "eta_seconds": round(eta_s, 1) if eta_s is not None else None,
            "max_rate": self.max_rate,
            "bound": self.bound or None,
            "by": self.by or None,
            "corrects": self.corrects or None,
            "starts_at": iso_or_none(self.starts_ms),
            "created_at": iso(self.created_ms),
            "expires_at": iso_or_none(self.expires_ms),
            "finished_at": iso_or_none(self.finished_ms),
        }


def decode_batch(
    batch_id: str,
    values: Mapping[str, str],
    counts: Mapping[str, str],
    now_ms: int,
    *,
    is_halted: bool = False,
) -> Batch:
    """Read a batch's hash and its counts; `now_ms` is Redis' clock."""

    def number(name: str) -> int:
        return int(values.get(name) or 0)

    found = {name: int(n) for name, n in counts.items() if int(n)}
    duplicates = found.pop("possible_duplicate", 0)
    # what another release counts is no state here
    states = {name: n for name, n in found.items() if name in set(State)}
    by_code = {
        name.removeprefix("code:"): n for name, n in found.items() if name.startswith("code:")
    }
    state = BatchState(values["state"])
    waiting = State.QUEUED if state.takes_rows else State.CANCELLED
    if (unfed := number("accepted") - number("fed")) > 0:
        states[waiting] = states.get(waiting, 0) + unfed
    if rejected := number("rejected"):
        states[State.REJECTED] = rejected
    plain: dict[str, Any] = {name: number(name) for name in _COUNTS}
    plain |= {name: values.get(name, "") for name in _TEXTS}
    plain |= {name: values.get(name) == "1" for name in _FLAGS}
    return Batch(
        batch_id=batch_id,
        state=state,
        header=tuple(json.loads(values.get("header", "[]"))),
        delimiter=values.get("delimiter", ","),
        columns=(values.get("phone_column", ""), values.get("country_column", "")),
        created_ms=number("created"),
        finished_ms=number("finished") or None,
        max_rate=float(values.get("max_rate") or 0) or None,
        expires_ms=number("expires_at") or None,
        starts_ms=number("not_before") or None,
        is_scheduled=number("not_before") > now_ms,
        is_halted=is_halted,
        rate=_rate(values, now_ms),
        counts=states,
        by_code=by_code,
        left={
            state: min(n, states.get(state, 0))
            for state in (State.DEAD, State.UNKNOWN)
            if (n := number(f"left_{state}")) > 0
        },
        possible_duplicates=duplicates,
        **plain,
    )


@dataclass(frozen=True, slots=True)
class Family:
    """A batch, and those made from files that corrected some of its rows."""

    batch: Batch
    corrections: tuple[Batch, ...] = ()

    @property
    def customers(self) -> int:
        """Rows, but for those that were left out as their customer had a code."""
        added = sum(each.added for each in self.corrections)
        return self.batch.total - self.batch.kept_back + added

    @property
    def done(self) -> int:
        """Customers who have a code."""
        meanwhile = self.batch.by_code.get(OwnCode.SENT_MEANWHILE, 0)
        sent = sum(each.sent for each in (self.batch, *self.corrections))
        return min(self.customers, sent + meanwhile)

    @property
    def left(self) -> int:
        """Customers without a code whom a person left as they are."""
        left = sum(sum(each.left.values()) for each in (self.batch, *self.corrections))
        return min(self.customers - self.done, left)

    @property
    def open(self) -> int:
        return self.customers - self.done - self.left

    def as_dict(self) -> dict[str, Any]:
        return {
            "total": self.customers,
            "done": self.done,
            "left": self.left,
            "open": self.open,
            "corrections": [each.batch_id for each in self.corrections],
        }


def unfed_record(batch: Batch, number: int, row: BatchRow) -> JobRecord | None:
    """Return the record of a row that never became a job's hash; None for a rejected row."""
    if row.phone is None:
        return None
    cancelled = not batch.state.takes_rows or row.is_cancelled
    return JobRecord(
        job_id=batch_job_id(batch.batch_id, number),
        state=State.CANCELLED if cancelled else State.QUEUED,
        phone=row.phone,
        lane=Lane.BATCH,
        batch_id=batch.batch_id,
        created_ms=batch.created_ms,
        finished_ms=batch.finished_ms if cancelled else None,
    )


def _rate(values: Mapping[str, str], now_ms: int) -> float:
    """Read the fading count of ended jobs that `note_pace` in batches.lua keeps."""
    if "pace" not in values:
        return 0.0
    fades_ms = RATE_FADES_S * 1000
    # when no job has ended for as long as several usually take, nothing moves
    usual_ms = fades_ms / max(1.0, float(values["pace"]))
    if now_ms - int(values["pace_at"]) > max(_SILENCE_MS, _SILENT_JOBS * usual_ms):
        return 0.0
    # where the time is not known (0), nor is the rate
    count = float(values["pace"]) * math.exp(min(0, int(values["pace_at"]) - now_ms) / fades_ms)
    # a count that has only begun is as yet too small, by a known share
    begun = 1 - math.exp(min(0, int(values["pace_from"]) - now_ms) / fades_ms)
    return count / RATE_FADES_S / begun if begun > 0 else 0.0
