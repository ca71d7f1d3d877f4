"""A sandbox used from Python: one that runs, and one in a thread.

A test that measures nothing takes the thread, which starts faster; benchmarks, fault tests and the
demo take a process (`demo.world`), which shares no interpreter lock with the caller.
"""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any, Final, Self
from urllib.parse import urlsplit

from sandbox.server import Server
from sandbox.settings import Settings
from sandbox.signature import Credentials

TIMEOUT_S: Final = 30


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
