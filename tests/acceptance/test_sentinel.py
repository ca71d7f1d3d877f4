"""A Redis that Sentinels watch over: the URL names them, and all parts find the primary."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import trustme
from pydantic import SecretStr
from redis import Redis, RedisError, ResponseError

from config import DEAD_LETTER_QUEUE
from config.redis import connect
from config.sentinels import CONFIRMED_FOR_S
from config.settings import Settings
from demo.world import EmbeddedValkey, free_port
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import SendCodeJob, State
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from producer import send_code
from producer.overview import read_overview
from tests.conftest import QUICK_WORLD, ipv6_loopback
from tests.replicas import replica_of
from tests.sandbox import Sandbox
from tests.tls_front import TlsFront
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import WorkerProcess

SENTINEL_PASSWORD = "the Sentinels' own"
QUICK_FAILOVER = (
    "sentinel down-after-milliseconds main 500",
    "sentinel failover-timeout main 5000",
)


@dataclass(frozen=True)
class Sentinel:
    """A Sentinel that watches a primary; `url` names it."""

    port: int
    url: str
    process: subprocess.Popen[bytes]

    def client(self) -> Redis:
        return Redis(port=self.port, decode_responses=True)


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "primary", fsync="no") as primary:
        yield primary
        resume(primary)


@pytest.fixture
def start_sentinel(tmp_path: Path, primary: EmbeddedValkey) -> Iterator[Callable[..., Sentinel]]:
    """Start a Sentinel for the primary, which it finds at `port` if not at its own."""
    with ExitStack() as stack:

        def start(*lines: str, port: int | None = None, password: str = "") -> Sentinel:
            own, configuration = free_port(), tmp_path / "sentinel.conf"
            configuration.write_text(
                f"port {own}\nbind 127.0.0.1 -::1\ndir {tmp_path}\n"
                f"sentinel monitor main 127.0.0.1 {port or primary.port} 1\n"
                f"sentinel auth-pass main {primary.password}\n"
                + "".join(f"{line}\n" for line in lines)
            )
            process = subprocess.Popen(
                [psutil.Process(primary.pid).exe(), str(configuration), "--sentinel"],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait, PATIENCE_S)
            stack.callback(process.terminate)
            wait_until(lambda: knows_its_primary(own, password), "the Sentinel")
            place = f"{ipv6_loopback()}:{own}"
            return Sentinel(own, f"sentinel://:{primary.password}@{place}/main/2", process)

        yield start


def knows_its_primary(port: int, password: str) -> bool:
    with Redis(port=port, password=password or None) as client:
        try:
            return bool(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"))
        except RedisError:
            return False


@pytest.fixture
def replica(tmp_path: Path, primary: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """A server that can take the primary's place."""
    with replica_of(primary, tmp_path / "replica") as server:
        yield server


@pytest.fixture
def sentinel(replica: EmbeddedValkey, start_sentinel: Callable[..., Sentinel]) -> Sentinel:  # noqa: ARG001 (it must know the replica)
    """A Sentinel that soon puts the replica in the primary's place."""
    sentinel = start_sentinel(*QUICK_FAILOVER)
    with sentinel.client() as client:
        wait_until(
            lambda: (
                [each["master-link-status"] for each in client.sentinel_slaves("main")] == ["ok"]
            ),
            "its knowledge of the replica",
        )
    return sentinel


def hang(primary: EmbeddedValkey) -> None:
    assert primary.pid is not None
    os.kill(primary.pid, signal.SIGSTOP)


def resume(primary: EmbeddedValkey) -> None:
    assert primary.pid is not None
    os.kill(primary.pid, signal.SIGCONT)


def wait_replaced(sentinel: Sentinel, replica: EmbeddedValkey) -> None:
    with sentinel.client() as client:
        wait_until(lambda: client.sentinel_master("main")["port"] == replica.port, "the failover")


