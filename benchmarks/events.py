"""How soon an event's code is at the API: alone, and while a batch takes all of the limit.

From the return of `send_code()` until the request has arrived, as the sandbox stamps it, on the
clock that all processes of a machine share. 40 ms of each wait are the way to the API, which then
works for as long as `--api` says: 40 ms, and 300 ms (median) by default. With `--http` the backend
calls one `sendcode web` over a connection that it keeps, and the wait begins with its request.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import requests
from celery import Celery

from benchmarks.chart import Bar, bar_chart
from benchmarks.conditions import Condition
from benchmarks.report import Cell, Report, Table, Target
from benchmarks.traffic import percentile, traffic_between
from benchmarks.world import COUNTRY, World, announce, number
from demo.world import wait_until
from producer import send_code
from producer.tokens import Tokens
from tests.web_process import WebProcess

RATE = 20
PROCESSES = 4
LATENCY_MS = 40
"""One way."""
WAY = ("--latency-ms", str(LATENCY_MS))
APIS = "40,lognormal300"
PEER_THREADS = 8
OURS, HTTP, ALONE, BESIDE = "sendcode", "sendcode, HTTP", "alone", "beside a batch"
EVENTS_QUEUE, JOBS_QUEUE = "fifo.events", "fifo.jobs"
SETTLE_S = 4.0
WARM_UP = 8
EVENT_S = 0.6
"""Mean time between two events beside a batch: at most a tenth of the limit is theirs."""
FIRST_EVENT = 5_000_000
TARGET_P50_MS, TARGET_P99_MS, TARGET_GOODPUT = 75, 105, 98
TARGET_HTTP_P99_MS = 150

Send = Callable[[str], float]
"""Has a code sent to a number; returns when the wait began, by `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class Waits:
    """What the events of one contender waited in one situation."""

    contender: str
    api: str
    """The condition that it was measured under."""
    situation: str
    events: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    goodput_percent: float | None
    """Of the limit, events and batch together; None where there was no batch."""
    most_in_any_second: int


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured."""

    alone: int
    beside: int
    queued: int
    """Events of the peer with one queue: each waits for the whole batch, so a few are enough."""


FULL = Amount(alone=100, beside=150, queued=20)
QUICK = Amount(alone=10, beside=15, queued=5)


def ours(name: str, amount: Amount, api: Condition) -> list[Waits]:
    """Measure sendcode with its settings as they come: its Python call, or its HTTP API."""
    with api.world(RATE, *WAY) as world, ExitStack() as stack:
        workers = [stack.enter_context(world.worker(f"w{n}")) for n in range(PROCESSES)]
        for worker in workers:
            worker.wait_for("ready.")

        send = _by_http(world, stack) if name == HTTP else _by_call(world)
        for n in range(1, WARM_UP + 1):  # connections are open, the limiter knows its past
            send(number(FIRST_EVENT - n))
            wait_until(lambda n=n: world.requests() == n, "warm-up")  # type: ignore[misc]
        alone = _measure(world, name, api, ALONE, send, amount.alone, 0.2)
        world.submit_batch("bench", _rows_beside(amount.beside))
        return [alone, _beside(world, name, api, send, amount.beside)]


def _by_call(world: World) -> Send:
    def send(phone: str) -> float:
        send_code(COUNTRY, phone, settings=world.settings)
        return time.monotonic()

    return send


def _by_http(world: World, stack: ExitStack) -> Send:
    _, token = Tokens(world.redis, world.settings).new("bench", ["send"])
    web = WebProcess(world, "web")
    wait_until(lambda: web.answers, "sendcode web")
    session = stack.enter_context(requests.Session())
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {token}"

    def send(phone: str) -> float:
        began = time.monotonic()
        body = {"country_code": COUNTRY, "phone_num": phone}
        headers = {"Idempotency-Key": f"n-{began}"}
        session.post(f"{web.url}/v1/codes", json=body, headers=headers).raise_for_status()
        return began

    return send


def fifo(contender: str, queue: str, events: int, api: Condition) -> Waits:
    """Measure the peer, its events put into `queue`."""
    with api.world(RATE, *WAY) as world, ExitStack() as stack:
        app = Celery("fifo", broker=world.settings.redis_url)
        stack.callback(app.close)

        def put(phone: str, into: str) -> float:
            app.send_task("fifo.send", args=(COUNTRY, phone), queue=into)
            return time.monotonic()

        for n in range(_rows_beside(events)):
            put(number(n), JOBS_QUEUE)
        command = ("celery", "-A", "benchmarks.peers.fifo", "worker", "-P", "threads")
        options = ("-c", str(PEER_THREADS), "-Q", f"{EVENTS_QUEUE},{JOBS_QUEUE}", "-l", "INFO")
        workers = [
            stack.enter_context(world.run(f"f{n}", *command, *options, "-n", f"f{n}@%h"))
            for n in range(PROCESSES)
        ]
        for worker in workers:
            worker.wait_for("ready.")
        return _beside(world, contender, api, lambda phone: put(phone, queue), events)


def _rows_beside(events: int) -> int:
    """Return the rows of a batch that outlasts so many events."""
    return round(RATE * (events * EVENT_S + 3 * SETTLE_S))


def _beside(world: World, contender: str, api: Condition, send: Send, events: int) -> Waits:
    wait_until(lambda: world.requests() > RATE, f"{contender} at work")
    time.sleep(SETTLE_S)
    return _measure(world, contender, api, BESIDE, send, events, EVENT_S)


def _measure(
    world: World,
    contender: str,
    api: Condition,
    situation: str,
    send: Send,
    events: int,
    mean_s: float,
) -> Waits:
    announce(f"{contender}, {api.name}, {situation}: {events} events in {events * mean_s:.0f} s")
    chance = random.Random(1)
    first = FIRST_EVENT + (0 if situation == ALONE else 100_000)
    since: dict[str, float] = {}
    started = time.monotonic()
    for n in range(events):
        time.sleep(chance.uniform(0.5, 1.5) * mean_s)
        phone = number(first + n)
        since[COUNTRY + phone] = send(phone)
    ended = time.monotonic()

    def arrived() -> dict[str, float]:
        found: dict[str, float] = {}
        for at, digits, _ in world.sandbox.stats(numbers=False, arrivals=True)["arrivals"]:
            if digits in since:
                found.setdefault(digits, at)
        return found

    patience_s = 30 + _rows_beside(events) / RATE
    wait_until(lambda: len(arrived()) == events, f"{contender}: all events", patience_s)
    at = arrived()
    waits_ms = [1000 * (at[digits] - began) for digits, began in since.items()]
    stats = world.sandbox.stats(numbers=False, arrivals=True)
    traffic = traffic_between(stats, started, ended, RATE)
    return Waits(
        contender,
        api.name,
        situation,
        events,
        percentile(waits_ms, 0.5),
        percentile(waits_ms, 0.99),
        max(waits_ms),
        None if situation == ALONE else 100 * traffic.goodput,
        int(stats["most_in_any_second"]),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="fewer events, to try it out")
    parser.add_argument(
        "--api",
        type=Condition.several,
        default=APIS,
        help=f"conditions as in `rate` (default: {APIS}); the peers meet the first",
    )
    parser.add_argument("--http", action="store_true", help="by the HTTP API, without its peers")
    parser.add_argument("--only", choices=[OURS], help="without its peers")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Measure sendcode, then its peers."""
    amount = QUICK if options.quick else FULL
    mine = HTTP if options.http else OURS
    found = [waits for api in options.api for waits in ours(mine, amount, api)]
    if not (options.only or options.http):
        first = options.api[0]
        found.append(fifo("two queues, FIFO limiter", EVENTS_QUEUE, amount.beside // 3, first))
        found.append(fifo("one FIFO queue", JOBS_QUEUE, amount.queued, first))
    table = Table(
        f"From {'a request' if options.http else 'the return of send_code()'} to the API: "
        f"{PROCESSES} worker processes, {RATE}/s",
        (
            "",
            "the API works, ms",
            "situation",
            "events",
            "p50 ms",
            "p99 ms",
            "max ms",
            "goodput %",
            "most in 1 s",
        ),
        [_row(each) for each in found],
        (
            f"{LATENCY_MS} ms of each wait are the way from the worker to the API",
            *([] if options.http else _peers_notes(amount)),
        ),
    )
    ours_beside = [each for each in found if (each.contender, each.situation) == (mine, BESIDE)]
    targets = [target for each in ours_beside for target in _targets(each)]
    chart = bar_chart(
        "An event's wait beside a batch, ms, p99",
        [
            Bar(
                f"{each.contender}, {each.api}",
                each.p99_ms,
                f"{each.p99_ms:,.0f} ms",
                each.contender == mine,
            )
            for each in found
            if each.situation == BESIDE
        ],
    )
    if options.http:
        return Report("events-http", command, [table], targets)
    return Report("events", command, [table], targets, {"events.svg": chart})


def _peers_notes(amount: Amount) -> list[str]:
    return [
        f"FIFO limiter: first come, first served, by {PROCESSES} x {PEER_THREADS} threads",
        f"one FIFO queue: an event waits for all of the batch that is left, here of "
        f"{_rows_beside(amount.queued)} rows; of 10,000 rows it would be 8 minutes",
    ]


def _row(each: Waits) -> list[Cell]:
    waits: list[Cell] = [round(each.p50_ms), round(each.p99_ms), round(each.max_ms)]
    goodput = None if each.goodput_percent is None else f"{each.goodput_percent:.1f}"
    begun: list[Cell] = [each.contender, each.api, each.situation, each.events]
    return [*begun, *waits, goodput, each.most_in_any_second]


def _targets(beside: Waits) -> list[Target]:
    goodput = beside.goodput_percent or 0
    if beside.contender == HTTP:
        soon = Target(
            f"{beside.api}: p99 beside a batch within {TARGET_HTTP_P99_MS} ms",
            f"{beside.p99_ms:.0f} ms",
            beside.p99_ms <= TARGET_HTTP_P99_MS,
        )
    else:
        soon = Target(
            f"{beside.api}: p50 beside a batch within {TARGET_P50_MS} ms, "
            f"p99 within {TARGET_P99_MS} ms",
            f"{beside.p50_ms:.0f} and {beside.p99_ms:.0f} ms",
            beside.p50_ms <= TARGET_P50_MS and beside.p99_ms <= TARGET_P99_MS,
        )
    return [
        soon,
        Target(
            f"{beside.api}: goodput meanwhile at least {TARGET_GOODPUT} %",
            f"{goodput:.1f} %",
            goodput >= TARGET_GOODPUT,
        ),
        Target(
            f"{beside.api}: never above {RATE} in a second",
            f"most {beside.most_in_any_second}",
            beside.most_in_any_second <= RATE,
        ),
    ]
