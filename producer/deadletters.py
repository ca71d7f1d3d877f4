"""Dead letters as a person deals with them: chosen, grouped, exported, tried again, dropped.

One or a hundred thousand at a time. Repeating the same choice completes what was
interrupted. A job to be tried again is only made due: it goes through the limiter and its number's
interval like every other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from config.settings import Settings
from jobs.batch import Batch
from jobs.codes import OwnCode, explain_end, is_permanent
from jobs.deadletters import DeadLetter, DeadLetters, Decision, Fit, Settled
from jobs.job import EVENT, NO_NUMBER, JobRecord, State, iso
from jobs.phone import PhoneNumber
from producer.results import RESULT_COLUMNS, result_cells
from producer.second_codes import Memory

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Choice(Fit):
    """Which dead letters are meant: these jobs, or all that fit."""

    job_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.job_ids:
            shown = ", ".join(self.job_ids[:_SHOWN])
            more = len(self.job_ids) - _SHOWN
            parts.append(f"job {shown}" + (f" and {more} more" if more > 0 else ""))
        if self.code is not None:
            parts.append(f"code {self.code}")
        if self.batch_id is not None:
            parts.append(f"batch {self.batch_id}")
        if self.country is not None:
            parts.append(f"country +{self.country}")
        if self.since_ms is not None:
            parts.append(f"failed since {iso(self.since_ms)}")
        if self.until_ms is not None:
            parts.append(f"failed by {iso(self.until_ms)}")
        return ", ".join(parts) or "all"


_PART = re.compile(r"(job|code|batch|failed since|failed by|country) (.*)")
_MORE = re.compile(r"(.*) and (\d+) more")


def chosen_parts(text: str) -> list[tuple[str, str]]:
    """Read what `Choice` wrote: "job", "code", "batch", "country" … with their values, in order.

    Each job is one part, those that it does not name are "more" with their number. Text
    that it did not write is one part "text"; "all" has no parts.
    """
    found: list[tuple[str, str]] = []
    for part in text.split(", ") if text != "all" else ():
        kind, value = named.groups() if (named := _PART.fullmatch(part)) else ("job", part)
        if not named and (not found or found[-1][0] != "job"):
            return [("text", text)]
        more = _MORE.fullmatch(value) if kind == "job" else None
        found.append((kind, more[1] if more else value))
        if more:
            found.append(("more", more[2]))
    return found


@dataclass(frozen=True, slots=True)
class Group:
    """The dead letters of one code."""

    code: str
    count: int
    unknown: int
    """Those of them that were perhaps sent."""

    def as_dict(self) -> dict[str, Any]:
        known = explain_end(self.code)
        return {
            "code": self.code,
            "count": self.count,
            "perhaps_sent": self.unknown,
            "permanent": is_permanent(self.code),
            "meaning": known.meaning,
            "remedy": known.remedy,
        }


EXPORT_COLUMNS = ("country_code", "phone_num", "job_id", "batch_id", *RESULT_COLUMNS[:-1])


def export_rows(dead: DeadLetters, choice: Choice) -> Iterator[list[str]]:
    """Yield the cells of `EXPORT_COLUMNS` for each chosen one, with its full number."""
    for letter in letters(dead, choice):
        if letter.record is not None:
            record = letter.record
            phone = record.phone
            yield [
                *((phone.country_code, phone.phone_num) if phone != NO_NUMBER else ("", "")),
                record.job_id,
                record.batch_id or "",
                *result_cells(record)[:-1],
            ]


def groups(dead: DeadLetters, fit: Fit) -> list[Group]:
    """Return the dead letters by code, the most first; those that cannot be read fit any choice."""
    found = dead.survey(fit, size=0, most=dead.count())
    groups_found = [
        Group(code, count, found.perhaps_sent[code])
        for code, count in found.by_code.items()
        if fit.code in {None, code} or code == OwnCode.UNREADABLE
    ]
    return sorted(groups_found, key=lambda group: (-group.count, group.code))


def letters(dead: DeadLetters, choice: Choice) -> Iterator[DeadLetter]:
    """Yield the chosen ones, the oldest first, while others may deal with them."""
    if choice.job_ids:
        named = (dead.find(job_id) for job_id in choice.job_ids)
        yield from (letter for letter in named if letter is not None)
        return
    for window in dead.walk():
        for letter in window:
            # the code of one that cannot be read is not known: it is shown with every choice
            record = letter.record
            is_open = record is not None and not letter.corrected_by
            if record is not None and (record.flaw or (is_open and choice.fits(record))):
                yield letter


EXAMPLES, MOST_NAMED = 5, 20
"""Jobs that a report names of those left alone for one reason, and of those that were chosen."""

Progress = Callable[[int], None]
"""Called with the number of entries that are done."""


class Why(StrEnum):
    """Why a job is left alone."""

    NO_DEAD_LETTER = "no_dead_letter"
    UNREADABLE = "unreadable"
    """Its record cannot be read, so nobody knows whether it was chosen."""
    BEYOND_LIMIT = "beyond_limit"
    ABSENT = "absent"
    NOT_DEAD = "not dead"
    """Somebody has dealt with it meanwhile."""
    CANCELLED = "cancelled"
    """With its batch."""
    DROPPED = "dropped"
    NUMBER_LOST = "number_lost"
    SAME_NUMBER = "same_number"
    PERMANENT = "permanent"
    """Unchanged it would only be refused again."""
    TOO_LATE = "too_late"
    LOCKED = "locked"
    """Its time is over, and its number cannot be sealed anew: its data key is not here."""
    PERHAPS_SENT = "perhaps_sent"
    SENT_SINCE = "sent_since"
    """Another job has sent a code to its number since."""
    SENT_BEFORE = "sent_before"
    """The corrected number got a code before."""
    CORRECTED = "corrected"
    """A row of a corrected file stands for its customer: it was sent, or waits, or failed."""
    WAITS_ELSEWHERE = "waits_elsewhere"
    """A code to its number waits already; `about` is "" if somebody had it tried again just now."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why jobs are left alone; `about` is the code, or the batch in which a code waits."""

    why: Why
    about: str = ""


