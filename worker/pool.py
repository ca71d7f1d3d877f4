"""The connections to the API: which is used next, and how many are open before they are needed.

A slot does not wait until a connection is open. So one is open before a slot is taken, and
while requests follow each other some more are opened ahead, as many as are used up in the time that
it takes to open one: even an API that closes each connection after its answer costs no slot.
"""

from __future__ import annotations

import http.client
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import port_by_scheme
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from jobs.api_connection import Proxy, tls_context
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


class _Pool(HTTPConnectionPool):
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
        # Checking one is a system call. The one used last is the likeliest to be open; the one that
        # was idle for longest is the first to be closed.
        for end in (-1, 0):
            while self._idle and not self._idle[end].is_connected:
                self._idle.pop(end).close()

    def _wanted_ahead(self) -> int:
        if self._opening_takes_s < _WORTH_S or len(self._uses) < _BUSY:
            return 0
        return min(_MOST_AHEAD, 1 + math.ceil(len(self._uses) * self._opening_takes_s))

    def _open_another(self) -> None:
        thread = threading.Thread(target=self._open, daemon=True)
        self._opening += 1
        try:
            thread.start()
        except RuntimeError:  # no thread can start: the call opens one itself
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


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = TlsConnection


class _Adapter(HTTPAdapter):
    """Carries requests over a pool of our own; it re-sends nothing."""

    def __init__(self, pool: _Pool) -> None:
        super().__init__(max_retries=0)
        self._pool = pool

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> HTTPConnectionPool:
        return self._pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the pool's TLS context verifies.

        The original would have the CA file read again for each connection.
        """

    def close(self) -> None:
        self._pool.close()
        super().close()


class Session(requests.Session):
    """Sends requests to one host, each once and under the deadline that its thread has set.

    It adds nothing of its own to them, and keeps nothing of the answers: threads may share it.
    """

    def __init__(
        self,
        url: str,
        exchange: Exchange,
        timeout_s: float,
        *,
        ca_bundle: str | None = None,
        proxy: Proxy | None = None,
        is_acknowledged: bool = True,
        resolve: Callable[[str, int], Sequence[Address]] = every_address,
    ) -> None:
        """Prepare it for a URL's host; nothing connects yet.

        A `proxy` is for TLS alone: what it carries is between this process and the host. `resolve`
        returns the addresses to connect to.
        """
        super().__init__()
        self.trust_env = False  # no .netrc, which would replace our Authorization; no proxies
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # keeps none
        parts = urlsplit(url)
        place = parts.hostname or "", parts.port or port_by_scheme[parts.scheme]
        options: dict[str, Any] = {
            "exchange": exchange,
            "timeout_s": timeout_s,
            # a proxy's acknowledgement says nothing of the way behind it
            "is_acknowledged": is_acknowledged and proxy is None,
            "resolve": resolve,
        }
        self._pool = (
            _TlsPool(*place, ssl_context=tls_context(ca_bundle), via=proxy, **options)
            if parts.scheme == "https"
            else _Pool(*place, **options)
        )
        self.adapters.clear()
        self.mount(f"{parts.scheme}://", _Adapter(self._pool))

    def post_once(self, request: requests.PreparedRequest) -> requests.Response:
        """Send a request; its answer's body is still to be read."""
        return self.send(request, stream=True, allow_redirects=False, proxies={})

    def make_ready(self) -> None:
        """Wait until a connection is open, if that takes no longer than a second, and works."""
        self._pool.make_ready()

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow none: they would post a customer's number to another host."""


def root_of(exc: BaseException, outer: BaseException | None = None) -> BaseException:
    """Return the exception that requests and urllib3 have wrapped; `outer` came before them."""
    while exc.__context__ is not None and exc.__context__ is not outer:
        exc = exc.__context__
    return exc
