"""Jobs' records as the ledger holds them: numbers, and what people noted, are sealed there.

What cannot be opened is never sent. A record under a key that this process lacks is `locked`, and
nothing is wrong with it; one whose number was not sealed for this very job, lane and expiry, or
that could be sent after that, is forged, and has a flaw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import redis

from config.redis import error_code
from config.settings import Settings
from jobs.codes import OwnCode
from jobs.identity import is_upgraded
from jobs.job import NO_NUMBER, JobRecord, State
from jobs.keys import old_digest
from jobs.phone import PhoneNumber
from jobs.scripts import LedgerPart
from jobs.vault import (
    ForgedError,
    SealedError,
    UnknownKeyError,
    Vault,
    job_binding,
    sealed_in,
    text_binding,
)

_FORGED = "its number was not sealed for this job: somebody else made, changed or moved it"
_WHEN = frozenset({"state", "not_after", "doubt"})
"""What in a job's hash decides whether it could be sent after its term."""
_OPEN = frozenset(str(state) for state in State if not state.is_final)
_SOME_TIME_MS = 10**12
"""A time (September 2001), and far too long to be a life."""
_LATEST_DOUBT_MS = 600_000
"""After a job's expiry: an attempt is begun before that, and waits for its slot no longer."""

_UPGRADED_S = 1.0
"""How long a ledger counts as upgraded without being asked again."""


