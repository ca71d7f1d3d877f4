"""What became of a job: in a sentence, and as a whole story, as for a ticket with the vendor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import redis

from config.settings import Settings
from jobs.account import Account
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.codes import OwnCode, explain, explain_end
from jobs.deadletters import DeadLetters
from jobs.job import JobRecord, State, batch_job_id, iso, split_job_id
from jobs.ledger import Ledger
from jobs.scripts import time_ms

_PLAIN = {
    State.QUEUED: "Waiting to be sent",
    State.LEASED: "Being sent now",
    State.SENDING: "Being sent now",
    State.SENT: "The code was sent",
    State.SENT_INFERRED: (
        "The code was sent (its answer was lost; the service's refusal of a second one proved it)"
    ),
    State.CANCELLED: "Not sent: it was cancelled, alone or with its batch",
    State.EXPIRED: "Not sent: it would have come too late",
}
PERHAPS_TWICE = "perhaps twice, as nobody can prove that no earlier code went out"

WaitsFor = Literal["its time", "its turn", "sending"]
"""What a parked job waits for: its turn when its time has come, sending while that is halted."""
_WAITS = {
    "its turn": "it waits for its turn",
    "sending": "it waits until sending goes on",
}

FORGOTTEN = "forgotten"
"""The status of a row whose job ended so long ago that the ledger no longer has it."""
FORGOTTEN_WORDS = "It ended so long ago that its result is no longer kept"


def explained(code: str) -> str:
    """Return a failed job's code in words, meaning and remedy, without a full stop."""
    found = explain_end(code)
    return f"{found.meaning}: {lower_first(found.remedy)}"


def outcome_in_words(record: JobRecord, waits_for: WaitsFor = "its time") -> str:
    """Return what became of a job, without a full stop; never with its number.

    `waits_for` matters if it is parked.
    """
    test = "A test, nothing was sent; a real code would have ended so: "
    return (test if record.is_test else "") + _ended(record, waits_for)


def _ended(record: JobRecord, waits_for: WaitsFor) -> str:
    state = record.state
    if state is State.DEAD:
        dropped = " (dropped from the dead letters)" if record.dropped_ms else ""
        return explained(record.code) + dropped
    if state is State.UNKNOWN:
        twice = f", {PERHAPS_TWICE}" if record.possible_duplicate else ""
        return f"Perhaps sent{twice}; nobody can prove it. {explained(record.code)}"
    if state is State.PARKED:
        return _parked(record, waits_for)
    if state is State.CANCELLED and record.code == OwnCode.SENT_MEANWHILE:
        return explained(record.code)
    text = _PLAIN[state]
    if state.is_sent and record.replaces:
        text += f", to the corrected number {record.phone.masked}"
    return text + (f"; {PERHAPS_TWICE}" if state.is_sent and record.possible_duplicate else "")


def _parked(record: JobRecord, waits_for: WaitsFor) -> str:
    why = explain(record.code).meaning if record.code else "Waiting"
    if waits_for != "its time":
        return f"{why}; {_WAITS[waits_for]}"
    when = f" at {iso(record.due_ms)}" if record.due_ms else ""
    return f"{why}; it {'is tried again' if record.code else 'goes on'} by itself{when}"


BY_A_PERSON = frozenset({"requeue", "replaced", "replaces", "drop"})
"""Entries of a story whose note says first what the job was, then the person's reason."""


def reason_left(record: JobRecord) -> str:
    """Return why a person left a job as it is; "" if nobody did, or no reason was given."""
    if not record.dropped_ms:
        return ""
    notes = [entry.note for entry in record.story if entry.what == "drop"]
    return notes[-1].partition("; ")[2] if notes else ""  # before it stands what the job was


