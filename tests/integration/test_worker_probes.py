"""A worker's own figures and probes: SENDCODE_METRICS_PORT, and systemd's notifications."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis, RedisError

from demo.world import EmbeddedValkey
from jobs.codes import Kind
from jobs.job import Lane
from jobs.ledger import Ledger
from tests.replicas import frozen
from tests.waiting import wait_until
from worker.health import DEAD_AFTER_S, Health, notify_systemd, serve
from worker.meter import Meter
from worker.presence import SETTLED_S, Leases, Presence, Shutdown

PATIENCE_S = 5.0


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def presence(ledger: Ledger, clock: Clock) -> Presence:
    return Presence(ledger, Leases(), Shutdown(), PATIENCE_S, clock)


@pytest.fixture
def health(ledger: Ledger, presence: Presence, clock: Clock, refused: list[str]) -> Health:
    health = Health(ledger, presence, lambda: "".join(refused), clock)
    health.is_ready = True
    return health


@pytest.fixture
def refused() -> list[str]:
    """What the API refuses of this worker; empty, or one code."""
    return []


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def ask(health: Health, meter: Meter) -> Iterator[Callable[[str], requests.Response]]:
    port, close = serve("127.0.0.1", 0, health, meter)
    yield lambda path: requests.get(f"http://127.0.0.1:{port}{path}", timeout=30)
    close()


Ask = Callable[[str], requests.Response]


def test_a_worker_that_goes_round_and_reaches_its_ledger_lives_and_is_ready(
    ask: Ask, health: Health, presence: Presence
) -> None:
    health.note_round("sweeper")
    presence.beat()

    assert [ask(path).status_code for path in ("/livez", "/readyz")] == [200, 200]
    assert ask("/else").status_code == 404


def test_a_thread_that_stands_still_is_named_by_both_probes(
    ask: Ask, health: Health, clock: Clock
) -> None:
    health.note_round("sweeper")
    clock.now += DEAD_AFTER_S + 1

    answers = [ask(path) for path in ("/livez", "/readyz")]

    assert [each.status_code for each in answers] == [503, 503]
    assert all(each.text == "sweeper has stood still for 61 s\n" for each in answers)


def test_a_worker_whose_ledger_is_gone_lives_and_is_not_ready(
    ask: Ask,
    ledger: Ledger,
    health: Health,
    presence: Presence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    health.note_round("sweeper")
    presence.beat()
    gone = ledger.client.connection_pool.connection_kwargs | {"port": 1}
    ledger.client.connection_pool.disconnect()
    monkeypatch.setattr(ledger.client.connection_pool, "connection_kwargs", gone)
    ledger.client.connection_pool.reset()  # those that it has would find the server again
    with pytest.raises(RedisError):
        presence.beat()

    assert ask("/livez").status_code == 200
    assert ask("/readyz").status_code == 503
    assert ask("/readyz").text.startswith("Redis takes no write: ")


def test_a_redis_that_is_full_now_and_then_makes_a_worker_unready_until_it_has_settled(
    ask: Ask, presence: Presence, clock: Clock, redis: Redis
) -> None:
    presence.beat()
    before = ask("/readyz").status_code
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisError):
            presence.beat()
    finally:
        redis.config_set("maxmemory", 0)
    full = ask("/readyz")
    clock.now += SETTLED_S / 2
    presence.beat()
    a_moment_later = ask("/readyz")
    clock.now += SETTLED_S
    presence.beat()

    assert before == 200
    assert (full.status_code, full.text) == (503, "Redis takes no write: OOM\n")
    assert (a_moment_later.status_code, a_moment_later.text) == (503, full.text)
    assert ask("/readyz").status_code == 200


def test_a_silent_redis_is_told_at_once_and_makes_no_part_of_a_worker_stand_still(
    ask: Ask, ledger: Ledger, presence: Presence, clock: Clock, valkey: EmbeddedValkey
) -> None:
    presence.note_progress("sweeper")
    presence.beat()
    pool: Any = ledger.client.connection_pool
    connections = pool.pool  # full as long as none is in use
    with ThreadPoolExecutor() as threads, frozen(valkey):
        beating = threads.submit(presence.beat)
        wait_until(lambda: not connections.full(), "a sign of life that waits")
        clock.now += 4 * PATIENCE_S
        answers = [ask(path) for path in ("/livez", "/readyz")]
        was_waiting = not beating.done()
    beating.result()

    assert was_waiting
    assert [each.status_code for each in answers] == [200, 503]
    assert answers[1].text == "Redis has not answered for 20 s\n"
    assert ask("/livez").status_code == 200, "the sweeper has its time anew"
    presence.note_progress("sweeper")
    assert ask("/readyz").status_code == 200


def test_a_worker_that_the_api_refuses_is_not_ready_and_says_why(
    ask: Ask, presence: Presence, refused: list[str]
) -> None:
    presence.beat()
    refused.append("AuthFailure.SecretIdNotFound")

    answer = ask("/readyz")

    assert ask("/livez").status_code == 200
    assert (answer.status_code, answer.text) == (
        503,
        "the API refuses what this worker was set up with: AuthFailure.SecretIdNotFound\n",
    )


def test_before_it_takes_messages_and_while_it_stops_it_is_not_ready(
    ask: Ask, health: Health
) -> None:
    health.is_ready = False

    assert ask("/livez").status_code == 200
    assert ask("/readyz").text == "no messages are taken yet\n"


def test_the_figures_tell_how_long_the_api_took_and_jobs_waited(ask: Ask, meter: Meter) -> None:
    meter.api.labels(Kind.SENT).observe(0.08)
    meter.acceptance_to_api.labels(Lane.EVENT).observe(0.4)
    meter.limiter_wait.observe(0.05)
    meter.count_threads(lambda: 3, 10)

    figures = {
        (sample.name, sample.labels.get("kind") or sample.labels.get("lane")): sample.value
        for family in text_string_to_metric_families(ask("/metrics").text)
        for sample in family.samples
        if "le" not in sample.labels
    }

    assert figures["sendcode_api_seconds_sum", "sent"] == pytest.approx(0.08)
    assert figures["sendcode_acceptance_to_api_seconds_count", "event"] == 1
    assert figures["sendcode_limiter_wait_seconds_count", None] == 1
    assert (figures["sendcode_threads_used", None], figures["sendcode_threads", None]) == (3, 10)


def test_the_figures_tell_whether_it_could_send_and_ask_redis_nothing_for_it(
    ask: Ask,
    health: Health,
    meter: Meter,
    presence: Presence,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meter.show_ready(lambda: not health.why_not_ready())

    def is_ready() -> bool:
        lines = ask("/metrics").text.splitlines()
        return "sendcode_worker_ready 1.0" in lines

    before = is_ready()
    presence.beat()
    beaten = is_ready()
    health.is_ready = False
    stopping = is_ready()
    health.is_ready = True
    pool = ledger.client.connection_pool
    monkeypatch.setattr(pool, "connection_kwargs", pool.connection_kwargs | {"port": 1})
    pool.disconnect()
    pool.reset()  # those that it has would find the server again
    lasting = is_ready()
    with pytest.raises(RedisError):
        presence.beat()

    assert (before, beaten, stopping) == (False, True, False)
    assert lasting, "nothing has been asked since"
    assert not is_ready()


def test_systemd_hears_of_it_where_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        notify_systemd("READY=1", "STATUS=taking messages")

        assert systemd.recv(1_000) == b"READY=1\nSTATUS=taking messages"
    notify_systemd("WATCHDOG=1")  # nobody listens any more
