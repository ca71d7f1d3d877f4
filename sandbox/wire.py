"""HTTP/1.1 as far as the API speaks it: requests in, answers out, as bytes and without I/O.

Written by hand rather than taken from a server library for two reasons: the sandbox must be able
to do wrong what a library only does right (half a body, a byte each quarter of a second, a reset
between acceptance and answer), and an arrival must be stamped the moment its last byte is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

MAX_HEAD: Final = 32 * 1024
# The vendor takes 10 MB in a POST signed with TC3; more is answered before it is read.
MAX_BODY: Final = 10 * 1024 * 1024

JSON: Final = "application/json"
_END_OF_HEAD: Final = b"\r\n\r\n"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH: Final = re.compile(r"[0-9]{1,12}")
# Twice one of these, and two readers of a request might not see the same one.
_ONLY_ONCE: Final = frozenset(
    ("authorization", "content-length", "content-type", "host", "transfer-encoding")
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as received.

    Attributes:
        method: in the case it came in.
        target: path and query, as in the request line.
        headers: by name in lower case; values without outer blanks, otherwise untouched.
        body: as received; cut to nothing where `too_large`.
        keep_alive: whether the client wants to go on with this connection.
        too_large: the announced body is longer than `MAX_BODY` and was not read.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool
    too_large: bool = False


class Malformed(Exception):  # noqa: N818 - the client's fault, answered with a status
    """What came in is not HTTP that this server takes; answer `status` and close."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def take_request(buffer: bytearray) -> Request | None:
    """Take the first complete request out of `buffer`; None while there is none.

    Raises:
        Malformed: there will never be one; the connection is of no more use.
    """
    end = buffer.find(_END_OF_HEAD)
    if max(end, 0) > MAX_HEAD or (end < 0 and len(buffer) > MAX_HEAD):
        raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    if end < 0:
        return None
    method, target, version, headers = _read_head(bytes(buffer[:end]).decode("latin-1"))
    start = end + len(_END_OF_HEAD)
    length = _body_length(method, headers)
    too_large = length > MAX_BODY
    if too_large:
        length = 0
    elif len(buffer) < start + length:
        return None
    body = bytes(buffer[start : start + length])
    del buffer[: start + length]
    wish = headers.get("connection", "").lower()
    keep_alive = not too_large and (wish == "keep-alive" if version == "1.0" else wish != "close")
    return Request(method, target, headers, body, keep_alive, too_large)


def response(
    status: HTTPStatus,
    body: bytes,
    *,
    now: float,
    content_type: str = JSON,
    close: bool = False,
    location: str | None = None,
) -> bytes:
    """A whole answer, ready to be written; `now` (Unix seconds) goes into its Date header."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Server: sendcode-sandbox",
        f"Date: {formatdate(now, usegmt=True)}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        f"Connection: {'close' if close else 'keep-alive'}",
    ]
    if location is not None:
        lines.append(f"Location: {location}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _read_head(head: str) -> tuple[str, str, str, dict[str, str]]:
    request_line, *lines = head.split("\r\n")
    parts = request_line.split(" ")
    bad = Malformed(HTTPStatus.BAD_REQUEST)
    if len(parts) != len(("method", "target", "version")) or not _TOKEN.fullmatch(parts[0]):
        raise bad
    method, target, protocol = parts
    if protocol not in ("HTTP/1.1", "HTTP/1.0"):
        raise Malformed(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not _TOKEN.fullmatch(name):
            raise bad
        if name not in headers:
            headers[name] = value.strip(" \t")
        elif name in _ONLY_ONCE or name.startswith("x-tc-"):
            raise bad
        else:
            headers[name] += ", " + value.strip(" \t")
    if "host" not in headers:
        raise bad
    return method, target, protocol.removeprefix("HTTP/"), headers


def _body_length(method: str, headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise Malformed(HTTPStatus.NOT_IMPLEMENTED)
    announced = headers.get("content-length")
    if announced is None:
        if method == "POST":
            raise Malformed(HTTPStatus.LENGTH_REQUIRED)
        return 0
    if not _LENGTH.fullmatch(announced):
        raise Malformed(HTTPStatus.BAD_REQUEST)
    return int(announced)
