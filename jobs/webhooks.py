"""Where outcomes go: each token name's endpoint, and the outbox of what is not delivered yet.

The script that ends a job puts its outcome into the outbox (jobs/lua/shared/webhooks.lua), so none
is lost; workers deliver it (worker/webhooks.py), those of one job in their order.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import redis

from config import SendcodeError
from config.settings import Settings
from jobs.actions import Action
from jobs.batch import Batch, decode_batch
from jobs.job import JobRecord, iso, iso_or_none
from jobs.records import Records
from jobs.scripts import Argument, LedgerPart, pairs

SECRET_PREFIX = "whsec_"  # noqa: S105 (is none)
BATCH_PREFIX = "batch:"
"""Before a batch's id, where jobs' ids stand, too; as in webhooks.lua."""
_LONGEST_URL = 2_000

DELAYS_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Before each further try of an outcome; then it is given up."""
GIVE_UP_S = 3 * 86_400
"""An endpoint that takes nothing for so long is switched off."""


class WebhookRefusedError(SendcodeError, ValueError):
    """No webhook can be sent to this URL; the message says why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the outcomes of one name's jobs go. Times are Unix milliseconds on Redis' clock."""

    name: str
    """Of the tokens that asked for the jobs."""
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    """That sign each webhook: the newest first, two during a rotation."""
    is_on: bool
    since_ms: int
    failing_ms: int | None = None
    """Since when no try succeeded."""
    reason: str = ""
    """Why the last one did not."""
    waiting: int = 0
    """Outcomes on their way, or waiting for another try."""
    undelivered: int = 0
    """Outcomes that were given up; `replay` has them tried again."""

    @classmethod
    def decode(cls, name: str, text: str, waiting: int = 0, undelivered: int = 0) -> Self:
        values = json.loads(text)
        return cls(
            name,
            values["url"],
            tuple(values["secrets"]),
            not values.get("off"),
            int(values["since"]),
            int(values["failing"]) if "failing" in values else None,
            values.get("reason", ""),
            waiting,
            undelivered,
        )

    @property
    def host(self) -> str:
        """What may be logged of the URL: its path is often a secret."""
        return urlsplit(self.url).netloc

    def as_dict(self) -> dict[str, Any]:
        """Return what a person may see; no secrets."""
        return {
            "name": self.name,
            "host": self.host,
            "state": "on" if self.is_on else "off",
            "since": iso(self.since_ms),
            "failing_since": iso_or_none(self.failing_ms),
            "reason": self.reason or None,
            "secrets": len(self.secrets),
            "waiting": self.waiting,
            "undelivered": self.undelivered,
        }