def lower_first(text: str) -> str:
    """Return text for the middle of a sentence: "ask …" for "Ask …"; SENDCODE_… stays."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


class Instead(StrEnum):
    """What an id names, if it is not that of a job."""

    REJECTED_ROW = "rejected_row"
    """A row of a batch that never became a job."""
    FORGOTTEN = "forgotten"
    """A row whose job ended so long ago that it is no longer kept."""
    BATCH = "batch"
    NOTHING = "nothing"


class NoSuchJobError(Exception):
    """There is no job of that id, but perhaps something else."""

    def __init__(
        self,
        job_id: str,
        instead: Instead,
        row: BatchRow | None = None,
        corrected_by: str = "",
    ) -> None:
        super().__init__(job_id)
        self.job_id = job_id
        self.instead = instead
        self.row = row
        """The row that the id names, if there is one."""
        self.corrected_by = corrected_by
        """As `Story.corrected_by`, of a row that was rejected."""


@dataclass(frozen=True, slots=True)
class Story:
    """A job with what is known around it. Its number is masked wherever it is shown."""

    record: JobRecord
    row: BatchRow | None
    """The row of the file that it came from."""
    waits_for: WaitsFor = "its time"
    corrected_by: str = ""
    """The job of a row of a corrected file that stands for the customer; "" if none does."""

    @property
    def words(self) -> str:
        then = f"; a corrected file took this customer over: {self.corrected_by}"
        words = outcome_in_words(self.record, self.waits_for)
        return words + (then if self.corrected_by else "")

    def as_dict(self) -> dict[str, Any]:
        record = self.record
        look_up = explain_end if record.state.is_for_a_person else explain
        known = look_up(record.code) if record.code else None
        return {
            **record.as_dict(),
            "lane": str(record.lane),
            "line": self.row.line if self.row else None,
            "in_words": self.words,
            "meaning": known.meaning if known else None,
            "remedy": known.remedy if known else None,
            "story": [entry.as_dict() for entry in record.story],
        }


def story_of(client: redis.Redis, settings: Settings, job_id: str) -> Story:
    """Return a job's story, also of one that is only a row of a batch yet.

    Raises:
        NoSuchJobError: there is none.
    """
    batches = Batches(client, settings)
    record = Ledger(client, settings).job(job_id) or batches.waiting_job(job_id)
    row = batches.row(job_id)
    if record is not None:
        # a number that cannot be opened has no history to look up
        letter = None if record.locked else DeadLetters(client, settings).find(job_id)
        corrected_by = letter.corrected_by if letter is not None else ""
        return Story(record, row, _waits_for(client, settings, record), corrected_by)
    batch_id, number = split_job_id(job_id)
    if job_id != batch_job_id(batch_id, number):
        row = None  # a job in another's place, or none at all
    if row is not None and row.phone is None:
        corrected_by = DeadLetters(client, settings).corrected_by(job_id)
        raise NoSuchJobError(job_id, Instead.REJECTED_ROW, row, corrected_by)
    if row is not None:
        raise NoSuchJobError(job_id, Instead.FORGOTTEN, row)
    is_batch = batches.get(job_id) is not None
    raise NoSuchJobError(job_id, Instead.BATCH if is_batch else Instead.NOTHING)


def end_of(client: redis.Redis, settings: Settings, story: Story) -> Story:
    """Return the story of the job that stands for the customer now, if the number was corrected.

    Otherwise return the same story.
    """
    visited = {story.record.job_id}
    while (then := story.record.replaced_by) and then not in visited:
        visited.add(then)
        record = Ledger(client, settings).job(then)
        if record is None:
            break
        story = Story(record, story.row, _waits_for(client, settings, record))
    return story


def correction_of(client: redis.Redis, settings: Settings, corrected_by: str) -> Story | None:
    """Return the story of the corrected row that stands for the customer now, to its own end.

    None where there is none, or where it is no longer kept.
    """
    if not corrected_by:
        return None
    try:
        return end_of(client, settings, story_of(client, settings, corrected_by))
    except NoSuchJobError:
        return None


def _waits_for(client: redis.Redis, settings: Settings, record: JobRecord) -> WaitsFor:
    if record.state is not State.PARKED:
        return "its time"
    account = Account(client, settings).state()
    # a job in doubt is tried on all the same, unless a person halted it
    if account.state == "halted" and not (record.in_doubt and account.by == "api"):
        return "sending"
    return "its turn" if (record.due_ms or 0) < time_ms(client.time()) else "its time"
