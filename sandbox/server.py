"""Listens, timestamps arrivals, passes them to the API, and answers correctly or not, as decided.

A request's timestamp is when its last byte is read, plus the latency of the settings: the moment
at which it would have reached a server that far away, however late the event loop gets to it. It
is then processed even if the client has gone meanwhile, as a real request in flight would be.

The control plane under `/_sandbox/`, for tests and the demo, is unsigned, answers only callers on
this machine, and is never delayed or counted:

    GET  /_sandbox/stats               counts; `?numbers=0` leaves out the count per number,
                                       `?arrivals=1` adds each arrival: [seconds, number, code]
    GET  /_sandbox/numbers/DIGITS      one number: requests, accepted, when
    GET  /_sandbox/settings            the settings in force
    POST /_sandbox/settings            change those in the body, keep the others
    POST /_sandbox/credentials         accept only those in the body: secret_id, secret_key, token
    POST /_sandbox/reset               forget requests, numbers and counts; keep the settings

Seconds are those of the machine's monotonic clock. While a long list is built, nothing else is
answered or timestamped: ask for arrivals when the measurement is over.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from sandbox.api import Api, Decision
from sandbox.journal import SECOND_NS
from sandbox.numbers import Delivery
from sandbox.settings import Settings, SettingsError, draw_ms
from sandbox.signature import Credentials
from sandbox.wire import JSON, Exchange, Malformed, Request

API_PATH: Final = "/"
REDIRECT_PATH: Final = "/redirected"
CONTROL_PREFIX: Final = "/_sandbox/"
PADDING: Final = 1024 * 1024
BACKLOG: Final = 1024
HEARTBEAT_S: Final = 0.05
ACCEPT_TURNS: Final = 100
_MS_NS: Final = 1_000_000
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds
_REDIRECTED: Final = b'{"Response": {"RequestId": "redirected"}}'


class Server:
    """One listening sandbox, on the running event loop."""

    def __init__(self, credentials: Credentials, settings: Settings, *, seed: int = 0) -> None:
        self.api = Api(credentials, settings, seed=seed, started_ns=time.monotonic_ns())
        self.transports: set[asyncio.Transport] = set()
        """Of the open connections."""
        self._jitter = random.Random(seed)  # noqa: S311 - repeatable delays, nothing secret
        self._work = random.Random(seed + 1)  # noqa: S311 - independent of the queue
        self._last_arrival_ns = 0

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
        """Start to listen; return the base URL. Port 0 takes any free one.

        Raises:
            OSError: the address cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._listener = await self._loop.create_server(
            lambda: Connection(self),
            host,
            port,
            backlog=BACKLOG,
            ssl=tls,
        )
        self._beat_at = self._loop.time()
        self._beat()
        bound: int = self._listener.sockets[0].getsockname()[1]
        scheme = "https" if tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound}"

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
        for transport in list(self.transports):
            transport.abort()
        await asyncio.sleep(0)  # one turn of the loop closes the sockets

    def now(self) -> float:
        """Return Unix seconds on the API's clock."""
        return time.time() + self.api.settings.clock_skew_s

    def receive(self, request: Request, connection: Connection) -> None:
        """Accept a request whose last byte was read just now; the answer may come later."""
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
        # Only a change of latency can reverse the order; the API's time never goes back.
        at_ns = self._last_arrival_ns = max(at_ns, self._last_arrival_ns)
        decision = self.api.decide(request, at_ns, self.now())
        if decision.delivery is Delivery.SLOW:
            work_ms = self.api.settings.slow_ms
        if work_ms:
            self._loop.call_later(work_ms / 1000, connection.deliver, decision, request)
        else:
            connection.deliver(decision, request)

    def _beat(self) -> None:
        """Measure how late the event loop runs: without enough CPU, timestamps are late."""
        self.api.journal.record_lag(round((self._loop.time() - self._beat_at) * SECOND_NS))
        self._beat_at = self._loop.time() + HEARTBEAT_S
        self._heartbeat = self._loop.call_at(self._beat_at, self._beat)


def _proxy_page(status: HTTPStatus) -> tuple[HTTPStatus, str, bytes]:
    title = f"{status.value} {status.phrase}"
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\r\n"
    return status, "text/html", page.encode()


# Answers that do not show whether the code was sent: status, content type, body.
_PAGES: Final[Mapping[Delivery, tuple[HTTPStatus, str, bytes]]] = {
    Delivery.BAD_GATEWAY: _proxy_page(HTTPStatus.BAD_GATEWAY),
    Delivery.GATEWAY_TIMEOUT: _proxy_page(HTTPStatus.GATEWAY_TIMEOUT),
    Delivery.HTML: _proxy_page(HTTPStatus.OK),
    Delivery.EMPTY: (HTTPStatus.OK, JSON, b""),
    Delivery.STRANGE: (HTTPStatus.OK, JSON, b'{"status": "fine", "data": null}'),
}


