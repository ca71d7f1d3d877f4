"""Finding a customer in the ledger: by number, by a name that others know, by text of a row.

There is an index from a number to the job that has it, and to its youngest event; none to all jobs
that it ever had, nor from a RequestId: it would cost Redis memory for every job. So the rest is
looked through, the newest first, for as long as the caller's time lasts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from config.settings import Settings
from jobs.batch import BLOCK_ROWS, Batch
from jobs.batches import Batches
from jobs.job import EVENT, batch_job_id, event_job_id
from jobs.keys import old_digest
from jobs.records import Records
from jobs.rows import Rows
from jobs.scripts import LedgerPart, listed, parted

ROWS_AT_ONCE, JOBS_AT_ONCE = 32 * BLOCK_ROWS, 500
"""Looked at in one step: rows here, 5 ms; jobs in Redis, 3 ms."""
MOST_DEAD = 10_000
"""Of the newest dead letters."""
_LONGEST_COUNTRY_CODE = 3


@dataclass(slots=True)
class Trace:
    """Where a search led."""

    job_ids: list[str] = field(default_factory=list)
    """Jobs, or rows that never became one, in the order in which they were found; each once."""
    looked: int = 0
    """Jobs and rows looked through."""
    is_complete: bool = True
    """False: the time was over, or enough was found, before all was looked through."""
    next_row: int = 0
    """Of a search in one batch that is not complete: the index of the row to go on with."""
    next_batch: str = ""
    """Of a search in all batches that is not complete: that of the row, if rows are left."""

    def add(self, job_ids: Iterable[str]) -> None:
        self.job_ids += [each for each in dict.fromkeys(job_ids) if each not in self.job_ids]


@dataclass(frozen=True, slots=True)
class _Sought:
    """What is looked for: a number, a name or a text."""

    digits: str = ""
    indexes: Sequence[str] = ()
    """What may stand for the number in the ledger, whatever its country code."""
    name: str = ""
    text: str = ""


class Finder(LedgerPart):
    """Looks for at most `seconds` in each call, and for `most` results."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        *,
        seconds: float = 1.0,
        most: int = 50,
    ) -> None:
        super().__init__(client, settings)
        self._records = Records(client, settings)
        self._batches = Batches(client, settings)
        self._lists = Rows(client, settings)
        self._seconds, self._most = seconds, most

    def by_number(self, digits: str) -> Trace:
        """Find the jobs of a number, given by its digits, with or without its country code."""
        trace, until = Trace(), time.monotonic() + self._seconds
        sought = self._number(digits)
        trace.add(self._indexed(sought))
        goes_on = self._among(trace, sought, self._dead(), until)
        for batch in self._batches.newest():
            if not goes_on or not self._rows(trace, sought, batch, until):
                trace.next_batch = batch.batch_id
                return trace
        if goes_on:
            self._events(trace, sought, until)
        return trace

    def by_name(self, name: str) -> Trace:
        """Find the jobs with a RequestId, a reference or an idempotency key."""
        trace, until, sought = Trace(), time.monotonic() + self._seconds, _Sought(name=name)
        by_key = event_job_id(name)
        for each in (by_key, self.client.hget(self.keys.bound(by_key), "job")):
            if each and self.client.exists(self.keys.job(str(each))):
                trace.add([str(each)])
        if not self._among(trace, sought, self._dead(), until):
            return trace
        # batches have half of the time: references are those of events alone
        half = until - self._seconds / 2
        for batch in self._batches.newest():
            ids = (batch_job_id(batch.batch_id, n) for n in range(batch.cursor, 0, -1))
            if not self._among(trace, sought, ids, half):
                break
        if len(trace.job_ids) < self._most:
            self._events(trace, sought, until)
        return trace

    def in_batch(self, batch_id: str, text: str, digits: str = "", first: int = 0) -> Trace:
        """Find the rows of a batch whose cells hold a text, or with a number.

        `first`: the index of the row to begin with. Upper and lower case are the same, but for
        letters that are not English.
        """
        trace = Trace(next_row=first)
        until = time.monotonic() + self._seconds
        batch = self._batches.get(batch_id)
        if batch is not None and text:
            sought = self._number(digits) if digits else _Sought()
            self._rows(trace, replace(sought, text=text), batch, until)
        return trace

    def _indexed(self, sought: _Sought) -> list[str]:
        """Return the jobs that the index has for a number."""
        numbers = (("HGET", self.keys.number(index), "job") for index in sought.indexes)
        events = (("GET", self.keys.asked(index)) for index in sought.indexes)
        found = [job_id for job_id in self.ask_all([*numbers, *events]) if job_id]
        return found and self.run_script("find_jobs", found, indexes=listed(sought.indexes))

    def _number(self, digits: str) -> _Sought:
        numbers = [(str(code), digits) for code in COUNTRY_CODE_TO_REGION_CODE]
        numbers += [(digits[:n], digits[n:]) for n in range(1, _LONGEST_COUNTRY_CODE + 1)]
        found = self._records.vault.indexes(numbers)
        if not self._records.is_upgraded():
            found += [old_digest(*number) for number in numbers]
        return _Sought(digits, found)

    def _dead(self) -> Iterator[str]:
        dead: Any = self.client.lrange(self.keys.dead, -MOST_DEAD, -1)
        yield from reversed(dead)

    def _events(self, trace: Trace, sought: _Sought, until: float) -> None:
        """Search the events. They are in no list, so all keys of Redis are scanned."""
        for ids in self.pages_of_jobs(f"{EVENT}-*"):
            if not self._among(trace, sought, ids, until) or self._is_enough(trace, until):
                return

    def _among(self, trace: Trace, sought: _Sought, ids: Iterable[str], until: float) -> bool:
        """Search jobs; return whether there is time, and need, to go on."""
        for chunk in parted(ids, JOBS_AT_ONCE):
            found = self.run_script("find_jobs", chunk, indexes=listed(sought.indexes))
            trace.add(found if sought.digits else _named(found, sought.name))
            trace.looked += len(chunk)
            if self._is_enough(trace, until):
                return False
        return True

    def _rows(self, trace: Trace, sought: _Sought, batch: Batch, until: float) -> bool:
        """Search a batch's rows; return whether there is time, and need, to go on."""
        has_text = bool(sought.text)
        first = trace.next_row if has_text else 0
        needle = json.dumps(sought.text, ensure_ascii=False)[1:-1].encode().lower()
        indexes = frozenset(sought.indexes)
        while first < batch.total:
            looked, found = 0, []
            rows = self._lists.scan(batch.batch_id, first, ROWS_AT_ONCE, all_cells=has_text)
            for row in rows:
                looked += 1
                if _fits(*row, needle, sought.digits, indexes):
                    found.append(batch_job_id(batch.batch_id, first + looked))
                    if len(trace.job_ids) + len(found) >= self._most:
                        break
            if not looked:
                break
            first += looked
            trace.looked += looked
            trace.add(found)
            if self._is_enough(trace, until):
                trace.next_row = first
                trace.is_complete = has_text and first >= batch.total
                return False
        return True

    def _is_enough(self, trace: Trace, until: float) -> bool:
        if len(trace.job_ids) < self._most and time.monotonic() < until:
            return False
        trace.is_complete = False
        return True


def _named(reply: list[str], name: str) -> Iterator[str]:
    """Yield the jobs that others know by a name, from what find_jobs.lua replies."""
    for job_id, *names, story in zip(*(iter(reply),) * 5, strict=True):
        if name in names or f'"{name}"' in story:
            yield job_id


def _fits(
    country_code: str, num: str, cells: bytes, needle: bytes, digits: str, indexes: frozenset[str]
) -> bool:
    """Return whether a row, as `Rows.scan` yields it, holds a text, or is for a number."""
    if needle and needle in cells.lower():
        return True
    if not digits:
        return False
    if country_code:
        return num in indexes or digits in {num, country_code + num}
    return digits.encode() in cells  # it was rejected, so its number was not read
