"""Listens, stamps arrivals, and runs them through the API; as a thread too, for tests.

A request is stamped when its last byte is read, plus the latency of the settings: the stamp is
the moment at which it would have reached a server that far away, whenever the event loop gets to
it. It then runs to its end even if the client is gone by now, as a real request in flight does.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Final, Self

from sandbox.api import Api, Decision
from sandbox.client import SandboxClient
from sandbox.connection import Connection
from sandbox.delivery import deliver
from sandbox.numbers import Delivery
from sandbox.settings import Settings
from sandbox.signature import Credentials
from sandbox.window import SECOND_NS
from sandbox.wire import Request

BACKLOG: Final = 1024
HEARTBEAT_S: Final = 0.05
START_TIMEOUT_S: Final = 10
ACCEPT_TURNS: Final = 100
_MS_NS: Final = 1_000_000


class Server:
    """One listening sandbox on the running event loop."""

    def __init__(self, credentials: Credentials, settings: Settings, *, seed: int = 0) -> None:
        self.api = Api(credentials, settings, seed=seed, started_ns=time.monotonic_ns())
        self.connections: set[Connection] = set()
        self._jitter = random.Random(seed)  # noqa: S311 - repeatable delays, nothing secret
        self._last_arrival_ns = 0

    async def listen(self, host: str, port: int) -> str:
        """Start to listen; returns the base URL. Port 0 takes any free one.

        Raises:
            OSError: the address cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        self._listener = await self._loop.create_server(
            lambda: Connection(self), host, port, backlog=BACKLOG
        )
        self._beat_at = self._loop.time()
        self._beat()
        bound: int = self._listener.sockets[0].getsockname()[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{bound}"

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self._heartbeat.cancel()
        # A connection that is being accepted when asyncio's listener closes is left open for ever.
        for _ in range(ACCEPT_TURNS):
            accepting = asyncio.all_tasks() - {asyncio.current_task()}
            if not accepting:
                break
            await asyncio.wait(accepting)
        self._listener.close()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)  # one turn of the loop closes the sockets

    def now(self) -> float:
        """Unix seconds on the API's clock."""
        return time.time() + self.api.settings.clock_skew_s

    def receive(self, request: Request, connection: Connection) -> None:
        """Take a request to the API whose last byte was read just now."""
        at_ns = time.monotonic_ns()
        settings = self.api.settings
        if not settings.latency_ms and not settings.jitter_ms:
            self._arrive(request, connection, at_ns)
            return
        jitter_ms = settings.jitter_ms and self._jitter.expovariate(1 / settings.jitter_ms)
        at_ns += round((settings.latency_ms + jitter_ms) * _MS_NS)
        self._loop.call_at(at_ns / SECOND_NS, self._arrive, request, connection, at_ns)

    def _arrive(self, request: Request, connection: Connection, at_ns: int) -> None:
        # Only a change of latency can turn the order round; the API's time never goes back.
        at_ns = self._last_arrival_ns = max(at_ns, self._last_arrival_ns)
        decision = self.api.decide(request, at_ns, self.now())
        settings = self.api.settings
        slow = decision.delivery is Delivery.SLOW
        wait_ms = settings.slow_ms if slow else settings.answer_ms
        if wait_ms:
            self._loop.call_later(wait_ms / 1000, self._deliver, decision, request, connection)
        else:
            self._deliver(decision, request, connection)

    def _deliver(self, decision: Decision, request: Request, connection: Connection) -> None:
        if connection.is_open:
            deliver(decision, request, connection, self.now())

    def _beat(self) -> None:
        """Measure how late the event loop runs: a sandbox short of CPU stamps late."""
        self.api.journal.lagged(round((self._loop.time() - self._beat_at) * SECOND_NS))
        self._beat_at = self._loop.time() + HEARTBEAT_S
        self._heartbeat = self._loop.call_at(self._beat_at, self._beat)


class Sandbox(SandboxClient):
    """A sandbox in a thread of this process: `with Sandbox(rate_limit=200) as sandbox: ...`.

    Args:
        port: 0 takes any free one.
        credentials: the key pair that signatures are checked against.
        seed: of faults and jitter.
        settings: as in `sandbox.settings.Settings`.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        credentials: Credentials | None = None,
        seed: int = 0,
        **settings: object,
    ) -> None:
        super().__init__(url="")
        self.credentials = credentials or Credentials()
        self._port = port
        self._seed = seed
        self._settings = Settings().changed(settings)
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._failure: OSError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(START_TIMEOUT_S):
            raise TimeoutError(f"the sandbox did not listen within {START_TIMEOUT_S} s")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening, drop every connection, end the thread; a second time does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = Server(self.credentials, self._settings, seed=self._seed)
        try:
            self.url = await server.listen("127.0.0.1", self._port)
        except OSError as exc:
            self._failure = exc
            return
        finally:
            self._listening.set()
        await self._stop.wait()
        await server.close()
