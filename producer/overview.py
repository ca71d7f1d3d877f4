"""The whole system at a glance: queues, rate, account, workers, batches, what became of jobs.

And how long new work would take on top of it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from config import DEAD_LETTER_QUEUE, EVENT_QUEUE, QUEUES
from config.settings import Settings
from jobs.account import Account, AccountState, sends_nothing
from jobs.batch import Batch
from jobs.batches import Batches
from jobs.codes import OwnCode
from jobs.identity import Identity, LedgerState
from jobs.job import Lane, iso
from jobs.ledger import LOCKED_SHOWN_MS, rates
from jobs.mending import Damage, Mending
from jobs.scripts import ALIVE_S, LedgerPart, pairs, time_us
from jobs.server import memory_used
from jobs.webhooks import Endpoint, Webhooks

LATE_S = {Lane.EVENT: 5.0, Lane.BATCH: 60.0}
"""By lane with a queue: from when the age of its oldest job that is due is worth reporting."""
OPEN_S = 120.0
"""From when the age of an event that has not ended, whatever it waits for, is worth reporting."""
_FORGOTTEN_S = 3_600.0
_MOST_READ = 1_000
"""Unfinished jobs of a lane, the next to be done first, that are read to find the oldest."""
_ROUNDING = 0.999


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that gave a sign of life within the last hour and did not sign off."""

    name: str
    silent_s: float
    refused: str = ""
    """The code by which the API refuses its credentials or address; it takes no work then."""
    refused_ms: int | None = None
    """Since when."""
    idle: str = ""
    """Why it sends no codes: `OUTDATED` or `WEBHOOKS` in jobs/account.py."""

    @property
    def alive(self) -> bool:
        return self.silent_s < ALIVE_S


