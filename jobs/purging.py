"""Removing what ended long ago, before its time of keeping is over: Redis gets its memory back.

It goes in small steps that may be interrupted: the next purge goes on. A batch goes as a whole, its
jobs first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import redis

from config.settings import Settings
from jobs.actions import Action
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.job import batch_job_id
from jobs.scripts import LedgerPart, parted, time_ms

JOBS_AT_ONCE = 100
"""Removed in one step: 1 to 4 ms of Redis'."""


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
