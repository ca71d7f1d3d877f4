"""A worker's own figures and probes: SENDCODE_METRICS_PORT, and systemd's notifications."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from redis import RedisError

from jobs.codes import Kind
from jobs.job import Lane
from jobs.ledger import Ledger
from worker.health import DEAD_AFTER_S, Health, serve, tell_systemd
from worker.meter import Meter
from worker.presence import Leases, Presence, Shutdown

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
def health(ledger: Ledger, presence: Presence, clock: Clock) -> Health:
    health = Health(ledger, presence, lambda: False, clock)
    health.is_ready = True
    return health


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
    ask: Ask, health: Health
) -> None:
    health.note_round("sweeper")

    assert [ask(path).status_code for path in ("/livez", "/readyz")] == [200, 200]
    assert ask("/else").status_code == 404


def test_a_thread_that_stands_still_is_named_by_both_probes(
    ask: Ask, health: Health, clock: Clock
) -> None:
    health.note_round("sweeper")
    clock.now += DEAD_AFTER_S + 1

    answers = [ask(path) for path in ("/livez", "/readyz")]

    assert [each.status_code for each in answers] == [503, 503]
    assert all(each.text == "sweeper has stood still for 31 s\n" for each in answers)


def test_a_worker_whose_ledger_is_gone_lives_and_is_not_ready(
    ask: Ask, ledger: Ledger, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    health.note_round("sweeper")
    gone = ledger.client.connection_pool.connection_kwargs | {"port": 1}
    ledger.client.connection_pool.disconnect()
    monkeypatch.setattr(ledger.client.connection_pool, "connection_kwargs", gone)

    assert ask("/livez").status_code == 200
    assert ask("/readyz").status_code == 503
    assert ask("/readyz").text.startswith("Redis takes no write: ")


def test_before_it_takes_messages_and_while_it_stops_it_is_not_ready(
    ask: Ask, health: Health
) -> None:
    health.is_ready = False

    assert ask("/livez").status_code == 200
    assert ask("/readyz").text == "no messages are taken yet\n"


def test_the_figures_tell_how_long_the_api_took_and_jobs_waited(ask: Ask, meter: Meter) -> None:
    meter.called(Kind.SENT, 0.08)
    meter.reached_api(Lane.EVENT, 0.4)
    meter.waited_for_slot(0.05)
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
    meter.show_ready(health.was_ready)

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

        tell_systemd("READY=1", "STATUS=taking messages")

        assert systemd.recv(1_000) == b"READY=1\nSTATUS=taking messages"
    tell_systemd("WATCHDOG=1")  # nobody listens any more