@dataclass(slots=True)
class LeftAlone:
    """Jobs that were left alone for one reason."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What a decision did, or with `dry_run` would do."""

    dry_run: bool = False
    done: int = 0
    examples: list[str] = field(default_factory=list)
    """The first of those jobs."""
    by_code: dict[str, int] = field(default_factory=dict)
    refused: dict[Reason, LeftAlone] = field(default_factory=dict)
    last_due_in_s: float = 0.0
    new_job_id: str | None = None

    @property
    def left_alone(self) -> int:
        return sum(each.count for each in self.refused.values())

    def count(self, record: JobRecord) -> None:
        self.done += 1
        if len(self.examples) < MOST_NAMED:
            self.examples.append(record.job_id)
        self.by_code[record.code] = self.by_code.get(record.code, 0) + 1

    def refuse(self, job_id: str, reason: Reason) -> None:
        found = self.refused.setdefault(reason, LeftAlone())
        found.count += 1
        if len(found.examples) < EXAMPLES:
            found.examples.append(job_id)

    def as_dict(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "done": self.done,
            "examples": self.examples,
            "by_code": self.by_code,
            "refused": [
                {
                    "code": str(reason.why),
                    "about": reason.about or None,
                    "count": each.count,
                    "examples": each.examples,
                }
                for reason, each in self.refused.items()
            ],
            "last_due_in_seconds": round(self.last_due_in_s, 1),
            "new_job_id": self.new_job_id,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Report:
        report = cls(document["dry_run"], document["done"], document.get("examples", []))
        report.by_code = document["by_code"]
        report.last_due_in_s = document["last_due_in_seconds"]
        report.new_job_id = document["new_job_id"]
        for each in document["refused"]:
            reason = Reason(Why(each["code"]), each["about"] or "")
            report.refused[reason] = LeftAlone(each["count"], each["examples"])
        return report


@dataclass(frozen=True, slots=True)
class Handling:
    """How the chosen ones are dealt with. A drop uses `limit`, `dry_run` and `reason` alone."""

    force: bool = False
    """Also what would only be refused again, or would come too late."""
    may_send_twice: bool = False
    """Also what was perhaps sent."""
    limit: int | None = None
    per_second: float | None = None
    """How quickly the jobs become due, one after another; None: all at once."""
    dry_run: bool = False
    reason: str = ""
    memory: Memory | None = None
    """Knows of the codes that wait; without it, second codes are not prevented."""
    corrected_too: bool = False
    """Also what a corrected file took over: only where a person names single jobs."""

    @property
    def is_once(self) -> bool:
        """Whether a number must not get two codes by this."""
        return self.memory is not None and not self.may_send_twice

    def why_a_second_code(self, phone: PhoneNumber, *, is_new: bool = False) -> Reason | None:
        """Return why the number must not be tried, if it would get a second code.

        For a number that `is_new` to a job, every code that it got before counts.
        """
        if self.memory is None or not self.is_once:
            return None
        if batch_id := self.memory.waits_in(phone):
            return Reason(Why.WAITS_ELSEWHERE, batch_id)
        if is_new and self.memory.histories([phone])[0].codes:
            return Reason(Why.SENT_BEFORE)
        return None


def half_rate(settings: Settings, batch: Batch | None = None) -> float:
    """Return the pace at which retries leave half of the rate to batches, which they overtake.

    Retries of a single `batch` keep to its own rate, too.
    """
    half = settings.sendcode_rate_limit / 2
    return min(half, batch.max_rate) if batch is not None and batch.max_rate else half


def requeue(
    dead: DeadLetters,
    choice: Choice,
    how: Handling,
    progress: Progress = lambda _: None,
    *,
    decision: Decision | None = None,
    report: Report | None = None,
) -> Report:
    """Try the chosen ones again, unless it makes no sense or may send twice.

    `decision`, `report`: those of the same choice that was cut off, to go on with it.
    """
    decision = decision or Decision("requeue", str(choice), how.reason)
    step_us = round(1e6 / how.per_second) if how.per_second else 0
    started_ms = dead.now_ms()
    report = report or Report(how.dry_run)
    done_before = report.done

    def settle(chosen: Sequence[DeadLetter]) -> list[Settled]:
        return dead.requeue(
            decision,
            chosen,
            done_before=report.done,
            first_ms=started_ms + (report.done - done_before) * step_us // 1000,
            step_us=step_us,
            once=how.is_once,
            corrected_too=how.corrected_too,
        )

    def why_not(letter: DeadLetter, record: JobRecord) -> Reason | None:
        if letter.corrected_by and not how.corrected_too:
            return _why_corrected(letter, record, how)
        return _why_not_again(letter, record, how, started_ms)

    def on_chosen(record: JobRecord) -> None:
        if how.memory is not None:
            how.memory.note_waiting(record.phone, record.batch_id or EVENT)

    step = _Step(decision.token, why_not, settle, how.limit, on_chosen)
    _walk(dead, choice, report, step, progress)
    report.last_due_in_s = max(0, report.done - done_before - 1) * step_us / 1e6
    return report


def drop(
    dead: DeadLetters,
    choice: Choice,
    how: Handling,
    progress: Progress = lambda _: None,
    *,
    decision: Decision | None = None,
    report: Report | None = None,
) -> Report:
    """Take the chosen ones off the list for good; `decision`, `report`: as for `requeue`."""
    decision = decision or Decision("drop", str(choice), how.reason)
    report = report or Report(how.dry_run)

    def settle(chosen: Sequence[DeadLetter]) -> list[Settled]:
        return dead.drop(decision, chosen, done_before=report.done)

    def why_not(_letter: DeadLetter, record: JobRecord) -> Reason | None:
        return Reason(Why.DROPPED) if record.dropped_ms else None

    _walk(dead, choice, report, _Step(decision.token, why_not, settle, how.limit), progress)
    return report


def replace_number(
    dead: DeadLetters,
    job_id: str,
    phone: PhoneNumber,
    how: Handling,
    decision: Decision | None = None,
) -> Report:
    """Put a new job with a corrected number in a dead job's place; each knows of the other."""
    decision = decision or Decision("replace", f"job {job_id}", how.reason)
    report = Report(how.dry_run)

    def settle(chosen: Sequence[DeadLetter]) -> list[Settled]:
        settled, new_id = dead.replace(decision, chosen[0], phone, once=how.is_once)
        report.new_job_id = new_id if settled == "done" else None
        return [settled]

    def why_not(letter: DeadLetter, record: JobRecord) -> Reason | None:
        if letter.corrected_by:
            return Reason(Why.CORRECTED)
        if record.phone == phone:
            return Reason(Why.SAME_NUMBER)
        if record.state is State.UNKNOWN and not how.may_send_twice:
            return Reason(Why.PERHAPS_SENT)
        return how.why_a_second_code(phone, is_new=True)

    _settle_named(dead, Choice(), job_id, report, _Step(decision.token, why_not, settle, None))
    return report


def _why_corrected(letter: DeadLetter, record: JobRecord, how: Handling) -> Reason:
    """Return why a job is left alone whose customer a corrected file took over."""
    if letter.was_sent_since and not how.may_send_twice:
        return Reason(Why.SENT_SINCE)  # to the same number
    return how.why_a_second_code(record.phone) or Reason(Why.CORRECTED)


def _why_not_again(
    letter: DeadLetter, record: JobRecord, how: Handling, now_ms: int
) -> Reason | None:
    """Return why a job is not tried again; None if it is."""
    if record.phone == NO_NUMBER:
        return Reason(Why.NUMBER_LOST)
    if letter.was_sent_since and not how.may_send_twice:
        return Reason(Why.SENT_SINCE)
    if record.state is State.UNKNOWN and not how.may_send_twice:
        return Reason(Why.PERHAPS_SENT)
    if is_permanent(record.code) and not how.force:
        return Reason(Why.PERMANENT, record.code)
    if record.not_after_ms and record.not_after_ms <= now_ms and not how.force:
        return Reason(Why.TOO_LATE)
    return how.why_a_second_code(record.phone)


@dataclass(frozen=True, slots=True)
class _Step:
    token: str
    why_not: Callable[[DeadLetter, JobRecord], Reason | None]
    settle: Callable[[Sequence[DeadLetter]], list[Settled]]
    limit: int | None
    on_chosen: Callable[[JobRecord], None] = lambda _: None
    """Called with each that is chosen, before the next is judged."""


def _walk(
    dead: DeadLetters, choice: Choice, report: Report, step: _Step, progress: Progress
) -> None:
    """Go through the chosen ones, window by window."""
    if choice.job_ids:
        is_continued = report.done > 0
        for done, job_id in enumerate(choice.job_ids, 1):
            if not (is_continued and dead.was_done_by(step.token, job_id)):
                _settle_named(dead, choice, job_id, report, step)
            progress(done)
        return
    done = 0
    for window in dead.walk():  # what fails meanwhile was not chosen
        if _is_limit_reached(report, step):
            return
        done += len(window)
        fitting = [each for each in window if each.record is None or choice.fits(each.record)]
        for each in window:
            if each.record is not None and each.record.flaw and each not in fitting:
                report.refuse(each.job_id, Reason(Why.UNREADABLE))
        if not report.dry_run:
            fitting = [dead.mended(each) for each in fitting]
        _settle(fitting, report, step)
        progress(done)


def _settle_named(
    dead: DeadLetters, choice: Choice, job_id: str, report: Report, step: _Step
) -> None:
    letter = dead.find(job_id)
    if letter is None:
        report.refuse(job_id, Reason(Why.NO_DEAD_LETTER))
    elif letter.record is not None and not choice.fits(letter.record):
        report.refuse(job_id, Reason(Why.NOT_DEAD))  # it was tried again, and failed again
    elif _is_limit_reached(report, step):
        report.refuse(job_id, Reason(Why.BEYOND_LIMIT))
    else:
        _settle([letter if report.dry_run else dead.mended(letter)], report, step)


def _is_limit_reached(report: Report, step: _Step) -> bool:
    return step.limit is not None and report.done >= step.limit


def _settle(found: Sequence[DeadLetter], report: Report, step: _Step) -> None:
    room = len(found) if step.limit is None else step.limit - report.done
    chosen: list[DeadLetter] = []
    wanted = 0
    for letter in found:
        if letter.record is None:
            chosen.append(letter)  # its entry is cleared away
        elif reason := step.why_not(letter, letter.record):
            report.refuse(letter.job_id, reason)
        elif wanted < room:
            chosen.append(letter)
            wanted += 1
            step.on_chosen(letter.record)
    results: Sequence[Settled] = ["done"] * len(chosen)
    if chosen and not report.dry_run:
        results = step.settle(chosen)
    for letter, settled in zip(chosen, results, strict=True):
        if settled == "done" and letter.record is not None:
            report.count(letter.record)
        elif letter.record is not None:
            report.refuse(letter.job_id, Reason(Why(settled)))
