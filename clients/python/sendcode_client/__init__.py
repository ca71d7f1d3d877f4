"""A client of sendcode's HTTP API, for backends.

    from sendcode_client import Client

    sendcode = Client("http://127.0.0.1:8030", token)
    job = sendcode.send_code("+852 5550 1234", key="signup-81723", wait=10)

No dependencies; `AsyncClient` needs httpx (`pip install sendcode-client[async]`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sendcode_client._job import (
    Job,
    KeyReusedError,
    NotAcceptedError,
    QuotaError,
    RefusedError,
    SendcodeError,
    TokenError,
)
from sendcode_client._sync import Client
from sendcode_client._webhook import WebhookError, verify_webhook

if TYPE_CHECKING:
    from sendcode_client._async import AsyncClient

__all__ = [
    "AsyncClient",
    "Client",
    "Job",
    "KeyReusedError",
    "NotAcceptedError",
    "QuotaError",
    "RefusedError",
    "SendcodeError",
    "TokenError",
    "WebhookError",
    "verify_webhook",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import httpx only where the asynchronous client is used."""
        if name == "AsyncClient":
            from sendcode_client._async import AsyncClient  # noqa: PLC0415

            return AsyncClient
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