@dataclass(frozen=True, slots=True)
class LackedKey:
    """Who lacks a data key that jobs wait for."""

    ago_s: float
    """When the last of those jobs was met."""
    workers: tuple[str, ...]
    """Names of those that met one lately."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The account's rate, as the limiter has it."""

    limit: float
    """Requests per second that are allowed: the lowest setting of all workers."""
    setting: float
    """This machine's own `SENDCODE_RATE_LIMIT`."""
    last_second: int
    """Requests in the last second."""
    factor: float
    """The share of the limit that is used at most; below 1 while the API allows less."""
    allowed: float | None
    """Requests per second that the API really allows, where it refused at less than the limit."""
    caution_ms: float | None
    """At most so much of a slow answer's time may be its way in; None before any answer."""
    answer_ms: float | None
    """How long the API takes to answer, on average; None before any answer."""
    refused: int
    """Requests that the API refused as too many, ever."""
    refused_ms: int | None
    """When it did so last."""

    @property
    def is_lowered(self) -> bool:
        """Whether a worker has a lower setting than this machine; the limiter rounds."""
        return self.limit < self.setting * _ROUNDING


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the whole system. `at_ms` is Redis' clock."""

    at_ms: int
    ledger: LedgerState
    account: AccountState
    queues: Mapping[str, int]
    """Depths by queue; the dead-letter list is one of them."""
    in_work: int
    """Jobs that are published, with workers or parked."""
    events: int
    """Events that have not ended."""
    oldest_due_s: Mapping[str, float]
    """By lane: how long the oldest job that could be sent now has waited for it; 0 if none does."""
    oldest_event_s: Mapping[str, float]
    """By the code of its last answer ("" before any): for how long the oldest event is open."""
    sweep_s: float | None
    """Seconds since the last sweep, by any worker; None before the first."""
    totals: Mapping[str, int]
    """Jobs by final state, ever; `possible_duplicate`; and `test`, those of test tokens."""
    dead_by_code: Mapping[str, int]
    unknown_by_code: Mapping[str, int]
    """Those of the dead letters that were perhaps sent."""
    pace: Pace
    workers: tuple[WorkerStatus, ...]
    quarantined: int
    unknown_data_keys: Mapping[str, LackedKey]
    """By id, data keys that a worker lacks and jobs wait for."""
    quota_refusals: dict[str, int]
    """Codes that bounds on spending refused, ever, by rule."""
    webhooks: tuple[Endpoint, ...]
    """Where outcomes go."""
    batches: tuple[Batch, ...]
    """Those that are not over, the newest first."""
    misfits: tuple[str, ...] = ()
    """Parts of the ledger that do not fit together; workers mend them within seconds."""
    memory_used: float | None = None
    """The share of its memory limit that Redis uses; None without a limit."""
    damage: tuple[Damage, ...] = ()
    """What was lost, moved aside or put right, the newest first."""

    @property
    def forged(self) -> int:
        """Dead letters whose records were made or changed by somebody else."""
        return self.dead_by_code.get(OwnCode.FORGED, 0)

    @property
    def alive(self) -> int:
        """Workers that are alive and send codes."""
        return sum(worker.alive and not worker.idle for worker in self.workers)

    @property
    def gone(self) -> int:
        """Workers that fell silent within the last hour, and whose names are not in use again."""
        alive = {worker.name for worker in self.workers if worker.alive}
        return len({worker.name for worker in self.workers} - alive)

    @property
    def is_halted(self) -> bool:
        return self.account.state == "halted"

    @property
    def rate(self) -> float:
        """Requests per second at present."""
        return self.pace.limit * self.pace.factor

    @property
    def rows_waiting(self) -> int:
        """Rows of batches that are no jobs yet."""
        return sum(max(0, each.accepted - each.fed) for each in self.batches)

    @property
    def batches_late(self) -> int:
        """Batches that will not be done before their codes are of no use.

        At their present speed; where they stand still, at the limit as soon as they may go on.
        """
        late = 0
        for each in self.batches:
            fastest = min(self.pace.limit, each.max_rate or self.pace.limit)
            left_s = each.unfinished / fastest if each.eta_s is None else each.eta_s
            ends_ms = max(self.at_ms, each.starts_ms or 0) + 1000 * left_s
            late += (
                each.unfinished > 0 and each.expires_ms is not None and ends_ms > each.expires_ms
            )
        return late

    @property
    def waiting_before(self) -> int:
        """Jobs that are sent before the last row of a big file that is submitted now."""
        return sum(self._waiting) + self.queues[EVENT_QUEUE]

    @property
    def _waiting(self) -> list[int]:
        """Unfinished jobs of each running batch that has started."""
        running = (each for each in self.batches if each.state.is_fed and not each.is_scheduled)
        return [each.unfinished for each in running]

    def seconds_for(self, rows: int, max_rate: float | None = None) -> float:
        """Estimate when the last of `rows` new rows has been sent."""
        events = self.queues[EVENT_QUEUE]
        return seconds_for(rows, self.rate, self._waiting, events, max_rate)

    @property
    def late_s(self) -> dict[str, float]:
        """By lane: how long its oldest job has been due, where that is worth reporting."""
        return {lane: age for lane, age in self.oldest_due_s.items() if age >= LATE_S[Lane(lane)]}

    @property
    def namesakes(self) -> list[str]:
        """Names that several living workers share."""
        names = Counter(worker.name for worker in self.workers if worker.alive)
        return [name for name, count in names.items() if count > 1]

    def as_dict(self) -> dict[str, Any]:
        pace = self.pace
        return {
            "at": iso(self.at_ms),
            "ledger": self.ledger.as_dict(),
            "account": self.account.as_dict(),
            "queues": dict(self.queues),
            "memory_used": self.memory_used and round(self.memory_used, 3),
            "in_work": self.in_work,
            "rows_waiting": self.rows_waiting,
            "oldest_due_s": {lane: round(age_s, 1) for lane, age_s in self.oldest_due_s.items()},
            "oldest_event_s": {
                code: round(age_s, 1) for code, age_s in self.oldest_event_s.items()
            },
            "totals": dict(self.totals),
            "dead_by_code": dict(self.dead_by_code),
            "perhaps_sent_by_code": dict(self.unknown_by_code),
            "rate": {
                "limit": pace.limit,
                "setting": pace.setting,
                "last_second": pace.last_second,
                "factor": round(pace.factor, 3),
                "allowed": pace.allowed and round(pace.allowed, 2),
                "caution_ms": pace.caution_ms,
                "refused": pace.refused,
                "refused_at": iso(pace.refused_ms) if pace.refused_ms else None,
            },
            "workers": [
                {
                    "name": each.name,
                    "alive": each.alive,
                    "silent_s": round(each.silent_s, 1),
                    "idle": each.idle or None,
                    "refused": each.refused or None,
                    "refused_since": iso(each.refused_ms) if each.refused_ms else None,
                }
                for each in self.workers
            ],
            "quarantined": self.quarantined,
            "unknown_data_keys": list(self.unknown_data_keys),
            "quota_refusals": self.quota_refusals,
            "webhooks": [each.as_dict() for each in self.webhooks],
            "misfits": list(self.misfits),
            "damage": [{"at": iso(each.at_ms), "what": each.what} for each in self.damage],
            "batches": [
                {
                    "batch_id": each.batch_id,
                    "state": each.phase,
                    "total": each.total,
                    "accepted": each.accepted,
                    "finished": each.finished,
                    "rate": each.rate,
                }
                for each in self.batches
            ],
        }