def order_failover(sentinel: Sentinel) -> None:
    """Have the replica put in the primary's place, as soon as the Sentinel takes it for fit."""

    def is_begun() -> bool:
        with sentinel.client() as client, suppress(ResponseError):
            client.execute_command("SENTINEL", "FAILOVER", "main")
            return True
        return False

    wait_until(is_begun, "the order of a failover")


def settings_for(url: str, sandbox: Sandbox | None = None, **more: Any) -> Settings:
    endpoint = {"sendcode_endpoint": sandbox.url} if sandbox else {}
    return Settings(**{**QUICK_WORLD, "sendcode_redis_url": SecretStr(url), **endpoint, **more})


def jobs_are_sent_and_dead_lettered(url: str, tmp_path: Path) -> None:
    with Sandbox(rate_limit=200, phone_interval=8) as sandbox:
        settings = settings_for(url, sandbox)
        worker = WorkerProcess(settings, tmp_path, "w1").wait_ready()
        try:
            sent = send_code(
                "852", "99000001", wait=PATIENCE_S, timeout=PATIENCE_S, settings=settings
            )
            dead = send_code(
                "852", "99010001", wait=PATIENCE_S, timeout=PATIENCE_S, settings=settings
            )
            with connect(settings) as client:
                seen = read_overview(client, settings)
        finally:
            exit_code = worker.stop()

    assert sent.state is State.SENT
    assert dead.state is State.DEAD
    assert seen.queues[DEAD_LETTER_QUEUE] == 1
    assert exit_code == 0
    assert SENTINEL_PASSWORD not in worker.log


def test_jobs_are_accepted_sent_and_dead_lettered_behind_sentinels(
    start_sentinel: Callable[..., Sentinel], tmp_path: Path
) -> None:
    sentinel = start_sentinel()

    jobs_are_sent_and_dead_lettered(sentinel.url, tmp_path)


