"""The connections to the API: which is used next, and how many are open before they are needed.

A slot does not wait until a connection is open. So before one is taken a connection is there, and
while requests follow each other some more are opened ahead, as many as are used up in the time that
it takes to open one: also an API that closes each connection after its answer costs no slot.
"""

from __future__ import annotations

import http.client
import math
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from urllib3.connection import port_by_scheme
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from jobs.api_connection import Proxy, tls_context
from worker.acknowledged import Acknowledgements, acknowledgements_of
from worker.deadline import Address, Connection, Exchange, TlsConnection, every_address

NETWORK_ERRORS = (
    OSError,
    http.client.HTTPException,
    HTTPError,
    UnicodeError,  # a host name that cannot be looked up
)
_WORTH_S = 0.02  # opened in less, a connection need not be open ahead: a slot can wait so long
_BUSY = 2  # requests in a second, from which on some are open ahead
_MOST_AHEAD = 8
_LONGEST_WAIT_S = 1.0


class Pool(HTTPConnectionPool):
    """Thread-safe; as many connections as threads use at once, and those that are open ahead."""

    ConnectionCls = Connection

    def __init__(self, *args: Any, exchange: Exchange, timeout_s: float, **options: Any) -> None:
        super().__init__(*args, exchange=exchange, **options)
        self._exchange = exchange
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._idle: list[Connection] = []
        """The one used last stands last."""
        self._opening = 0
        self._opening_takes_s = 0.0
        self._uses: deque[float] = deque()
        """When connections were taken, within the last second."""
        self._is_closed = False

    def post(self, target: str, headers: Mapping[str, str], body: bytes) -> BaseHTTPResponse:
        """Send a request once, under the deadline that its thread has set.

        A redirect is not followed: it would post a customer's number to another host.
        """
        return self.urlopen(
            "POST", target, body, headers, retries=False, redirect=False, preload_content=False
        )

    def make_ready(self) -> None:
        """Wait until a connection is open, if that takes no longer than a second, and works."""
        with self._changed:
            self._drop_unusable()
            if not self._idle and not self._opening:
                self._open_another()
            self._changed.wait_for(lambda: self._idle or not self._opening, _LONGEST_WAIT_S)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
        super().close()

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ARG002 (urllib3's)
        with self._changed:
            now = self._exchange.now()
            self._uses.append(now)
            while self._uses[0] < now - 1:
                self._uses.popleft()
            ahead = self._wanted_ahead()
            connection: Any = None
            while self._idle and connection is None:
                # in turns all stay in use; of too many, those used least may age, and are closed
                connection = self._idle.pop(0 if len(self._idle) <= ahead + 1 else -1)
                if not connection.is_connected:
                    connection.close()
                    connection = None
            for _ in range(ahead - len(self._idle) - self._opening):
                self._open_another()
        return connection or self._new_conn()

    def _put_conn(self, connection: Any) -> None:
        if connection is None or connection.sock is None:
            return
        with self._changed:
            if not self._is_closed:
                self._idle.append(connection)
                self._changed.notify_all()
                return
        connection.close()

    def _drop_unusable(self) -> None:
        usable = []
        for connection in self._idle:
            if connection.is_connected:
                usable.append(connection)
            else:
                connection.close()
        self._idle = usable

    def _wanted_ahead(self) -> int:
        if self._opening_takes_s < _WORTH_S or len(self._uses) < _BUSY:
            return 0
        return min(_MOST_AHEAD, 1 + math.ceil(len(self._uses) * self._opening_takes_s))

    def _open_another(self) -> None:
        thread = threading.Thread(target=self._open, daemon=True)
        self._opening += 1
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had: the call opens one itself
            self._opening -= 1

    def _open(self) -> None:
        self._exchange.start(self._timeout_s, None)
        connection: Any = self._new_conn()
        started = self._exchange.now()
        try:
            connection.connect()
        except NETWORK_ERRORS:  # the call that needs it finds out what is the matter
            connection.close()
        else:
            self._opening_takes_s = self._exchange.now() - started
        finally:
            with self._changed:
                self._opening -= 1
                self._put_conn(connection)
                self._changed.notify_all()


class _TlsPool(Pool, HTTPSConnectionPool):
    ConnectionCls = TlsConnection


def pool_to(
    url: str,
    exchange: Exchange,
    timeout_s: float,
    *,
    ca_bundle: str | None = None,
    proxy: Proxy | None = None,
    acknowledgements_of: Callable[[socket.socket], Acknowledgements | None] = acknowledgements_of,
    resolve: Callable[[str, int], Sequence[Address]] = every_address,
) -> Pool:
    """Return the connections to a URL's host; `exchange` has the deadline of each thread's call.

    A `proxy` is for TLS alone: what it carries is between this process and the host. `resolve`
    returns the addresses to connect to.
    """
    parts = urlsplit(url)
    place = parts.hostname or "", parts.port or port_by_scheme[parts.scheme]
    options: dict[str, Any] = {
        "exchange": exchange,
        "timeout_s": timeout_s,
        # a proxy's say nothing of the way behind it
        "acknowledgements_of": acknowledgements_of if proxy is None else lambda _: None,
        "resolve": resolve,
    }
    if parts.scheme == "http":
        return Pool(*place, **options)
    return _TlsPool(*place, ssl_context=tls_context(ca_bundle), way=proxy, **options)


def root_of(exc: BaseException, outer: BaseException | None = None) -> BaseException:
    """Return the exception that urllib3 has wrapped; `outer` was being handled before."""
    while exc.__context__ is not None and exc.__context__ is not outer:
        exc = exc.__context__
    return exc
