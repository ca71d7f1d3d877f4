"""Verifies webhooks, which are in the Standard Webhooks format."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sendcode_client._job import SendcodeError

TOLERANCE_S = 300.0
PREFIX = "whsec_"


class WebhookError(SendcodeError):
    """This is no webhook of sendcode's, or an old one: answer 400 and do nothing."""


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secrets: str | Iterable[str],
    *,
    now: float | None = None,
) -> dict[str, Any]:
    """Return the payload of a webhook, once its signature and its time are right.

    Args:
        body: As it came, not parsed and written anew.
        headers: Of the request; upper and lower case do not matter.
        secrets: The secret, or two during a rotation, as sendcode showed them ("whsec_…").
        now: Unix seconds, for tests.

    Raises:
        WebhookError: it must not be believed.
    """
    found = {name.lower(): value for name, value in headers.items()}
    message_id = found.get("webhook-id", "")
    timestamp = found.get("webhook-timestamp", "")
    signatures = found.get("webhook-signature", "")
    if not (message_id and timestamp and signatures):
        raise WebhookError("a header is missing: webhook-id, webhook-timestamp, webhook-signature")
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise WebhookError("webhook-timestamp is no time")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_S:
        raise WebhookError("it is too old, or this machine's clock is wrong")
    signed = f"{message_id}.{timestamp}.".encode() + body
    given = [part[3:] for part in signatures.split(" ") if part.startswith("v1,")]
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        expected = signature(signed, secret)
        if any(hmac.compare_digest(expected, each) for each in given):
            payload = json.loads(body)
            if isinstance(payload, dict):
                return payload
    raise WebhookError("its signature is not ours")


def signature(signed: bytes, secret: str) -> str:
    """Return the base64 of a message's HMAC-SHA256."""
    try:
        key = base64.b64decode(secret[len(PREFIX) :] if secret.startswith(PREFIX) else secret)
    except (binascii.Error, ValueError):
        raise WebhookError("the secret is not as sendcode showed it (whsec_…)") from None
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
