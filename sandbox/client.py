"""A sandbox used from Python: one that runs, one in a thread, one in a process of its own.

A test that measures nothing takes the thread, which starts faster; benchmarks, fault tests and the
demo take the process, which shares no interpreter lock with the caller.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from sandbox.server import Server
from sandbox.settings import Settings
from sandbox.signature import Credentials

TIMEOUT_S: Final = 30
_TOP: Final = str(Path(__file__).resolve().parent.parent)


class SandboxClient:
    """Reads counts and changes settings of the sandbox at `url`, a new connection each time.

    Every method raises OSError when nobody answers, and ValueError with the sandbox's reason when
    it refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self, *, numbers: bool = True, arrivals: bool = False) -> dict[str, Any]:
        """Return the counts since the start or the last reset; the two long parts on demand."""
        return self._call("GET", f"stats?numbers={numbers:d}&arrivals={arrivals:d}")

    def number(self, digits: str) -> dict[str, Any]:
        """Return a number's (country code and number, digits) requests, accepted, accepted_at."""
        return self._call("GET", f"numbers/{digits}")

    def settings(self) -> dict[str, Any]:
        return self._call("GET", "settings")

    def change(self, **settings: object) -> dict[str, Any]:
        """Change these settings, keep the others; return all."""
        return self._call("POST", "settings", settings)

    def rotate(self, secret_id: str, secret_key: str, token: str | None = None) -> None:
        """Accept these credentials from now on, and no others."""
        self._call(
            "POST",
            "credentials",
            {"secret_id": secret_id, "secret_key": secret_key, "token": token},
        )

    def reset(self) -> None:
        """Forget requests, numbers and counts; settings stay."""
        self._call("POST", "reset")

    def _call(
        self, method: str, place: str, document: dict[str, object] | None = None
    ) -> dict[str, Any]:
        address = urlsplit(self.url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, f"/_sandbox/{place}", body=json.dumps(document or {}))
            answer = connection.getresponse()
            found: dict[str, Any] = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"sandbox: {found['error']}")
        return found


class Sandbox(SandboxClient):
    """A sandbox in a thread of this process: `with Sandbox(rate_limit=200) as sandbox: ...`.

    Port 0 takes any free one; `settings` are those of `sandbox.settings.Settings`.
    """

    def __init__(
        self, *, port: int = 0, credentials: Credentials | None = None, **settings: object
    ) -> None:
        super().__init__(url="")
        self.credentials = credentials or Credentials()
        self._port = port
        self._settings = Settings().changed(settings)
        self._listening: Future[str] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="sandbox", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = self._listening.result(TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening, drop every connection, end the thread; do nothing a second time."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = Server(self.credentials, self._settings)
        try:
            self._listening.set_result(await server.listen("127.0.0.1", self._port))
        except OSError as exc:
            self._listening.set_exception(exc)
            return
        await self._stop.wait()
        await server.close()


class SandboxProcess(SandboxClient):
    """`with SandboxProcess("--rate-limit", "200") as sandbox: ...`; any free port unless given.

    The options are those of `python -m sandbox --help`. Credentials are handed over in the
    environment, where no process list shows them.
    """

    def __init__(
        self, *options: str, credentials: Credentials | None = None, folder: Path | None = None
    ) -> None:
        super().__init__(url="")
        self._folder = folder
        self.credentials = credentials or Credentials()
        self._command = [sys.executable, "-P", "-m", "sandbox", "--port", "0", *options]

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (_TOP, os.environ.get("PYTHONPATH")))),
            "TENCENTCLOUD_SECRET_ID": self.credentials.secret_id,
            "TENCENTCLOUD_SECRET_KEY": self.credentials.secret_key,
            "TENCENTCLOUD_TOKEN": self.credentials.token or "",
        }
        self._process = self._start(environment)  # stopped in __exit__
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sandbox ended at once, exit code {self._process.wait()}")
        self.url = json.loads(line)["url"]
        return self

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; we end it when nobody needs it any more
        )

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it with SIGTERM, with SIGKILL if that takes too long; return its exit code."""
        self._process.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self.wait()

    def wait(self) -> int:
        """Return its exit code, once it has ended by itself.

        Raises:
            subprocess.TimeoutExpired: it has not within `TIMEOUT_S`.
        """
        code = self._process.wait(TIMEOUT_S)
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self._process.stdout.close()
        return code
