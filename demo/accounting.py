"""The demo's report: what became of every row, and whether every promise was kept.

The ledger holds what the system believes; the stand-in for the API counted on its own what was
really sent. Here the two are compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jobs.job import JobRecord, State

_WHOLE_NUMBER = re.compile(r"(?<![0-9A-Za-z])[0-9]+(?![0-9A-Za-z])")


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise, and the evidence (`shown`) that it was kept or broken."""

    text: str
    kept: bool
    shown: str


@dataclass(frozen=True, slots=True)
class Report:
    """What happened, in figures."""

    rows: int
    states: Mapping[str, int]
    """Rows by state."""
    dead_by_code: Mapping[str, int]
    retried: int
    """Jobs that took more than one attempt."""
    events: int
    event_ms: tuple[int, ...]
    """From each event's acceptance to its end, the shortest first."""
    requests: int
    most_in_a_second: int
    doubles: int
    promises: tuple[Promise, ...]

    @property
    def all_kept(self) -> bool:
        return all(promise.kept for promise in self.promises)

    def as_dict(self) -> dict[str, Any]:
        promises = [
            {"promise": each.text, "kept": each.kept, "shown": each.shown} for each in self.promises
        ]
        return {**asdict(self), "promises": promises, "all_kept": self.all_kept}


def make_report(
    rows: int,
    jobs: Sequence[JobRecord],
    events: Sequence[JobRecord],
    rejected: int,
    api: Mapping[str, Any],
    *,
    rate_limit: int,
    reported_states: Mapping[str, str],
    leaks: Sequence[str],
) -> Report:
    """Compare `jobs` (of the accepted rows) and `events` with the stand-in's own counts (`api`).

    `rejected` is how many rows were not accepted; `reported_states` has the state that signed
    webhooks reported, by event; `leaks` are the places where a full number was found.
    """
    states = Counter(str(job.state) for job in jobs)
    if rejected:
        states[State.REJECTED] += rejected
    dead = Counter(job.code for job in jobs if job.state is State.DEAD)
    event_ms = sorted(job.finished_ms - job.created_ms for job in events if job.finished_ms)
    return Report(
        rows=rows,
        states=dict(states.most_common()),
        dead_by_code=dict(dead.most_common()),
        retried=sum(job.tries > 1 for job in [*jobs, *events]),
        events=len(events),
        event_ms=tuple(event_ms),
        requests=api["requests"],
        most_in_a_second=api["most_in_any_second"],
        doubles=api["doubled"],
        promises=(
            _every_row_once(rows, jobs, rejected),
            Promise(
                "No number got two codes",
                api["doubled"] == 0,
                f"{api['accepted']} codes to {api['accepted_numbers']} numbers",
            ),
            _states_are_true([*jobs, *events], api["accepted_per_number"]),
            _rate_was_kept(api, rate_limit),
            _events_overtook(jobs, events, event_ms, rate_limit),
            _every_outcome_reported(events, reported_states),
            Promise(
                "No full number in a log, in Flower or in a webhook",
                not leaks,
                f"found in {', '.join(leaks)}" if leaks else "all were searched",
            ),
        ),
    )


def most_allowed(api: Mapping[str, Any], rate: float) -> float:
    """Return how many requests the stand-in may count in a second where a rate is kept.

    It may stamp one as late as it runs itself, on a machine that has too little CPU for it.
    """
    late_s: float = api["worst_lag_ms"] / 1000
    return rate * (1 + late_s)


def whole_numbers(text: str) -> set[str]:
    """Return all numbers in a text that are not part of an id."""
    return set(_WHOLE_NUMBER.findall(text))


def _every_row_once(rows: int, jobs: Sequence[JobRecord], rejected: int) -> Promise:
    final = sum(job.state.is_final for job in jobs) + rejected
    kept = final == rows and len({job.job_id for job in jobs}) == len(jobs)
    return Promise("Every row has exactly one final state", kept, f"{final} of {rows}")


def _states_are_true(jobs: Sequence[JobRecord], accepted: Mapping[str, int]) -> Promise:
    """Compare each state with the API's count; `unknown` is true either way."""
    wrong = [
        job.job_id
        for job in jobs
        if job.state is not State.UNKNOWN
        and job.state.is_sent != (accepted.get(job.phone.e164.removeprefix("+"), 0) > 0)
    ]
    shown = f"{len(jobs)} jobs compared with the API's own count"
    return Promise(
        "All that is reported as sent was sent, and nothing else",
        not wrong,
        f"wrong: {', '.join(wrong)}" if wrong else shown,
    )


def _rate_was_kept(api: Mapping[str, Any], rate_limit: int) -> Promise:
    most = api["most_in_any_second"]
    shown = f"{most} at most, of {api['requests']} in all"
    if most > rate_limit:
        shown += f", counted up to {api['worst_lag_ms']:.0f} ms late by the stand-in"
    kept = most <= most_allowed(api, rate_limit)
    return Promise(f"Never more than {rate_limit} requests in any second", kept, shown)


def _events_overtook(
    jobs: Sequence[JobRecord],
    events: Sequence[JobRecord],
    event_ms: Sequence[int],
    rate_limit: int,
) -> Promise:
    """Check that while an event waited, fewer batch jobs ended than one second allows."""
    sent = sum(job.state.is_sent for job in events)
    ahead = max((_ended_during(event, jobs) for event in events), default=0)
    shown = f"{sent} of {len(events)} sent"
    if event_ms:
        shown += f", half of them within {event_ms[len(event_ms) // 2]} ms, all {event_ms[-1]} ms"
        shown += f"; at most {ahead} of the batch meanwhile"
    kept = sent == len(events) and ahead < rate_limit
    return Promise("Events overtook the batch", kept, shown)


def _every_outcome_reported(events: Sequence[JobRecord], states: Mapping[str, str]) -> Promise:
    right = sum(states.get(event.job_id) == event.state for event in events)
    return Promise(
        "Every event's outcome reached the webhook, signed",
        right == len(events),
        f"{right} of {len(events)}",
    )


def _ended_during(event: JobRecord, jobs: Sequence[JobRecord]) -> int:
    ended_ms = event.finished_ms or 0
    return sum(event.created_ms < (job.finished_ms or 0) < ended_ms for job in jobs)
