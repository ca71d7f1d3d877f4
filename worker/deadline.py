"""One total deadline over an HTTP call made with `requests`, whose own time-outs are per read.

It spans name look-up, connecting, TLS, writing, and reading headers and body: each blocking step
is given what is left. Limits:

- A name look-up cannot be interrupted. It may outlast the deadline; nothing is written then.
- The request goes to the kernel in one write, right after the last check of the time. A process
  frozen in the microseconds between the two writes late when it is thawed.
- On Linux the kernel gives up a request that it could not deliver by the deadline, even if the
  process is dead by then (TCP_USER_TIMEOUT). Elsewhere it may go on trying.
- Through a proxy that bounds the way to the proxy only (docs/decisions/0003-the-probe-window.md).
"""

from __future__ import annotations

import http.client
import io
import math
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from urllib3.connection import HTTPConnection, HTTPSConnection

from jobs.api_connection import Proxy
from worker.acknowledged import Acknowledgements, acknowledgements_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # type checkers alone have it

Address: TypeAlias = tuple[Any, ...]
"""One of those that `socket.getaddrinfo` returns."""
_MAX_IDLE_S = 4.0  # common servers close idle connections after 5 s or more

# Both include time in suspension, which time.monotonic() does on neither system.
_CLOCK = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC


def now_s() -> float:
    """Return the seconds since some point in the past, time in suspension included.

    The one clock of slots, limits, and of when a request was written and answered.
    """
    return time.clock_gettime(_CLOCK)