def check_url(url: str, *, private_too: bool) -> None:
    """Check what is to be an endpoint's URL; its host's address is checked when it is called.

    Raises:
        WebhookRefusedError: it cannot be one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise WebhookRefusedError("webhook: not a URL") from None
    if not (url.isascii() and url.isprintable()) or " " in url or len(url) > _LONGEST_URL:
        raise WebhookRefusedError(f"webhook: must be plain ASCII, {_LONGEST_URL:,} characters")
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise WebhookRefusedError("webhook: must be a URL such as https://shop.example/sendcode")
    if parts.scheme == "http" and not private_too:
        raise WebhookRefusedError("webhook: must be https, unless SENDCODE_WEBHOOK_PRIVATE=true")
    if "@" in parts.netloc or parts.fragment:
        raise WebhookRefusedError("webhook: must have no user and no #: a secret signs it")


class Webhooks(LedgerPart):
    """The endpoints of one key prefix on one Redis."""

    def set(self, name: str, url: str) -> tuple[Endpoint, str]:
        """Have the outcomes of a name's jobs sent to a URL, and switch it on.

        Return the secret, too, if the endpoint is new; one that there is keeps its own.

        Raises:
            WebhookRefusedError: the URL makes no sense.
        """
        check_url(url, private_too=self.settings.sendcode_webhook_private)
        secret = _new_secret()
        endpoint = self._change("set", name, url=url, secret=secret)[0]
        assert endpoint is not None  # noqa: S101 (it was made)
        return endpoint, secret if secret in endpoint.secrets else ""

    def rotate(self, name: str) -> str | None:
        """Make a new secret, and return it: it signs beside the newest one before it."""
        secret = _new_secret()
        return secret if self._change("rotate", name, secret=secret)[0] else None

    def settle(self, name: str) -> bool:
        """End a rotation: only the newest secret signs from now on. False: no such endpoint."""
        return self._change("settle", name)[0] is not None

    def remove(self, name: str) -> bool:
        """Send no more outcomes to a name, and forget those that wait. False: no such endpoint."""
        return self._change_all("remove", name) is not None

    def replay(self, name: str, since_ms: int = 0) -> int | None:
        """Switch an endpoint on, and have its outcomes tried again now; return how many.

        These are all that wait for another try, and of those that were given up the ones of jobs
        that ended since. None: no such endpoint.
        """
        return self._change_all("replay", name, since_ms)

    def all(self) -> list[Endpoint]:
        texts: dict[str, str] = self.client.hgetall(self.keys.webhooks)  # type: ignore[assignment]
        keys = [key(name) for key in (self.keys.outbox, self.keys.undelivered) for name in texts]
        sizes = self.ask_all(("ZCARD", key) for key in keys)
        found = map(Endpoint.decode, texts, texts.values(), sizes, sizes[len(texts) :])
        return sorted(found, key=lambda each: each.name)

    def _change_all(self, verb: str, name: str, since_ms: int = 0) -> int | None:
        """Change an endpoint and some outcomes at a time, until all are; return how many."""
        total, action = 0, True
        while True:
            endpoint, moved = self._change(verb, name, since_ms=since_ms, is_noted=action)
            if endpoint is None:
                return None
            total, action = total + moved, False
            if not moved:
                return total

    def _change(
        self, verb: str, name: str, *, is_noted: bool = True, **terms: Argument
    ) -> tuple[Endpoint | None, int]:
        action = Action(what=f"webhook {verb}", about=name).encode() if is_noted else ""
        reply = self.run_script("webhooks", verb=verb, name=name, action=action, **terms)
        if reply[0] == "absent":
            return None, 0
        return Endpoint.decode(name, reply[1]), reply[2]


def _new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One outcome to be taken to an endpoint, by the caller and nobody else for DELIVERY_S."""

    number: int
    """Which outcome of its job it is: 1, 2 …"""
    endpoint: Endpoint
    id: str
    """Of the job; of a batch with `BATCH_PREFIX`."""
    about: JobRecord | Batch
    """The job or batch as it is now; a batch without counts."""
    outcome: dict[str, Any]
    """How it had ended: state, at_ms; of a job code, request_id, attempts, possible_duplicate."""


class Outbox(LedgerPart):
    """The outcomes that are to be delivered. `scale`: of all delays; tests have no three days."""

    def __init__(self, client: redis.Redis, settings: Settings, scale: float = 1.0) -> None:
        super().__init__(client, settings)
        self._records = Records(client, settings)
        self._delays_ms = [round(seconds * 1000 * scale) for seconds in DELAYS_S]
        self._give_up_ms = round(GIVE_UP_S * 1000 * scale)

    def claim(self, job_id: str) -> Delivery | None:
        """Take the next outcome of a job, or a batch; None if there is none for the caller now."""
        reply = self._run(job_id, "claim")
        if reply[0] == "none":
            return None
        _, number, outcome, name, endpoint, flat = reply
        values = pairs(flat)
        about: JobRecord | Batch
        if job_id.startswith(BATCH_PREFIX):
            about = decode_batch(job_id.removeprefix(BATCH_PREFIX), values, {}, 0)
        else:
            about = self._records.decode(job_id, values)
        endpoint = Endpoint.decode(name, endpoint)
        return Delivery(number, endpoint, job_id, about, json.loads(outcome))

    def settle(self, delivery: Delivery, verb: str, reason: str = "") -> tuple[bool, list[str]]:
        """Record that it was `delivered`, has `failed`, or that the endpoint is `gone`.

        Return whether this switched the endpoint off, and jobs whose outcomes are to be published.
        """
        done, following = self._run(delivery.id, verb, n=delivery.number, reason=reason)
        return done == "off", following

    def _run(self, job_id: str, verb: str, **how: Argument) -> Any:
        terms = {"id": job_id, "verb": verb, "give_up_ms": self._give_up_ms, **how}
        return self.run_script("deliver", self._delays_ms, **terms)
