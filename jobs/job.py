"""What is asked for (`SendCodeJob`), its states, and what became of it (`JobRecord`). No I/O."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from jobs.codes import OwnCode
from jobs.masking import without_international_numbers
from jobs.phone import PhoneNumber

MAX_KEY_LENGTH = 200
NO_NUMBER = PhoneNumber("0", "0")
"""Stands where a record that cannot be read held a number."""
_TIMES_AND_COUNTS = (
    *("created", "published", "due", "not_after", "expires_in", "life", "finished", "dropped"),
    *("doubt", "asked", "doubt_before", "asked_before", "attempts", "tries", "waits"),
)
_TEXTS = (
    *("code", "message", "request_id", "reference", "key", "token"),
    *("trace", "corrected", "bound"),
)
"""Of a `JobRecord`, as they stand in the job's hash."""
_LARGEST = 10**14
"""Milliseconds of the year 5138."""
EVENT = "ev"
"""How an event's id begins; no batch may be called so."""
TEST = "test"
"""How the id of a test token's job begins, too long for that of a batch's row; and what stands in
its record for a lane: it goes no way at all."""
_BATCH_JOB_ID = re.compile(r"(?P<batch>.+)-(?P<row>[1-9][0-9]{0,14})(\.r[0-9]+)?", re.DOTALL)
_NO_DIGIT = re.compile(r"\D")
_NUL, _CONTROL = re.compile(r"\0"), re.compile(r"[\x00-\x1f\x7f]")
_FEWEST_DIGITS = 5
"""A shorter number is found in many a name that does not hold it."""
Undocumented = Literal["", "alone", "among"]


class State(StrEnum):
    """Where a job stands. The final ones change by a person's requeue alone.

    But `dead` and `unknown` become `sent` when a worker that was cut off comes back and knows it.
    """

    QUEUED = "queued"
    """Waiting in its batch, or published to Celery."""
    LEASED = "leased"
    """A worker has it and has not journaled an attempt since: it waits for its slot."""
    SENDING = "sending"
    """An attempt is journaled; its request may have left."""
    PARKED = "parked"
    """Not now; due again at a time."""

    SENT = "sent"
    SENT_INFERRED = "sent_inferred"
    """A probe was refused for the number's interval: the attempt before it had been accepted."""
    DEAD = "dead"
    UNKNOWN = "unknown"
    """Perhaps sent, and it can no longer be proved."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    """A row that never became a job: invalid input."""

    @property
    def is_in_flight(self) -> bool:
        """Whether the job is published, or with a worker."""
        return self in {State.QUEUED, State.LEASED, State.SENDING}

    @property
    def is_final(self) -> bool:
        return not self.is_in_flight and self is not State.PARKED

    @property
    def is_sent(self) -> bool:
        return self in {State.SENT, State.SENT_INFERRED}

    @property
    def is_for_a_person(self) -> bool:
        """Whether the job is a dead letter, until a person has dealt with it."""
        return self in {State.DEAD, State.UNKNOWN}


class Lane(StrEnum):
    """Which way a job goes: events overtake every waiting batch job."""

    EVENT = "event"
    BATCH = "batch"


_STATES, _LANES = frozenset(map(str, State)), frozenset(map(str, Lane))


class UnfitNameError(ValueError):
    """An idempotency key or a reference cannot be used. The text names which, and why."""


@dataclass(frozen=True, slots=True)
class SendCodeJob:
    """One code for one number. Its id is its identity: the same id is never sent twice."""

    job_id: str
    phone: PhoneNumber
    life_ms: int | None = None
    """After so many milliseconds the code is of no use and is not sent; None for never."""
    reference: str = ""
    """The caller's own name for it, its international numbers masked: others read it."""
    key: str = ""
    """The idempotency key, of which the id is made."""
    is_test: bool = False
    """A test token asks for it: nothing is ever sent, see jobs/magic_numbers.py."""

    @classmethod
    def for_event(
        cls,
        phone: PhoneNumber,
        key: str | None = None,
        life_s: float | None = None,
        reference: str | None = None,
        *,
        is_test: bool = False,
    ) -> SendCodeJob:
        """Return an event's job: the same `key` gives the same id, no key a new one each time.

        The keys of tests are others: a test never stands for a code.

        Raises:
            UnfitNameError: the key is empty or has more than 200 characters or a control
                character, the reference has more or a NUL, or one of them holds the number.
        """
        reference = reference or ""
        for name, text, unfit, what in (
            ("idempotency key", key or "", _CONTROL, "line breaks or other control characters"),
            ("reference", reference, _NUL, "NUL characters"),
        ):
            if len(text) > MAX_KEY_LENGTH:
                raise UnfitNameError(f"{name}: must have {MAX_KEY_LENGTH} characters at most")
            if unfit.search(text):
                raise UnfitNameError(f"{name}: must not hold {what}")
            number = phone.phone_num
            if len(number) >= _FEWEST_DIGITS and number in _NO_DIGIT.sub("", text):
                raise UnfitNameError(f"{name}: must not hold the phone number: others read it")
        if key is not None and not key.strip():
            raise UnfitNameError("idempotency key: must not be empty")
        life_ms = None if life_s is None else max(1, round(life_s * 1000))
        kind = TEST if is_test else EVENT
        new_id = f"{kind}-{secrets.token_hex(10)}"
        job_id = new_id if key is None else event_job_id(key, is_test=is_test)
        # only given back: what is no text at all (a command line's odd bytes) need not survive
        kept = (key or "").encode(errors="replace").decode()
        masked = without_international_numbers(reference)
        return cls(job_id, phone, life_ms, masked, kept, is_test)

    def compare(self, record: JobRecord) -> dict[str, bool]:
        """Return which terms are those of a recorded job with the same id, by their names."""
        return {
            "number": self.phone == record.phone,
            "expires_in": self.life_ms == record.life_ms,
            # an older release recorded it as it was
            "reference": self.reference == without_international_numbers(record.reference),
        }


