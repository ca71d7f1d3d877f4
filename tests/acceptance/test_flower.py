"""Flower as the engineer on call sees it: a real Flower, a real worker, a real browser."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from pydantic import SecretStr
from redis import Redis

from config import BATCH_QUEUE, DEAD_LETTER_QUEUE, EVENT_QUEUE, WEBHOOK_QUEUE
from config.celery import make_celery
from config.flower import flower_environment
from config.redis import connect
from config.settings import Settings
from demo.world import EmbeddedValkey, environment_of, free_port
from jobs.job import JobRecord
from producer import send_code
from producer.cli.processes import flower_command
from tests.browser import rendered
from tests.commands import SENDCODE, run_program
from tests.conftest import DATABASES, QUICK_WORLD
from tests.forked import ForkedProcess, begin
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess

PASSWORD = "a-password-for-flower"
USER = "oncall"
NUMBERS = {"sent": "99007341", "dead": "99017342", "sent_inferred": "99317343"}
PAGES = ("/", "/workers", "/tasks", "/broker")


@dataclass(frozen=True)
class Answer:
    status: int
    text: str


@dataclass(frozen=True)
class Flower:
    """A Flower that has seen three jobs end."""

    url: str
    settings: Settings
    jobs: Mapping[str, JobRecord]
    worker: str
    process: subprocess.Popen[Any]
    log: Path

    def get(self, path: str, method: str = "GET", *, login: str = f"{USER}:{PASSWORD}") -> Answer:
        headers = {"Content-Length": "0"}
        if login:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE_S)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode())
        finally:
            connection.close()

    def tasks(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/api/tasks").text)
        return found

    def hears_workers(self) -> bool:
        """Return whether events reach it; what was sent before them it never knows."""
        return "worker-heartbeat" in self.get("/workers?json=1").text

    def pages_of_all(self) -> list[str]:
        ids = [job.job_id for job in self.jobs.values()]
        worker_page = f"/worker/{self.worker}"
        return [*PAGES, worker_page, *(f"/task/{job_id}" for job_id in ids)]


def start_flower(
    settings: Settings, folder: Path, *options: str, by_command: bool = False
) -> tuple[Any, str, Path]:
    """Start Flower with the login of the settings; by `sendcode flower` where that is the point."""
    port, log = free_port(), folder / "flower.log"
    (folder / "password").write_text(PASSWORD, encoding="utf-8")
    environment = environment_of(
        settings,
        SENDCODE_FLOWER_USER=USER,
        SENDCODE_FLOWER_PASSWORD="",
        SENDCODE_FLOWER_PASSWORD_FILE=str(folder / "password"),
    )
    command = [*SENDCODE, "flower", "--port", str(port), *options]
    if not by_command:  # what that command becomes, at half of its price
        command = flower_command("127.0.0.1", port)
        environment = flower_environment(environment, USER, PASSWORD)
    with log.open("wb") as output, open(os.devnull, "rb") as nothing:
        files = nothing.fileno(), output.fileno(), output.fileno()
        process = begin(command, folder, environment, files)
    return process, f"http://127.0.0.1:{port}", log


def is_up(url: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


_setups = itertools.count(1)
"""A process may set the module up again, as tests move between processes: each has a database."""


@pytest.fixture(scope="module")
def flower(valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    folder = tmp_path_factory.mktemp("flower")
    with Sandbox(rate_limit=200, phone_interval=8) as sandbox:
        settings = Settings(
            **{
                **QUICK_WORLD,
                "sendcode_redis_url": SecretStr(valkey.url(DATABASES - next(_setups))),
                "sendcode_endpoint": sandbox.url,
                "sendcode_flower_user": USER,
                "sendcode_flower_password": SecretStr(PASSWORD),
            }
        )
        worker = WorkerProcess(settings, folder, "shown")
        process, url, log = start_flower(settings, folder, by_command=True)
        try:
            worker.wait_ready()
            wait_until(lambda: is_up(url), "Flower")
            entry = next(iter(connect(settings).hgetall("sendcode:workers")))
            name = str(entry).partition("/")[0]
            seen = Flower(url, settings, {}, name, process, log)
            wait_until(seen.hears_workers, "Flower's first event")
            jobs = {
                state: send_code("852", number, wait=PATIENCE_S, settings=settings)
                for state, number in NUMBERS.items()
            }
            seen = replace(seen, jobs=jobs)
            wait_until(lambda: all_ended(seen), "Flower's knowledge")
            yield seen
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            worker.stop()
            connect(settings).flushdb()


def all_ended(flower: Flower) -> bool:
    ended = [task for task in flower.tasks().values() if task["state"] in {"SUCCESS", "FAILURE"}]
    return len(ended) == len(flower.jobs)


@pytest.mark.parametrize("state", ["sent", "sent_inferred"])
def test_a_sent_job_is_a_success_with_masked_number_and_request_id(
    state: str, flower: Flower
) -> None:
    job = flower.jobs[state]

    task = flower.tasks()[job.job_id]

    assert task["state"] == "SUCCESS"
    assert task["args"] == f"('{job.job_id}',)"
    assert job.request_id in task["result"]
    assert job.phone.masked in task["result"]
    assert state in task["result"]


def test_a_dead_letter_is_a_failure_named_by_the_apis_code(flower: Flower) -> None:
    job = flower.jobs["dead"]

    task = flower.tasks()[job.job_id]

    assert task["state"] == "FAILURE"
    assert task["exception"].startswith("FailedOperation.PhoneBindUpper(")
    assert job.request_id in task["exception"]


def test_the_results_of_both_kinds_can_be_asked_for(flower: Flower) -> None:
    sent, dead = flower.jobs["sent"], flower.jobs["dead"]

    success = json.loads(flower.get(f"/api/task/result/{sent.job_id}").text)
    failure = json.loads(flower.get(f"/api/task/result/{dead.job_id}").text)

    assert success["state"] == "SUCCESS"
    assert success["result"]["request_id"] == sent.request_id
    assert failure["state"] == "FAILURE"
    # Flower rebuilds the exception, and Python shows what follows the last dot of its name
    assert failure["result"].startswith("PhoneBindUpper(")


def test_failed_tasks_can_be_searched_by_the_apis_code(flower: Flower) -> None:
    found = json.loads(flower.get("/api/tasks?search=result:PhoneBindUpper").text)

    assert list(found) == [flower.jobs["dead"].job_id]


def test_the_browser_shows_states_codes_and_request_ids(flower: Flower, tmp_path: Path) -> None:
    page = rendered(with_login(flower.url, "/tasks"), tmp_path)

    for job in flower.jobs.values():
        row = re.search(rf'<tr id="{job.job_id}".*?</tr>', page, re.DOTALL)
        assert row is not None
        assert ("FAILURE" if job.state == "dead" else "SUCCESS") in row[0]
        assert job.request_id in row[0]
    assert "FailedOperation.PhoneBindUpper" in page
    assert not numbers_in(page)


def test_the_browser_shows_all_three_queues_with_their_depths(
    flower: Flower, tmp_path: Path
) -> None:
    flower.get(f"/worker/{flower.worker}")  # from now on it lists what the worker told it

    page = rendered(with_login(flower.url, "/broker"), tmp_path)

    depths = {
        name: int(depth)
        for name, depth in re.findall(r"<td>(send-code\.[a-z-]+)</td>\s*<td[^>]*>(\d+)</td>", page)
    }
    assert depths == {EVENT_QUEUE: 0, BATCH_QUEUE: 0, WEBHOOK_QUEUE: 0, DEAD_LETTER_QUEUE: 1}


def test_the_dead_letter_list_is_shown_and_never_consumed(flower: Flower) -> None:
    client: Redis = connect(flower.settings)

    send_code("852", NUMBERS["sent"], key="another", settings=flower.settings)
    wait_until(lambda: client.llen(EVENT_QUEUE) == 0, "an empty queue")

    assert client.lrange(DEAD_LETTER_QUEUE, 0, -1) == [flower.jobs["dead"].job_id]
    assert client.llen("sendcode:quarantine") == 0


def test_no_page_shows_a_full_number_or_a_secret(flower: Flower) -> None:
    secrets = [PASSWORD, flower.settings.redis_url.split(":")[2].split("@")[0], "SECRETEXAMPLE"]
    api = ["/api/tasks", "/api/workers", "/api/queues/length", "/workers?json=1"]
    results = [f"/api/task/result/{job.job_id}" for job in flower.jobs.values()]

    for path in [*flower.pages_of_all(), *api, *results, "/metrics", "/healthcheck"]:
        answer = flower.get(path)

        assert answer.status == 200, path
        assert not numbers_in(answer.text), path
        assert not [secret for secret in secrets if secret in answer.text], path
    assert not numbers_in(flower.log.read_text())


def test_a_login_is_followed_that_is_replaced_in_its_file(flower: Flower) -> None:
    file = flower.log.with_name("password")
    try:
        file.write_text("another-one", encoding="utf-8")

        wait_until(lambda: flower.get("/tasks", login=f"{USER}:another-one").status == 200)

        assert flower.get("/tasks").status == 401
    finally:
        file.write_text(PASSWORD, encoding="utf-8")
        wait_until(lambda: flower.get("/tasks").status == 200, "the former login")


@pytest.mark.parametrize("login", ["", f"{USER}:wrong", f"other:{PASSWORD}", PASSWORD])
def test_without_its_login_no_page_is_shown(login: str, flower: Flower) -> None:
    for path in [*flower.pages_of_all(), "/api/tasks", "/api/workers", "/api/queues/length"]:
        assert flower.get(path, login=login).status == 401, path


def test_what_is_open_to_everybody_names_workers_and_counts_and_nothing_else(
    flower: Flower,
) -> None:
    metrics, health = flower.get("/metrics", login=""), flower.get("/healthcheck", login="")

    assert health == Answer(200, "OK")
    assert metrics.status == 200
    labels = set(re.findall(r"^flower_\w+\{(.*?)\}", metrics.text, re.MULTILINE))
    names = {name for label in labels for name, _ in re.findall(r'(\w+)="([^"]*)"', label)}
    assert names <= {"worker", "type", "task", "le"}
    assert not [job.job_id for job in flower.jobs.values() if job.job_id in metrics.text]


def test_nothing_can_be_changed(flower: Flower) -> None:
    job_id = flower.jobs["sent"].job_id

    for path in (
        f"/api/worker/shutdown/{flower.worker}",
        f"/api/worker/queue/add-consumer/{flower.worker}?queue={DEAD_LETTER_QUEUE}",
        f"/api/task/revoke/{job_id}",
        "/api/task/send-task/send_code",
        "/api/task/async-apply/send_code",
    ):
        assert flower.get(path, "POST").status == 403, path


def test_a_worker_refuses_orders_that_go_past_the_ledger(flower: Flower, tmp_path: Path) -> None:
    for order in (["revoke", "b1-1"], ["add_consumer", DEAD_LETTER_QUEUE]):
        command = [sys.executable, "-m", "celery", "-A", "worker", "control", *order]
        ran = run_program(command, environment_of(flower.settings), cwd=tmp_path)

        assert "refused: " in ran.out


@pytest.mark.parametrize("order", ["shutdown", "pool_restart", "pool_shrink", "autoscale"])
def test_a_worker_is_not_ended_by_a_message(order: str, flower: Flower) -> None:
    celery = make_celery(flower.settings)

    (answer,) = celery.control.broadcast(order, reply=True, limit=1, timeout=60)

    celery.close()
    (said,) = answer.values()
    assert said["error"].startswith("refused: ")


def test_its_login_is_in_no_process_list_and_it_has_no_credentials(flower: Flower) -> None:
    process = Path(f"/proc/{flower.process.pid}")
    if not process.exists():
        pytest.skip("no /proc here")

    assert PASSWORD not in (process / "cmdline").read_text()
    assert "flower" in (process / "cmdline").read_text()
    assert "TENCENTCLOUD_SECRET_KEY" not in (process / "environ").read_text()


def test_without_a_login_it_shows_its_pages_on_loopback_only_and_no_api(
    settings: Settings, tmp_path: Path
) -> None:
    process, url, _ = start_flower(settings, tmp_path, "--no-auth", by_command=True)
    try:
        wait_until(lambda: is_up(url), "Flower")
        nobody = Flower(url, settings, {}, "", process, tmp_path)

        assert nobody.get("/tasks", login="").status == 200
        assert DEAD_LETTER_QUEUE in nobody.get("/broker", login="").text  # with no worker about
        assert nobody.get("/api/tasks", login="").status == 401
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def start_celerys_own(settings: Settings, folder: Path, *options: str) -> ForkedProcess:
    command = [sys.executable, "-m", "celery", "-A", "worker", "flower", *options]
    return ForkedProcess("flower", command, folder, environment_of(settings))


@pytest.mark.settings(sendcode_flower_user=USER, sendcode_flower_password=SecretStr(PASSWORD))
def test_celerys_own_command_has_the_login_and_this_machine_alone(
    settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    with start_celerys_own(settings, tmp_path, f"--port={port}") as flower:
        wait_until(lambda: is_up(f"http://127.0.0.1:{port}"), "Flower")
        shown = Flower(f"http://127.0.0.1:{port}", settings, {}, "", flower.process, tmp_path)

        listening = psutil.Process(flower.pid).net_connections("tcp")
        assert {each.laddr.ip for each in listening if each.status == "LISTEN"} == {"127.0.0.1"}
        assert shown.get("/tasks", login="").status == 401
        assert shown.get("/tasks").status == 200
        assert shown.get("/api/worker/shutdown/w1", "POST").status == 403


def test_celerys_own_command_is_never_open_to_others_without_a_login(
    settings: Settings, tmp_path: Path
) -> None:
    options = ("--address=0.0.0.0", f"--port={free_port()}")

    with start_celerys_own(settings, tmp_path, *options) as flower:
        code = flower.wait(PATIENCE_S)

    assert code == 2
    assert "Flower on 0.0.0.0 without a login: set SENDCODE_FLOWER_PASSWORD" in flower.log


def test_a_login_that_redis_refuses_ends_it_with_one_clear_line(
    settings: Settings, tmp_path: Path
) -> None:
    password = settings.redis_url.split(":")[2].split("@")[0]
    url = SecretStr(settings.redis_url.replace(password, "guess"))
    wrong = settings.model_copy(update={"sendcode_redis_url": url})

    process, _, log = start_flower(wrong, tmp_path)

    assert process.wait(PATIENCE_S) == 2
    last = log.read_text().splitlines()[-1]
    assert last.startswith("sendcode: Redis at redis://127.0.0.1")
    assert last.endswith("refuses the login: check user and password in SENDCODE_REDIS_URL")
    assert "Traceback" not in log.read_text()
    assert "guess" not in log.read_text()


def numbers_in(text: str) -> list[str]:
    return [number for number in NUMBERS.values() if number in text]


def with_login(url: str, path: str) -> str:
    return url.replace("http://", f"http://{USER}:{PASSWORD}@") + path