class Records(LedgerPart):
    """Reads records, and seals numbers for them."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """Prepare it.

        Raises:
            SettingsError: there is no data key.
        """
        super().__init__(client, settings)
        self.vault = Vault(client, settings)
        self._asks_again_s = 0.0

    def read(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """Return jobs, in one round trip: None where there is none; see also `JobRecord.flaw`."""
        commands = (("HGETALL", self.keys.job(job_id)) for job_id in job_ids)
        replies = self.ask_all(commands, errors_too=True)
        return [self._read(job_id, reply) for job_id, reply in zip(job_ids, replies, strict=True)]

    def _read(self, job_id: str, reply: Any) -> JobRecord | None:
        if not isinstance(reply, Exception):
            return self.decode(job_id, reply) if reply else None
        if error_code(reply) != "WRONGTYPE":
            raise reply
        return JobRecord.unreadable(job_id, "in its place is something else")

    def decode(
        self, job_id: str, values: Mapping[str, str], phone: PhoneNumber | None = None
    ) -> JobRecord:
        """Read the hash of a job; one that cannot be read has a `flaw`, or is `locked`.

        `phone` is its number, where that was opened already.
        """
        record = JobRecord.decode(job_id, values, phone) if phone else self._decode(job_id, values)
        if not any(sealed_in(entry.note) for entry in record.story):
            return record
        bound_to = text_binding("note", job_id)
        story = (
            replace(entry, note=self.vault.open_text(entry.note, bound_to))
            for entry in record.story
        )
        return replace(record, story=tuple(story))

    def _decode(self, job_id: str, values: Mapping[str, str]) -> JobRecord:
        try:
            phone = self.number(job_id, values)
        except UnknownKeyError as exc:
            return JobRecord.decode(job_id, {**values, "num": "0"}, locked=exc.key_id)
        except ForgedError:
            rest = JobRecord.decode(job_id, {**values, "num": "0"})
            return rest if rest.flaw else JobRecord.unreadable(job_id, _FORGED, OwnCode.FORGED)
        except ValueError:
            return JobRecord.decode(job_id, values)  # which finds what is wrong
        return JobRecord.decode(job_id, values, phone)

    def number(self, job_id: str, values: Mapping[str, str]) -> PhoneNumber:
        """Return the number in a job's hash.

        Raises:
            UnknownKeyError: it is sealed under a key that this process lacks.
            ForgedError: it is not sealed by us, for this job, its lane and its expiry, or the job
                could be sent after that.
            ValueError: there is no number.
        """
        country_code, token = values.get("cc", ""), values.get("num", "")
        if ":" not in token:
            phone = PhoneNumber(country_code, token)
            if phone != NO_NUMBER and is_upgraded(self.client, self.settings):
                raise ForgedError("it is not sealed")
            return phone
        phone = self.vault.open_number(country_code, token, binding(job_id, values))
        if _outlives_its_term(values):
            raise ForgedError("it could be sent after its expiry")
        return phone

    def seal(self, phone: PhoneNumber, job_id: str, lane: str, term: int | str | None) -> str:
        """Return what stands for a job's number in its record; `term`: as in `job_binding`."""
        if phone == NO_NUMBER:
            return phone.phone_num
        return self.vault.seal_number(phone, job_binding(job_id, lane, str(term or "")))

    def seal_note(self, reason: str, job_id: str) -> str:
        """Return a person's reason as a job's story keeps it."""
        return self.vault.seal_text(reason, text_binding("note", job_id))

    def kept(self, job_id: str, values: Mapping[str, str]) -> dict[str, str]:
        """Return what is known still of a number, as `cc`, `num` and `term` of a record.

        `values` need not be a whole record. What is wrong with when it could be sent does not
        matter: whoever has the job tried again decides that anew.
        """
        term = _term(values)
        sealed = {name: value for name, value in values.items() if name not in _WHEN}
        try:
            phone = self.number(job_id, sealed)
        except UnknownKeyError:
            return {"cc": values.get("cc", "0"), "num": values["num"], "term": term}
        except (ForgedError, ValueError):
            phone = NO_NUMBER
        num = self.seal(phone, job_id, values["lane"], term)
        return {"cc": phone.country_code, "num": num, "term": term if ":" in num else ""}

    def key(self, phone: PhoneNumber) -> str:
        """Return what stands for a number where a script only names its keys."""
        return f"{self.vault.index(phone.country_code, phone.phone_num)}:"

    def is_upgraded(self) -> bool:
        """Return whether all numbers of the ledger are sealed: none in the clear is believed."""
        if monotonic() < self._asks_again_s:  # a person may accept an older ledger meanwhile
            return True
        if not is_upgraded(self.client, self.settings):
            return False
        self._asks_again_s = monotonic() + _UPGRADED_S
        return True

    def adopt(self, job_id: str, values: Mapping[str, str]) -> bool:
        """Seal a number that an older release left in the clear; return whether that may be.

        What is remembered of the number under the key that older releases used is taken over.
        """
        try:
            phone = self.number(job_id, values)
        except (SealedError, ValueError):
            return False
        sealed = {"num": "", "term": ""}
        if ":" not in values["num"]:
            term = values.get("life") or values.get("term") or values.get("not_after") or ""
            sealed["num"] = self.seal(phone, job_id, values.get("lane", ""), term)
            sealed["term"] = "" if "life" in values else term
        old = old_digest(phone.country_code, phone.phone_num)
        return bool(self.run_script("adopt", id=job_id, old=old, **sealed))


def binding(job_id: str, values: Mapping[str, str]) -> str:
    """Return what the number in a job's hash is bound to."""
    return job_binding(job_id, values.get("lane", ""), _term(values))


def _term(values: Mapping[str, str]) -> str:
    """Return for which expiry a job's number is sealed: a time, or an older event's life."""
    return values.get("term") or values.get("life") or ""


def _outlives_its_term(values: Mapping[str, str]) -> bool:
    """Return whether a job could be sent later than its number is sealed for."""
    not_after, term, life = (values.get(name) or "" for name in ("not_after", "term", "life"))
    if term:
        is_open = values.get("state") in _OPEN
        if is_open and int(values.get("doubt") or 0) > float(term) + _LATEST_DOUBT_MS:
            return True  # what is in doubt is tried though its time is over
        if not_after.isdecimal():
            return int(not_after) > float(term)
        return is_open  # nobody takes it away without sealing the number anew
    if not life:
        return False
    if int(life) >= _SOME_TIME_MS:  # the term of another record, passed off as a life
        return True
    # of an older release, which sealed the life alone: a person's requeue took the expiry away
    return not_after.isdecimal() and int(not_after) > int(values.get("created") or 0) + int(life)
