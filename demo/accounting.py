"""The demo's accounts: what became of every row, and whether every promise was kept.

The ledger says what the system believes; the stand-in of the API has counted by itself what
really went out. Here the two are compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.job import JobRecord
from jobs.outcome import State


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise, and what shows that it was kept or broken."""

    text: str
    kept: bool
    shown: str

    def as_dict(self) -> dict[str, Any]:
        return {"promise": self.text, "kept": self.kept, "shown": self.shown}


@dataclass(frozen=True, slots=True)
class Accounts:
    """What happened, in figures."""

    rows: int
    states: Mapping[str, int]
    """Rows by state."""
    dead_by_code: Mapping[str, int]
    retried: int
    """Jobs that took more than one attempt."""
    events: int
    event_ms: tuple[int, ...]
    """From each event's acceptance to its end, the quickest first."""
    requests: int
    most_in_a_second: int
    doubles: int
    promises: tuple[Promise, ...] = field(default=())

    @property
    def all_kept(self) -> bool:
        return all(promise.kept for promise in self.promises)

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "states": dict(self.states),
            "dead_by_code": dict(self.dead_by_code),
            "retried": self.retried,
            "events": self.events,
            "event_ms": list(self.event_ms),
            "requests": self.requests,
            "most_in_a_second": self.most_in_a_second,
            "doubles": self.doubles,
            "promises": [promise.as_dict() for promise in self.promises],
            "all_kept": self.all_kept,
        }


def draw_up(
    rows: int,
    jobs: Iterable[JobRecord],
    events: Iterable[JobRecord],
    rejected: int,
    api: Mapping[str, Any],
    *,
    rate_limit: int,
    leaks: Iterable[str],
) -> Accounts:
    """Draw them up.

    Args:
        rows: Rows of the file.
        jobs: What the rows became that were accepted.
        events: The jobs sent meanwhile.
        rejected: Rows that were not accepted.
        api: The stand-in's own counts.
        rate_limit: Requests per second that are allowed.
        leaks: Places where a full number was found.
    """
    jobs, events, leaks = list(jobs), list(events), list(leaks)
    states = Counter(str(job.state) for job in jobs)
    if rejected:
        states[State.REJECTED] += rejected
    return Accounts(
        rows=rows,
        states=dict(states.most_common()),
        dead_by_code=dict(
            Counter(job.code for job in jobs if job.state is State.DEAD).most_common()
        ),
        retried=sum(job.tries > 1 for job in [*jobs, *events]),
        events=len(events),
        event_ms=tuple(_took_ms(events)),
        requests=api["requests"],
        most_in_a_second=api["most_in_any_second"],
        doubles=api["doubled"],
        promises=(
            _every_row_once(rows, jobs, rejected),
            _nothing_twice(api),
            _believed_is_true([*jobs, *events], api["accepted_per_number"]),
            _never_above(api, rate_limit),
            _events_overtook(jobs, events, rate_limit),
            Promise(
                "No full number in a log or in Flower",
                not leaks,
                f"found in {', '.join(leaks)}" if leaks else "all logs and Flower's tasks searched",
            ),
        ),
    )


def whole_number(digits: str) -> re.Pattern[str]:
    """Match a number where it stands for itself, not as part of an id or of another number."""
    return re.compile(rf"(?<![0-9A-Za-z]){re.escape(digits)}(?![0-9A-Za-z])")


def _every_row_once(rows: int, jobs: list[JobRecord], rejected: int) -> Promise:
    final = sum(job.state.is_final for job in jobs) + rejected
    kept = final == rows and len({job.job_id for job in jobs}) == len(jobs)
    return Promise("Every row has exactly one final state", kept, f"{final} of {rows}")


def _nothing_twice(api: Mapping[str, Any]) -> Promise:
    sent, numbers = api["accepted"], api["accepted_numbers"]
    shown = f"{sent} codes to {numbers} numbers"
    return Promise("No number got two codes", api["doubled"] == 0, shown)


def _believed_is_true(jobs: list[JobRecord], accepted: Mapping[str, int]) -> Promise:
    """Compare state with fact; where the state admits a doubt, both facts fit it."""
    wrong = [
        job.job_id
        for job in jobs
        if job.state is not State.UNKNOWN
        and job.state.is_sent != (accepted.get(job.phone.e164.removeprefix("+"), 0) > 0)
    ]
    text = "What is called sent was sent, and nothing else"
    seen = f"{len(jobs)} jobs compared with the API's own count"
    return Promise(text, not wrong, f"wrong: {', '.join(wrong)}" if wrong else seen)


def _never_above(api: Mapping[str, Any], rate_limit: int) -> Promise:
    most = api["most_in_any_second"]
    return Promise(
        f"Never more than {rate_limit} requests in any second",
        most <= rate_limit,
        f"{most} at most, of {api['requests']} in all",
    )


def _events_overtook(jobs: list[JobRecord], events: list[JobRecord], rate_limit: int) -> Promise:
    """See to it that less went ahead of any event than goes out in a second."""
    sent = sum(job.state.is_sent for job in events)
    shown = f"{sent} of {len(events)} sent"
    ahead = max((_ended_during(event, jobs) for event in events), default=0)
    took_ms = _took_ms(events)
    if took_ms:
        half_ms = took_ms[len(took_ms) // 2]
        shown += f", half of them within {half_ms} ms, all {took_ms[-1]} ms"
        shown += f"; at most {ahead} of the batch meanwhile"
    kept = sent == len(events) and ahead < rate_limit
    return Promise("Events overtook the batch", kept, shown)


def _ended_during(event: JobRecord, jobs: list[JobRecord]) -> int:
    ended_ms = event.finished_ms or 0
    return sum(event.created_ms < (job.finished_ms or 0) < ended_ms for job in jobs)


def _took_ms(events: list[JobRecord]) -> list[int]:
    return sorted(job.finished_ms - job.created_ms for job in events if job.finished_ms)
