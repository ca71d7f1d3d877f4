"""Redis as companies have it: old, behind TLS, in cluster mode, with a login of odd signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from pydantic import SecretStr
from redis import Redis
from redis.crc import key_slot

from config import BATCH_QUEUE, DEAD_LETTER_QUEUE, EVENT_QUEUE, WEBHOOK_QUEUE
from config.redis import connect
from config.settings import Settings
from demo.world import EmbeddedValkey, free_port
from producer.tokens import Tokens
from tests.acceptance.test_flower import PASSWORD, USER, Flower, is_up, start_flower
from tests.commands import InThisProcess
from tests.conftest import QUICK_WORLD, ipv6_loopback
from tests.faults.proxy import ProxyProcess
from tests.files import MAGIC_BIND_UPPER, customer, write_csv
from tests.sandbox import Sandbox
from tests.tls_front import TlsFront
from tests.waiting import PATIENCE_S, wait_until
from tests.web_server import WebServer
from tests.worker_process import TOP, WorkerProcess

ODD_PASSWORD = "a;b/c?d#e@f:g%41 h+i,ü=&"
CLUSTER_PREFIX = "{sendcode}"
HIDDEN = ("ACL", "CONFIG", "CLIENT", "INFO")
LINES = {
    "without_words": "".join(f'rename-command {name} ""\n' for name in HIDDEN),
    "in_a_cluster": (
        "cluster-enabled yes\ncluster-require-full-coverage no\ncluster-port {port}\n"
    ),
    "closes_idle": "timeout 1\nloglevel verbose\n",
}
"""What else stands in the server's configuration."""
CLOSED = "Closing idle client"
MOST_LINES = 200
"""Of a log; where nothing is wrong it has about 30."""
FIRST, SECOND = "85255501234", "85255501235"


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedValkey]:
    more = LINES.get(request.node.callspec.params["url"], "").format(port=free_port())
    with EmbeddedValkey(tmp_path / "valkey", more=more) as server:
        yield server


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """The way to the server that the test is about."""
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def without_hello(server: EmbeddedValkey) -> Iterator[str]:
    """As Tencent Cloud's own: RESP2 is all it knows."""
    with ProxyProcess(server.port) as proxy:
        proxy.order("forbid HELLO")
        yield f"redis://:{server.password}@127.0.0.1:{proxy.port}/3"


@pytest.fixture
def odd_login(server: EmbeddedValkey) -> str:
    with Redis.from_url(server.url()) as client:
        client.acl_setuser(
            "o;d@d", enabled=True, passwords=[f"+{ODD_PASSWORD}"], keys=["*"], channels=["*"],
            categories=["+@all"],
        )  # fmt: skip
        client.config_set("bind", "127.0.0.1 -::1")
    login = f"{quote('o;d@d', safe='')}:{quote(ODD_PASSWORD, safe='')}"
    return f"redis://{login}@{ipv6_loopback()}:{server.port}/3"


@pytest.fixture
def own_ca(server: EmbeddedValkey, tmp_path: Path) -> Iterator[str]:
    """And it asks for a certificate of ours."""
    authority, of_guests = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "our own+ca.pem"))
    ours = of_guests.issue_cert("worker.example")
    ours.private_key_pem.write_to_path(str(tmp_path / "our key.pem"))
    for each in ours.cert_chain_pems:
        each.write_to_path(str(tmp_path / "our cert.pem"), append=True)
    with TlsFront(server.port, authority, guests=of_guests) as front:
        files = {"ca_certs": "our own+ca", "certfile": "our cert", "keyfile": "our key"}
        query = "&".join(f"ssl_{name}={quote(f'{tmp_path}/{files[name]}.pem')}" for name in files)
        yield f"rediss://:{server.password}@127.0.0.1:{front.port}/3?{query}"


@pytest.fixture
def without_words(server: EmbeddedValkey) -> str:
    """A hosted one that tells nothing of itself."""
    return server.url(3)


@pytest.fixture
def in_a_cluster(server: EmbeddedValkey) -> Iterator[str]:
    """A node that has no slot but that of our keys: it refuses any other key."""
    with Redis.from_url(server.url(), decode_responses=True) as client:
        client.cluster("ADDSLOTS", key_slot(CLUSTER_PREFIX.encode()))
        wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok", "the cluster")
        client.lpush(f"{CLUSTER_PREFIX}:{EVENT_QUEUE}", "garbage")
        yield server.url()
        assert client.llen(f"{CLUSTER_PREFIX}:quarantine") == 1


@pytest.fixture
def closes_idle(server: EmbeddedValkey) -> str:
    return server.url(3)


