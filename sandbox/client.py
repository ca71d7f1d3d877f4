"""Reads counts and changes settings of a running sandbox through its control plane."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any, Final
from urllib.parse import urlsplit

TIMEOUT_S: Final = 30


class SandboxClient:
    """Reads counts and changes settings of the sandbox at `url`, a new connection each time.

    Every method raises OSError if there is no answer, and ValueError with the sandbox's reason if
    it refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self, *, numbers: bool = True, arrivals: bool = False) -> dict[str, Any]:
        """Return the counts since the start or the last reset; the two long parts on demand."""
        return self._call("GET", f"stats?numbers={numbers:d}&arrivals={arrivals:d}")

    def number(self, digits: str) -> dict[str, Any]:
        """Return requests, accepted and accepted_at of a number (digits with country code)."""
        return self._call("GET", f"numbers/{digits}")

    def settings(self) -> dict[str, Any]:
        return self._call("GET", "settings")

    def change(self, **settings: object) -> dict[str, Any]:
        """Change these settings, keep the others, and return all."""
        return self._call("POST", "settings", settings)

    def rotate(self, secret_id: str, secret_key: str, token: str | None = None) -> None:
        """Accept these credentials from now on, and no others."""
        self._call(
            "POST",
            "credentials",
            {"secret_id": secret_id, "secret_key": secret_key, "token": token},
        )

    def reset(self) -> None:
        """Forget requests, numbers and counts; keep the settings."""
        self._call("POST", "reset")

    def _call(
        self, method: str, place: str, document: dict[str, object] | None = None
    ) -> dict[str, Any]:
        address = urlsplit(self.url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, f"/_sandbox/{place}", body=json.dumps(document or {}))
            answer = connection.getresponse()
            found: dict[str, Any] = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"sandbox: {found['error']}")
        return found
