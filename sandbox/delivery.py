"""How answers leave: rightly, or in one of the ways in which answers go wrong.

Everything here works on one connection (`Line`), never waits, and ends the exchange by
`line.done(...)` unless the point is that it never ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from sandbox.api import Decision
from sandbox.numbers import Delivery
from sandbox.wire import JSON, Request, response

PADDING: Final = 1024 * 1024
REDIRECT_PATH: Final = "/redirected"
_HTML: Final = "text/html"
_PROXY_PAGE: Final = b"<html><head><title>%b</title></head><body><h1>%b</h1></body></html>\r\n"


class Line(Protocol):
    """One connection, as far as an answer needs it."""

    def write(self, data: bytes) -> None:
        """Send these bytes now."""

    def drip(self, data: bytes) -> None:
        """Send these bytes one by one, with the pause that the settings name, then be done."""

    def done(self, *, close: bool) -> None:
        """The answer is complete: take the next request, or close."""

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""


@dataclass(frozen=True, slots=True)
class _Page:
    """An answer that does not say what became of the request."""

    status: HTTPStatus
    content_type: str
    body: bytes


def _proxy_page(status: HTTPStatus) -> _Page:
    title = f"{status.value} {status.phrase}".encode()
    return _Page(status, _HTML, _PROXY_PAGE % (title, title))


_PAGES: Final[Mapping[Delivery, _Page]] = {
    Delivery.BAD_GATEWAY: _proxy_page(HTTPStatus.BAD_GATEWAY),
    Delivery.GATEWAY_TIMEOUT: _proxy_page(HTTPStatus.GATEWAY_TIMEOUT),
    Delivery.HTML: _proxy_page(HTTPStatus.OK),
    Delivery.EMPTY: _Page(HTTPStatus.OK, JSON, b""),
    Delivery.STRANGE: _Page(HTTPStatus.OK, JSON, b'{"status": "fine", "data": null}'),
}


def deliver(decision: Decision, request: Request, line: Line, now: float) -> None:
    """Answer `request` on `line`; `now` (Unix seconds, the API's clock) is for the Date header."""
    close = not request.keep_alive
    match decision.delivery:
        case Delivery.HANG_UP:
            line.done(close=True)
        case Delivery.RESET:
            line.reset()
        case Delivery.SILENCE:
            pass
        case Delivery.TRUNCATED:
            whole = _answer(decision, now, close=close)
            line.write(whole[: len(whole) - len(_body(decision)) // 2])
            line.done(close=True)
        case Delivery.DRIP_HEADERS:
            line.drip(_answer(decision, now, close=True))
        case Delivery.DRIP_BODY:
            whole = _answer(decision, now, close=True)
            head, end, body = whole.partition(b"\r\n\r\n")
            line.write(head + end)
            line.drip(body)
        case Delivery.REDIRECT:
            place = f"http://{request.headers['host']}{REDIRECT_PATH}"
            status = HTTPStatus.TEMPORARY_REDIRECT
            line.write(response(status, b"", now=now, close=close, location=place))
            line.done(close=close)
        case delivery if delivery in _PAGES:
            page = _PAGES[delivery]
            line.write(
                response(
                    page.status, page.body, now=now, content_type=page.content_type, close=close
                )
            )
            line.done(close=close)
        case _:
            line.write(_answer(decision, now, close=close))
            line.done(close=close)


def _answer(decision: Decision, now: float, *, close: bool) -> bytes:
    delivery = decision.delivery
    error = delivery is Delivery.SERVER_ERROR
    return response(
        HTTPStatus.INTERNAL_SERVER_ERROR if error else HTTPStatus.OK,
        _body(decision, PADDING if delivery is Delivery.OVERSIZED else 0),
        now=now,
        content_type=f"{JSON}; charset=utf-8" if delivery is Delivery.CHARSET else JSON,
        close=close,
    )


def _body(decision: Decision, padding: int = 0) -> bytes:
    answer: dict[str, object] = {"RequestId": decision.request_id}
    if decision.code is not None:
        answer["Error"] = {"Code": decision.code, "Message": decision.message}
    if padding:
        answer["Padding"] = " " * padding
    return json.dumps({"Response": answer}).encode()
