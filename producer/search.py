"""Find a customer: by whatever a person has at hand, a number, a name, an id from a ticket."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import redis

from config.settings import Settings
from jobs.batch import BatchRow
from jobs.finding import Finder, Trace
from jobs.job import split_job_id
from jobs.keys import Keys
from jobs.ledger import NumberHistory, histories
from producer.stories import Instead, NoSuchJobError, Story, story_of

SHORTEST = 2
"""Characters that are searched for at least."""
LONGEST = 200
_NUMBER = re.compile(r"[\s\d+\-\u2010-\u2015\u2212().\[\]/]+")
_NO_DIGIT = re.compile(r"\D")
_FEWEST_DIGITS, _MOST_DIGITS = 6, 36


@dataclass(frozen=True, slots=True)
class Hit:
    """A job, or a row that never became one; what is shown of it is masked."""

    job_id: str
    batch_id: str
    """"" of an event."""
    story: Story | None
    row: BatchRow | None


@dataclass(slots=True)
class Found:
    """What a search found. `trace` says how much it looked through."""

    trace: Trace
    by_number: bool
    hits: list[Hit] = field(default_factory=list)
    history: NumberHistory | None = None
    """Of the number that was searched for."""


def digits_of(text: str) -> str:
    """Return the digits of what may be a phone number, without the 00 in front; else ""."""
    digits = _NO_DIGIT.sub("", text)
    if not _NUMBER.fullmatch(text) or not _FEWEST_DIGITS <= len(digits) <= _MOST_DIGITS:
        return ""
    return digits.removeprefix("00")


def search(
    client: redis.Redis, settings: Settings, text: str, batch_id: str = "", first: int = 0
) -> Found:
    """Search for a number, a job's id, a RequestId, a reference, or, in a batch, for any text.

    `first`: the row of the batch to go on with (`Trace.next_row`). The text is kept nowhere.
    """
    text = text.strip()[:LONGEST]
    digits = digits_of(text)
    finder = Finder(client, settings)
    if len(text) < SHORTEST:
        return Found(Trace(), by_number=False)
    if batch_id:
        trace = finder.in_batch(batch_id, text, digits, first)
    elif digits:
        trace = finder.by_number(digits)
    elif (hit := _hit(client, settings, text)) is not None:
        return Found(Trace([text], 1), by_number=False, hits=[hit])
    else:
        trace = finder.by_name(text)
    found = Found(trace, by_number=bool(digits) and not batch_id)
    hits = (_hit(client, settings, job_id) for job_id in trace.job_ids)
    found.hits = [hit for hit in hits if hit is not None]
    if found.by_number:
        found.history = _history(client, settings, digits, found.hits)
    return found


def _hit(client: redis.Redis, settings: Settings, job_id: str) -> Hit | None:
    batch_id = split_job_id(job_id)[0]
    try:
        story = story_of(client, settings, job_id)
    except NoSuchJobError as exc:
        if exc.instead in {Instead.REJECTED_ROW, Instead.FORGOTTEN}:
            return Hit(job_id, batch_id, None, exc.row)
        return None
    return Hit(job_id, story.record.batch_id or "", story, story.row)


def _history(
    client: redis.Redis, settings: Settings, digits: str, hits: list[Hit]
) -> NumberHistory | None:
    for hit in hits:
        phone = hit.story.record.phone if hit.story else hit.row.phone if hit.row else None
        if phone and digits in {phone.phone_num, phone.country_code + phone.phone_num}:
            return histories(client, Keys(settings.sendcode_key_prefix), [phone])[0]
    return None
