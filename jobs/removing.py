"""How data leave the ledger before their time: a person's, or what ended long ago; and the disk.

A person is forgotten by blanking what is kept for the number; counts, states and stories stay. Jobs
that have not ended are left as they are, and named: they need the number.

A purge goes in small steps that may be interrupted: the next one goes on. A batch goes as a whole,
its jobs first.

By its own rule (`auto-aof-rewrite-min-size`) a server never rewrites an append-only file of less
than 64 MB, or one that hardly grows: what has expired would stay in it, and in each backup of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import redis

from config.logging import fields
from config.redis import error_code
from config.settings import Settings
from jobs.actions import Action
from jobs.batches import Batches
from jobs.deadletters import DeadLetter, DeadLetters, Decision
from jobs.finding import Finder
from jobs.job import batch_job_id, split_job_id
from jobs.keys import old_digest
from jobs.phone import PhoneNumber
from jobs.records import Records
from jobs.rows import Rows
from jobs.scripts import LedgerPart, parted, time_ms

_PATIENCE_S = 3_600.0
_MOST = 1_000_000
_CHOSEN = "those of a person who is forgotten"
JOBS_AT_ONCE = 100
"""Removed in one step: 1 to 4 ms of Redis'."""
REWRITE_EVERY_S = 6 * 3_600.0
"""Seconds between two times, whatever the number of workers."""
ASK_EVERY_S = 60.0

log = logging.getLogger("sendcode.rewriting")


@dataclass(slots=True)
class Forgotten:
    """What was done."""

    blanked: int = 0
    """Jobs, with their rows, and rows that never became one."""
    waiting: list[str] = field(default_factory=list)
    """Jobs and rows that have not ended."""
    is_history_gone: bool = False
    """False while something waits, or the number's interval is not over."""


class Forgetting(LedgerPart):
    """Forgets persons of one ledger."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        self._finder = Finder(client, settings, seconds=_PATIENCE_S, most=_MOST)
        self._dead = DeadLetters(client, settings)
        self._rows = Rows(client, settings)
        self._records = Records(client, settings)

    def find(self, phone: PhoneNumber) -> list[str]:
        """Return the ids of jobs, and of rows that never became one. Looks through all there is."""
        return self._finder.by_number(phone.country_code + phone.phone_num).job_ids

    def forget(self, phone: PhoneNumber, ids: Sequence[str]) -> Forgotten:
        """Blank what `find` found; dead letters are dropped before."""
        done = Forgotten()
        if letters := self._blank(done, phone, ids):
            decision = Decision("drop", _CHOSEN)
            self._dead.drop(decision, [DeadLetter(each, -1, None) for each in letters])
            self._blank(done, phone, letters)
        if not done.waiting:
            action = Action(what="forget", about="a person", jobs=done.blanked)
            (is_gone,) = self.run_script(
                "forget_number", **self._number(phone), action=action.encode()
            )
            done.is_history_gone = bool(is_gone)
        return done

    def _blank(self, done: Forgotten, phone: PhoneNumber, ids: Sequence[str]) -> list[str]:
        """Blank jobs and rows; return those that are dead letters, to be dropped before."""
        verdicts = {job_id: self._blank_one(phone, job_id) for job_id in ids}
        done.blanked += list(verdicts.values()).count("blanked")
        done.waiting += [job_id for job_id, verdict in verdicts.items() if verdict == "waits"]
        return [job_id for job_id, verdict in verdicts.items() if verdict == "letter"]

    def _blank_one(self, phone: PhoneNumber, job_id: str) -> str:
        """Blank a job, with the row that it was made from; return what forget.lua says of it."""
        batch_id, number = split_job_id(job_id)
        is_upgraded = self._records.is_upgraded()
        old = "" if is_upgraded else old_digest(phone.country_code, phone.phone_num)
        while True:
            row = self._rows.blanked(batch_id, number, phone) if number else {}
            verdict = self.run_script("forget", id=job_id, **self._number(phone), old=old, **row)
            if verdict != "changed":
                return str(verdict)

    def _number(self, phone: PhoneNumber) -> dict[str, str]:
        return {"cc": phone.country_code, "num": self._records.key(phone)}


@dataclass(slots=True)
class Purged:
    """What was removed, or would be."""

    jobs: int = 0
    batches: int = 0
    letters: int = 0
    """Dead letters that were dropped for it; counted as jobs, too, when they are removed."""


class Purging(LedgerPart):
    """Purges one ledger of what ended before a time."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        older_than_s: float,
        *,
        dry_run: bool,
        note: Callable[[Purged], object] = lambda _: None,
    ) -> None:
        """Prepare it; `note` is called after each step."""
        super().__init__(client, settings)
        self._batches = Batches(client, settings)
        self._letters = DeadLetters(client, settings)
        self._before_ms = round(time_ms(client.time()) - older_than_s * 1000)
        self._dry_run = dry_run
        self._note = note
        self._done = Purged()

    def run(self, *, with_letters: bool) -> Purged:
        """Remove ended events, and batches with all their jobs; return what was.

        `with_letters`: drop dead letters first that ended before that time.
        """
        if with_letters:
            self._drop_letters()
        for batch in self._batches.list():
            self._remove_batch(batch.batch_id)
        for page in self.pages_of_jobs():
            for ids in parted(page, JOBS_AT_ONCE):
                self._remove_jobs(ids)
        if not self._dry_run:
            action = Action(what="purge", about="what ended long ago", jobs=self._done.jobs)
            self.run_script("purge_jobs", before=0, batch="", dry="", action=action.encode())
        return self._done

    def _drop_letters(self) -> None:
        decision = Decision("drop", "purged")
        for window in self._letters.walk():
            old = [
                letter
                for letter in window
                if letter.record
                and letter.record.finished_ms is not None
                and letter.record.finished_ms < self._before_ms
            ]
            if old and not self._dry_run:
                self._letters.drop(decision, old, done_before=self._done.letters)
            self._done.letters += len(old)
            self._note(self._done)

    def _remove_batch(self, batch_id: str) -> None:
        before = self._before_ms
        rows = self.run_script("purge_batch", batch=batch_id, before=before, verb="look")
        for numbers in parted(range(1, rows + 1), JOBS_AT_ONCE):
            self._remove_jobs([batch_job_id(batch_id, n) for n in numbers], batch_id)
        if rows >= 0 and not self._dry_run:
            rows = self.run_script("purge_batch", batch=batch_id, before=before, verb="remove")
        self._done.batches += rows >= 0

    def _remove_jobs(self, ids: list[str], batch_id: str = "") -> None:
        self._done.jobs += self.run_script(
            "purge_jobs",
            ids,
            before=self._before_ms,
            batch=batch_id,
            dry=str(int(self._dry_run)),
            action="",
        )
        self._note(self._done)


class Rewriting(LedgerPart):
    """Has Redis rewrite its append-only file now and then, if no other worker just did."""

    def __init__(
        self, client: redis.Redis, settings: Settings, every_s: float = REWRITE_EVERY_S
    ) -> None:
        super().__init__(client, settings)
        self._every_ms = round(every_s * 1000)

    def rewrite_if_due(self) -> bool:
        """Return whether Redis does it now; where it refuses, it is asked again the next time."""
        (is_due,) = self.run_script("rewrite", every_ms=self._every_ms)
        if not is_due:
            return False
        try:
            self.client.bgrewriteaof()
        except redis.ResponseError as exc:  # not allowed here, or under way already
            log.info("append-only file not rewritten", extra=fields(error=error_code(exc)))
            return False
        log.info("append-only file is rewritten")
        return True
