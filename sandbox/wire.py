"""HTTP/1.1 of one connection: bytes in, requests out; answers in, bytes out. No I/O.

h11 parses and writes; the rest is decided here: how much is read, and what a strict server must
refuse because two parsers might see two different requests. Answers are returned as bytes because
the sandbox sends some of them incorrectly: half of one, or a byte at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11

MAX_HEAD: Final = 32 * 1024
# The vendor accepts 10 MB in a POST signed with TC3; a larger one is answered before it is read.
MAX_BODY: Final = 10 * 1024 * 1024

JSON: Final = "application/json"
_VERSIONS: Final = (b"1.0", b"1.1")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as received; `target` is path and query.

    Header names are in lower case, values without surrounding spaces and otherwise untouched. With
    `too_large`, the body was not read because it was announced as longer than `MAX_BODY`.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    too_large: bool = False


class Malformed(Exception):  # noqa: N818 - the client's fault, answered with a status
    """This is not HTTP that the server accepts: answer with `status` and close."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = HTTPStatus(status)


class Exchange:
    """The requests and answers of one connection, in turn."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._head = Request("", "", {})
        self._body = bytearray()

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection takes another request after the answer."""
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def receive(self, data: bytes) -> None:
        """Accept what the client sent, in pieces of any size."""
        self._http.receive_data(data)

    def next_request(self) -> Request | None:
        """Return the next complete request; None if there is none yet.

        Raises:
            Malformed: there will never be one; the connection is useless from now on.
        """
        if self.keeps_alive:
            self._http.start_next_cycle()
        try:
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                match event:
                    case h11.Request():
                        self._head = _read_head(event)
                        if int(self._head.headers.get("content-length", 0)) > MAX_BODY:
                            return replace(self._head, too_large=True)
                    case h11.Data():
                        self._body += event.data
                    case h11.EndOfMessage():
                        body, self._body = bytes(self._body), bytearray()
                        return replace(self._head, body=body)
                    case _:  # the client has closed its side
                        return None
        except h11.RemoteProtocolError as exc:
            raise Malformed(exc.error_status_hint) from None
        return None

    def answer(
        self,
        status: HTTPStatus,
        body: bytes,
        *,
        now: float,
        content_type: str = JSON,
        location: str | None = None,
        close: bool = False,
    ) -> bytes:
        """Return a whole answer as bytes; `now` (Unix seconds) goes into its Date header."""
        headers = [
            ("Server", "sendcode-sandbox"),
            ("Date", formatdate(now, usegmt=True)),
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
        ]
        if location is not None:
            headers.append(("Location", location))
        if close or self._http.their_state is not h11.DONE:
            headers.append(("Connection", "close"))
        head = h11.Response(status_code=status, reason=status.phrase.encode(), headers=headers)
        parts = (head, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(self._http.send(part) or b"" for part in parts)


def _read_head(head: h11.Request) -> Request:
    """Return a request still without its body; refuse a header that must not appear twice."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode(), raw_value.decode("latin-1")
        if name not in headers:
            headers[name] = value
        elif name in ("authorization", "content-type") or name.startswith("x-tc-"):
            raise Malformed(HTTPStatus.BAD_REQUEST)
        else:
            headers[name] += ", " + value
    if head.http_version not in _VERSIONS:
        raise Malformed(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if "transfer-encoding" in headers:
        raise Malformed(HTTPStatus.NOT_IMPLEMENTED)
    if head.method == b"POST" and "content-length" not in headers:
        raise Malformed(HTTPStatus.LENGTH_REQUIRED)
    return Request(head.method.decode(), head.target.decode("latin-1"), headers)
