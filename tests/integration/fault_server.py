"""A server on a real loopback socket that does whatever a test's script tells it to."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Script = Callable[["Peer"], None]


class Peer:
    """One accepted connection, as a script sees it."""

    def __init__(self, sock: socket.socket, server: FaultServer) -> None:
        self.sock = sock
        self.server = server
        self.stopped = server.stopped
        self._buffer = b""

    def read_request(self) -> Request | None:
        """Read one request and note it; None when the client has gone."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                return None
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        request = Request(head)
        length = int(request.headers.get("content-length", 0))  # none with CONNECT
        while len(rest) < length:
            if not self._receive():
                return None
            rest = self._buffer[len(head) + 4 :]
        request.body, self._buffer = rest[:length], rest[length:]
        self.server.requests.append(request)
        return request

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """One byte every 20 ms, for as long as the client stays, at the most."""
        for byte in data:
            self.write(bytes([byte]))
            if self.stopped.wait(0.02):
                return

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def _receive(self) -> bool:
        chunk = self.sock.recv(65_536)
        self.server.chunks.append(chunk)
        self._buffer += chunk
        return bool(chunk)


class Request:
    """A request as it came over the wire; header names in lower case."""

    def __init__(self, head: bytes) -> None:
        self.line, *lines = head.decode("ascii").split("\r\n")
        self.header_list = [
            (name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)
        ]
        self.headers = dict(self.header_list)
        self.body = b""


class FaultServer:
    """Runs `script` for each connection, in a thread of its own, until the script returns.

    `accepted` is called before the TLS handshake, if any.
    """

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        self.requests: list[Request] = []
        self.chunks: list[bytes] = []
        self.connections = 0
        self.closed = 0
        """Of them, by their scripts."""
        self.stopped = threading.Event()
        self._script = script
        self._tls = tls
        self._accepted = accepted
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._socks: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for sock in self._socks:
            with suppress(OSError):  # closed by its script
                sock.shutdown(socket.SHUT_RDWR)  # ends a script that waits for its client
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._socks.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:  # the client has gone: most scripts end so
            self._accepted()
            if self._tls is None:
                self._script(Peer(sock, self))
            else:
                with self._tls.wrap_socket(sock, server_side=True) as tls_sock:
                    self._script(Peer(tls_sock, self))
        self.closed += 1


def http_answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def refused(code: str) -> bytes:
    error = {"Code": code, "Message": "as told"}
    return json.dumps({"Response": {"Error": error, "RequestId": "abc"}}).encode()


ACCEPTED = b'{"Response": {"RequestId": "abc"}}'


def answering(answer: bytes) -> Script:
    """Answers every request of a connection so."""

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.write(answer)

    return script


def once(answer: bytes) -> Script:
    """Answers one request so and closes the connection."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.write(answer)

    return script


def endless(start: bytes, more: bytes) -> Script:
    """Answers with a start and then more of the same, as fast as it is taken."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.write(start)
        while not peer.stopped.is_set():
            peer.write(more)

    return script


def dripping(answer: bytes, more: bytes) -> Script:
    """Writes an answer's start at once and the rest byte by byte."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.write(answer)
        peer.drip(more)

    return script


def silent(peer: Peer) -> None:
    """Takes everything and says nothing."""
    while peer.read_request():
        pass


def tunnelling(peer: Peer) -> None:
    """Do as a proxy does that knows CONNECT: carry bytes to the named place and back."""
    request = peer.read_request()
    if request is None:
        return
    host, _, port = request.line.split()[1].rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port))) as far:
        peer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 a proxy\r\n\r\n")
        back = threading.Thread(target=_carry, args=(far, peer.sock))
        back.start()
        _carry(peer.sock, far)
        back.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # either side has gone
        while data := source.recv(65_536):
            target.sendall(data)
    for sock in (source, target):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
