"""What is put to the test: a primary, two replicas, workers and producers as hosts of their own.

Three hosts have a Redis and a Sentinel each, two a worker, two a producer, one the stand-in for the
API, and from one all is watched. Its clock is the real one; the rate is higher than an account's,
so that more is under way. Of each kind of host one clock is ahead and one behind, if asked.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import redis

from config.data_key import new_data_key
from config.redis import connect
from config.settings import Settings
from demo.world import (
    UNBOUNDED,
    EmbeddedValkey,
    Process,
    SandboxProcess,
    environment_of,
    wait_until,
)
from jobs.batches import Batches
from jobs.ledger import Ledger
from producer.cli.processes import worker_command
from tests.ha.hosts import Host, Switch

RATE = 40
SERVICE = "main"
REDIS_PORT, SENTINEL_PORT = 6379, 26379
DOWN_AFTER_MS = 2_000
MAX_LAG_S = 3
REPLICAS = 2
HEALED_S = 90.0


class Site:
    """A host with a Redis and a Sentinel."""

    def __init__(self, host: Host, folder: Path, password: str, more: str) -> None:
        self.host = host
        self._folder = folder
        self._sentinel: Process | None = None
        self.server = EmbeddedValkey(
            folder,
            fsync="no",  # nobody cuts the power
            more=f"bind 127.0.0.1 {host.address}\nmasterauth {password}\n"
            f"replica-announce-ip {host.address}\nrepl-diskless-sync-delay 0\n{more}",
            environment=host.clock,
        )
        self.server.password = password
        self.server.port = REDIS_PORT

    @property
    def place(self) -> tuple[str, int]:
        return self.host.address, self.server.port

    def start(self) -> None:
        with self.host.inside():
            self.server.start()

    def start_sentinel(self, primary: Site) -> Process:
        configuration = self._folder / "sentinel.conf"
        configuration.write_text(
            f"port {SENTINEL_PORT}\nbind 127.0.0.1 {self.host.address}\nprotected-mode no\n"
            f"dir {self._folder}\nsentinel announce-ip {self.host.address}\n"
            f"sentinel monitor {SERVICE} {primary.host.address} {primary.server.port} 2\n"
            f"sentinel auth-pass {SERVICE} {self.server.password}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 10000\n"
        )
        command = [psutil.Process(self.server.pid).exe(), str(configuration), "--sentinel"]
        with self.host.inside():
            environment = {**os.environ, **self.host.clock}
            return Process("sentinel", command, self._folder, environment)

    def signal(self, number: int) -> None:
        """Send its Redis a signal."""
        os.kill(self.server.pid, number)

    def stop(self) -> None:
        if self.server.pid:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.server.stop()


class World:
    """All of it; nothing of it is left when the block ends."""

    def __init__(self, *, min_replicas: int, wait_replicas: int, apart_s: int) -> None:
        """Prepare it; `apart_s`: how far clocks are ahead of, or behind, the true one."""
        self._more = f"min-replicas-to-write {min_replicas}\nmin-replicas-max-lag {MAX_LAG_S}\n"
        self._wait_replicas = wait_replicas
        self._apart_s = apart_s
        self.cut_off_until: dict[str, float] = {}
        """By the name of a host; seconds of the monotonic clock."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        enter = self._stack.enter_context
        self.folder = Path(enter(tempfile.TemporaryDirectory(prefix="sendcode-ha-")))
        self.switch = enter(Switch())
        host = self.switch.host
        self.watch = host("watch")
        self._stack.enter_context(self.watch.inside())
        api = host("api")
        with api.inside():
            self.sandbox = enter(
                SandboxProcess("--host", api.address, "--rate-limit", str(RATE), folder=self.folder)
            )
        self._start_redis()
        password = self.sites[0].server.password
        names = ",".join(f"{site.host.address}:{SENTINEL_PORT}" for site in self.sites)
        self.settings = Settings(
            **{
                "tencentcloud_secret_id": self.sandbox.credentials.secret_id,
                "tencentcloud_secret_key": self.sandbox.credentials.secret_key,
                "sendcode_endpoint": self.sandbox.url,
                "sendcode_redis_url": f"sentinel://:{password}@{names}/{SERVICE}/0",
                "sendcode_data_keys": new_data_key("k1"),
                "sendcode_rate_limit": RATE,
                "sendcode_wait_replicas": self._wait_replicas,
                **UNBOUNDED,
            }
        )
        self.workers = [self._worker(each) for each in self._hosts("w1", "w2")]
        self.producers = self._hosts("p1", "p2")
        for each in self.workers:
            each[1].wait_for(" ready.")
        self.redis: redis.Redis = enter(connect(self.settings))
        self.ledger = Ledger(self.redis, self.settings)
        self.batches = Batches(self.redis, self.settings)

    def _start_redis(self) -> None:
        password = os.urandom(16).hex()
        self.sites = []
        for host in self._hosts("r1", "r2", "r3"):
            site = Site(host, self.folder / host.name, password, self._more)
            self._stack.callback(site.stop)
            site.start()
            self.sites.append(site)
        first, *others = self.sites
        for site in others:
            with self.client(site) as client:
                client.replicaof(*first.place)
        for site in self.sites:
            self._stack.enter_context(site.start_sentinel(first))
        self.wait_healthy()

    def _hosts(self, *names: str) -> list[Host]:
        """Add hosts: if clocks are apart, the first one's is ahead and the second one's behind."""
        hosts = [self.switch.host(name) for name in names]
        for host, sign in zip(hosts, (1, -1), strict=False):
            if self._apart_s:
                host.set_clock(sign * self._apart_s, self.folder)
        return hosts

    def client(self, site: Site, *, sentinel: bool = False) -> redis.Redis:
        """Return a client of one server itself."""
        return redis.Redis(
            host=site.host.address,
            port=SENTINEL_PORT if sentinel else site.server.port,
            password=None if sentinel else site.server.password,
            socket_timeout=2,
            decode_responses=True,
        )

    def primary(self) -> Site:
        """Return who is the primary, as all Sentinels see it; raise RedisError if they do not."""
        found = set()
        for site in self.sites:
            with self.client(site, sentinel=True) as client:
                found.add(client.sentinel_get_master_addr_by_name(SERVICE))
        if len(found) != 1:
            raise redis.RedisError("the Sentinels do not agree")
        (place,) = found
        return next(site for site in self.sites if site.place == place)

    def wait_healthy(self) -> None:
        """Return once there is one primary with two replicas, for all Sentinels."""

        def is_healthy() -> bool:
            try:
                with self.client(self.primary()) as client:
                    replicas = client.info("replication")["connected_slaves"]
                return replicas == REPLICAS and all(map(self._is_content, self.sites))
            except redis.RedisError:
                return False

        wait_until(is_healthy, "a primary with two replicas", HEALED_S)

    def _is_content(self, site: Site) -> bool:
        """Return whether a Sentinel finds nothing wrong."""
        with self.client(site, sentinel=True) as client:
            state: Any = client.sentinel_master(SERVICE)
            replicas: Any = client.sentinel_slaves(SERVICE)
        seen = [(each["flags"], each["master-link-status"]) for each in replicas]
        return state["flags"] == "master" and seen == [("slave", "ok")] * REPLICAS

    def _worker(self, host: Host) -> tuple[Host, Process]:
        with host.inside():
            process = Process(
                host.name, worker_command(host.name), self.folder, self._environment(host)
            )
        self._stack.callback(process.stop)
        return host, process

    def produce(self, host: Host, trial: str, first: int, rows: int) -> Process:
        """Start a producer there."""
        module = [sys.executable, "-m", "tests.ha.producer"]
        arguments = [trial, str(first), str(rows), str(self.folder / f"{trial}-{host.name}")]
        with host.inside():
            process = Process(
                f"{trial}-{host.name}.log",
                [*module, *arguments],
                self.folder,
                self._environment(host),
            )
        self._stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: Process) -> None:
        if process.process.poll() is None:
            process.kill()

    def _environment(self, host: Host) -> dict[str, str]:
        state = str(self.folder / f"state-{host.name}")
        return environment_of(self.settings, XDG_STATE_HOME=state, **host.clock)

    def check(self) -> None:
        """Raise `WorldError` unless both workers run."""
        for _, process in self.workers:
            process.check()
