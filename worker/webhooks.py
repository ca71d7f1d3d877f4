"""Takes outcomes to the backends that asked for their jobs, in the Standard Webhooks format.

At least once, and those of one job in their order: what was not answered with 2xx is tried again.
Only public addresses are connected to, the very ones that were checked, unless
SENDCODE_WEBHOOK_PRIVATE allows others: else an endpoint could reach into the network that the
worker is in. Nothing of a URL but its host is logged: its path is often a secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from config.logging import fields
from jobs.api_connection import in_short
from jobs.batch import Batch
from jobs.job import JobRecord, iso
from jobs.publish import NotPublishedError, Publisher
from jobs.webhooks import SECRET_PREFIX, Delivery, Outbox
from worker.deadline import Address, Exchange, every_address, now_s
from worker.pool import NETWORK_ERRORS, Session, root_of

log = logging.getLogger("sendcode.webhook")

TIMEOUT_S = 10.0
"""For one call in total: name look-up, connecting, the answer's head."""
_MOST_READ = 4_096
"""Bytes of an answer; what it says is of no use, but a connection read to its end is kept."""
_6TO4 = ipaddress.ip_network("2002::/16")


class PrivateAddressError(OSError):
    """A host has only addresses that no webhook may be sent to."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """How a try went."""

    verb: str
    """`delivered`, `failed` or `gone`"""
    reason: str
    """The answer's status, or what kept it from coming."""
    endpoint: str


class Deliverer:
    """Delivers outcomes; any number of threads may share one."""

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        *,
        private_too: bool,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._resolve = every_address if private_too else resolve_public
        self._timeout_s = timeout_s
        self._exchange = Exchange(now_s)
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, str], Session] = {}

    def deliver(self, job_id: str) -> Delivered | None:
        """Deliver the next outcome of a job; None if there is none for us now."""
        delivery = self._outbox.claim(job_id)
        if delivery is None:
            return None
        began = now_s()
        verb, reason = self._try(delivery)
        endpoint = delivery.endpoint
        is_off, following = self._outbox.settle(delivery, verb, reason)
        log.log(
            logging.INFO if verb == "delivered" else logging.WARNING,
            "webhook %s",
            verb,
            extra=fields(
                job_id=job_id,
                endpoint=endpoint.name,
                host=endpoint.host,
                reason=reason,
                duration_ms=round((now_s() - began) * 1000),
            ),
        )
        if is_off:
            log.error(
                "webhook switched off; when it works again: sendcode webhook replay",
                extra=fields(endpoint=endpoint.name, host=endpoint.host, reason=reason),
            )
        if following:
            try:
                self._publisher.publish_outcomes(following)
            except NotPublishedError:
                log.debug("left to a later sweep")
        return Delivered(verb, reason, endpoint.name)

    def _try(self, delivery: Delivery) -> tuple[str, str]:
        try:
            status = self._post(delivery)
        except NETWORK_ERRORS as exc:
            return "failed", in_short(root_of(exc))
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return "delivered", f"HTTP {status}"
        return "gone" if status == HTTPStatus.GONE else "failed", f"HTTP {status}"

    def _post(self, delivery: Delivery) -> int:
        url = delivery.endpoint.url
        request = requests.Request(
            "POST",
            url,
            headers=signed_headers(delivery, time.time()),
            data=body_of(delivery),
        )
        self._exchange.start(self._timeout_s, None)
        session = self._session(url)
        response = session.post_once(session.prepare_request(request))
        try:
            response.raw.read(_MOST_READ)
        except (OSError, urllib3.exceptions.HTTPError):
            log.debug("answer not read")  # its status is all that counts
        finally:
            response.close()
        return response.status_code

    def _session(self, url: str) -> Session:
        parts = urlsplit(url)
        place = parts.scheme, parts.netloc
        with self._lock:
            if place not in self._sessions:
                self._sessions[place] = Session(
                    url,
                    self._exchange,
                    self._timeout_s,
                    is_acknowledged=False,
                    resolve=self._resolve,
                )
            return self._sessions[place]


def body_of(delivery: Delivery) -> bytes:
    """Return what the backend learns of an outcome; the same at each try."""
    about, outcome = delivery.about, delivery.outcome
    if isinstance(about, Batch):
        kind = "batch.ended"
        data = {"batch_id": about.batch_id, "name": about.name, "state": outcome["state"]}
    else:
        kind, data = "code.ended", _of_job(about, outcome)
    payload = {"type": kind, "timestamp": iso(int(outcome["at_ms"])), "data": data}
    return json.dumps(payload, separators=(",", ":")).encode()


def _of_job(record: JobRecord, outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "job_id": record.job_id,
        "key": record.key or None,
        "reference": record.reference or None,
        "state": outcome["state"],
        "code": outcome["code"] or None,
        "request_id": outcome["request_id"] or None,
        "attempts": outcome["attempts"],
        "possible_duplicate": outcome["possible_duplicate"],
        "test": record.is_test,
        "phone": record.phone.masked,
        "replaces": record.replaces,
    }


def signed_headers(delivery: Delivery, now: float) -> dict[str, str]:
    """Return the headers of a try: the id is the same at each, the time is that of the try."""
    message_id, timestamp = f"{delivery.id}_{delivery.number}", str(int(now))
    signed = f"{message_id}.{timestamp}.".encode() + body_of(delivery)
    signatures = [_signature(each, signed) for each in delivery.endpoint.secrets]
    return {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "sendcode/0.1",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def resolve_public(host: str, port: int) -> list[Address]:
    """Return the public addresses of a host; the caller connects to one of these.

    Raises:
        PrivateAddressError: it has none.
    """
    found = [address for address in every_address(host, port) if is_public(str(address[4][0]))]
    if not found:
        raise PrivateAddressError("no public address")
    return found


def is_public(text: str) -> bool:
    """Return whether an IP address can only be a host on the Internet.

    IPv6 that leads to any IPv4 address (mapped, translated, 6to4) is judged by that, or refused.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return address.is_global and not (
                address.is_multicast or address.is_reserved or address in _6TO4
            )
        address = address.ipv4_mapped
    return address.is_global and not address.is_multicast
