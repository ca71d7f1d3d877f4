"""A backend that receives webhooks, as one in any language would, and accepts only signed ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Receiver:
    """Listens on loopback within its `with` block, in its own threads."""

    def __init__(self) -> None:
        self._secret = b""
        self.reported_states: dict[str, str] = {}
        """By job: the final state in its latest outcome."""
        self.bodies: list[str] = []
        """All signed bodies, as received."""
        self.refused = 0
        """How many were not signed with the secret."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(204 if receiver.take(self.headers, body) else 401)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/webhook"

    def set_secret(self, secret: str) -> None:
        """Set the signing secret, as `sendcode token new` shows it."""
        self._secret = base64.b64decode(secret.removeprefix("whsec_"))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, headers: Message, body: bytes) -> bool:
        """Record an outcome; return False if it is not signed."""
        signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
        digest = hmac.new(self._secret, signed, hashlib.sha256).digest()
        expected = "v1," + base64.b64encode(digest).decode()
        given = headers.get("webhook-signature", "").split()
        if not any(hmac.compare_digest(each, expected) for each in given):
            self.refused += 1
            return False
        data = json.loads(body)["data"]
        self.bodies.append(body.decode())
        self.reported_states[data["job_id"]] = data["state"]
        return True
