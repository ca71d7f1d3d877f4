"""Listens, stamps arrivals, and runs them through the API.

A request is stamped when its last byte is read, plus the latency of the settings: the stamp is
the moment at which it would have reached a server that far away, whenever the event loop gets to
it. It then runs to its end even if the client is gone by now, as a real request in flight does.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from sandbox.api import Api
from sandbox.connection import Connection
from sandbox.journal import SECOND_NS
from sandbox.numbers import Delivery
from sandbox.settings import Settings, draw_ms
from sandbox.signature import Credentials
from sandbox.wire import Request

BACKLOG: Final = 1024
HEARTBEAT_S: Final = 0.05
ACCEPT_TURNS: Final = 100
_MS_NS: Final = 1_000_000


class Server:
    """One listening sandbox on the running event loop."""

    def __init__(self, credentials: Credentials, settings: Settings, *, seed: int = 0) -> None:
        self.api = Api(credentials, settings, seed=seed, started_ns=time.monotonic_ns())
        self._connections: set[Connection] = set()
        self._jitter = random.Random(seed)  # noqa: S311 - repeatable delays, nothing secret
        self._work = random.Random(seed)  # noqa: S311 - the same
        self._last_arrival_ns = 0

    async def listen(self, host: str, port: int) -> str:
        """Start to listen; returns the base URL. Port 0 takes any free one.

        Raises:
            OSError: the address cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        self._listener = await self._loop.create_server(
            lambda: Connection(self.api, self._now, self._connections, self._receive),
            host,
            port,
            backlog=BACKLOG,
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
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # one turn of the loop closes the sockets

    def _now(self) -> float:
        """Return Unix seconds on the API's clock."""
        return time.time() + self.api.settings.clock_skew_s

    def _receive(self, request: Request, connection: Connection) -> None:
        at_ns = time.monotonic_ns()
        settings = self.api.settings
        jitter_ms = settings.jitter_ms and self._jitter.expovariate(1 / settings.jitter_ms)
        work_ms = draw_ms(settings.answer_ms, self._work)
        wait_ms = settings.latency_ms + jitter_ms
        if settings.counts_at_end:
            wait_ms, work_ms = wait_ms + work_ms, 0.0
        if not wait_ms:
            self._arrive(request, connection, at_ns, work_ms)
            return
        at_ns += round(wait_ms * _MS_NS)
        self._loop.call_at(at_ns / SECOND_NS, self._arrive, request, connection, at_ns, work_ms)

    def _arrive(self, request: Request, connection: Connection, at_ns: int, work_ms: float) -> None:
        # Only a change of latency can turn the order round; the API's time never goes back.
        at_ns = self._last_arrival_ns = max(at_ns, self._last_arrival_ns)
        decision = self.api.decide(request, at_ns, self._now())
        if decision.delivery is Delivery.SLOW:
            work_ms = self.api.settings.slow_ms
        if work_ms:
            self._loop.call_later(work_ms / 1000, connection.deliver, decision, request)
        else:
            connection.deliver(decision, request)

    def _beat(self) -> None:
        """Measure how late the event loop runs: a sandbox short of CPU stamps late."""
        self.api.journal.lagged(round((self._loop.time() - self._beat_at) * SECOND_NS))
        self._beat_at = self._loop.time() + HEARTBEAT_S
        self._heartbeat = self._loop.call_at(self._beat_at, self._beat)
