"""The system under deploy/redis/users.acl: each part may do what it needs, and nothing else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from config.settings import Settings
from demo.world import EmbeddedValkey
from producer import send_code
from producer.tokens import Tokens
from tests.acceptance.test_flower import PAGES, Flower, is_up, start_flower
from tests.commands import run
from tests.conftest import QUICK_WORLD
from tests.files import customer, write_csv
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.web_server import WebServer
from tests.worker_process import WorkerProcess

USERS = Path(__file__).parents[2] / "deploy/redis/users.acl"


def rules_of_users() -> dict[str, list[str]]:
    """The rules of the file by user, `default` left out: the test itself is that one."""
    lines = [line.split() for line in USERS.read_text(encoding="utf-8").splitlines() if line]
    assert all(line[0] == "user" for line in lines)
    return {name: rules for _, name, *rules in lines if name != "default"}


class Place:
    """A server with these users, and the settings of each."""

    def __init__(self, server: EmbeddedValkey, sandbox: Sandbox) -> None:
        self.admin: Redis = Redis.from_url(server.url(), decode_responses=True)
        self.settings: dict[str, Settings] = {}
        for name, rules in rules_of_users().items():
            password = secrets.token_hex(16)
            self.admin.execute_command("ACL", "SETUSER", name, "reset", *rules, f">{password}")
            url = f"redis://{name}:{password}@127.0.0.1:{server.port}/0"
            values = {**QUICK_WORLD, "sendcode_redis_url": url, "sendcode_endpoint": sandbox.url}
            if name != "sendcode-worker":  # the others need no credentials, and have none
                values |= dict.fromkeys(("tencentcloud_secret_id", "tencentcloud_secret_key"))
            if name == "sendcode-flower":  # it reads nothing of the ledger
                values["sendcode_data_keys"] = None
            self.settings[name.removeprefix("sendcode-")] = Settings(**values)

    def refused(self) -> list[str]:
        """What was refused so far, as "user: what"."""
        entries: Any = self.admin.execute_command("ACL", "LOG", "100")
        return [f"{each['username']}: {each['object']} ({each['reason']})" for each in entries]

    def connect(self, user: str) -> Redis:
        return Redis.from_url(self.settings[user].redis_url, decode_responses=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        EmbeddedValkey(tmp_path_factory.mktemp("valkey"), fsync="no") as server,
        Sandbox(rate_limit=200, phone_interval=8) as sandbox,
    ):
        place = Place(server, sandbox)
        yield place
        place.admin.close()


def test_the_whole_system_works_under_its_users_and_nothing_is_refused(
    place: Place, tmp_path: Path
) -> None:
    place.admin.execute_command("ACL", "LOG", "RESET")
    producer = place.settings["producer"]
    worker = WorkerProcess(place.settings["worker"], tmp_path, "w1")
    process, url, log = start_flower(place.settings["flower"], tmp_path)
    try:
        worker.wait_ready()
        wait_until(lambda: is_up(url), "Flower")
        flower = Flower(url, place.settings["flower"], {}, "", process, log)
        wait_until(flower.hears_workers, "Flower's first event")
        event = send_code("852", "99000001", wait=120, settings=producer)
        file = write_csv(tmp_path / "customers.csv", [customer(n) for n in range(1, 6)])
        batch = run(producer, "batch", "submit", file, "--id", "b1", "--watch", cwd=tmp_path)
        with WebServer(producer) as web, place.connect("producer") as client:
            _, web.token = Tokens(client, producer).new("shop", ["admin"])
            asked = web.call("POST", "/v1/codes", key="k", json={"phone": "+852 9900 0003"})
            ended = web.call("GET", asked.headers["Location"], params={"wait": 25})
            metrics = web.call("GET", "/metrics")
        wait_until(lambda: event.job_id in flower.tasks(), "the task in Flower")
        pages = {page: flower.get(page).status for page in (*PAGES, "/metrics")}
        depths = flower.get("/api/queues/length")
        shown = [
            run(producer, *words, cwd=tmp_path)
            for words in (
                ("status",),
                ("batch", "results", "b1", "--output", "results.csv"),
                ("batch", "pause", "b1"),
                ("dead", "list"),
                ("doctor", "--repair"),
            )
        ]
        by_worker = run(place.settings["worker"], "doctor", cwd=tmp_path)
    finally:
        process.terminate()
        process.wait(60)
        exit_code = worker.stop()

    assert place.refused() == []
    assert (event.state, batch.exit_code, exit_code) == ("sent", 0, 0), batch.err
    assert (asked.status_code, ended.json()["state"], metrics.status_code) == (202, "sent", 200)
    assert set(pages.values()) == {200}
    assert depths.status == 200
    for each in (*shown, by_worker):
        assert "permission" not in each.out + each.err
        assert "refuses this user" not in each.out + each.err
    assert "Traceback" not in worker.log


_OF_ADMINS = (
    *("FLUSHALL", "FLUSHDB", "SHUTDOWN NOSAVE", "MONITOR", "KEYS *", "SAVE", "SLOWLOG GET"),
    *("CONFIG GET requirepass", "CONFIG SET dir /tmp", "ACL LIST", "ACL SETUSER x on nopass"),
    *("CLIENT LIST", "CLIENT KILL TYPE normal", "REPLICAOF 127.0.0.1 1", "BGSAVE"),
    *("SCRIPT FLUSH", "MODULE LIST", "MIGRATE 127.0.0.1 1 sendcode:pace 0 1", "SWAPDB 0 1"),
    *("FUNCTION LIST", "EVAL return 0", "LATENCY RESET", "MEMORY PURGE", "RANDOMKEY"),
    *("GET other:key", "SET other:key x", "SUBSCRIBE other", "DUMP sendcode:pace"),
)
_OF_THE_LEDGER = (
    *("HGETALL sendcode:job:b1-1", "LRANGE sendcode:rows:b1 0 -1", "SCAN 0", "TYPE sendcode:pace"),
    *("SET sendcode:job:x y", "DEL sendcode:pace", "HGETALL sendcode:tokens", "INFO"),
    *("LPUSH send-code.event x", "LPUSH send-code.batch x", "DEL send-code.event"),
    *("LPUSH send-code.dead-letter x", "RPUSH send-code.webhook x", "BRPOP send-code.event 1"),
    *("PUBLISH sendcode:ended x", "SET celery-task-meta-x y", "PSUBSCRIBE sendcode:*"),
)
_OF_WORKERS = (
    *("BRPOP send-code.event 1", "PUBLISH /0.celery.pidbox x", "LPUSH a.celery.pidbox x"),
    *("GET celery-task-meta-x", "PSUBSCRIBE /0.celeryev/*", "SUBSCRIBE sendcode:connections:x"),
)


def test_what_a_user_has_no_need_for_is_refused(place: Place, subtests: pytest.Subtests) -> None:
    of_no_use = {
        "worker": _OF_ADMINS,
        "producer": (*_OF_ADMINS, *_OF_WORKERS),
        "flower": (*_OF_ADMINS, *_OF_THE_LEDGER),
    }
    for user, acts in of_no_use.items():
        with place.connect(user) as client:
            for act in acts:
                with subtests.test(f"{user}: {act}"), pytest.raises(NoPermissionError):
                    client.execute_command(*act.split(" "))


def test_nobody_gets_in_who_has_no_password() -> None:
    """A user of the file has none until its deployment gives it one."""
    rules = rules_of_users()

    assert set(rules) == {"sendcode-worker", "sendcode-producer", "sendcode-flower"}
    assert not [each for user in rules.values() for each in user if each[0] in ">#"]
    assert not [each for user in rules.values() for each in user if each == "nopass"]
    assert "user default off" in USERS.read_text(encoding="utf-8").splitlines()


def test_the_policy_of_the_cloud_account_allows_one_act_alone() -> None:
    policy = json.loads((USERS.parents[1] / "cam-policy.json").read_text(encoding="utf-8"))

    (statement,) = policy["statement"]
    assert statement["effect"] == "allow"
    assert statement["action"] == ["intlpartnersmgt:SendVerifyCode"]
