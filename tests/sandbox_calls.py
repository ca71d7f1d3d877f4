"""Calls to the sandbox as a test makes them: signed by hand, sent over a plain socket.

The signature here is a third one, beside the sandbox's and the worker's: what it proves is proved
by the golden vector (tests/unit) and by the official SDK (tests/integration).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from tests.waiting import PATIENCE_S

SERVICE = "intlpartnersmgt"


@dataclass(frozen=True)
class Call:
    """A SendVerifyCode call; change a field to make it a wrong one."""

    body: bytes
    host: str
    secret_id: str = "AKIDEXAMPLE"
    secret_key: str = "SECRETEXAMPLE"
    timestamp: int = field(default_factory=lambda: int(time.time()))
    date: str | None = None
    service: str = SERVICE
    action: str = "SendVerifyCode"
    version: str = "2022-09-28"
    content_type: str = "application/json"
    signed_headers: tuple[str, ...] = ("content-type", "host")
    signed_host: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def signature(self) -> str:
        """In hex, over what the fields say."""
        sent = {name.lower(): value for name, value in self._plain_headers().items()}
        sent["host"] = self.signed_host or self.host
        lines = "".join(f"{name}:{sent[name].lower()}\n" for name in self.signed_headers)
        names = ";".join(self.signed_headers)
        payload = hashlib.sha256(self.body).hexdigest()
        canonical = f"POST\n/\n\n{lines}\n{names}\n{payload}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"TC3-HMAC-SHA256\n{self.timestamp}\n{self._scope()}\n{digest}"
        key = f"TC3{self.secret_key}".encode()
        for part in self._scope().split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.new(key, text.encode(), "sha256").hexdigest()

    def headers(self) -> dict[str, str]:
        """All headers, signed."""
        authorization = (
            f"TC3-HMAC-SHA256 Credential={self.secret_id}/{self._scope()}, "
            f"SignedHeaders={';'.join(self.signed_headers)}, Signature={self.signature()}"
        )
        return {**self._plain_headers(), "Authorization": authorization}

    def wire(self) -> bytes:
        """The request as bytes."""
        lines = [f"{name}: {value}\r\n" for name, value in self.headers().items()]
        length = f"Content-Length: {len(self.body)}\r\n\r\n"
        return ("POST / HTTP/1.1\r\n" + "".join(lines) + length).encode() + self.body

    def _plain_headers(self) -> dict[str, str]:
        return {
            "Host": self.host,
            "Content-Type": self.content_type,
            "X-TC-Action": self.action,
            "X-TC-Version": self.version,
            "X-TC-Timestamp": str(self.timestamp),
            **self.extra,
        }

    def _scope(self) -> str:
        day = datetime.fromtimestamp(self.timestamp, UTC).strftime("%Y-%m-%d")
        return f"{self.date or day}/{self.service}/tc3_request"


def body_for(phone_num: str, country_code: str = "852") -> bytes:
    """The right body for that number."""
    return json.dumps({"CountryCode": country_code, "PhoneNum": phone_num}).encode()


def call_to(url: str, phone_num: str, **changes: Any) -> Call:
    """A right call to the sandbox at `url`, with `changes` applied."""
    call = Call(body=body_for(phone_num), host=urlsplit(url).netloc)
    return replace(call, **changes)


@dataclass(frozen=True)
class Reply:
    """An answer read in full."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The API's error code; None for success. Fails when this is no answer of the API."""
        assert self.status == HTTPStatus.OK
        response = json.loads(self.body)["Response"]
        assert response["RequestId"]
        error = response.get("Error")
        return None if error is None else str(error["Code"])


def post(url: str, phone_num: str, **changes: Any) -> Reply:
    """Make one call on a connection of its own and read the answer."""
    call = call_to(url, phone_num, **changes)
    address = urlsplit(url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/", body=call.body, headers=call.headers())
        return _read(connection.getresponse())
    finally:
        connection.close()


@contextmanager
def plain_socket(url: str) -> Iterator[socket.socket]:
    """A connection to the sandbox, for what no HTTP library would send or bear."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), PATIENCE_S) as sock:
        yield sock


def read_reply(sock: socket.socket) -> Reply:
    """Read one answer from a plain socket."""
    response = HTTPResponse(sock)
    response.begin()
    return _read(response)


def _read(response: HTTPResponse) -> Reply:
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, body)
