"""Find a customer: by whatever a person has at hand, a number, a name, an id from a ticket."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

import redis

from config.settings import Settings
from jobs.batch import Batch, BatchRow
from jobs.batches import Batches
from jobs.finding import Finder, Trace
from jobs.job import split_job_id
from jobs.ledger import NumberHistory, histories
from producer.stories import Instead, NoSuchJobError, Story, end_of, story_of

MOST, SECONDS = 50, 1.0
"""Jobs that one search finds, and how long it takes, at most."""
SHORTEST = 2
"""Characters that are searched for at least."""
LONGEST = 200
_NUMBER = re.compile(r"[\s\d+\-\u2010-\u2015\u2212().\[\]/]+")
_JOB_ID = re.compile(r"[A-Za-z0-9._-]+-[0-9a-f]+(\.r[0-9]+)?")
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
    end: Story | None = None
    """What became of the customer in the end, whose number was corrected perhaps."""


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a batch, with which a search goes on."""

    batch_id: str
    row: int
    """Its index."""


@dataclass(slots=True)
class Found:
    """What a search found. `trace` says how much it looked through."""

    trace: Trace
    by_number: bool = False
    hits: list[Hit] = field(default_factory=list)
    """Without those in a batch that was undone, if there are others."""
    batches: dict[str, Batch] = field(default_factory=dict)
    """Those of the hits, by their ids."""
    history: NumberHistory | None = None
    """Of the number that was searched for."""

    @property
    def goes_on(self) -> Place | None:
        """Where an incomplete search through rows goes on; None once it is complete."""
        trace = self.trace
        return Place(trace.next_batch, trace.next_row) if trace.next_batch else None


def digits_of(text: str) -> str:
    """Return the digits of what may be a phone number, without the 00 in front; else ""."""
    digits = _NO_DIGIT.sub("", text)
    if not _NUMBER.fullmatch(text) or not _FEWEST_DIGITS <= len(digits) <= _MOST_DIGITS:
        return ""
    return digits.removeprefix("00")


def search(
    client: redis.Redis,
    settings: Settings,
    text: str,
    batch_id: str = "",
    since: Place | None = None,
    *,
    seconds: float = SECONDS,
) -> Found:
    """Search for a number, a job's id, a RequestId, a reference, or the text of rows.

    `batch_id`: only in this batch. `since`: where to continue (`Found.goes_on`). The text is kept
    nowhere.
    """
    text = text.strip()[:LONGEST]
    digits = digits_of(text)
    if len(text) < SHORTEST:
        return Found(Trace())
    until = time.monotonic() + seconds
    finder = Finder(client, settings, seconds=seconds, most=MOST)
    trace, by_number = Trace(), False
    if batch_id:
        trace = finder.in_batch(batch_id, text, digits, since.row if since else 0)
        trace.next_batch = "" if trace.is_complete else batch_id
    elif since is None and digits:
        trace = finder.by_number(digits)
        by_number = bool(trace.job_ids)
    elif since is None and _JOB_ID.fullmatch(text) and _hit(client, settings, text) is not None:
        trace = Trace([text], 1)
    if not batch_id and not trace.job_ids:  # digits may be a customer's number, or a reference
        trace = _everywhere(client, settings, text, since, until)
    found = Found(trace, by_number)
    hits = (_hit(client, settings, job_id) for job_id in trace.job_ids)
    hits_found = [hit for hit in hits if hit is not None]
    batches = Batches(client, settings)
    for each in {hit.batch_id for hit in hits_found if hit.batch_id}:
        if batch := batches.get(each):
            found.batches[each] = batch
    undone = {batch_id for batch_id, batch in found.batches.items() if batch.is_undone}
    # a file is often sent again after an undo: its rows would be found twice
    found.hits = [hit for hit in hits_found if hit.batch_id not in undone] or hits_found
    if found.by_number:
        found.history = _history(client, settings, digits, found.hits)
    return found


def _everywhere(
    client: redis.Redis, settings: Settings, text: str, since: Place | None, until: float
) -> Trace:
    """Search names that others use, for half of the time, then rows with the text or number.

    The newest batch comes first.
    """

    def left_s() -> float:
        return until - time.monotonic()

    trace = Trace()
    if since is None:
        trace = Finder(client, settings, seconds=left_s() / 2, most=MOST).by_name(text)
    for batch in Batches(client, settings).newest():
        if since is not None and batch.batch_id != since.batch_id:
            continue
        row, since = (since.row if since else 0), None
        left = MOST - len(trace.job_ids)
        if left <= 0 or (trace.looked and left_s() <= 0):
            trace.next_batch, trace.next_row = batch.batch_id, row
            break
        finder = Finder(client, settings, seconds=left_s(), most=left)
        rows = finder.in_batch(batch.batch_id, text, digits_of(text), row)
        trace.add(rows.job_ids)
        trace.looked += rows.looked
        if not rows.is_complete:
            trace.next_batch, trace.next_row = batch.batch_id, rows.next_row
            break
    # `since` is left where its batch is no longer kept
    trace.is_complete = trace.is_complete and not trace.next_batch and since is None
    return trace


def _hit(client: redis.Redis, settings: Settings, job_id: str) -> Hit | None:
    batch_id = split_job_id(job_id)[0]
    try:
        story = story_of(client, settings, job_id)
    except NoSuchJobError as exc:
        if exc.instead in {Instead.REJECTED_ROW, Instead.FORGOTTEN}:
            return Hit(job_id, batch_id, None, exc.row)
        return None
    end = end_of(client, settings, story)
    return Hit(job_id, story.record.batch_id or "", story, story.row, end)


def _history(
    client: redis.Redis, settings: Settings, digits: str, hits: list[Hit]
) -> NumberHistory | None:
    for hit in hits:
        phone = hit.story.record.phone if hit.story else hit.row.phone if hit.row else None
        if phone and digits in {phone.phone_num, phone.country_code + phone.phone_num}:
            return histories(client, settings, [phone])[0]
    return None
