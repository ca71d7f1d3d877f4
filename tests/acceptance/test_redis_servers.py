"""Redis as companies have it: old, behind TLS, at an IPv6 address, with a login of odd signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from pydantic import SecretStr
from redis import Redis

from config import BATCH_QUEUE, DEAD_LETTER_QUEUE, EVENT_QUEUE, WEBHOOK_QUEUE
from config.settings import Settings
from demo.world import EmbeddedValkey
from sandbox.client import Sandbox
from tests.acceptance.test_flower import PASSWORD, USER, Flower, is_up, start_flower
from tests.commands import InThisProcess
from tests.conftest import QUICK_WORLD, ipv6_loopback
from tests.faults.proxy import ProxyProcess
from tests.files import MAGIC_BIND_UPPER, customer, write_csv
from tests.tls_front import TlsFront
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import TOP, WorkerProcess

ODD_PASSWORD = "a;b/c?d#e@f:g%41 h+i,ü=&"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "valkey") as server:
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
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "our own+ca.pem"))
    with TlsFront(server.port, authority) as front:
        file = quote(f"{tmp_path}/our own+ca.pem")
        yield f"rediss://:{server.password}@127.0.0.1:{front.port}/3?ssl_ca_certs={file}"


@pytest.fixture
def without_words(tmp_path: Path) -> Iterator[str]:
    """A hosted one that tells nothing of itself."""
    hidden = "".join(f'rename-command {name} ""\n' for name in ("CONFIG", "CLIENT", "INFO"))
    with EmbeddedValkey(tmp_path / "hosted", more=hidden) as hosted:
        yield hosted.url(3)


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


@pytest.mark.parametrize(
    "url", ["without_hello", "odd_login", "own_ca", "without_words", "enough_rights"], indirect=True
)
def test_worker_commands_and_flower_work_with_it(
    url: str,
    server: EmbeddedValkey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_csv(tmp_path / "customers.csv", [customer(1), customer(2, MAGIC_BIND_UPPER)])
    with Sandbox(rate_limit=200, phone_interval=8) as sandbox:
        settings = Settings(
            **{
                **QUICK_WORLD,
                "sendcode_redis_url": SecretStr(url),
                "sendcode_endpoint": sandbox.url,
                "sendcode_flower_user": USER,
                "sendcode_flower_password": SecretStr(PASSWORD),
            }
        )
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
