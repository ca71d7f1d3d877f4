"""`/metrics`: the ledger's figures for Prometheus. They are exact, and survive every restart.

What only a worker can measure (how long the API takes, how long jobs wait for a slot) is on that
worker's own port (`worker/meter.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated

import redis
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.job import State
from jobs.server import Level, good_replicas, judge, read_server
from producer.overview import Overview, read_overview
from producer.tokens import Scope, Token
from producer.web.access import needs
from producer.web.problems import ask
from producer.web.services import Services, services

router = APIRouter(include_in_schema=False)

Reader = Annotated[Token, Depends(needs(Scope.READ))]

_ENDED = tuple(state for state in State if state.is_final and not state.is_for_a_person)
"""States whose counts never fall, as nobody tries these jobs again."""


@router.get("/metrics")
async def show_metrics(request: Request, _: Reader) -> Response:
    """Return all figures, in Prometheus' text format."""
    text = await ask(request, generate_latest, _Figures(services(request)))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


class _Figures(Collector):
    def __init__(self, app: Services) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        overview = read_overview(self._app.client, self._app.settings, self._app.identity)
        yield from _ledger(overview)
        yield from _webhooks(overview)
        yield from _server(self._app.client)


def _gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
    """Yield a figure if it is known."""
    if value is not None:
        yield GaugeMetricFamily(f"sendcode_{name}", text, value=value)


def _figures(
    name: str,
    text: str,
    label: str,
    values: Mapping[str, float],
    kind: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily,
) -> Iterator[Metric]:
    """Yield a figure for each value of a label."""
    family = kind(f"sendcode_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    yield family


def _ledger(overview: Overview) -> Iterator[Metric]:
    """Yield the ledger's figures, labelled by queue, state, code, rule or token name."""
    totals, pace, account = overview.totals, overview.pace, overview.account
    halted = GaugeMetricFamily(
        "sendcode_halted", "1 while all sending is halted.", labels=["code", "by"]
    )
    halted.add_metric([account.code, account.by], float(overview.is_halted))
    yield halted
    yield CounterMetricFamily(
        "sendcode_throttled", "Requests that the API refused as too many.", value=pace.refused
    )
    unknown = sum(overview.unknown_by_code.values())
    duplicates = totals.get("possible_duplicate", 0)
    since_s = account.since_ms / 1000 if overview.is_halted and account.since_ms else None
    stood_down = sum(1 for each in overview.workers if each.refused)
    keys_missing = len(overview.unknown_data_keys)
    is_foreign = bool(overview.ledger.refused or overview.ledger.is_disputed)
    for name, text, value in (
        ("jobs_open", "Jobs queued, with a worker or waiting for another try.", overview.in_work),
        ("rows_waiting", "Rows of batches that are no jobs yet.", overview.rows_waiting),
        ("unknown", "Dead letters that were perhaps sent.", unknown),
        ("possible_duplicates", "Jobs that were perhaps sent twice, ever.", duplicates),
        ("rate_limit", "Requests per second that are allowed.", pace.limit),
        ("rate_used", "Requests in the last second.", pace.last_second),
        ("rate_factor", "Share of the limit that is used at most; below 1: slowed.", pace.factor),
        ("halted_since_timestamp_seconds", "When all sending was halted.", since_s),
        ("workers_alive", "Workers that are alive and send codes.", overview.alive),
        (
            "workers_gone",
            "Workers that fell silent within an hour and did not come back.",
            overview.gone,
        ),
        (
            "workers_refused",
            "Workers that the API refuses, or that cannot reach it while others do.",
            stood_down,
        ),
        ("sweep_lag_seconds", "Seconds since the last sweep by any worker.", overview.sweep_s),
        ("data_keys_missing", "Data keys that a worker lacks while jobs need them.", keys_missing),
        ("quarantined_messages", "Messages that were no jobs.", overview.quarantined),
        ("ledger_refused", "1 if this is not the ledger that was here before.", float(is_foreign)),
        ("ledger_misfits", "Parts of the ledger that do not fit together.", len(overview.misfits)),
        ("batches_late", "Batches with codes that will come too late.", overview.batches_late),
    ):
        yield from _gauge(name, text, value)
    yield from _figures(
        "oldest_due_seconds",
        "How long the oldest job that could be sent now has been due.",
        "lane",
        overview.oldest_due_s,
    )
    yield from _figures(
        "oldest_event_seconds",
        "How long the oldest event has been open, whatever it waits for, by its last code.",
        "code",
        overview.oldest_event_s or {"": 0},
    )
    yield from _figures("queue_messages", "Entries in a queue.", "queue", overview.queues)
    yield from _figures(
        "jobs_ended",
        "Jobs that ended in a state, ever, without dead letters.",
        "state",
        {state: totals.get(state, 0) for state in _ENDED},
        CounterMetricFamily,
    )
    yield from _figures(
        "dead_letters", "Dead letters that wait for a person.", "code", overview.dead_by_code
    )
    yield from _figures(
        "quota_refusals",
        "Codes that a quota refused.",
        "rule",
        overview.quota_refusals,
        CounterMetricFamily,
    )
    phases = Counter(each.phase for each in overview.batches)
    yield from _figures("batches", "Batches that are not over.", "state", phases)


def _webhooks(overview: Overview) -> Iterator[Metric]:
    now_ms = overview.at_ms
    waiting = {each.name: each.waiting for each in overview.webhooks}
    given_up = {each.name: each.undelivered for each in overview.webhooks}
    failing = {
        each.name: (now_ms - each.failing_ms) / 1000 if each.failing_ms else 0.0
        for each in overview.webhooks
    }
    yield from _figures("webhooks_waiting", "Outcomes yet to be delivered.", "token", waiting)
    yield from _figures("webhooks_undelivered", "Outcomes given up.", "token", given_up)
    yield from _figures(
        "webhook_failing_seconds", "For how long no attempt has succeeded.", "token", failing
    )


def _server(client: redis.Redis) -> Iterator[Metric]:
    """Yield what Redis reports of itself, and whether it is configured as it must be."""
    server = read_server(client)
    findings: dict[str, float] = {}
    for each in judge(server):  # one check may have several findings
        findings[each.name] = min(findings.get(each.name, 1.0), float(each.level is Level.OK))
    yield from _figures("redis_ok", "0 if Redis is not as it must be.", "check", findings)
    if server.info:
        used, most = server.info.get("used_memory"), server.info.get("maxmemory")
        yield from _gauge("redis_memory_bytes", "Memory that Redis uses.", used)
        text = "Replicas that keep up, if Redis requires any; else all that are connected."
        yield from _gauge("redis_replicas", text, good_replicas(server.info))
        yield from _gauge("redis_memory_limit_bytes", "Memory it may use; 0: no limit.", most)
