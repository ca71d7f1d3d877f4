"""Forgetting a person: what is kept for a number is blanked; counts, states and stories stay.

Jobs that have not ended are left as they are, and named: they need the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import redis

from config.settings import Settings
from jobs.actions import Action
from jobs.deadletters import DeadLetter, DeadLetters, Decision
from jobs.finding import Finder
from jobs.job import split_job_id
from jobs.keys import old_digest
from jobs.phone import PhoneNumber
from jobs.records import Records
from jobs.rows import Rows
from jobs.scripts import LedgerPart

_PATIENCE_S = 3_600.0
_MOST = 1_000_000
_CHOSEN = "those of a person who is forgotten"


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
