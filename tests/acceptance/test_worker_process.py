"""`celery -A worker worker`, with no further option."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import trustme
from celery import Celery
from pydantic import SecretStr
from redis import Redis

from config import WEBHOOK_QUEUE
from config.settings import Settings
from demo.world import free_port
from jobs.account import WEBHOOKS
from jobs.codes import OwnCode
from jobs.job import Lane, SendCodeJob, State
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from producer import send_code
from producer.overview import read_overview
from tests.commands import start
from tests.integration.fault_server import (
    ACCEPTED,
    FaultServer,
    answering,
    http_answer,
    tunnelling,
)
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess


def test_an_event_is_sent_and_counted_and_the_worker_stops_when_told_to(
    sandbox: Sandbox,
    ledger: Ledger,
    publisher: Publisher,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    probes = f"127.0.0.1:{free_port()}"
    worker = start_worker(SENDCODE_METRICS_PORT=probes)

    job_id = ledger.submit(SendCodeJob.for_event(PhoneNumber("852", "99000001"))).record.job_id
    publisher.publish([(Lane.EVENT, job_id)])

    wait_until(lambda: (job := ledger.job(job_id)) and job.state is State.SENT)
    assert sandbox.stats()["accepted_per_number"] == {"85299000001": 1}
    wait_until(lambda: requests.get(f"http://{probes}/readyz", timeout=30).text == "ok\n")
    figures = requests.get(f"http://{probes}/metrics", timeout=30).text
    assert 'sendcode_api_seconds_count{kind="sent"} 1.0' in figures
    assert 'sendcode_acceptance_to_api_seconds_count{lane="event"} 1.0' in figures
    assert worker.stop() == 0


def test_a_worker_for_webhooks_alone_shows_that_it_sends_no_codes(
    settings: Settings, redis: Redis, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker("--queues", WEBHOOK_QUEUE)

    wait_until(lambda: read_overview(redis, settings).workers, "its sign of life")
    overview = read_overview(redis, settings)

    assert [each.idle for each in overview.workers] == [WEBHOOKS]
    assert overview.alive == 0
    assert worker.stop() == 0


def test_a_worker_that_cannot_reach_the_api_leaves_its_jobs_to_another_until_it_can(
    settings: Settings,
    sandbox: Sandbox,
    redis: Redis,
    ledger: Ledger,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    api, probes = socket.socket(), f"127.0.0.1:{free_port()}"
    sent: list[str] = []

    def ready() -> str:
        return requests.get(f"http://{probes}/readyz", timeout=30).text

    def states() -> set[State | None]:
        return {job.state if (job := ledger.job(job_id)) else None for job_id in sent}

    def refused() -> list[str]:
        return [each.refused for each in read_overview(redis, settings).workers]

    def sends_one_more_until_it_shows() -> bool:
        sent.append(send_code("852", f"5123{len(sent):04d}", settings=settings).job_id)
        return OwnCode.CONNECT in refused()

    with api:
        api.bind(("127.0.0.1", 0))  # and listens not yet: connections are refused
        start_worker()
        cut_off = start_worker(
            SENDCODE_ENDPOINT=f"http://127.0.0.1:{api.getsockname()[1]}",
            SENDCODE_METRICS_PORT=probes,
            SENDCODE_MAX_ATTEMPTS="8",
        )
        wait_until(sends_one_more_until_it_shows, "that a worker cannot reach the API")

        wait_until(lambda: "this worker takes no more work: it cannot" in cut_off.log, "its line")
        why = "this worker cannot reach the API, though others do: Network.Connect\n"
        wait_until(lambda: ready() == why, "that its probe says so")
        wait_until(lambda: states() == {State.SENT}, "all codes")

        api.listen()
        wait_until(lambda: refused() == ["", ""], "that it takes work again")
    assert sandbox.stats()["accepted"] == len(sent)
    assert sandbox.stats()["doubled"] == 0


def test_a_login_that_redis_refuses_ends_the_worker_with_one_line(
    settings: Settings, tmp_path: Path
) -> None:
    password = settings.redis_url.split(":")[2].split("@")[0]
    url = SecretStr(settings.redis_url.replace(password, "guess"))
    worker = WorkerProcess(settings.model_copy(update={"sendcode_redis_url": url}), tmp_path, "w1")

    assert worker.wait() == 2

    (line,) = worker.log.splitlines()
    assert line.startswith("sendcode: Redis at redis://127.0.0.1")
    assert line.endswith("refuses the login: check user and password in SENDCODE_REDIS_URL")


@pytest.mark.settings(sendcode_log_format="json")
def test_all_that_a_worker_says_is_json_where_that_is_asked_for(
    sandbox: Sandbox,
    ledger: Ledger,
    publisher: Publisher,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    assert sandbox.url
    worker = start_worker()
    job_id = ledger.submit(SendCodeJob.for_event(PhoneNumber("852", "99000001"))).record.job_id
    publisher.publish([(Lane.EVENT, job_id)])
    wait_until(lambda: "job finished" in worker.log, "a job's end")

    assert worker.stop() == 0

    records = [json.loads(line) for line in worker.log.splitlines()]
    messages = [record["message"] for record in records]
    assert "worker: Warm shutdown (MainProcess)" in messages
    assert all(record["time"] and record["level"] and record["logger"] for record in records)


def test_all_that_is_wrong_with_a_worker_s_settings_is_said_at_once(
    settings: Settings, tmp_path: Path
) -> None:
    wrong = {"SENDCODE_RATE_LIMIT": "abc", "TENCENTCLOUD_SECRET_KEY": ""}
    worker = WorkerProcess(settings, tmp_path, "w1", environment=wrong)

    assert worker.wait() == 2

    assert [line.split(": ")[1:3] for line in worker.log.splitlines()] == [
        ["wrong setting", "TENCENTCLOUD_SECRET_KEY"],
        ["wrong setting", "SENDCODE_RATE_LIMIT"],
    ]


def test_a_worker_starts_in_a_folder_with_modules_of_the_same_names(
    settings: Settings, tmp_path: Path
) -> None:
    for name in ("worker", "config", "jobs", "celery"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')\n", encoding="utf-8")

    process = start(settings, "worker", cwd=tmp_path)

    assert process.stderr is not None
    started = next((line for line in process.stderr if " ready." in line), "it ended")
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert " ready." in started
    assert process.returncode == 0


@pytest.mark.settings(sendcode_endpoint="https://127.0.0.1:9")
def test_a_worker_names_what_is_set_for_other_programs_and_what_is_misspelt(
    settings: Settings, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker(
        HTTPS_PROXY="http://proxy.example:3128", SSL_CERT_FILE="/ca.pem", SENDCODE_AMBIGOUS="hold"
    )

    wait_until(lambda: "name=SENDCODE_AMBIGOUS" in worker.log, "the misspelt name")
    for theirs, ours in {"HTTPS_PROXY": "PROXY", "SSL_CERT_FILE": "CA_BUNDLE"}.items():
        remedy = f"if the way to the API needs it, set SENDCODE_{ours}"
        assert f'names={theirs} remedy="{remedy}"' in worker.log
    assert "proxy.example" not in worker.log
    place = settings.redis.place
    assert f"settings read endpoint=https://127.0.0.1:9 redis={place} file=none" in worker.log


def test_a_worker_sends_through_the_proxy_with_the_bundle_of_the_settings(
    settings: Settings, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    answer = http_answer(ACCEPTED)
    with FaultServer(answering(answer), tls=tls) as api, FaultServer(tunnelling) as proxy:
        start_worker(
            SENDCODE_ENDPOINT=api.url,
            SENDCODE_PROXY=proxy.url,
            SENDCODE_CA_BUNDLE=str(tmp_path / "ca.pem"),
        )
        sent = send_code("852", "99000001", wait=PATIENCE_S, settings=settings)

    assert sent.state == "sent"
    assert [request.line for request in proxy.requests] == [
        f"CONNECT 127.0.0.1:{api.port} HTTP/1.1"
    ]


def test_flower_is_answered_what_the_worker_is_set_up_with(
    celery_app: Celery, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker()

    told = celery_app.control.inspect(timeout=PATIENCE_S, limit=1).conf()

    assert told is not None
    assert len(told) == 1
    assert "Traceback" not in worker.log
