"""The world in which canaries are let loose: servers, workers, web, Flower, and who listens.

Workers log at DEBUG, Redis keeps every command in its slowlog and compresses nothing in its files,
and what any client tells it is written down (MONITOR).
"""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import redis
import requests
from redis.exceptions import RedisError

from config.data_key import new_data_key
from config.redis import connect
from demo.world import free_port
from producer.tokens import Tokens
from producer.users import Users
from sandbox.signature import Credentials
from tests.commands import SENDCODE
from tests.faults.recovery import Recoveries
from tests.faults.workers import Crew, crew
from tests.faults.world import QUICK, World
from tests.forked import ForkedProcess, ForkedSandbox
from tests.leaks.needles import KEY, NAME, NAME_MARK, NUMBER, STRANGER, Canary, Needles
from tests.receiver import Receiver
from tests.waiting import PATIENCE_S, wait_until
from tests.web_process import WebProcess

SECRET_KEY = "SecretKeyOfTheCanaryXantippus17"
FLOWER_USER, FLOWER_PASSWORD = "oncall", "a-password-for-flower"
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class Overheard:
    """All that clients tell Redis: what scripts are given, and the rest. Outlives a restart."""

    def __init__(self, password: str, port: int) -> None:
        self.scripts = io.BytesIO()
        self.rest = io.BytesIO()
        self._address, self._password = ("127.0.0.1", port), password
        self._over = False
        self._awaited, self._is_heard = b"nothing", False
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="overheard", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_listening.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()

    def catch_up(self, client: redis.Redis) -> None:
        """Return once all is written down that was told before."""
        self._awaited, self._is_heard = secrets.token_hex(8).encode(), False

        def is_heard() -> bool:
            client.echo(self._awaited)
            return self._is_heard

        wait_until(is_heard, "the end of what was told")

    def _run(self) -> None:
        while not self._over:
            with suppress(OSError):
                self._listen()
            time.sleep(0.01)

    def _listen(self) -> None:
        with socket.create_connection(self._address) as connection:
            connection.settimeout(0.2)
            connection.sendall(f"AUTH {self._password}\r\nMONITOR\r\n".encode())
            rest = b""
            while not self._over:
                with suppress(TimeoutError):
                    if not (data := connection.recv(1 << 20)):
                        return
                    *lines, rest = (rest + data).split(b"\r\n")
                    self._keep(lines)
                    self._is_listening.set()

    def _keep(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._is_heard |= self._awaited in line
            file = self.scripts if b'"EVAL' in line[:80].upper() else self.rest
            file.write(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), line) + b"\n")


