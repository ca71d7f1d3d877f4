"""Mends a ledger whose keys were deleted, set back to older copies, or replaced.

`check.lua` finds out at little cost that keys do not fit together; what follows from the jobs'
records is then derived from them anew (`mend.lua`). docs/faults.md has what becomes of each key.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import redis

from config.settings import Settings
from jobs.actions import known_fields
from jobs.batch import BatchState
from jobs.job import TEST, Lane, State
from jobs.ledger import Ledger
from jobs.rows import Rows
from jobs.scripts import LedgerPart, parted
from jobs.vault import UnknownKeyError, Vault
from jobs.webhooks import BATCH_PREFIX

_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that was lost, moved aside or put right."""

    at_ms: int = 0
    what: str = ""


@dataclass
class _Jobs:
    """What the records of all jobs hold."""

    ids: set[str] = field(default_factory=set)
    terms: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By batch: for which expiries the numbers of its jobs are sealed."""
    open: list[tuple[str, str]] = field(default_factory=list)
    """Lane and id of those that are not final."""
    letters: list[tuple[int, str]] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    numbers: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """How many codes a number got, and when the last; by country code and what stands for it."""
    outcomes: list[str] = field(default_factory=list)
    """Those with an outcome that was not delivered."""
    done: list[str] = field(default_factory=list)
    """What was moved aside."""

    def add(self, job_id: str, values: list[str | None]) -> None:
        state, lane, batch, dup, dropped, replaced_by, finished, *values = values
        country_code, phone_num, endings, delivered, term = values
        if state is None or job_id in self.ids:
            return
        self.ids.add(job_id)
        if int(endings or 0) > int(delivered or 0):
            self.outcomes.append(job_id)
        if lane == TEST:
            self.totals[lane] += 1
            return
        if batch is not None:
            self.terms[batch].add(term or "")
        if dup == "1":
            self.totals["possible_duplicate"] += 1
        if not State(state).is_final:
            self.open.append((lane or "", job_id))
            return
        self.totals[state] += 1
        if State(state).is_sent:
            index, found, _ = (phone_num or "").partition(":")
            number = (country_code or "", index + found)
            codes, last_ms = self.numbers.get(number, (0, 0))
            self.numbers[number] = (codes + 1, max(last_ms, int(finished or 0)))
        if State(state).is_for_a_person and not dropped and not replaced_by:
            self.letters.append((int(finished or 0), job_id))


class Mending(LedgerPart):
    """Checks and mends the ledger of one key prefix."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        self._ledger = Ledger(client, settings)
        self._rows = Rows(client, settings)
        self._vault = Vault(client, settings)
        self._every_ms = round(2_000 * settings.sendcode_sweep_interval)
        """How often all workers together check."""

    def misfits(self) -> list[str]:
        """Return what does not fit together just now, in the words of `check.lua`."""
        found: list[str] = self.run_script("check", every_ms=0)
        return found

    def damage(self) -> list[Damage]:
        """Return what was lost, moved aside or put right lately, the newest first."""
        texts: Any = self.client.lrange(self.keys.damage, 0, -1)
        return [Damage(**known_fields(Damage, json.loads(text))) for text in texts]

    def forget(self, count: int) -> None:
        """Forget the oldest damage, as much of it as a person has read about."""
        self.client.ltrim(self.keys.damage, 0, -1 - count)

    def mend_what_does_not_fit(self) -> list[str]:
        """Check, unless somebody just did, and mend; return what was done, in words."""
        found: list[str] = self.run_script("check", every_ms=self._every_ms)
        if found == ["vault"]:
            done = [self._restore_index()]
            self._do("end", "")  # what else is damaged soon need not wait for this one's 30 s
            return done
        return self.mend(found) if found else []

    def mend(self, misfits: list[str] | None = None) -> list[str]:
        """Derive anew what follows from the jobs; without `misfits` of all batches that are kept.

        Reads every job's record once. Return what was done, in words.
        """
        if misfits is None:
            self.misfits()  # what is of another type is moved aside
        jobs = self._read_jobs()
        done, digests = jobs.done, self._digests()
        if not self.client.exists(self.keys.vault):
            done.append(self._restore_index())
        records = {key.removeprefix(self.keys.batch("")) for key in self._scan("batch")}
        rows = {key.removeprefix(self.keys.rows("")) for key in self._scan("rows")}
        batches = sorted(records | rows | jobs.terms.keys())
        for batch_id in batches:
            if misfits is None or f"batch {batch_id}" in misfits or self._is_on(batch_id):
                lost: tuple[str, ...] = ()
                if not self.client.hget(self.keys.batch(batch_id), "state"):
                    try:
                        term = self._rows.term(batch_id, jobs.terms[batch_id])
                    except UnknownKeyError:
                        continue  # left to a worker that has the key
                    (row,) = self._rows.at([(batch_id, 1)])  # as far as it can be read
                    width = len(row.cells) if row is not None else 0
                    lost = (digests.get(batch_id, ""), str(width), term)
                done += self._do("batch", batch_id, *lost)
        for chunk in parted((job_id for lane, job_id in jobs.open if lane == Lane.EVENT), _CHUNK):
            done += self._do("events", *chunk)
        done += self._do("indexes", *batches)
        for chunk in parted([*jobs.outcomes, *(BATCH_PREFIX + each for each in batches)], _CHUNK):
            done += self._do("outcomes", *chunk)
        done += self._do("letters", *(job_id for _, job_id in sorted(jobs.letters)))
        if misfits is None:
            flat = [str(part) for number, got in jobs.numbers.items() for part in (*number, *got)]
            for chunk in parted(flat, 4 * _CHUNK):
                done += self._do("numbers", *chunk)
        if misfits is None or "totals" in misfits:
            jobs.totals[State.CANCELLED] += self._cancelled_unfed(batches)
            flat = [str(part) for pair in jobs.totals.items() for part in pair]
            done += self._do("totals", *(job_id for _, job_id in jobs.open), "", *flat)
        self._do("end", " ".join(self.misfits()))
        return done

    def _restore_index(self) -> str:
        self._vault.keep_index()
        return "the key of the index of numbers was lost, and is put back"

    def _do(self, verb: str, *args: str) -> list[str]:
        done: list[str] = self.run_script("mend", args, verb=verb)
        return done

    def _is_on(self, batch_id: str) -> bool:
        """Return whether a batch is not over, by its record."""
        state: Any = self.client.hget(self.keys.batch(batch_id), "state")
        return not BatchState(state or "").is_over or bool(
            self.client.exists(self.keys.open(batch_id))
        )

    def _cancelled_unfed(self, batches: list[str]) -> int:
        """Count the rows of cancelled batches that never became jobs."""
        unfed = 0
        for batch_id in batches:
            values: Any = self.client.hmget(self.keys.batch(batch_id), ["state", "accepted", "fed"])
            state, accepted, fed = values
            if state == BatchState.CANCELLED:
                unfed += int(accepted) - int(fed)
        return unfed

    def _read_jobs(self) -> _Jobs:
        jobs = _Jobs()
        prefix = self.keys.job("")
        names = ["state", "lane", "batch", "dup", "dropped", "replaced_by", "finished", "cc", "num"]
        names += ["endings", "delivered", "term"]
        for keys in parted(self._scan("job"), _CHUNK):
            replies = self.ask_all((("HMGET", key, *names) for key in keys), errors_too=True)
            for key, values in zip(keys, replies, strict=True):
                job_id = key.removeprefix(prefix)
                if isinstance(values, list) and (values[0] is None or values[0] in set(State)):
                    jobs.add(job_id, values)
                elif (record := self._ledger.set_aside(job_id)) is not None:
                    jobs.done.append(f"the record of job {job_id} was set aside: {record.flaw}")
        return jobs

    def _digests(self) -> dict[str, str]:
        """Return from which content each batch was made, even where its record is lost."""
        prefix = self.keys.content("")
        found: dict[str, str] = {}
        for key in self._scan("content"):
            with suppress(redis.ResponseError):  # of a wrong type: `check.lua` moves it aside
                batch_id: Any = self.client.get(key)
                found[batch_id] = key.removeprefix(prefix)
        return found

    def _scan(self, kind: str) -> list[str]:
        """Find all keys of a kind that has one for each job or batch."""
        pattern = f"{getattr(self.keys, kind)('')}*"
        return list(self.client.scan_iter(pattern, count=_CHUNK))