@pytest.fixture
def enough_rights(server: EmbeddedValkey) -> Iterator[str]:
    """A user with the rights that docs/faults.md names, and no others."""
    text = (TOP / "docs" / "faults.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("ACL SETUSER sendcode on >PASSWORD ")
    rules = rest.partition("```")[0].replace("/0.", "/3.").split()
    with Redis.from_url(server.url(), decode_responses=True) as client:
        client.execute_command("ACL", "SETUSER", "sendcode", "on", ">password", *rules)
        client.execute_command("ACL", "LOG", "RESET")
        yield f"redis://sendcode:password@127.0.0.1:{server.port}/3"
        refused = client.acl_log()
    assert {each["object"] for each in refused} <= {"client|setinfo"}, refused


def settings_for(url: str, sandbox: Sandbox) -> Settings:
    return Settings(
        **{
            **QUICK_WORLD,
            "sendcode_redis_url": SecretStr(url),
            "sendcode_endpoint": sandbox.url,
            "sendcode_flower_user": USER,
            "sendcode_flower_password": SecretStr(PASSWORD),
        }
    )


@pytest.mark.parametrize(
    "url",
    [
        "without_hello",
        "odd_login",
        "own_ca",
        "without_words",
        "enough_rights",
        "in_a_cluster",
    ],
    indirect=True,
)
def test_worker_commands_and_flower_work_with_it(
    url: str,
    server: EmbeddedValkey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    is_cluster = request.node.callspec.params["url"] == "in_a_cluster"
    monkeypatch.chdir(tmp_path)
    file = write_csv(tmp_path / "customers.csv", [customer(1), customer(2, MAGIC_BIND_UPPER)])
    with Sandbox(rate_limit=200, phone_interval=8) as sandbox:
        prefix = CLUSTER_PREFIX if is_cluster else "sendcode"
        settings = settings_for(url, sandbox).model_copy(update={"sendcode_key_prefix": prefix})
        worker = WorkerProcess(settings, tmp_path, "w1")
        process, flower_url, log = start_flower(settings, tmp_path)
        try:
            worker.wait_ready()
            wait_until(lambda: is_up(flower_url), "Flower")
            flower = Flower(flower_url, settings, {}, "", process, log)
            wait_until(flower.hears_workers, "Flower's first event")
            number = ("--country-code", "852", "--phone", "99003003")
            sendcode = InThisProcess(settings, monkeypatch, capsys)
            sent = sendcode("send", *number, "--wait", "120", "--json")
            batch = sendcode("batch", "submit", file, "--watch")
            status = sendcode("status", "--json")
            doctor = sendcode("doctor")
            wait_until(lambda: sent.json["job_id"] in flower.tasks(), "the task in Flower")
            result = flower.get(f"/api/task/result/{sent.json['job_id']}")
            depths = flower.get("/api/queues/length")
            config = flower.get("/api/workers?refresh=1")
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            exit_code = worker.stop()

    assert sent.json["state"] == "sent"
    assert (batch.exit_code, status.exit_code) == (0, 0), batch.err
    assert "FAIL" not in doctor.out
    assert json.loads(result.text)["state"] == "SUCCESS"
    assert {
        each["name"]: each["messages"] for each in json.loads(depths.text)["active_queues"]
    } == {
        EVENT_QUEUE: 0,
        BATCH_QUEUE: 0,
        WEBHOOK_QUEUE: 0,
        DEAD_LETTER_QUEUE: 1,
    }
    assert exit_code == 0
    for shown in (worker.log, log.read_text(), config.text, doctor.out, doctor.err):
        assert ODD_PASSWORD not in shown
        assert quote(ODD_PASSWORD, safe="") not in shown
        assert server.password not in shown
        assert "Traceback" not in shown


@pytest.mark.parametrize("url", ["closes_idle"], indirect=True)
def test_a_server_that_closes_idle_connections_disturbs_nobody(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "valkey" / "valkey.log"

    def wait_for_closed_ones() -> None:
        before = log.read_text().count(CLOSED)
        wait_until(lambda: log.read_text().count(CLOSED) > before + 2, "idle connections closed")

    with (
        Sandbox(rate_limit=200, phone_interval=8) as sandbox,
        ThreadPoolExecutor(1) as beside,
        WebServer(settings := settings_for(url, sandbox)) as web,
    ):
        worker = WorkerProcess(settings, tmp_path, "w1")
        process, flower_url, flower_log = start_flower(settings, tmp_path)
        try:
            worker.wait_ready()
            wait_until(lambda: is_up(flower_url), "Flower")
            flower = Flower(flower_url, settings, {}, "", process, flower_log)
            wait_until(flower.hears_workers, "Flower's first event")
            sendcode = InThisProcess(settings, monkeypatch, capsys)
            with connect(settings) as client:
                _, web.token = Tokens(client, settings).new("shop", ["send", "read"])
                sendcode("halt")
                job = web.call("POST", "/v1/codes", key="k", json={"phone": f"+{FIRST}"}).json()
                place = f"/v1/codes/{job['job_id']}?wait=30"
                has_ended = beside.submit(
                    wait_until, lambda: web.call("GET", place).json()["state"] == "sent"
                )
                wait_for_closed_ones()
                sendcode("resume")
                wait_until(has_ended.done, "the end of the job that was waited for")
            wait_for_closed_ones()
            words = ("--country-code", SECOND[:3], "--phone", SECOND[3:])
            sent = sendcode("send", *words, "--wait", "120", "--json").json
            wait_until(lambda: {job["job_id"], sent["job_id"]} <= set(flower.tasks()), "both tasks")
            accepted = [sandbox.number(each)["accepted"] for each in (FIRST, SECOND)]
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            exit_code = worker.stop()

    assert has_ended.result()
    assert sent["state"] == "sent"
    assert accepted == [1, 1]
    assert exit_code == 0
    for each in (worker.log, flower_log.read_text()):
        assert len(each.splitlines()) < MOST_LINES, each
