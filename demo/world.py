"""The one world of demo, benchmarks and fault harness: servers on loopback, in a folder.

Durable as in production: Valkey syncs every write. Nothing of it is left when the block ends.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, Self

import redis

from config.redis import connect
from config.settings import Settings
from demo.keeper import Keeper
from demo.process import Process, environment_of
from demo.valkey import EmbeddedValkey
from producer import programs
from sandbox.client import SandboxProcess
from sandbox.signature import Credentials


class World:
    """Valkey, the stand-in of the API, and whatever processes are started beside them.

    Attributes:
        folder: where files and logs go.
        settings: lead to both servers; `environment` says the same to a process.
        redis: a client of the ledger.
        state_home: where processes keep what they have seen of the ledger.
    """

    def __init__(
        self,
        pace: Mapping[str, Any] | None = None,
        *,
        sandbox_options: Sequence[str] = (),
        credentials: Credentials | None = None,
        folder: Path | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Prepare it; nothing is started before it is entered.

        Args:
            pace: settings by field, other than the defaults.
            sandbox_options: those of `python -m sandbox`, beside the pace's.
            credentials: the key pair that the stand-in accepts.
            folder: where it is to be; a temporary one, gone at the end, if None.
            keeper: ends the processes if we are killed.
        """
        self._pace = dict(pace or {})
        self._sandbox_options = sandbox_options
        self._credentials = credentials or Credentials()
        self._folder = folder
        self._keeper = keeper
        self._processes: list[Process] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_processes()
        self._stack.close()

    def _start(self) -> None:
        enter = self._stack.enter_context
        self.folder = self._folder or Path(enter(tempfile.TemporaryDirectory(prefix="sendcode-")))
        self.valkey = EmbeddedValkey(self.folder / "valkey")
        self._serve(self.valkey.start, self.valkey)
        rough = Settings(**self._pace)
        self.sandbox = SandboxProcess(
            *("--rate-limit", str(rough.sendcode_rate_limit)),
            *("--phone-interval", str(rough.sendcode_phone_interval)),
            *self._sandbox_options,
            credentials=self._credentials,
            folder=self.folder,
        )
        self._serve(self.sandbox.__enter__, self.sandbox)
        self.settings = Settings(**self.values())
        self.state_home = str(self.folder / "state")
        self.redis: redis.Redis = enter(connect(self.settings))

    def values(self, **changes: Any) -> dict[str, Any]:
        """Return the settings by field, as `Settings` takes them, with changes."""
        return {
            "tencentcloud_secret_id": self._credentials.secret_id,
            "tencentcloud_secret_key": self._credentials.secret_key,
            "sendcode_endpoint": self.sandbox.url,
            "sendcode_redis_url": self.valkey.url(),
            **self._pace,
            **changes,
        }

    def start(self, name: str, command: Sequence[str], **environment: str) -> Process:
        """Start a program that knows this world from its environment."""
        with self._adopting() as adopt:
            said = environment_of(
                self.settings, **{"XDG_STATE_HOME": self.state_home, **environment}
            )
            process = Process(name, command, self.folder, said)
            self._processes.append(process)
            adopt(process.pid)
        return process

    def run(self, name: str, *module: str, **environment: str) -> Process:
        """Start a Python module with its arguments."""
        return self.start(name, [sys.executable, "-m", *module], **environment)

    def worker(self, name: str, *options: str) -> Process:
        """Start a sendcode worker as its users do."""
        return self.start(name, [*programs.worker(name), *options])

    def check(self) -> None:
        """Make sure that all processes are running.

        Raises:
            WorldError: one is not; the message has the end of its log.
        """
        for process in self._processes:
            process.check()

    def requests(self) -> int:
        """Count those that the stand-in has seen."""
        return int(self.sandbox.stats(numbers=False)["requests"])

    def _stop_processes(self) -> None:
        for process in self._processes:
            process.terminate()  # all at once: each takes a while
        for process in self._processes:
            self._stop(process)
        self._processes.clear()

    def _serve(self, start: Callable[[], object], server: EmbeddedValkey | SandboxProcess) -> None:
        with self._adopting() as adopt:
            start()
            adopt(server.pid)
            self._stack.callback(self._stop, server)

    def _stop(self, each: Process | EmbeddedValkey | SandboxProcess) -> None:
        pid = each.pid
        each.stop()
        if self._keeper is not None:
            self._keeper.forget(pid)

    def _adopting(self) -> AbstractContextManager[Callable[[int], None]]:
        if self._keeper is not None:
            return self._keeper.adopting()
        return nullcontext(lambda _pid: None)