def read_overview(
    client: redis.Redis, settings: Settings, identity: Identity | None = None
) -> Overview:
    """Read the overview, in a few round trips; `identity` is what this machine knows of the ledger.

    Raises:
        redis.RedisError: the ledger is out of reach.
    """
    ledger = LedgerPart(client, settings)
    keys = ledger.keys
    mending = Mending(client, settings)
    misfits = mending.misfits()  # first: what is of a wrong type is moved aside
    queues = (keys.event_queue, keys.batch_queue, keys.webhook_queue, keys.dead)
    hashes = (
        *(keys.totals, keys.dead_codes, keys.dead_unknown, keys.pace, keys.pace_ring),
        *(keys.workers, keys.refused, keys.quotas, keys.sweeps, keys.vault_unknown),
    )
    now, quarantined, *rest = ledger.ask_all(
        [
            ("TIME",),
            ("LLEN", keys.quarantine),
            *(("LLEN", queue) for queue in queues),
            *(("ZCARD", keys.due(lane)) for lane in (*LATE_S, "aside")),
            *(("HGETALL", name) for name in hashes),
        ]
    )
    depths, due = rest[:4], rest[4:7]
    totals, dead_codes, dead_unknown, pace, ring, workers, refused, quotas, sweeps, met = rest[7:]
    now_us = time_us(now)
    return Overview(
        at_ms=now_us // 1000,
        ledger=(identity or Identity(client, settings)).ask(),
        account=Account(client, settings).state(),
        queues=dict(zip((*QUEUES, DEAD_LETTER_QUEUE), depths, strict=True)),
        in_work=sum(due),
        events=due[0],
        oldest_due_s={lane: _oldest_due_s(ledger, lane, now_us // 1000) for lane in LATE_S},
        oldest_event_s=_oldest_event_s(ledger, now_us // 1000),
        sweep_s=(now_us // 1000 - int(sweeps["at"])) / 1000 if "at" in sweeps else None,
        totals=_counts(totals),
        dead_by_code=_counts(dead_codes),
        unknown_by_code=_counts(dead_unknown),
        pace=_pace(settings, pace, ring, now_us),
        workers=_workers(workers, refused, now_us // 1000),
        quarantined=quarantined,
        unknown_data_keys=_lacked_keys(met, now_us // 1000),
        quota_refusals={
            name.partition(":")[0]: n
            for name, n in _counts(quotas).items()
            if name.endswith(":refused")
        },
        webhooks=tuple(Webhooks(client, settings).all()),
        batches=tuple(Batches(client, settings).under_way()),
        memory_used=memory_used(client),
        misfits=tuple(misfits),
        damage=tuple(mending.damage()),
    )


def _lacked_keys(met: Mapping[str, str], now_ms: int) -> dict[str, LackedKey]:
    lacked: dict[str, LackedKey] = {}
    for name, at in sorted(met.items()):
        key, _, worker = name.partition("\t")
        ago_ms = max(0, now_ms - int(at)) if at.isdecimal() else LOCKED_SHOWN_MS
        if ago_ms < LOCKED_SHOWN_MS:
            before = lacked.get(key, LackedKey(math.inf, ()))
            # a worker of an older release leaves no name
            workers = (*before.workers, *filter(None, [worker]))
            lacked[key] = LackedKey(min(before.ago_s, ago_ms / 1000), workers)
    return lacked


def _oldest_due_s(ledger: LedgerPart, lane: Lane, now_ms: int) -> float:
    """Return for how many seconds the oldest job of a lane has been due."""
    keys = ledger.keys
    ids: Any = ledger.client.zrange(keys.due(lane), 0, _MOST_READ - 1)
    times = ledger.ask_all(("HMGET", keys.job(job_id), "created", "due") for job_id in ids)
    since_ms = [int(due or created or now_ms) for created, due in times]
    if lane is Lane.BATCH:  # those that wait for another try have a place of their own
        parked: Any = ledger.client.zrange(keys.due("aside"), 0, 0, withscores=True)
        since_ms += [int(at) for _, at in parked]
    return max(0.0, (now_ms - min(since_ms, default=now_ms)) / 1000)


def _oldest_event_s(ledger: LedgerPart, now_ms: int) -> dict[str, float]:
    """Return for how many seconds the oldest open event of each code has been open."""
    oldest: dict[str, int] = {}
    place, skip = "-inf", 0
    while place:
        place, skip, *found = ledger.run_script(
            "oldest_events", limit=_MOST_READ, place=place, skip=skip
        )
        for code, asked_ms in pairs(found).items():
            oldest[code] = min(oldest.get(code, now_ms), int(asked_ms))
    return {code: max(0, now_ms - asked_ms) / 1000 for code, asked_ms in sorted(oldest.items())}


def _counts(values: Mapping[str, str]) -> dict[str, int]:
    return {name: int(n) for name, n in sorted(values.items()) if int(n)}


def _pace(
    settings: Settings, values: Mapping[str, str], ring: Mapping[str, str], now_us: int
) -> Pace:
    arrivals = [int(entry.rpartition(":")[2]) for entry in ring.values()]
    caution, refused_us = values.get("caution_us"), values.get("refused_at_us")
    answer_us = values.get("answer_us")
    limit, rate = rates(values, settings, now_us)
    return Pace(
        limit=limit,
        setting=settings.sendcode_rate_limit,
        last_second=sum(now_us - 1_000_000 < at <= now_us for at in arrivals),
        factor=rate / limit,
        allowed=float(values["level"]) if rate < limit else None,
        caution_ms=float(caution) / 1000 if caution else None,
        answer_ms=int(answer_us) / 1000 if answer_us else None,
        refused=int(values.get("refused", 0)),
        refused_ms=int(refused_us) // 1000 if refused_us else None,
    )


def alive_workers(client: redis.Redis, settings: Settings) -> int:
    """Return how many workers are alive and send codes, without reading all the rest."""
    ledger = LedgerPart(client, settings)
    now, workers = ledger.ask_all([("TIME",), ("HGETALL", ledger.keys.workers)])
    found = _workers(workers, {}, time_us(now) // 1000)
    return sum(each.alive and not each.idle for each in found)


def _workers(
    workers: Mapping[str, str], refused: Mapping[str, str], now_ms: int
) -> tuple[WorkerStatus, ...]:
    alive_lately = []
    for entry, at in sorted(workers.items()):
        found = refused.get(f"key:{entry.rpartition('.')[2]}") or refused.get(f"worker:{entry}")
        why: dict[str, Any] = json.loads(found) if found else {"code": "", "since": None}
        silent_s = (now_ms - int(at)) / 1000
        if silent_s < _FORGOTTEN_S:
            name = entry.partition("/")[0]
            idle = sends_nothing(entry)
            alive_lately.append(WorkerStatus(name, silent_s, why["code"], why["since"], idle))
    return tuple(alive_lately)


def seconds_for(
    rows: int, rate: float, waiting: Sequence[int], events: int = 0, max_rate: float | None = None
) -> float:
    """Estimate when the last of `rows` new rows has been sent, one request each.

    Running batches take turns row by row, so a small one does not wait for the whole of a big one:
    until it has ended, each other batch (`waiting`: its jobs) gets as many turns as it at most.
    """
    others = sum(min(rows, jobs) for jobs in waiting)
    shared = (rows + others + events) / rate
    return max(shared, rows / max_rate) if max_rate else shared