class ProcessList:
    """Every command line that this machine's process list has shown meanwhile."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="process list", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        for name in filter(str.isdecimal, os.listdir("/proc")):  # often: hence no Path
            with suppress(OSError), open(f"/proc/{name}/cmdline", "rb", buffering=0) as words:
                self.seen.add(words.read())

    def _run(self) -> None:
        while not self._over.wait(0.2):
            self.look()


class Scene(World):
    """The faults' world with web, Flower and a backend, all of them watched.

    Attributes:
        client: of the ledger; patient, unlike `redis`.
        stranger: in no job; a stranger puts their number into a queue.
        planted: in no job either: for planting.
        crew: the workers, which die and are started again.
        heard: what producers in this process log, and the errors that they raise.
    """

    valkey_lines = (
        "slowlog-log-slower-than 0\nslowlog-max-len 1000000\n"
        # what is compressed could not be found
        "rdbcompression no\n"
    )

    def __init__(
        self, flock: Sequence[Canary], workers: int, *, has_flower: bool, forked: bool = False
    ) -> None:
        """Prepare it; `forked`: all programs start at once, not in the time that imports take."""
        self.data_key = new_data_key("canary")
        super().__init__(
            QUICK,
            credentials=Credentials("AKIDOFTHECANARY", SECRET_KEY),
            sendcode_data_keys=self.data_key,
            sendcode_webhook_private=True,
            sendcode_flower_user=FLOWER_USER,
            sendcode_flower_password=FLOWER_PASSWORD,
        )
        *_, self.stranger, self.planted = flock
        self._workers = workers
        self._has_flower = has_flower
        self._forked = forked
        if forked:
            self.program, self.stand_in = ForkedProcess, ForkedSandbox
        self.needles = Needles(
            {
                NUMBER: [each.phone.phone_num for each in flock if each is not self.stranger],
                STRANGER: [self.stranger.phone.phone_num],
                NAME: [NAME_MARK],
                KEY: [SECRET_KEY, self.data_key.partition(":")[2].rstrip("=")],
            }
        )
        self.recoveries = Recoveries()
        self.heard = io.StringIO()

    def _start(self) -> None:
        super()._start()
        enter = self._stack.enter_context
        self.client: redis.Redis = enter(connect(self.settings))
        self.files, self.customers = self.folder / "tmp", self.folder / "customers"
        for folder in (self.files, self.customers):
            folder.mkdir()
        self.overheard = enter(Overheard(self.valkey.password, self.valkey.port))
        self.processes = enter(ProcessList())
        self.receiver = enter(Receiver())
        self._stack.callback(self._listen_here())
        place = {"TMPDIR": str(self.files)}
        names = {f"w{n}": self.settings for n in range(1, self._workers)}
        names["detour"] = self.detour
        self.crew: Crew = enter(
            crew(
                names,
                self.folder,
                self.recoveries.listen,
                environment=place,
                options=("-l", "DEBUG"),
                forked=self._forked,
            )
        )
        self.web = WebProcess(self, "web", **place)
        self.flower_url = ""
        if self._has_flower:
            port = free_port()
            self.flower_url = f"http://127.0.0.1:{port}"
            self.start("flower", [*SENDCODE, "flower", "--port", str(port)], **place)
        _, self.token = Tokens(self.client, self.settings).new("shop", ["send", "read", "batch"])
        users = Users(self.client, self.settings)
        session = users.begin_session(users.add("operator", "operator", None, by="test"))
        self.console = requests.Session()
        self.console.cookies.set("sendcode_session", session)
        self.console.headers["Accept"] = "text/html"
        self.api = requests.Session()
        self.api.headers["Authorization"] = f"Bearer {self.token}"
        self.crew.wait_ready(PATIENCE_S)
        wait_until(lambda: self.web.answers, "the web process")
        if self.flower_url:
            wait_until(lambda: self.ask_flower("/healthcheck").ok, "Flower")

    def _listen_here(self) -> Callable[[], None]:
        """Keep what this process logs, at DEBUG; return what ends that."""
        handler = logging.StreamHandler(self.heard)
        root, before = logging.getLogger(), logging.getLogger().level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)

        def end() -> None:
            root.removeHandler(handler)
            root.setLevel(before)

        return end

    def __exit__(self, *_: object) -> None:
        self.crew.keep_running = False
        super().__exit__()

    def ask_flower(self, path: str) -> requests.Response:
        """Return a page of Flower; a failed answer while it does not listen yet."""
        try:
            return requests.get(
                self.flower_url + path, auth=(FLOWER_USER, FLOWER_PASSWORD), timeout=PATIENCE_S
            )
        except requests.ConnectionError:
            away = requests.Response()
            away.status_code = 503
            return away

    def call(
        self, method: str, path: str, *, by: requests.Session | None = None, **options: Any
    ) -> requests.Response:
        """Ask the HTTP API, again and again while Redis or the process is away."""
        session = by or self.api
        options.setdefault("timeout", PATIENCE_S)

        answers: list[requests.Response] = []

        def is_answered() -> bool:
            with suppress(requests.RequestException):
                answers.append(session.request(method, self.web.url + path, **options))
            return bool(answers) and answers[-1].status_code < 500

        wait_until(is_answered, f"an answer to {method} {path}")
        return answers[-1]

    def patiently(self, act: Callable[[], Any]) -> Any:
        """Return what `act` returns, once Redis does not refuse it."""
        found: list[Any] = []

        def is_done() -> bool:
            with suppress(RedisError):
                found.append(act())
            return bool(found)

        wait_until(is_done, "Redis")
        return found[0]

    def job_ids(self) -> Iterator[str]:
        """Yield the ids of all jobs of the ledger."""
        prefix = f"{self.settings.sendcode_key_prefix}:job:"
        for key in self.client.scan_iter(f"{prefix}*", count=1000):
            yield str(key).removeprefix(prefix)

    @property
    def logs(self) -> Iterator[Path]:
        yield from self.folder.glob("*.log")
