"""Reading requests off the wire, in whatever pieces they come."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.wire import MAX_BODY, MAX_HEAD, Malformed, take_request

WHOLE = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1:8020\r\nContent-Type:  application/json \r\n"
    b"content-length: 4\r\n\r\nabcd"
)


def status_of(data: bytes) -> HTTPStatus:
    with pytest.raises(Malformed) as caught:
        take_request(bytearray(data))
    return caught.value.status


def test_names_are_lowered_and_values_kept_but_for_their_outer_blanks() -> None:
    request = take_request(bytearray(WHOLE))

    assert request is not None
    assert (request.method, request.target, request.body) == ("POST", "/", b"abcd")
    assert request.headers["host"] == "127.0.0.1:8020"
    assert request.headers["content-type"] == "application/json"


@given(st.lists(st.integers(0, len(WHOLE) * 2), max_size=8).map(sorted))
def test_two_requests_in_any_pieces_are_two_requests(cuts: list[int]) -> None:
    stream, buffer, found = WHOLE * 2, bytearray(), []

    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer += stream[start:end]
        while (request := take_request(buffer)) is not None:
            found.append(request)

    assert [request.body for request in found] == [b"abcd", b"abcd"]
    assert not buffer


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Keep-Alive", True),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
    ],
)
def test_a_connection_is_kept_as_its_client_wishes(
    version: str, connection: str | None, keep_alive: bool
) -> None:
    wish = f"Connection: {connection}\r\n" if connection else ""
    head = f"GET / HTTP/{version}\r\nHost: a\r\n{wish}\r\n"

    request = take_request(bytearray(head.encode()))

    assert request is not None
    assert request.keep_alive is keep_alive


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
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", HTTPStatus.LENGTH_REQUIRED),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"x" * (MAX_HEAD + 1), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * MAX_HEAD + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused_with_its_status(data: bytes, status: HTTPStatus) -> None:
    assert status_of(data) == status


def test_a_body_longer_than_the_vendor_takes_is_not_waited_for() -> None:
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n"

    request = take_request(bytearray(head.encode()))

    assert request is not None
    assert request.too_large
    assert not request.keep_alive


@given(st.binary(max_size=300))
def test_no_bytes_end_otherwise_than_read_or_refused(data: bytes) -> None:
    with suppress(Malformed):
        take_request(bytearray(data + b"\r\n\r\n"))
