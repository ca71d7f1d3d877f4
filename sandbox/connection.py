"""One client's connection: reads requests, tells whose they are, writes what comes back."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sandbox.control import PREFIX, answer_control
from sandbox.delivery import REDIRECT_PATH
from sandbox.wire import Malformed, Request, response, take_request

if TYPE_CHECKING:
    from sandbox.server import Server

API_PATH: Final = "/"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds
_FOLLOWED: Final = b'{"Response": {"RequestId": "redirected"}}'


class Connection(asyncio.Protocol):
    """A request at a time, in order, and the connection kept alive between them."""

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._busy = False
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP gives no other
        self._transport = transport
        self.is_open = True
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.is_open = False
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._next_request()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def drip(self, data: bytes) -> None:
        if not self.is_open:
            return
        self._transport.write(data[:1])
        if len(data) <= 1:
            self.done(close=True)
            return
        pause_s = self._server.api.settings.drip_ms / 1000
        asyncio.get_running_loop().call_later(pause_s, self.drip, data[1:])

    def done(self, *, close: bool) -> None:
        self._busy = False
        if close:
            self._busy = True  # whatever else comes in is not read
            self._transport.close()
        elif self._buffer:
            asyncio.get_running_loop().call_soon(self.data_received, b"")

    def reset(self) -> None:
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def abort(self) -> None:
        """Drop the connection with whatever is still unsent."""
        self._transport.abort()

    def _next_request(self) -> None:
        try:
            request = take_request(self._buffer)
        except Malformed as malformed:
            self._reply(malformed.status, b"", close=True)
            return
        if request is None:
            return
        self._busy = True
        if request.target == API_PATH:
            self._server.receive(request, self)
        elif request.target.startswith(PREFIX):
            self._control(request)
        elif request.target == REDIRECT_PATH:
            # Whoever follows is told "sent"; the counts show that nothing was.
            self._server.api.journal.redirects_followed += 1
            self._reply(HTTPStatus.OK, _FOLLOWED, close=not request.keep_alive)
        else:
            self._reply(HTTPStatus.NOT_FOUND, b"", close=not request.keep_alive)

    def _control(self, request: Request) -> None:
        peer: str = self._transport.get_extra_info("peername")[0]
        status, document = answer_control(
            self._server.api, request, peer=peer, now_ns=time.monotonic_ns()
        )
        self._reply(status, json.dumps(document).encode(), close=not request.keep_alive)

    def _reply(self, status: HTTPStatus, body: bytes, *, close: bool) -> None:
        self.write(response(status, body, now=self._server.now(), close=close))
        self.done(close=close)
