"""A server for the tests of your own application: it accepts codes, and sends none.

with FakeSendcode() as fake:
client = Client(fake.url, fake.token)
client.send_code("+852 5550 1234", key="signup-1")
assert fake.codes[0].key == "signup-1"
fake.end("signup-1", state="dead", code="UnSupportArea")
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sendcode_client._webhook import PREFIX, signature

_SHOWN = 2


@dataclass
class FakeCode:
    """A code that was asked for; unlike the real server's answer it has the number."""

    job_id: str
    key: str
    request: dict[str, Any]
    state: str = "queued"
    code: str | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def number(self) -> str:
        """The number as it was given, digits only."""
        parts = (self.request.get(name) or "" for name in ("phone", "country_code", "phone_num"))
        return "".join(char for char in "".join(parts) if char.isdigit())

    def as_dict(self) -> dict[str, Any]:
        """Return the job as the API shows it."""
        return {
            "job_id": self.job_id,
            "state": self.state,
            "code": self.code,
            "message": None,
            "request_id": None,
            "attempts": int(self.state != "queued"),
            "possible_duplicate": False,
            "test": False,
            "phone": f"******{self.number[-_SHOWN:]}",
            "reference": self.request.get("reference"),
            "created_at": None,
            "finished_at": None,
            "estimated_send_at": None,
        }


class FakeSendcode:
    """Listens on a port of its own while it is a context manager's."""

    def __init__(self, *, sends_at_once: bool = True, webhook: str | None = None) -> None:
        """Start nothing yet.

        Args:
            sends_at_once: Whether a code is `sent` as soon as it is accepted; else `end` ends it.
            webhook: URL that learns of every ending, signed with `webhook_secret`.
        """
        self.token = "sct_fake"
        self.webhook_secret = PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()
        self.codes: list[FakeCode] = []
        """In the order in which they were accepted."""
        self.down = False
        """While True, every request is answered by 503."""
        self._sends_at_once = sends_at_once
        self._webhook = webhook
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeSendcode:
        """Serve, in a thread."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def end(self, key: str, state: str = "sent", code: str | None = None) -> None:
        """Let the job of a key end, and tell the webhook."""
        (found,) = (each for each in self.codes if each.key == key)
        found.state, found.code = state, code
        found.ended.set()
        if self._webhook:
            self._deliver(found)

    def accept(self, key: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and document of the answer to `POST /v1/codes`."""
        with self._lock:
            found = next((each for each in self.codes if each.key == key), None)
            if found is None:
                found = FakeCode("ev-" + secrets.token_hex(10), key, request)
                self.codes.append(found)
                status = 202
            elif found.request != request:
                detail = "this key was used before, with another number or terms"
                return 422, {"code": "key_reused", "detail": detail, "job_id": found.job_id}
            else:
                status = 200
        if status == 202 and self._sends_at_once:  # noqa: PLR2004
            self.end(key)
        return status, found.as_dict()

    def find(self, name: str) -> FakeCode | None:
        """Return a code by its id or key."""
        return next((each for each in self.codes if name in (each.job_id, each.key)), None)

    def _deliver(self, ended: FakeCode) -> None:
        payload = {
            "type": "code.ended",
            "data": {**ended.as_dict(), "key": ended.key},
        }
        body = json.dumps(payload).encode()
        message_id, at = f"msg_{secrets.token_hex(8)}", str(int(time.time()))
        signed = f"{message_id}.{at}.".encode() + body
        request = urllib.request.Request(self._webhook or "", body, method="POST")
        request.add_header("Content-Type", "application/json")
        request.add_header("webhook-id", message_id)
        request.add_header("webhook-timestamp", at)
        request.add_header("webhook-signature", f"v1,{signature(signed, self.webhook_secret)}")
        urllib.request.urlopen(request, timeout=10).close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if not self._refused():
                    key = self._key()
                    status, document = fake.accept(key, json.loads(body))
                    self._answer(status, document, replayed=status == 200)  # noqa: PLR2004

            def do_GET(self) -> None:
                if self._refused():
                    return
                parts = urlsplit(self.path)
                name = unquote(parts.path.rpartition("/")[2])
                if parts.path == "/v1/codes":
                    name = self._key()
                found = fake.find(name)
                if found is None:
                    self._answer(404, {"code": "not_found", "detail": "there is no such job"})
                    return
                found.ended.wait(float(parse_qs(parts.query).get("wait", ["0"])[0]))
                self._answer(200, found.as_dict())

            def _key(self) -> str:
                key = self.headers.get("Idempotency-Key", "")
                try:
                    return key.encode("latin-1").decode()
                except UnicodeDecodeError:  # it was Latin-1
                    return key

            def _refused(self) -> bool:
                if fake.down:
                    self._answer(503, {"code": "unavailable", "detail": "the fake is down"})
                elif self.headers.get("Authorization") != f"Bearer {fake.token}":
                    self._answer(401, {"code": "unauthorized", "detail": "the token is not known"})
                else:
                    return False
                return True

            def _answer(
                self, status: int, document: dict[str, Any], *, replayed: bool = False
            ) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if replayed:
                    self.send_header("Idempotent-Replayed", "true")
                if status == 503:  # noqa: PLR2004
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name)
                pass

        return Handler