def event_job_id(key: str, *, is_test: bool = False) -> str:
    """Return the id of the event's job, or the test's, that has this idempotency key."""
    digest = hashlib.sha256(b"sendcode event\0" + key.encode(errors="surrogatepass"))
    return f"{TEST if is_test else EVENT}-{digest.hexdigest()[:20]}"


def batch_job_id(batch_id: str, row: int) -> str:
    """Return the id of the job of a batch's row (1-based, in the file's order)."""
    return f"{batch_id}-{row}"


def split_job_id(job_id: str) -> tuple[str, int]:
    """Return a batch job's batch and row, also of a corrected one's; row 0 for other ids."""
    found = _BATCH_JOB_ID.fullmatch(job_id)
    if found is None or found["batch"] == EVENT:
        return "", 0
    return found["batch"], int(found["row"])


def corrected_job_id(job_id: str) -> str:
    """Return the id of the job that replaces a job: "b-12", "b-12.r1", "b-12.r2"."""
    root, found, number = job_id.rpartition(".r")
    if found and number.isascii() and number.isdigit():
        return f"{root}.r{int(number) + 1}"
    return f"{job_id}.r1"


@dataclass(frozen=True, slots=True)
class StoryEntry:
    """One thing that happened to a job: an attempt's answer, or what a person did."""

    at_ms: int
    """On Redis' clock; 0 for when it is recorded."""
    what: str
    """`attempt`, `probe`, `late`, `resend` or `test`; or a person's `requeue`, `replaced`,
    `replaces`, `drop` or `cancel`."""
    code: str = ""
    request_id: str = ""
    took_ms: int | None = None
    note: str = ""

    def encode(self) -> str:
        return json.dumps(
            [self.at_ms, self.what, self.code, self.request_id, self.took_ms, self.note],
            separators=(",", ":"),
            ensure_ascii=False,
        )

    @classmethod
    def decode(cls, text: str) -> StoryEntry:
        """Read an entry; a stand-in where it cannot be read."""
        try:
            at_ms, what, *more = json.loads(text)
            # another release's entries may be shorter or longer
            code, request_id, took_ms, note = [*more, *("", "", None, "")[len(more) :]][:4]
            if 0 <= at_ms < _LARGEST and 0 <= (took_ms or 0) < _LARGEST:
                return cls(at_ms, str(what), str(code), str(request_id), took_ms, str(note))
        except (ValueError, TypeError, RecursionError):
            pass
        return cls(0, "an entry that cannot be read")

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {"at": iso(values.pop("at_ms")), **values}


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the ledger has it. Times are Unix milliseconds on Redis' clock."""

    job_id: str
    state: State
    phone: PhoneNumber
    lane: Lane
    batch_id: str | None = None
    created_ms: int = 0
    attempts: int = 0
    tries: int = 0
    """HTTP calls made; `attempts` are those of them that count."""
    waits: int = 0
    """Long waits taken because the number was refused as too often."""
    undocumented: Undocumented = ""
    """A try was answered with a code that nobody documented: `alone` if no other try left a doubt,
    else `among` such tries."""
    in_doubt: bool = False
    possible_duplicate: bool = False
    code: str = ""
    message: str = ""
    request_id: str = ""
    finished_ms: int | None = None
    due_ms: int | None = None
    not_after_ms: int | None = None
    life_ms: int | None = None
    """The time that the caller gave it to be of use."""
    reference: str = ""
    """The caller's own name for it, its international numbers masked: others read it."""
    key: str = ""
    """The idempotency key, if it came with one."""
    token: str = ""
    """The name of the HTTP API's token that asked for it."""
    is_test: bool = False
    """A test token: nothing was sent."""
    dropped_ms: int | None = None
    """When a person took it off the dead-letter list without trying again."""
    replaces: str | None = None
    """The dead job in whose place a person put this one, with a corrected number."""
    replaced_by: str | None = None
    trace: str = ""
    """The `traceparent` of its acceptance, where that was traced; as it is read, so judge it."""
    corrected: str = ""
    """The jobs of rows of corrected files that took its customer over, or would have."""
    bound: str = ""
    """"id token," for each key that was answered with it though it is another event's."""
    story: tuple[StoryEntry, ...] = ()
    flaw: str = ""
    """Why the record cannot be read; the rest then stands in for it."""
    locked: str = ""
    """The id of the data key that its number is sealed under, where this process lacks that."""

    @classmethod
    def decode(
        cls,
        job_id: str,
        values: Mapping[str, str],
        phone: PhoneNumber | None = None,
        *,
        locked: str = "",
    ) -> JobRecord:
        """Read the hash of a job that is there; return a stand-in with a `flaw` if that fails.

        `phone` is its number, opened (jobs/records.py).
        """
        if flaw := _flaw(values, phone):
            return cls.unreadable(job_id, flaw)
        entries = sorted(
            (int(number), text)
            for name, text in values.items()
            if name.startswith("story:") and (number := name.removeprefix("story:")).isdecimal()
        )

        def number_in(name: str) -> int | None:
            return int(values[name]) if values.get(name) else None

        plain: dict[str, Any] = {name: values[name] for name in _TEXTS if name in values}
        plain |= {name: number_in(name) or 0 for name in ("attempts", "tries", "waits")}
        times = ("finished", "due", "not_after", "dropped")
        plain |= {f"{name}_ms": number_in(name) for name in times}
        return cls(
            job_id=job_id,
            state=State(values["state"]),
            phone=phone or PhoneNumber(values["cc"], values["num"]),
            lane=Lane.EVENT if values["lane"] == TEST else Lane(values["lane"]),
            batch_id=values.get("batch"),
            created_ms=number_in("created") or 0,
            undocumented=_undocumented(values),
            in_doubt="doubt" in values,
            possible_duplicate=values.get("dup") == "1",
            life_ms=number_in("expires_in") or number_in("life"),
            is_test=values["lane"] == TEST,
            replaces=values.get("replaces"),
            replaced_by=values.get("replaced_by"),
            story=tuple(StoryEntry.decode(text) for _, text in entries),
            locked=locked,
            **plain,
        )

    @classmethod
    def unreadable(cls, job_id: str, flaw: str, code: OwnCode = OwnCode.UNREADABLE) -> JobRecord:
        """Return what stands in for a job whose record cannot be read, or is not to be believed."""
        return cls(
            job_id,
            State.UNKNOWN,
            NO_NUMBER,
            Lane.EVENT,
            split_job_id(job_id)[0] or None,
            code=str(code),
            message=flaw,
            flaw=flaw,
        )

    def is_of(self, token: str) -> bool:
        """Return whether a token of this name asked for it, or was answered with it."""
        return token in {self.token, *(each.partition(" ")[2] for each in self.bound.split(","))}

    def as_dict(self) -> dict[str, Any]:
        """Return what a person or program may see: the number masked, times in ISO 8601, UTC."""
        return {
            "job_id": self.job_id,
            "state": str(self.state),
            "code": self.code or None,
            "message": self.message or None,
            "request_id": self.request_id or None,
            "attempts": self.attempts,
            "possible_duplicate": self.possible_duplicate,
            "test": self.is_test,
            "phone": self.phone.masked,
            "doubt": self.phone.doubt.message if self.phone.doubt else None,
            "batch_id": self.batch_id,
            "reference": self.reference or None,
            "created_at": iso_or_none(self.created_ms),
            "finished_at": iso_or_none(self.finished_ms),
            "due_at": iso_or_none(self.due_ms),
            "replaces": self.replaces,
            "replaced_by": self.replaced_by,
        }


def iso(ms: int) -> str:
    """Write Unix milliseconds as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(ms: int | None) -> str | None:
    """Write a time, if there is one."""
    return iso(ms) if ms else None


def _undocumented(values: Mapping[str, str]) -> Undocumented:
    found = values.get("undocumented", "")
    if not found:
        return ""
    # a try whose outcome was lost left a doubt, too
    return "alone" if found == "alone" and "open" not in values else "among"


def _flaw(values: Mapping[str, str], phone: PhoneNumber | None) -> str:
    """Return what of a job's hash cannot be read; "" if all can."""
    if values.get("state") not in _STATES:
        return "its state cannot be read"
    if values.get("lane") not in _LANES | {TEST}:
        return "its lane cannot be read"
    try:
        _ = phone or PhoneNumber(values.get("cc", ""), values.get("num", ""))
    except ValueError:
        return "its number cannot be read"
    for name in _TIMES_AND_COUNTS:
        text = values.get(name)
        if text and not (text.isascii() and text.isdigit() and int(text) < _LARGEST):
            return f"its {name} cannot be read"
    return ""
