"""A Redis that cannot be used: each program says why, in one line, and the doctor names the cause.

Where one of them can do its work all the same, it does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import trustme
from pydantic import SecretStr
from redis import Redis

from config.settings import Settings
from demo.world import EmbeddedValkey, free_port
from producer.cli.job import UNAVAILABLE
from tests.acceptance.test_flower import PASSWORD, is_up, start_flower
from tests.commands import SEND, Command
from tests.conftest import NOBODY, QUICK_WORLD
from tests.files import customer, write_csv
from tests.integration.fault_server import FaultServer, Peer
from tests.tls_front import TlsFront
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess

COMMANDS = (SEND, ("batch", "submit", "customers.csv", "--yes"), ("status",))
ALL = "~* &* +@all"
RIGHTS = {
    # what is missing: rules, what any command says, what the doctor and a worker's start name
    "scripts": (f"{ALL} -evalsha", "the command EVALSHA", "the command EVALSHA"),
    "a command of scripts": (f"{ALL} -hset", "the command HSET", "the command HSET"),
    "a command of queues": (f"{ALL} -brpop", "the command BRPOP", "the command BRPOP"),
    "the ledger": (
        "~send-code.* ~_kombu.* ~*.pidbox* ~celery* &* +@all",
        "a key that sendcode needs",
        "the key sendcode:doctor",
    ),
    "the queues": (
        "~sendcode:* ~_kombu.* ~*.pidbox* ~celery* &* +@all",
        "a key that sendcode needs",
        "the key send-code.event",
    ),
    "kombu's bindings": (
        "~sendcode:* ~send-code.* ~*.pidbox* ~celery* &* +@all",
        "a key that sendcode needs",
        "the key _kombu.binding.send-code",
    ),
    "channels": (
        "~* resetchannels +@all",
        "a channel that sendcode needs",
        "the channel /0.celeryev/task.sent",
    ),
    "results": (
        "~sendcode:* ~send-code.* ~_kombu.* ~*.pidbox* ~celeryev* &* +@all",
        "a key that sendcode needs",
        "the key celery-task-meta-doctor",
    ),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def admin(server: EmbeddedValkey) -> Iterator[Redis]:
    with Redis.from_url(server.url(), decode_responses=True) as client:
        yield client


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "customers.csv", [customer(1)])
    secrets = {"sendcode_flower_password": SecretStr(PASSWORD)}
    return Settings(**{**QUICK_WORLD, **secrets, "sendcode_endpoint": NOBODY})


class Programs:
    """All programs, with one URL of Redis."""

    def __init__(self, settings: Settings, sendcode: Command, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self.sendcode = sendcode

    def at(self, url: str) -> Settings:
        return self._settings.model_copy(update={"sendcode_redis_url": SecretStr(url)})

    def commands_work_or_say(self, cause: str) -> None:
        for words in COMMANDS:
            ran = self.sendcode(*words)
            lines = [line for line in ran.err.splitlines() if "Redis at" in line]
            assert ran.exit_code == 0 or lines, f"{words}: {ran}"
            for line in lines:
                assert cause in line, f"{words}: {ran}"
            assert len(lines) <= 1, f"{words}: {ran}"

    def doctor_says(self, cause: str) -> None:
        ran = self.sendcode("doctor")
        assert ran.exit_code == 1
        assert any(line.startswith("FAIL") and cause in line for line in ran.out.splitlines()), ran

    def worker_says(self, url: str, cause: str, *, ends: bool) -> None:
        worker = WorkerProcess(self.at(url), self._folder, "w1")
        try:
            wait_until(lambda: cause in worker.log, f"{cause!r} in the worker's log")
            assert "Traceback" not in worker.log
            if ends:
                assert worker.wait() == 2
        finally:
            worker.kill()

    def flower_works_or_says(self, url: str, cause: str, *, ends: bool) -> None:
        process, address, log = start_flower(self.at(url), self._folder)
        try:
            wait_until(lambda: process.poll() is not None or is_up(address), "Flower")
            if ends:
                assert process.wait(PATIENCE_S) == 2
            if process.poll() is not None or not ends:
                wait_until(lambda: cause in log.read_text(), f"{cause!r} in Flower's log")
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def programs(settings: Settings, sendcode: Command, tmp_path: Path) -> Programs:
    return Programs(settings, sendcode, tmp_path)


@pytest.mark.parametrize("lacking", RIGHTS)
def test_a_user_with_too_few_rights_is_told_which(
    lacking: str,
    server: EmbeddedValkey,
    admin: Redis,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules, said, named = RIGHTS[lacking]
    admin.execute_command("ACL", "SETUSER", "guest", "on", ">guest", *rules.split())
    url = f"redis://guest:guest@127.0.0.1:{server.port}/0"
    monkeypatch.setenv("SENDCODE_REDIS_URL", url)

    programs.commands_work_or_say(f"refuses this user {said}")
    if lacking == "channels":  # the ledger takes the job all the same
        assert "accepted, but left to a worker to publish: Redis at" in caplog.text
    programs.doctor_says(f"Redis refuses this user {named}")
    programs.worker_says(url, f"Redis refuses this user {named}", ends=True)
    if lacking in {"a command of queues", "channels", "results"}:  # the others are not Flower's
        programs.flower_works_or_says(url, "Redis refuses this user", ends=True)


@pytest.fixture
def foreign_certificate(server: EmbeddedValkey) -> Iterator[str]:
    with TlsFront(server.port, trustme.CA()) as front:
        yield f"rediss://:{server.password}@127.0.0.1:{front.port}/0"


@pytest.fixture
def certificate_for_another(server: EmbeddedValkey, tmp_path: Path) -> Iterator[str]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TlsFront(server.port, authority, "redis.example") as front:
        place = f"127.0.0.1:{front.port}"
        yield f"rediss://:{server.password}@{place}/0?ssl_ca_certs={tmp_path}/ca.pem"


@pytest.fixture
def port_of_a_web_server() -> Iterator[str]:
    def answer(peer: Peer) -> None:
        peer.sock.recv(4096)
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with FaultServer(answer) as other:
        yield f"redis://127.0.0.1:{other.port}/0"


@pytest.fixture
def nobody() -> str:
    return "redis://127.0.0.1:9/0"


@pytest.fixture
def unknown_name() -> str:
    return "redis://no-such-host.invalid:6379/0"


@pytest.fixture
def login_forgotten(server: EmbeddedValkey) -> str:
    return server.url().replace(f":{server.password}@", "")


@pytest.fixture
def no_such_database(server: EmbeddedValkey) -> str:
    return server.url(99)


@pytest.fixture
def sentinel(server: EmbeddedValkey, tmp_path: Path) -> Iterator[int]:
    """A Sentinel with a password; its port."""
    port, configuration = free_port(), tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nrequirepass its-own\n"
        f"sentinel monitor main 127.0.0.1 {server.port} 1\n"
        f"sentinel auth-pass main {server.password}\n"
    )
    with psutil.Popen([psutil.Process(server.pid).exe(), configuration, "--sentinel"]) as process:
        with Redis(port=port, password="its-own") as client:
            wait_until(lambda: answers(client), "the Sentinel")
        yield port
        process.terminate()


def answers(client: Redis) -> bool:
    with contextlib.suppress(Exception):
        return bool(client.ping())
    return False


@pytest.fixture
def sentinel_s_login_forgotten(sentinel: int, server: EmbeddedValkey) -> str:
    return f"sentinel://:{server.password}@127.0.0.1:{sentinel}/main/0"


@pytest.fixture
def service_of_another_name(sentinel: int, server: EmbeddedValkey) -> str:
    place = f"127.0.0.1:{sentinel}"
    return f"sentinel://:{server.password}@{place}/other/0?sentinel_password=its-own"


@pytest.fixture
def redis_for_a_sentinel(server: EmbeddedValkey) -> str:
    place = f"127.0.0.1:{server.port}"
    password = server.password
    return f"sentinel://:{password}@{place}/main/0?sentinel_password={password}"


@pytest.fixture
def sentinel_for_redis(sentinel: int) -> str:
    return f"redis://:its-own@127.0.0.1:{sentinel}/0"


CAUSES = {
    "foreign_certificate": (
        "presents a certificate from an authority that is not trusted here",
        True,
    ),
    "certificate_for_another": ("presents a certificate for another address", True),
    "port_of_a_web_server": ("is not Redis but another program: check host and port", True),
    "nobody": ("cannot be reached: start it, or set SENDCODE_REDIS_URL", False),
    "unknown_name": ("has a host name that cannot be resolved: check the name, or DNS", False),
    "login_forgotten": ("requires a login: check user and password in SENDCODE_REDIS_URL", True),
    "no_such_database": ("has no database with that number", True),
    "sentinel_s_login_forgotten": ("is not found: its Sentinels want a login", True),
    "service_of_another_name": ("watches no service of that name", False),
    "redis_for_a_sentinel": ("is not a Sentinel: for Redis itself write redis://", True),
    "sentinel_for_redis": ("does not know the command", True),
}
"""What is said, and whether waiting is in vain, so that worker and Flower end."""


@pytest.mark.parametrize("way", CAUSES)
def test_why_redis_cannot_be_used_is_said_alike_everywhere(
    way: str,
    request: pytest.FixtureRequest,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = request.getfixturevalue(way)
    cause, ends = CAUSES[way]
    monkeypatch.setenv("SENDCODE_REDIS_URL", url)

    for words in COMMANDS:
        ran = programs.sendcode(*words)
        lines = [line for line in ran.err.splitlines() if line.startswith("sendcode: ")]
        assert ran.exit_code == (UNAVAILABLE if words == SEND else 1), ran
        assert len(lines) == 1, ran
        assert cause in lines[0], ran
    programs.doctor_says(cause)
    programs.worker_says(url, cause, ends=ends)
    programs.flower_works_or_says(url, cause, ends=ends)


@pytest.fixture
def all_taken(server: EmbeddedValkey, admin: Redis) -> Iterator[None]:
    """None of the server's ten connections is free."""
    admin.config_set("maxclients", 10)
    with ExitStack() as stack:
        while int(admin.info("clients")["connected_clients"]) < 10:
            other = stack.enter_context(Redis.from_url(server.url(), single_connection_client=True))
            other.ping()
        yield


@pytest.mark.usefixtures("all_taken")
def test_a_server_without_a_free_connection_is_told_as_that_and_waited_for(
    server: EmbeddedValkey,
    admin: Redis,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    cause = "has no connection left: raise its maxclients"
    monkeypatch.setenv("SENDCODE_REDIS_URL", server.url())

    programs.commands_work_or_say(cause)
    programs.doctor_says(cause)
    programs.flower_works_or_says(server.url(), cause, ends=False)
    worker = WorkerProcess(programs.at(server.url()), tmp_path, "w2")
    try:
        wait_until(lambda: cause in worker.log, "the reason")
        admin.config_set("maxclients", 100)
        worker.wait_ready()
    finally:
        worker.kill()
