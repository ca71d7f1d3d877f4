"""What the API answers: jobs and errors, and the rules for trying again. No I/O."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

LONGEST_WAIT_S = 60.0
"""Of one request; a longer wait asks again."""
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_REFUSED, _SERVER_ERROR = 400, 500

_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

_FINAL = {"sent", "sent_inferred", "dead", "unknown", "cancelled", "expired"}
_SENT = {"sent", "sent_inferred"}


class SendcodeError(Exception):
    """All that this package raises on purpose."""


class NotAcceptedError(SendcodeError):
    """The server could not be reached, or could not take it, in all the time there was.

    A job may have been recorded nevertheless: the same call with the same key finds out.
    """


class RefusedError(SendcodeError):
    """The server refused the request; to repeat it is of no use until it is changed."""

    def __init__(self, problem: Mapping[str, Any], status: int) -> None:
        """Read a problem document (RFC 9457)."""
        super().__init__(str(problem.get("detail") or problem.get("title") or status))
        self.status = status
        self.code = str(problem.get("code", ""))
        """For programs, such as `invalid_request` or `key_reused`."""
        self.errors: list[dict[str, str]] = list(problem.get("errors") or ())
        """What is wrong, by field: `field`, `code`, `detail`."""
        self.job_id: str | None = problem.get("job_id")


class TokenError(RefusedError):
    """The token is not known (401), or does not allow this (403)."""


class KeyReusedError(RefusedError):
    """The key belongs to a job for another number, or with other terms: `job_id`."""


class QuotaError(RefusedError):
    """A bound on spending refuses it (429), for `retry_after` seconds from now."""

    retry_after: float | None = None


@dataclass(frozen=True)
class Job:
    """A job as it was when the server answered; its number is masked."""

    job_id: str
    state: str
    phone: str
    code: str | None = None
    """Why it failed or waits."""
    message: str | None = None
    request_id: str | None = None
    attempts: int = 0
    possible_duplicate: bool = False
    test: bool = False
    """A test token asked for it: nothing was sent."""
    reference: str | None = None
    created_at: str | None = None
    finished_at: str | None = None
    estimated_send_at: str | None = None
    replayed: bool = False
    """The key had been used before: this call sent nothing."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole document."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in _FINAL

    @property
    def is_sent(self) -> bool:
        """Whether the code was sent."""
        return self.state in _SENT


class Tries:
    """The tries of one request: how long there is, what an answer means, and when to try again."""

    def __init__(self, timeout_s: float, more_s: float) -> None:
        """Begin; `more_s`: what the server may wait, beyond the time for an answer."""
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s + more_s
        self._pause_s = _FIRST_PAUSE_S
        self._wanted_s: float | None = None
        self._failed = ""

    def left_s(self) -> float:
        """Return the seconds that are left.

        Raises:
            NotAcceptedError: none are.
        """
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise NotAcceptedError(f"no answer within {self._timeout_s:g} s: {self._failed}")
        return left_s

    def read(self, status: int, body: bytes, headers: Mapping[str, str]) -> Job | None:
        """Return the job of an answer; None: try again.

        Raises:
            RefusedError: that would be of no use.
        """
        if status < _REFUSED:
            return read_job(body, headers)
        if status < _SERVER_ERROR:
            raise refusal(status, body, headers)
        self._failed, self._wanted_s = f"status {status}", retry_after(headers)
        return None

    def fail(self, error: Exception) -> None:
        """Note that there was no answer."""
        self._failed, self._wanted_s = type(error).__name__, None

    def pause_s(self) -> float:
        """Return how long to pause before the next try."""
        wanted_s = self._wanted_s or self._pause_s
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        return max(0.0, min(wanted_s, self._deadline - time.monotonic()))


def read_job(body: bytes, headers: Mapping[str, str]) -> Job:
    """Read an answer of 200 or 202."""
    document: dict[str, Any] = json.loads(body)
    known = {name: document[name] for name in Job.__dataclass_fields__ if name in document}
    known["replayed"] = headers.get("idempotent-replayed") == "true"
    return Job(**known, raw=document)


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> RefusedError:
    """Return the error for an answer of 4xx."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    if status in (401, 403):
        return TokenError(problem, status)
    if problem.get("code") == "key_reused":
        return KeyReusedError(problem, status)
    if status == 429:  # noqa: PLR2004
        error = QuotaError(problem, status)
        error.retry_after = retry_after(headers)
        return error
    return RefusedError(problem, status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait."""
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None


def request_body(
    phone: str,
    phone_num: str | None,
    expires_in: float | None,
    reference: str | None,
    resend: bool,
) -> bytes:
    """Return the body of `POST /v1/codes`."""
    number = {"phone": phone}
    if phone_num is not None:
        number = {"country_code": phone, "phone_num": phone_num}
    terms = {"expires_in": expires_in, "reference": reference, "resend": resend or None}
    return json.dumps(
        {**number, **{name: value for name, value in terms.items() if value is not None}}
    ).encode()


def new_key() -> str:
    """Return a key for a call without one, so that its own retries send nothing twice."""
    return "call-" + secrets.token_hex(16)


def key_header(key: str) -> dict[str, bytes]:
    """Return the header of an idempotency key, in UTF-8.

    Raises:
        RefusedError: it holds a line break, or something else that is no text.
    """
    if _NO_TEXT.search(key):
        detail = "idempotency key: must not hold line breaks or other control characters"
        error = {"field": "Idempotency-Key", "code": "unfit", "detail": detail}
        problem = {"code": "invalid_request", "detail": detail, "errors": [error]}
        raise RefusedError(problem, 422)
    return {"Idempotency-Key": key.encode()}


def job_path(job_id: str) -> str:
    """Return where a job is."""
    return f"/v1/codes/{quote(job_id, safe='')}"