def test_sentinels_with_a_password_and_tls_are_asked_and_the_first_that_answers_is_believed(
    start_sentinel: Callable[..., Sentinel], primary: EmbeddedValkey, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with ExitStack() as stack:
        front = stack.enter_context(TlsFront(primary.port, authority))
        sentinel = start_sentinel(
            f'requirepass "{SENTINEL_PASSWORD}"', port=front.port, password=SENTINEL_PASSWORD
        )
        its_front = stack.enter_context(TlsFront(sentinel.port, authority))
        url = (
            f"sentinels://:{primary.password}@127.0.0.1:9,127.0.0.1:{its_front.port}/main/2"
            f"?sentinel_password={quote(SENTINEL_PASSWORD)}&ssl_ca_certs={tmp_path}/ca.pem"
        )

        jobs_are_sent_and_dead_lettered(url, tmp_path)


def test_a_command_that_hangs_is_tried_on_the_server_that_took_the_primary_s_place(
    sentinel: Sentinel, primary: EmbeddedValkey, replica: EmbeddedValkey
) -> None:
    settings = settings_for(sentinel.url)
    job = SendCodeJob.for_event(PhoneNumber("852", "99000001"))
    with connect(settings, timeout_s=1) as client:
        ledger = Ledger(client, settings)
        client.ping()

        hang(primary)
        wait_replaced(sentinel, replica)
        submitted = ledger.submit(job)

    with Redis.from_url(replica.url(2)) as there:
        assert submitted.is_new
        assert there.exists(ledger.keys.job(job.job_id))


def test_who_waits_for_a_server_that_hangs_goes_on_as_soon_as_another_has_its_place(
    sentinel: Sentinel, primary: EmbeddedValkey, replica: EmbeddedValkey
) -> None:
    settings = settings_for(sentinel.url)
    job = SendCodeJob.for_event(PhoneNumber("852", "99000001"))
    with connect(settings, retries=9, timeout_s=PATIENCE_S) as client:
        ledger = Ledger(client, settings)
        with sentinel.client() as watched:
            wait_until(lambda: client.ping() and is_listened_to(watched), "a listener")

        hang(primary)
        submitted = ledger.submit(job)  # nobody waits as long as a time-out takes here

    with Redis.from_url(replica.url(2)) as there:
        assert submitted.is_new
        assert there.exists(ledger.keys.job(job.job_id))


def is_listened_to(client: Redis) -> bool:
    return any(each["psub"] != "0" for each in client.client_list())


def test_what_a_primary_accepts_that_wakes_up_replaced_is_not_taken_for_accepted(
    sentinel: Sentinel, primary: EmbeddedValkey, replica: EmbeddedValkey
) -> None:
    settings = settings_for(sentinel.url)
    job = SendCodeJob.for_event(PhoneNumber("852", "99000001"))
    with connect(settings) as client:
        ledger = Ledger(client, settings)
        client.ping()

        hang(primary)
        wait_replaced(sentinel, replica)
        resume(primary)
        submitted = ledger.submit(job)

    with Redis.from_url(replica.url(2)) as there:
        assert submitted.is_new
        assert there.exists(ledger.keys.job(job.job_id))


def test_the_primary_is_believed_while_no_sentinel_can_be_asked(
    start_sentinel: Callable[..., Sentinel],
) -> None:
    sentinel = start_sentinel()
    with connect(settings_for(sentinel.url), retries=0) as client:
        client.ping()

        sentinel.process.kill()
        asked_in_vain = time.monotonic() + 2 * CONFIRMED_FOR_S

        wait_until(lambda: client.ping() and time.monotonic() > asked_in_vain, "an answer")


def test_all_clients_of_a_process_leave_the_old_primary_as_soon_as_one_of_them_does(
    sentinel: Sentinel, replica: EmbeddedValkey
) -> None:
    settings = settings_for(sentinel.url)
    with connect(settings, retries=99) as one, connect(settings, retries=0) as other:
        one.ping()  # from now on it may believe in the primary for a second

        order_failover(sentinel)
        wait_until(lambda: has_left(other, replica), "the other one's leaving")
        answered = one.info("server")

    assert answered["tcp_port"] == replica.port


def has_left(client: Redis, replica: EmbeddedValkey) -> bool:
    """Return whether a client, connecting anew, is told of the failover, or is past it."""
    client.connection_pool.disconnect()
    try:
        return bool(client.info("server")["tcp_port"] == replica.port)
    except RedisError:
        return True


@pytest.mark.parametrize("what", ["the primary hangs", "somebody orders it"])
def test_a_batch_under_way_reaches_each_number_once_over_a_failover(
    what: str, sentinel: Sentinel, primary: EmbeddedValkey, replica: EmbeddedValkey, tmp_path: Path
) -> None:
    rows = [BatchRow(n, ["x"], PhoneNumber("852", f"9900{n:04d}")) for n in range(60)]
    # nothing waits for the interval, and no failover takes as long as that
    with Sandbox(rate_limit=15, phone_interval=60) as sandbox:
        settings = settings_for(
            sentinel.url,
            sandbox,
            sendcode_rate_limit=15,
            sendcode_phone_interval=60,
            sendcode_http_timeout=5,
        )
        worker = WorkerProcess(settings, tmp_path, "w1").wait_ready()
        with connect(settings) as client:
            batches = Batches(client, settings)
            batches.open("b1", "digest", ["phone"])
            batches.append("b1", 0, rows, last=True)

            wait_until(lambda: sandbox.stats()["accepted"] > 5, "a batch under way")
            if what == "the primary hangs":
                hang(primary)
            else:
                order_failover(sentinel)
            wait_replaced(sentinel, replica)
            resume(primary)

            wait_until(lambda: (batch := batches.get("b1")) and batch.is_over, "its end")
            batch = batches.get("b1")
        seen = sandbox.stats()
        worker.stop()

    assert batch is not None
    assert batch.counts.keys() <= {State.SENT, State.SENT_INFERRED}
    assert seen["accepted_numbers"] == len(rows)
    # on a machine so busy that the order is heard of too late, at least it is told
    assert seen["doubled"] <= (0 if what == "the primary hangs" else batch.possible_duplicates)
