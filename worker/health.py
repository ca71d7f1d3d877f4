"""Whether this worker lives and can send: for probes over HTTP, and for systemd.

`SENDCODE_METRICS_PORT` opens the port; systemd is notified where it asks for it (`NOTIFY_SOCKET`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from jobs.codes import NEVER_LEFT
from jobs.ledger import Ledger
from jobs.server import SIGNATURES_REFUSED_S
from worker.meter import Meter
from worker.presence import Presence

DEAD_AFTER_S = 60.0
"""A thread that did not come round for so long does not come back. One that waits for a silent
Redis does: after 26 s at most (three tries, and a check of an idle connection before), 5 s more if
it must wait for a connection, and some for Sentinels that are silent as well."""


class Health:
    """Returns what is wrong with a worker, in one line, or "".

    It asks Redis nothing, which may be silent: it goes by what the worker's threads found last.
    """

    def __init__(
        self,
        ledger: Ledger,
        presence: Presence,
        refused: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._presence = presence
        self._refused = refused
        self._clock = clock
        self._rounds: dict[str, float] = {}
        self.is_ready = False
        """Messages are taken."""

    def note_round(self, thread: str) -> None:
        """Note that a thread has come round, whatever came of its work."""
        self._rounds[thread] = self._clock()

    def why_dead(self) -> str:
        """Return what stands still, whatever Redis and the API do: only a restart helps."""
        now = self._clock()
        for thread, at in list(self._rounds.items()):
            if now - at > DEAD_AFTER_S:
                return f"{thread} has stood still for {now - at:.0f} s"
        if stuck := self._presence.stuck():
            return f"{stuck[0]} has stood still for {stuck[1]:.0f} s"
        return ""

    def why_not_ready(self) -> str:  # noqa: PLR0911 (a list of reasons)
        """Return why this worker sends nothing, as of its last sign of life."""
        if why := self.why_dead():
            return why
        if not self.is_ready:
            return "no messages are taken yet"
        if why := self._presence.why_not_shown():
            return why
        if (state := self._ledger.identity.refusal) and state.refused:
            return str(state.error())
        if code := self._refused():
            if code in NEVER_LEFT:
                return f"this worker cannot reach the API, though others do: {code}"
            return f"the API refuses what this worker was set up with: {code}"
        if (off_s := abs(self._presence.clock_offset_s)) > SIGNATURES_REFUSED_S:
            return f"this clock and Redis' differ by {off_s:.0f} s"
        return ""


def serve(host: str, port: int, health: Health, meter: Meter) -> tuple[int, Callable[[], None]]:
    """Answer `/livez`, `/readyz` and `/metrics` in a thread; return the port and how to stop.

    Port 0 is any that is free.

    Raises:
        OSError: the port is taken, or the address is none of this machine's.
    """
    metrics = make_wsgi_app(meter.registry)
    probes = {"/livez": health.why_dead, "/readyz": health.why_not_ready}

    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        fault = probes[path]() if path in probes else "no such page"
        status = "200 OK" if not fault else "503 Service Unavailable"
        text = f"{fault or 'ok'}\n".encode()
        start(
            status if path in probes else "404 Not Found",
            [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))],
        )
        return [text]

    server = make_server(host, port, answer, _Server6 if ":" in host else _Server, _Quiet)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()

    def close() -> None:
        server.shutdown()
        server.server_close()

    return server.server_port, close


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind, without asking a name server for this machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing of a caller that hangs up."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 10  # of a caller that sends nothing

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's own name)
        """Write no line for each probe."""


def notify_systemd(*words: str) -> None:
    """Send `READY=1`, `WATCHDOG=1`, `STATUS=…` to systemd, where this is one of its services.

    The protocol is a datagram to a socket (sd_notify(3)).
    """
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    address = f"\0{place[1:]}" if place.startswith("@") else place
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto("\n".join(words).encode(), address)
        except OSError:  # nobody listens: systemd finds out by itself
            return
