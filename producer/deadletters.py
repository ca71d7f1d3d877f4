"""Dead letters as a person looks at them: chosen, grouped by code, written to a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.codes import explain_end, is_permanent
from jobs.deadletters import DeadLetter, DeadLetters
from jobs.job import NO_NUMBER, JobRecord
from jobs.outcome import State
from producer.results import RESULT_COLUMNS, result_cells

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant: these jobs, or all that fit."""

    job_ids: tuple[str, ...] = ()
    code: str | None = None
    batch_id: str | None = None

    def fits(self, record: JobRecord) -> bool:
        if self.code is not None and record.code != self.code:
            return False
        return self.batch_id is None or record.batch_id == self.batch_id

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
        return ", ".join(parts) or "all"


@dataclass(slots=True)
class Group:
    """The dead letters of one code."""

    code: str
    count: int = 0
    unknown: int = 0
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
    """Give the cells of `EXPORT_COLUMNS` for each chosen one, with its full number."""
    for letter in letters(dead, choice):
        if letter.record is not None:
            record = letter.record
            phone = record.phone
            yield [
                *((phone.country_code, phone.phone_num) if phone != NO_NUMBER else ("", "")),
                record.job_id,
                record.batch_id or "",
                *result_cells(record),
            ]


def groups(dead: DeadLetters, choice: Choice) -> list[Group]:
    """Give the dead letters by code, the most first."""
    if choice == Choice():
        unknown = dead.unknown_by_code()
        return [Group(code, n, unknown.get(code, 0)) for code, n in dead.by_code().items()]
    found: dict[str, Group] = {}
    for letter in letters(dead, choice):
        if letter.record is not None:
            group = found.setdefault(letter.record.code, Group(letter.record.code))
            group.count += 1
            group.unknown += letter.record.state is State.UNKNOWN
    return sorted(found.values(), key=lambda group: -group.count)


def letters(dead: DeadLetters, choice: Choice) -> Iterator[DeadLetter]:
    """Give the chosen ones, the oldest first, while others may deal with them."""
    if choice.job_ids:
        named = (dead.find(job_id) for job_id in choice.job_ids)
        yield from (letter for letter in named if letter is not None)
        return
    for window in dead.walk():
        for letter in window:
            # which code one had that cannot be read is not known: it is shown with any
            if letter.record is not None and (letter.record.flaw or choice.fits(letter.record)):
                yield letter
