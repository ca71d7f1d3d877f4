"""The sandbox in a thread of this process, and numbers that it treats in a certain way.

A test that measures nothing takes the thread, which starts faster; benchmarks, fault tests and the
demo take a process (`demo.world`), which shares no interpreter lock with the caller.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Self

from sandbox.client import TIMEOUT_S, SandboxClient
from sandbox.numbers import MAGIC_NUMBERS
from sandbox.server import Server
from sandbox.settings import Settings
from sandbox.signature import Credentials


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


def number_for(behaviour: str, serial: int = 0, *, prefix: str | None = None) -> str:
    """Return an 8-digit PhoneNum with that behaviour; `serial` (0 to 9999) tells them apart.

    Raises:
        LookupError: no row has that behaviour, or several have and `prefix` does not choose.
    """
    rows = [
        row for row in MAGIC_NUMBERS if row.behaviour == behaviour and prefix in (None, row.prefix)
    ]
    if len(rows) != 1:
        raise LookupError(f"{len(rows)} magic numbers for {behaviour!r}: name the prefix")
    return f"{rows[0].prefix}{serial:04d}"
