"""A door with TLS before a server that has none: the embedded Valkey is built without it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import Self

import trustme

_FIRST_BYTE_OF_TLS = b"\x16"


class TlsFront:
    """`with TlsFront(6379, authority) as front: ...` listens at `front.port`.

    It lets in as well who comes without TLS: a Sentinel, which knows none either. Others need a
    certificate of the authority of `guests`, where there is one. A handshake takes `handshake_s`
    longer than it needs.
    """

    def __init__(
        self,
        target: int,
        authority: trustme.CA,
        name: str = "127.0.0.1",
        *,
        handshake_s: float = 0.0,
        guests: trustme.CA | None = None,
    ) -> None:
        self._target = target
        self._handshake_s = handshake_s
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._context)
        if guests is not None:
            guests.configure_trust(self._context)
            self._context.verify_mode = ssl.CERT_REQUIRED

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                guest, _ = self._listener.accept()
                threading.Thread(target=self._let_in, args=(guest,), daemon=True).start()

    def _let_in(self, guest: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(guest)
            if guest.recv(1, socket.MSG_PEEK) == _FIRST_BYTE_OF_TLS:
                time.sleep(self._handshake_s)
                guest = stack.enter_context(self._context.wrap_socket(guest, server_side=True))
            inner = stack.enter_context(socket.create_connection(("127.0.0.1", self._target)))
            for end in (guest, inner):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_carry, args=(inner, guest), daemon=True)
            back.start()
            _carry(guest, inner)
            back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
