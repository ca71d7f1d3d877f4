"""Reading requests off the wire, in whatever pieces they come."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.wire import MAX_BODY, MAX_HEAD, Exchange, Malformed, Request

WHOLE = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1:8020\r\nContent-Type:  application/json \r\n"
    b"content-length: 4\r\n\r\nabcd"
)


def answered(exchange: Exchange) -> bytes:
    return exchange.answer(HTTPStatus.OK, b"{}", now=0)


def request_in(data: bytes) -> Request | None:
    exchange = Exchange()
    exchange.receive(data)
    return exchange.next_request()


def status_of(data: bytes) -> HTTPStatus:
    with pytest.raises(Malformed) as caught:
        request_in(data)
    return caught.value.status


def test_names_are_lowered_and_values_kept_but_for_their_outer_blanks() -> None:
    request = request_in(WHOLE)

    assert request is not None
    assert (request.method, request.target, request.body) == ("POST", "/", b"abcd")
    assert request.headers["host"] == "127.0.0.1:8020"
    assert request.headers["content-type"] == "application/json"


@given(st.lists(st.integers(0, len(WHOLE) * 2), max_size=8).map(sorted))
def test_two_requests_in_any_pieces_are_two_requests(cuts: list[int]) -> None:
    stream, exchange, found = WHOLE * 2, Exchange(), []

    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < end:
            exchange.receive(stream[start:end])
        while (request := exchange.next_request()) is not None:
            found.append(request)
            answered(exchange)

    assert [request.body for request in found] == [b"abcd", b"abcd"]


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Keep-Alive", True),
        ("1.0", None, False),
    ],
)
def test_a_connection_is_kept_as_its_client_wishes(
    version: str, connection: str | None, keep_alive: bool
) -> None:
    wish = f"Connection: {connection}\r\n" if connection else ""
    head = f"GET / HTTP/{version}\r\nHost: a\r\n{wish}\r\n"

    exchange = Exchange()
    exchange.receive(head.encode())
    exchange.next_request()

    answered(exchange)

    assert exchange.keeps_alive is keep_alive


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST  / HTTP/1.1\r\nHost: a\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/2.0\r\nHost: a\r\n\r\n", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"GET / HTTP/1.1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-TC-Action: a\r\nx-tc-action: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", HTTPStatus.LENGTH_REQUIRED),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 5\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"x" * (MAX_HEAD + 1), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * MAX_HEAD, 431),
    ],
)
def test_what_is_no_request_is_refused_with_its_status(data: bytes, status: HTTPStatus) -> None:
    assert status_of(data) == status


def test_a_body_longer_than_the_vendor_takes_is_not_waited_for() -> None:
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n"

    exchange = Exchange()
    exchange.receive(head.encode())

    request = exchange.next_request()

    assert request is not None
    assert request.too_large
    assert b"connection: close" in answered(exchange).lower()
    assert not exchange.keeps_alive


@given(st.binary(max_size=300))
def test_no_bytes_end_otherwise_than_read_or_refused(data: bytes) -> None:
    with suppress(Malformed):
        request_in(data + b"\r\n\r\n")
