"""One client's connection: reads requests, and answers them rightly or wrongly, as decided."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from sandbox.api import Api, Decision
from sandbox.control import PREFIX, answer_control
from sandbox.numbers import Delivery
from sandbox.wire import JSON, Exchange, Malformed, Request

API_PATH: Final = "/"
REDIRECT_PATH: Final = "/redirected"
PADDING: Final = 1024 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds
_FOLLOWED: Final = b'{"Response": {"RequestId": "redirected"}}'


def _proxy_page(status: HTTPStatus) -> tuple[HTTPStatus, str, bytes]:
    title = f"{status.value} {status.phrase}"
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\r\n"
    return status, "text/html", page.encode()


# Answers that do not tell what became of the request: status, content type, body.
_PAGES: Final[Mapping[Delivery, tuple[HTTPStatus, str, bytes]]] = {
    Delivery.BAD_GATEWAY: _proxy_page(HTTPStatus.BAD_GATEWAY),
    Delivery.GATEWAY_TIMEOUT: _proxy_page(HTTPStatus.GATEWAY_TIMEOUT),
    Delivery.HTML: _proxy_page(HTTPStatus.OK),
    Delivery.EMPTY: (HTTPStatus.OK, JSON, b""),
    Delivery.STRANGE: (HTTPStatus.OK, JSON, b'{"status": "fine", "data": null}'),
}


class Connection(asyncio.Protocol):
    """A request at a time, in order, and the connection kept alive between them.

    Args:
        api: answers the control plane, and has the settings.
        clock: Unix seconds on the API's clock.
        connections: this one is among them while it is open.
        receive: takes a request to the API whose last byte was read just now, and answers it by
            `deliver`, perhaps later.
    """

    _transport: asyncio.Transport

    def __init__(
        self,
        api: Api,
        clock: Callable[[], float],
        connections: set[Connection],
        receive: Callable[[Request, Connection], None],
    ) -> None:
        self._api = api
        self._clock = clock
        self._connections = connections
        self._receive = receive
        self._exchange = Exchange()
        self._busy = False
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP gives no other
        self._transport = transport
        self._is_open = True
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._is_open = False
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._exchange.receive(data)
        self._next_request()

    def abort(self) -> None:
        """Drop the connection with whatever is still unsent."""
        self._transport.abort()

    def deliver(self, decision: Decision, request: Request) -> None:
        """Answer the request to the API that was received last."""
        if not self._is_open:
            return
        match decision.delivery:
            case Delivery.HANG_UP:
                self._transport.close()
            case Delivery.RESET:
                sock: socket.socket = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self._transport.abort()
            case Delivery.SILENCE:
                pass
            case Delivery.TRUNCATED:
                whole = self._answer(decision)
                self._transport.write(whole[: len(whole) - len(_body(decision)) // 2])
                self._transport.close()
            case Delivery.DRIP_HEADERS:
                self._drip(self._answer(decision, close=True))
            case Delivery.DRIP_BODY:
                head, end, body = self._answer(decision, close=True).partition(b"\r\n\r\n")
                self._transport.write(head + end)
                self._drip(body)
            case Delivery.REDIRECT:
                place = f"http://{request.headers['host']}{REDIRECT_PATH}"
                self._reply(HTTPStatus.TEMPORARY_REDIRECT, b"", location=place)
            case delivery if delivery in _PAGES:
                status, content_type, body = _PAGES[delivery]
                self._reply(status, body, content_type=content_type)
            case _:
                self._send(self._answer(decision, close=self._api.settings.closes))

    def _next_request(self) -> None:
        if self._busy:
            return
        try:
            request = self._exchange.next_request()
        except Malformed as malformed:
            self._reply(malformed.status, b"", close=True)
            return
        if request is None:
            return
        self._busy = True
        if request.target == API_PATH:
            self._receive(request, self)
        elif request.target.startswith(PREFIX):
            peer: str = self._transport.get_extra_info("peername")[0]
            status, document = answer_control(
                self._api, request, peer=peer, now_ns=time.monotonic_ns()
            )
            self._reply(status, json.dumps(document).encode())
        elif request.target == REDIRECT_PATH:
            # Whoever follows is told "sent"; the counts show that nothing was.
            self._api.journal.redirects_followed += 1
            self._reply(HTTPStatus.OK, _FOLLOWED)
        else:
            self._reply(HTTPStatus.NOT_FOUND, b"")

    def _answer(self, decision: Decision, *, close: bool = False) -> bytes:
        delivery = decision.delivery
        is_error = delivery is Delivery.SERVER_ERROR
        return self._exchange.answer(
            HTTPStatus.INTERNAL_SERVER_ERROR if is_error else HTTPStatus.OK,
            _body(decision),
            now=self._clock(),
            content_type=f"{JSON}; charset=utf-8" if delivery is Delivery.CHARSET else JSON,
            close=close,
        )

    def _reply(
        self,
        status: HTTPStatus,
        body: bytes,
        *,
        content_type: str = JSON,
        location: str | None = None,
        close: bool = False,
    ) -> None:
        self._send(
            self._exchange.answer(
                status,
                body,
                now=self._clock(),
                content_type=content_type,
                location=location,
                close=close,
            )
        )

    def _send(self, answer: bytes) -> None:
        """Send a whole answer; then take the next request, or close."""
        self._transport.write(answer)
        if self._exchange.keeps_alive:
            self._busy = False
            asyncio.get_running_loop().call_soon(self._next_request)
        else:
            self._busy = True  # whatever else comes in is not read
            self._transport.close()

    def _drip(self, data: bytes) -> None:
        """Send a byte at a time, with the pause that the settings name, then close."""
        if not self._is_open:
            return
        self._transport.write(data[:1])
        if len(data) <= 1:
            self._transport.close()
            return
        pause_s = self._api.settings.drip_ms / 1000
        asyncio.get_running_loop().call_later(pause_s, self._drip, data[1:])


def _body(decision: Decision) -> bytes:
    answer: dict[str, object] = {"RequestId": decision.request_id}
    if decision.code is not None:
        answer["Error"] = {"Code": decision.code, "Message": decision.message}
    if decision.delivery is Delivery.OVERSIZED:
        answer["Padding"] = " " * PADDING
    return json.dumps({"Response": answer}).encode()
