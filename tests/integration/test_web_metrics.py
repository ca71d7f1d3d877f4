"""`/metrics`: what it says of a ledger, read back as Prometheus does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.batches import Batches
from jobs.codes import Kind, OwnCode
from jobs.job import Lane, State
from jobs.keys import Keys
from jobs.ledger import Ledger, Pause, Tried
from jobs.scripts import time_ms
from jobs.server import Level, judge, read_server
from jobs.webhooks import Webhooks
from producer.tokens import Tokens
from tests.commands import Command
from tests.ended_jobs import DEAD, SENT, UNKNOWN, end_event, number
from tests.ledger_acts import Acts, row
from tests.web_server import WebServer
from worker.meter import Meter

TOP = Path(__file__).resolve().parents[2]
HOUR_MS = 3_600_000

Figures = Callable[..., float | None]


@pytest.fixture
def web(settings: Settings, redis: Redis) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        _, server.token = Tokens(redis, settings).new("prometheus", ["read"])
        yield server


@pytest.fixture
def figure(web: WebServer) -> Figures:
    """Return the figure of a name and labels now; None if there is none."""

    def read(name: str, **labels: str) -> float | None:
        answer = web.call("GET", "/metrics")
        assert answer.status_code == 200, answer.text
        samples = [
            sample
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        ]
        found = [each.value for each in samples if (each.name, each.labels) == (name, labels)]
        assert len(found) <= 1
        return found[0] if found else None

    return read


def test_it_counts_what_waits_and_what_became_of_jobs(
    figure: Figures, ledger: Ledger, acts: Acts
) -> None:
    end_event(ledger, 1, SENT)
    end_event(ledger, 2, DEAD)
    end_event(ledger, 3, UNKNOWN)
    acts.event(4)
    acts.batch([row(n) for n in range(10, 15)], "b")

    assert figure("sendcode_jobs_ended_total", state="sent") == 1
    assert figure("sendcode_dead_letters", code=DEAD.code) == 1
    assert figure("sendcode_unknown") == 1
    assert figure("sendcode_jobs_open") == 1
    assert figure("sendcode_rows_waiting") == 5
    assert figure("sendcode_batches", state="running") == 1
    assert figure("sendcode_queue_messages", queue="send-code.dead-letter") == 2


def test_the_oldest_job_that_is_due_has_an_age_and_one_that_waits_for_its_time_has_none(
    figure: Figures, acts: Acts, redis: Redis, keys: Keys
) -> None:
    assert figure("sendcode_oldest_due_seconds", lane="event") == 0
    old, parked = acts.event(1), acts.event(2)
    redis.hincrby(keys.job(old), "created", -90_000)
    acts.park(parked, acts.claimed(parked), 60_000)
    redis.hincrby(keys.job(parked), "created", -600_000)

    age_s = figure("sendcode_oldest_due_seconds", lane="event")

    assert age_s is not None
    assert 90 <= age_s < 600


def test_the_oldest_event_has_an_age_whatever_it_waits_for_by_the_code_of_its_last_answer(
    figure: Figures, acts: Acts, ledger: Ledger, redis: Redis, keys: Keys, sendcode: Command
) -> None:
    assert figure("sendcode_oldest_event_seconds", code="") == 0
    tried, locked, untried = acts.event(1), acts.event(2), acts.event(3)
    for job_id, code in ((tried, "Network.Dns"), (locked, OwnCode.LOCKED)):
        ledger.park(job_id, acts.claimed(job_id), Pause(HOUR_MS, code), Tried())
    for job_id, age_ms in ((tried, 900_000), (locked, 300_000), (untried, 60_000)):
        redis.hincrby(keys.job(job_id), "created", -age_ms)
    # more than one look takes, all of one time
    beyond, others = time_ms(redis.time()) + 2 * HOUR_MS, [f"0{n}" for n in range(1_000)]
    redis.zadd(keys.due("event"), dict.fromkeys([*others, tried], beyond))

    ages_s = [
        figure("sendcode_oldest_event_seconds", code=code)
        for code in ("Network.Dns", OwnCode.LOCKED, "")
    ]

    redis.zrem(keys.due("event"), *others)
    for age_s, least_s in zip(ages_s, (900, 300, 60), strict=True):
        assert age_s is not None
        assert least_s <= age_s < least_s + 240
    shown = sendcode("status").out
    assert re.search(r"an event has waited for 9\d\d s, last for Network.Dns", shown)
    assert re.search(r"an event has waited for 3\d\d s, last for Ledger.Locked", shown)
    assert sendcode("status", "--json").json["oldest_event_s"]["Network.Dns"] >= 900


def test_an_event_that_a_person_tries_again_is_not_as_old_as_its_first_request(
    figure: Figures, acts: Acts, sendcode: Command, redis: Redis, keys: Keys
) -> None:
    job_id = acts.event(1)
    acts.finish(job_id, acts.begun(job_id), State.DEAD, DEAD.code)
    redis.hincrby(keys.job(job_id), "created", -24 * HOUR_MS)

    sendcode("dead", "requeue", job_id, "--yes")

    age_s = figure("sendcode_oldest_event_seconds", code="")
    assert age_s is not None
    assert age_s < 12 * 3_600


def test_a_halt_is_shown_with_its_code_and_since_when(
    figure: Figures, settings: Settings, redis: Redis
) -> None:
    assert figure("sendcode_halted", code="", by="") == 0

    Account(redis, settings).halt("person", "Halted", "a test")

    assert figure("sendcode_halted", code="Halted", by="person") == 1
    assert figure("sendcode_halted_since_timestamp_seconds")


def test_a_worker_is_gone_that_fell_silent_until_one_of_its_name_is_back_or_it_signs_off(
    figure: Figures, redis: Redis, keys: Keys
) -> None:
    now_ms = time_ms(redis.time())
    redis.hset(
        keys.workers,
        mapping={
            "w1@a/1.f": now_ms + HOUR_MS,
            "w2@b/2.f": now_ms - 60_000,
            "w3@c/3.f": now_ms - HOUR_MS,
        },
    )

    gone = figure("sendcode_workers_gone")
    redis.hset(keys.workers, "w2@b/4.f", now_ms + HOUR_MS)

    assert (gone, figure("sendcode_workers_alive")) == (1, 2)
    assert figure("sendcode_workers_gone") == 0


def test_a_data_key_that_jobs_wait_for_is_counted(
    figure: Figures, redis: Redis, keys: Keys
) -> None:
    before = figure("sendcode_data_keys_missing")
    redis.hset(keys.vault_unknown, "k9", time_ms(redis.time()) + HOUR_MS)
    redis.pexpire(keys.vault_unknown, HOUR_MS)

    assert (before, figure("sendcode_data_keys_missing")) == (0, 1)


def test_a_missing_data_key_is_shown_with_its_last_job_and_no_longer_than_until_its_next(
    figure: Figures, sendcode: Command, redis: Redis, keys: Keys
) -> None:
    now_ms = time_ms(redis.time())
    redis.hset(
        keys.vault_unknown,
        mapping={
            "k7\tw1@a": "damaged",
            "k8\tw1@a": now_ms - 90_001,
            "k9\tw1@a": now_ms + HOUR_MS,
            "k9\tw2@b": now_ms - 1,
            "k9\tw3@c": now_ms - 90_001,
        },
    )
    redis.pexpire(keys.vault_unknown, HOUR_MS)

    ran = sendcode("status")

    assert "data key k9, which w1@a, w2@b lack: they wait (one was met 0 s ago)" in ran.out
    assert "k8" not in ran.out
    assert figure("sendcode_data_keys_missing") == 1


@pytest.mark.settings(sendcode_rate_limit=20)
@pytest.mark.parametrize(("expires_in_s", "late"), [(6, 1), (3_600, 0)])
def test_a_batch_that_is_paused_is_late_once_the_limit_would_not_do_from_now_on(
    expires_in_s: int, late: int, figure: Figures, acts: Acts, batches: Batches, redis: Redis
) -> None:
    expires_ms = time_ms(redis.time()) + 1000 * expires_in_s
    acts.batch(200, "b", expires_ms=expires_ms)
    batches.steer("b", "pause")

    assert figure("sendcode_batches_late") == late


def test_it_says_of_each_check_whether_redis_is_as_it_must_be(
    figure: Figures, redis: Redis
) -> None:
    findings = judge(read_server(redis))
    levels = {each.name: each.level for each in findings}

    assert len(set(levels.values())) > 1, "one that is well, and one that is not"
    for name, level in levels.items():
        assert figure("sendcode_redis_ok", check=name) == (level is Level.OK)
    assert figure("sendcode_redis_memory_bytes")


def test_no_number_is_in_it_and_a_token_that_may_not_read_is_refused(
    web: WebServer, settings: Settings, redis: Redis, ledger: Ledger
) -> None:
    end_event(ledger, 1, DEAD)
    _, sender = Tokens(redis, settings).new("shop", ["send"])

    text = web.call("GET", "/metrics").text

    assert number(1).phone_num not in text
    assert web.call("GET", "/metrics", token=sender).status_code == 403
    assert web.call("GET", "/metrics", token="").status_code == 401


def test_each_figure_that_an_alert_asks_for_exists_and_each_alert_is_explained(
    web: WebServer, ledger: Ledger, acts: Acts, settings: Settings, redis: Redis
) -> None:
    end_event(ledger, 1, DEAD)
    acts.sweep()
    Webhooks(redis, settings).set("shop", "https://shop.example/hook")
    text = web.call("GET", "/metrics").text + _shown_by(_meter_that_saw_a_job())
    shown = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    rules = (TOP / "deploy/prometheus/sendcode.rules.yml").read_text()

    asked = {
        re.sub(r"_(bucket|count)$", "", each) for each in re.findall(r"sendcode_[a-z_]+", rules)
    }
    alerts = re.findall(r"alert: (\w+)", rules)

    assert len(alerts) > 15
    assert asked <= shown
    page = (TOP / "docs/operate.md").read_text()
    assert re.findall(r"^### (Sendcode\w+)", page, re.MULTILINE) == alerts
    assert [each.lower() for each in alerts] == re.findall(r"operate.md#(\w+)", rules)


def _tested_rules(*files: Path) -> subprocess.CompletedProcess[str]:
    if not (promtool := shutil.which("promtool")):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return subprocess.run(
        [promtool, "test", "rules", *files],
        env={**os.environ, "GOGC": "400", "GOMAXPROCS": "1"},  # looks for garbage less often
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    files = sorted(TOP.glob("deploy/prometheus/sendcode.rules*.test.yml"))
    assert len(files) == 2

    ran = _tested_rules(*files)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_query_of_the_dashboard_finds_figures(
    web: WebServer,
    ledger: Ledger,
    acts: Acts,
    settings: Settings,
    redis: Redis,
    keys: Keys,
    tmp_path: Path,
) -> None:
    end_event(ledger, 1, DEAD)
    acts.batch([row(2)], "b")
    acts.sweep()
    Webhooks(redis, settings).set("shop", "https://shop.example/hook")
    redis.hset(keys.quotas, "number:refused", 1)
    shown = {
        "web": web.call("GET", "/metrics").text,
        "worker": _shown_by(_meter_that_saw_a_job()),
    }
    series = [
        _name(sample.name, {**sample.labels, "instance": part})
        for part, text in shown.items()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    dashboard = json.loads((TOP / "deploy/grafana/sendcode.json").read_text())
    queries = [
        target["expr"].replace("$__rate_interval", "5m")  # Grafana's own
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    assert len(queries) > 30
    file = tmp_path / "dashboard.json"  # JSON is YAML as well
    file.write_text(
        json.dumps(
            {
                "tests": [
                    {
                        "interval": "15s",
                        "input_series": [{"series": each, "values": "0+1x40"} for each in series],
                        "promql_expr_test": [
                            {
                                "expr": f"count({query}) > bool 0",
                                "eval_time": "10m",
                                "exp_samples": [{"value": 1}],
                            }
                            for query in queries
                        ],
                    }
                ]
            }
        )
    )

    ran = _tested_rules(file)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def _meter_that_saw_a_job() -> Meter:
    meter = Meter()
    meter.count_threads(lambda: 1, 48)
    meter.show_ready(lambda: True)
    meter.api.labels(Kind.SENT).observe(0.1)
    meter.acceptance_to_api.labels(Lane.EVENT).observe(0.1)
    meter.limiter_wait.observe(0.1)
    meter.claim.observe(0.001)
    meter.redis.observe(0.001)
    return meter


def _shown_by(meter: Meter) -> str:
    return generate_latest(meter.registry).decode()


def _name(name: str, labels: dict[str, str]) -> str:
    return f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}"


def test_status_names_what_is_late(sendcode: Command, acts: Acts, redis: Redis, keys: Keys) -> None:
    redis.hincrby(keys.job(acts.event(1)), "created", -90_000)

    ran = sendcode("status")

    assert "the oldest event job that is due has waited for" in ran.out
    assert sendcode("status", "--json").json["oldest_due_s"]["event"] >= 90