class Exchange(threading.local):
    """The call that a thread has under way: its limits, and when it was written and answered.

    One object serves all threads; each sees its own call. Limits and stamps are seconds of `now`.
    """

    sent_at: float | None
    """Just before the request was written; None: nothing was."""
    answered_at: float | None
    """When the answer's first byte had come; None: none came."""
    acknowledged_at: float | None
    """When the peer's kernel acknowledged the request; None: that is not known."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.start(0, None)

    def start(
        self,
        timeout_s: float,
        not_after: float | None,
        when_acknowledged: Callable[[float, float], object] = lambda _sent, _at: None,
    ) -> None:
        """Begin a call. Its request may not be written after `not_after`.

        `when_acknowledged` is called, with `sent_at` and `acknowledged_at`, as soon as these are
        known. It must be quick, and raise nothing.
        """
        self._deadline = self.now() + timeout_s
        self._not_after = not_after
        self._when_acknowledged = when_acknowledged
        self.sent_at = self.answered_at = self.acknowledged_at = None

    def remaining_s(self) -> float:
        """Return the seconds left, more than 0. Raises TimeoutError when there are none."""
        remaining = self._deadline - self.now()
        if remaining <= 0:
            raise TimeoutError("the call's deadline has passed")
        return remaining

    def is_over(self) -> bool:
        return self.now() >= self._deadline

    def late_s(self) -> float:
        """Return the seconds since `not_after`; below 0 before it."""
        return -math.inf if self._not_after is None else self.now() - self._not_after

    def may_write(self) -> bool:
        """Stamp the request that is about to leave; return False if it is after `not_after`.

        Raises:
            TimeoutError: The deadline has passed.
        """
        if self.late_s() > 0:
            return False
        self.remaining_s()
        self.sent_at = self.now()
        return True

    def note_answer(self) -> None:
        if self.answered_at is None:
            self.answered_at = self.now()

    def note_acknowledgement(self, age_s: float) -> None:
        """Record that the request was acknowledged `age_s` seconds ago."""
        if self.sent_at is not None:
            self.acknowledged_at = max(self.sent_at, self.now() - age_s)
            self._when_acknowledged(self.sent_at, self.acknowledged_at)


class _Reader(io.RawIOBase):
    """An answer's bytes from a socket, as long as the deadline allows.

    While it waits for them it takes note of the request's acknowledgement.
    """

    def __init__(
        self, sock: socket.socket, exchange: Exchange, acknowledgements: Acknowledgements | None
    ) -> None:
        self._sock = sock
        self._open = sock.makefile("rb", buffering=0)  # holds the socket open until it is read
        self._exchange = exchange
        self._acknowledgements = acknowledgements
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        sock.settimeout(0)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a reader of the answer: all that `http.client.HTTPResponse` needs of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while True:
            remaining_s = self._exchange.remaining_s()
            try:
                count = self._sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._poll.poll(math.ceil(remaining_s * 1000))
                self._note_acknowledgement()
                continue
            if count:
                self._exchange.note_answer()
            self._note_acknowledgement()
            return count

    def _note_acknowledgement(self) -> None:
        if self._acknowledgements is not None:
            age_s = self._acknowledgements.age_s()  # each time: a report left there wakes `poll`
            if age_s is not None:
                self._exchange.note_acknowledgement(age_s)

    def close(self) -> None:
        self._open.close()
        super().close()


class _NotSent:
    """Stands for the socket of a call whose request came too late to be written.

    With an answer of our own the exchange ends as any other does, and the pool keeps the
    connection: the next try finds it open. After an exception urllib3 would close it, and where
    connecting takes long each try would be too late.
    """

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(b"HTTP/1.1 204 Not Sent\r\n\r\n")


class _Response(http.client.HTTPResponse):
    """Refuses headers that cannot be read; urllib3 would log them, and go on without them."""

    def begin(self) -> None:
        super().begin()
        if self.msg.defects:
            raise http.client.HTTPException("unreadable headers")


def every_address(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a host."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Connection(HTTPConnection):
    """Connects, writes and reads under the deadline of its thread's call.

    One that was idle for long is not used again: servers close idle ones, and a request written
    into one that is just being closed is lost, which looks like a lost answer.
    """

    def __init__(
        self,
        *args: Any,
        exchange: Exchange,
        is_acknowledged: bool,
        via: Proxy | None = None,
        resolve: Callable[[str, int], Sequence[Address]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._exchange = exchange
        self._is_acknowledged = is_acknowledged
        self._proxy = via
        self._resolve = resolve
        self._used_at = 0.0
        self._held: list[bytes] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the server has neither closed the connection nor sent anything unasked.

        This holds also where no request was written yet: reading takes in the tickets that TLS 1.3
        sends by itself, which urllib3 would take for the sign of a close.
        """
        if self.sock is None or self._exchange.now() - self._used_at > _MAX_IDLE_S:
            return False
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def connect(self) -> None:
        super().connect()
        self._acknowledgements = acknowledgements_of(self.sock) if self._is_acknowledged else None
        self._used_at = self._exchange.now()

    def _new_conn(self) -> socket.socket:
        if self._proxy is None:
            return self._reach(self.host, self.port)
        sock = self._proxy.tunnel(self._reach, self.host, self.port, self._exchange.remaining_s)
        sock.settimeout(self._exchange.remaining_s())  # of the TLS handshake as a whole
        return sock

    def _reach(self, host: str, port: int) -> socket.socket:
        addresses = self._resolve(host, port)
        error = OSError("the host has no address")
        for untried, (family, kind, protocol, _, address) in zip(
            range(len(addresses), 0, -1), addresses, strict=True
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(self._exchange.remaining_s() / untried)
                sock.connect(address)
                sock.settimeout(self._exchange.remaining_s())  # of the TLS handshake as a whole
            except OSError as exc:
                sock.close()
                error = exc
            else:
                return sock
        raise error

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Write headers and body at once, so that no freeze comes between them."""
        self._held = []
        try:
            super().request(*args, **kwargs)
            message = b"".join(self._held)
        finally:
            self._held = None
        if self.sock is None:
            self.connect()
        self._write(self.sock, message)

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)

    def _write(self, sock: socket.socket, message: bytes) -> None:
        if self._acknowledgements:
            self._acknowledgements.before_writing()
        remaining_s = self._exchange.remaining_s()
        sock.settimeout(remaining_s)
        if sys.platform == "linux":
            milliseconds = max(1, int(remaining_s * 1000))  # 0 would mean the system's minutes
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._used_at = self._exchange.now()
        if self._exchange.may_write():
            sock.sendall(message)
            if self._acknowledgements:
                self._acknowledgements.written()

    def response_class(  # type: ignore[override]  # a class in http.client; it is only called
        self, sock: socket.socket, **kwargs: Any
    ) -> http.client.HTTPResponse:
        is_sent = self._exchange.sent_at is not None
        source = _Reader(sock, self._exchange, self._acknowledgements) if is_sent else _NotSent()
        return _Response(source, **kwargs)  # type: ignore[arg-type]  # as good as a socket to it


class TlsConnection(Connection, HTTPSConnection):
    """The same within TLS."""
