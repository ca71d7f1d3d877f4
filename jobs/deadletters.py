"""The dead letters in the ledger: what waits for a person, and what the person decides about it.

The list `send-code.dead-letter` holds job ids, the oldest first; the jobs themselves know the rest.
Every change is one script that may be applied twice, for any number of jobs at a time, so a bulk
decision that is cut off is completed by making it again.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import redis

from config.settings import Settings
from jobs.actions import Action, somebody
from jobs.job import JobRecord, Lane, StoryEntry, corrected_job_id
from jobs.ledger import Ledger, histories
from jobs.phone import PhoneNumber
from jobs.rows import CHUNK_ROWS
from jobs.scripts import LedgerPart, parted, time_ms

WINDOW = 200
"""Dead letters read, or decided about, in one round trip: few enough to hold up no event."""
SURVEYED = 2_000
"""Dead letters surveyed in one round trip: 5 ms of Redis."""
MOST_SURVEYED = 50_000
"""Only the newest are surveyed, unless the caller has time: more would take a page too long."""

Verb = Literal["requeue", "replace", "drop"]
Settled = Literal[
    "done", "absent", "not dead", "cancelled", "waits_elsewhere", "corrected", "locked"
]
"""`absent`: the job is gone; `not dead`: somebody dealt with it; `cancelled`: its batch was;
`waits_elsewhere`: another job was tried again, and a code to the number is still to be sent;
`corrected`: a row of a corrected file stands for its customer; `locked`: its time is over, and
its number is sealed for that under a key that this process lacks."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry of the list; `record` is None if its job is gone."""

    job_id: str
    place: int
    """From 0, the oldest first; -1 where it was not looked up."""
    record: JobRecord | None
    sent_ms: int | None = None
    """When a code was sent to its number last, by whatever job."""
    corrected_by: str = ""
    """The job of a row of a corrected file that stands for its customer; "" if none does."""

    @property
    def was_dealt_with(self) -> bool:
        record = self.record
        if record is None or record.flaw:
            return False
        is_open = record.state.is_for_a_person and not record.replaced_by
        return not is_open or record.dropped_ms is not None

    @property
    def was_sent_since(self) -> bool:
        """Whether another job sent a code to the number after this one had failed."""
        ended_ms = self.record.finished_ms if self.record is not None else None
        return self.sent_ms is not None and self.sent_ms > (ended_ms or 0)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided, once for any number of jobs; its token makes it safe to repeat."""

    verb: Verb
    chosen: str
    """Which dead letters, in words: "code InternalError of batch b1"."""
    reason: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    by: str = field(default_factory=somebody)


@dataclass(frozen=True, slots=True)
class Fit:
    """Which dead letters are asked for; None matches all. Times are Unix ms."""

    code: str | None = None
    batch_id: str | None = None
    country: str | None = None
    """Calling code."""
    since_ms: int | None = None
    """Ended then or later."""
    until_ms: int | None = None
    """Ended then or earlier."""

    def fits(self, record: JobRecord) -> bool:
        """Return whether a dead letter is one of these; `fits` in survey_dead.lua."""
        ended_ms = record.finished_ms or 0
        return (
            self.code in {None, record.code}
            and self.batch_id in {None, record.batch_id}
            and self.country in {None, record.phone.country_code}
            and (self.since_ms is None or ended_ms >= self.since_ms)
            and (self.until_ms is None or ended_ms <= self.until_ms)
        )


@dataclass(slots=True)
class Survey:
    """Counts of the newest dead letters, and some of those that fit."""

    total: int
    """Dead letters that there are; more than `MOST_SURVEYED` are not all looked at."""
    looked: int = 0
    fitting: int = 0
    by_code: Counter[str] = field(default_factory=Counter)
    """All that match the filters other than the code, by code."""
    perhaps_sent: Counter[str] = field(default_factory=Counter)
    """Those of `by_code` that were perhaps sent."""
    by_country: Counter[str] = field(default_factory=Counter)
    """All surveyed, by calling code."""
    by_batch: Counter[str] = field(default_factory=Counter)
    """All surveyed, by batch; "" for events."""
    corrected: Counter[str] = field(default_factory=Counter)
    """By code: those whose customers corrected files took over; they count nowhere else."""
    corrected_here: Counter[str] = field(default_factory=Counter)
    """Those of them that are of the batch asked for, by state and code: "dead InternalError"."""
    letters: list[DeadLetter] = field(default_factory=list)
    """The newest first."""

    @property
    def waiting(self) -> int:
        """Dead letters that wait for a person, as far as they were looked at."""
        return self.total - self.corrected.total()


class DeadLetters(LedgerPart):
    """The dead letters under one key prefix."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        self._ledger = Ledger(client, settings)

    def now_ms(self) -> int:
        """Read Redis' clock, by which all in the ledger goes."""
        return time_ms(self.client.time())

    def count(self) -> int:
        return int(self.client.llen(self.keys.dead))

    def by_code(self) -> dict[str, int]:
        """Return the number of dead letters of each code, the most frequent first."""
        counts: Any = self.client.hgetall(self.keys.dead_codes)
        ranked = Counter({code: int(n) for code, n in counts.items()})
        return dict(ranked.most_common())

    def window(self, start: int, size: int = WINDOW) -> list[DeadLetter]:
        """Read the entries from `start` (0: the oldest) on; an empty list is the end."""
        ids: Any = self.client.lrange(self.keys.dead, start, start + size - 1)
        return self.read(ids, start)

    def walk(self) -> Iterator[list[DeadLetter]]:
        """Read what is there now, the oldest first, window by window.

        Others may deal with letters meanwhile: those are left out, and no other is. So the ids are
        read at once (100,000: 3 ms of Redis, 8 MB here).
        """
        ids: Any = self.client.lrange(self.keys.dead, 0, -1)
        for start in range(0, len(ids), WINDOW):
            letters = self.read(ids[start : start + WINDOW], start)
            yield [letter for letter in letters if not letter.was_dealt_with]

    def survey(
        self, fit: Fit, first: int = 0, size: int = WINDOW, most: int = MOST_SURVEYED
    ) -> Survey:
        """Count by code, country and batch; read `size` of those that fit, from the `first` on.

        10,000 dead letters take 25 ms of Redis, in five calls.
        """
        found = Survey(self.count())
        ids: list[str] = []
        start = found.total
        while start > 0 and found.looked < most:
            end, start = start, max(0, start - SURVEYED)
            reply = json.loads(
                self.run_script(
                    "survey_dead",
                    first=start,
                    last=end - 1,
                    code="any" if fit.code is None else f"={fit.code}",
                    batch=fit.batch_id or "",
                    cc=fit.country or "",
                    since_ms=fit.since_ms or 0,
                    until_ms="" if fit.until_ms is None else fit.until_ms,
                    skip=max(0, first - found.fitting),
                    most=size - len(ids),
                )
            )
            found.looked += end - start
            found.fitting += reply.pop("fitting")
            ids += reply.pop("ids")
            for name, counts in reply.items():
                getattr(found, name).update(counts)
        found.letters = self.read(ids)
        return found

    def read(self, ids: Sequence[str], start: int = 0) -> list[DeadLetter]:
        """Return dead letters by their ids, wherever they are; the first perhaps at `start`."""
        records = self._ledger.records.read(ids)
        sent = self._sent_to([record for record in records if record is not None])
        corrected = self.run_script("corrected_by", ids) if ids else []
        return [
            DeadLetter(job_id, place, record, sent.get(job_id), by)
            for place, (job_id, record, by) in enumerate(
                zip(ids, records, corrected, strict=True), start
            )
        ]

    def corrected_by(self, job_id: str) -> str:
        """Return the job of a row of a corrected file that stands for a job's customer, or "".

        The job may be one that a rejected row would have had.
        """
        return self.all_corrected_by([job_id])[job_id]

    def all_corrected_by(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return the same of many, by job. They are looked up `CHUNK_ROWS` at once."""
        found: dict[str, str] = {}
        for part in parted(job_ids, CHUNK_ROWS):
            found.update(zip(part, self.run_script("corrected_by", part), strict=True))
        return found

    def find(self, job_id: str) -> DeadLetter | None:
        """Return one by its id, also when it was dropped; None if it is no dead letter."""
        (letter,) = self.read([job_id])
        record = letter.record
        if record is None or record.replaced_by or record.is_test:
            return None
        return letter if record.state.is_for_a_person else None

    def was_done_by(self, token: str, job_id: str) -> bool:
        """Return whether a decision has dealt with a job, which has not failed anew since."""
        letter = self.find(job_id)
        if letter is not None and not letter.was_dealt_with:
            return False
        return self.client.hget(self.keys.job(job_id), "by") == token

    def mended(self, letter: DeadLetter) -> DeadLetter:
        """Return the letter, or in the place of an unreadable record one that can be dealt with."""
        if letter.record is None or not letter.record.flaw:
            return letter
        return replace(letter, record=self._ledger.set_aside(letter.job_id) or letter.record)

    def requeue(
        self,
        decision: Decision,
        letters: Sequence[DeadLetter],
        *,
        done_before: int = 0,
        first_ms: int = 0,
        step_us: int = 0,
        once: bool = False,
        corrected_too: bool = False,
    ) -> list[Settled]:
        """Make the jobs due again: the first at `first_ms`, each other `step_us` after the last.

        None is due before now, on Redis' clock as all times. `once`: leave alone those whose number
        waits for another one that was tried again, by whomever. `corrected_too`: also those whose
        customers a corrected file took over.
        """
        triples = self._triples(decision, letters)
        jobs = [
            (*triple, *self._endless(letter))
            for triple, letter in zip(triples, letters, strict=True)
        ]
        return self._run(
            decision,
            jobs,
            done_before,
            first_ms=first_ms,
            step_us=step_us,
            once=int(once),
            corrected_too=int(corrected_too),
        )

    def drop(
        self, decision: Decision, letters: Sequence[DeadLetter], *, done_before: int = 0
    ) -> list[Settled]:
        """Take the jobs off the list; they stay as they are, and are forgotten after a while."""
        return self._run(decision, self._triples(decision, letters), done_before)

    def replace(
        self, decision: Decision, letter: DeadLetter, phone: PhoneNumber, *, once: bool = False
    ) -> tuple[Settled, str]:
        """Replace a job by a new one with another number; return also the new job's id.

        `once`: as for `requeue`.
        """
        old_id, new_id = letter.job_id, corrected_job_id(letter.job_id)
        lane = letter.record.lane if letter.record is not None else Lane.EVENT
        records = self._ledger.records
        why_old, why_new = (records.seal_note(decision.reason, each) for each in (old_id, new_id))
        parts = (
            old_id,
            letter.place,
            _entry("replaced", _was(letter), why_old, f"by {new_id}, {phone.masked}"),
            phone.country_code,
            records.seal(phone, new_id, lane, None),
            new_id,
            _entry("replaces", f"stands for {old_id}", why_new),
        )
        return self._run(decision, [parts], once=int(once))[0], new_id

    def _triples(
        self, decision: Decision, letters: Sequence[DeadLetter]
    ) -> list[tuple[str | int, ...]]:
        seal_note = self._ledger.records.seal_note
        return [
            (
                letter.job_id,
                letter.place,
                _entry(decision.verb, _was(letter), seal_note(decision.reason, letter.job_id)),
            )
            for letter in letters
        ]

    def _endless(self, letter: DeadLetter) -> tuple[str, str]:
        """Return country code and number of a job, sealed without an expiry; "" if not known."""
        record = letter.record
        if record is None or record.locked:
            return "", ""
        num = self._ledger.records.seal(record.phone, letter.job_id, record.lane, None)
        return record.phone.country_code, num

    def _sent_to(self, records: Sequence[JobRecord]) -> dict[str, int | None]:
        found = histories(self.client, self.settings, [record.phone for record in records])
        return {
            record.job_id: history.sent_ms for record, history in zip(records, found, strict=True)
        }

    def _run(
        self,
        decision: Decision,
        jobs: Sequence[tuple[str | int, ...]],
        done_before: int = 0,
        **terms: int,
    ) -> list[Settled]:
        action = Action(
            token=decision.token,
            what=f"dead {decision.verb}",
            about=decision.chosen,
            jobs=done_before + len(jobs),
            reason=decision.reason,
            by=decision.by,
        )
        reply: list[Settled] = self.run_script(
            "settle_dead",
            [part for job in jobs for part in job],
            verb=decision.verb,
            token=decision.token,
            action=action.encode(self._ledger.records.vault),
            **terms,
        )
        return reply


def _was(letter: DeadLetter) -> str:
    record = letter.record
    return f"was {record.state} {record.code}".rstrip() if record else ""


def _entry(what: str, *notes: str) -> str:
    return StoryEntry(0, what, note="; ".join(filter(None, notes))).encode()