class Connection(asyncio.Protocol):
    """One client's connection: requests one at a time and in order, kept alive between them."""

    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._exchange = Exchange()
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP has no other
        self._transport = transport
        self._server.transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._server.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._exchange.receive(data)
        self._next_request()

    def deliver(self, decision: Decision, request: Request) -> None:
        """Answer the request to the API that was received last."""
        if self._transport.is_closing():
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
                self._send(self._answer(decision, close=self._server.api.settings.closes))

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
            self._server.receive(request, self)
        elif request.target.startswith(CONTROL_PREFIX):
            peer: str = self._transport.get_extra_info("peername")[0]
            status, document = answer_control(self._server.api, request, peer)
            self._reply(status, json.dumps(document).encode())
        elif request.target == REDIRECT_PATH:
            # A client that follows the redirect reads "sent"; the counts show that nothing was.
            self._server.api.journal.redirects_followed += 1
            self._reply(HTTPStatus.OK, _REDIRECTED)
        else:
            self._reply(HTTPStatus.NOT_FOUND, b"")

    def _answer(self, decision: Decision, *, close: bool = False) -> bytes:
        delivery = decision.delivery
        is_error = delivery is Delivery.SERVER_ERROR
        return self._exchange.answer(
            HTTPStatus.INTERNAL_SERVER_ERROR if is_error else HTTPStatus.OK,
            _body(decision),
            now=self._server.now(),
            content_type=f"{JSON}; charset=utf-8" if delivery is Delivery.CHARSET else JSON,
            close=close,
        )

    def _reply(self, status: HTTPStatus, body: bytes, **more: Any) -> None:
        self._send(self._exchange.answer(status, body, now=self._server.now(), **more))

    def _send(self, answer: bytes) -> None:
        """Send a whole answer; then take the next request, or close."""
        self._transport.write(answer)
        if self._exchange.keeps_alive:
            self._busy = False
            asyncio.get_running_loop().call_soon(self._next_request)
        else:
            self._busy = True  # anything that still arrives is not read
            self._transport.close()

    def _drip(self, data: bytes) -> None:
        """Send a byte at a time, `drip_ms` apart, then close."""
        if self._transport.is_closing():
            return
        self._transport.write(data[:1])
        if len(data) <= 1:
            self._transport.close()
            return
        pause_s = self._server.api.settings.drip_ms / 1000
        asyncio.get_running_loop().call_later(pause_s, self._drip, data[1:])


def _body(decision: Decision) -> bytes:
    answer: dict[str, object] = {"RequestId": decision.request_id}
    if decision.code is not None:
        answer["Error"] = {"Code": decision.code, "Message": decision.message}
    if decision.delivery is Delivery.OVERSIZED:
        answer["Padding"] = " " * PADDING
    return json.dumps({"Response": answer}).encode()


def answer_control(
    api: Api, request: Request, peer: str
) -> tuple[HTTPStatus, Mapping[str, object]]:
    """Return status and document for a control plane request from the address `peer`."""
    if not ip_address(peer).is_loopback:
        return HTTPStatus.FORBIDDEN, {"error": "only for callers on this machine"}
    parts = urlsplit(request.target)
    place = parts.path.removeprefix(CONTROL_PREFIX)
    try:
        document = _control(api, request, place, parse_qs(parts.query))
    except ValueError as exc:
        return HTTPStatus.BAD_REQUEST, {"error": str(exc)}
    if document is None:
        return HTTPStatus.NOT_FOUND, {"error": "there is nothing here"}
    return HTTPStatus.OK, document


def _control(
    api: Api, request: Request, place: str, query: Mapping[str, list[str]]
) -> Mapping[str, object] | None:
    match request.method, place.split("/"):
        case "GET", ["stats"]:
            return api.journal.snapshot(
                now_ns=time.monotonic_ns(),
                numbers=query.get("numbers") != ["0"],
                arrivals=query.get("arrivals") == ["1"],
            )
        case "GET", ["numbers", number] if number:
            return api.journal.number_snapshot(number)
        case "POST", ["reset"]:
            api.reset(time.monotonic_ns())
            return {}
        case "POST", [("credentials" | "settings") as what]:
            return _change(api, what, json.loads(request.body))
        case "GET", ["settings"]:
            return api.settings.as_json()
    return None


def _change(api: Api, what: str, document: object) -> Mapping[str, object]:
    if not isinstance(document, dict):
        raise SettingsError("the body is not a JSON object")
    if what == "settings":
        api.change(api.settings.changed(document))
        return api.settings.as_json()
    match document:
        case {"secret_id": str(secret_id), "secret_key": str(secret_key)}:
            token = document.get("token")
            api.credentials = Credentials(secret_id, secret_key, token and str(token))
            return {}
    raise SettingsError("secret_id and secret_key must be given as strings")
