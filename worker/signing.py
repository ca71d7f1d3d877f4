"""TC3-HMAC-SHA256: signing a call of SendVerifyCode. Pure; the time is passed in.

A signature covers method, path, content type, host and body, and is good for five minutes around
its timestamp. Source: the vendor's SDK, which the tests compare with.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass

SERVICE = "intlpartnersmgt"
CONTENT_TYPE = "application/json"
_ALGORITHM = "TC3-HMAC-SHA256"
_SIGNED_HEADERS = "content-type;host"
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A key pair of the account; with a token, a temporary one. Shows nothing of itself."""

    secret_id: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return "Credentials(***)"

    @property
    def fingerprint(self) -> str:
        """A mark to distinguish them from others: 32 bits of a digest, which reveal nothing."""
        whole = "\0".join(("sendcode", self.secret_id, self.secret_key, self.token or ""))
        return hashlib.sha256(whole.encode()).hexdigest()[:8]


def canonical_request(host: str, body: bytes) -> str:
    """Return what is signed of a request; `host` as in its Host header, with any port."""
    return (
        f"POST\n/\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\n\n"
        f"{_SIGNED_HEADERS}\n{hashlib.sha256(body).hexdigest()}"
    )


def utc_date(timestamp: int) -> str:
    """Return the date of the credential scope for a Unix timestamp in seconds: YYYY-MM-DD."""
    return time.strftime("%Y-%m-%d", time.gmtime(timestamp))


def string_to_sign(canonical: str, timestamp: int, date: str) -> str:
    """Return what the signing key signs: time, scope and the canonical request's digest."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{_ALGORITHM}\n{timestamp}\n{date}/{SERVICE}/tc3_request\n{digest}"


def derive_key(secret_key: str, date: str) -> bytes:
    """Return the signing key, good for one UTC date and this service."""
    key = f"TC3{secret_key}".encode()
    for part in (date, SERVICE, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(key: bytes, text: str) -> str:
    """Return the HMAC-SHA256 in hexadecimal."""
    return hmac.digest(key, text.encode(), "sha256").hex()


class Signer:
    """Makes Authorization headers for one key pair and host; derives its key once a day.

    Threads may share one: the cached key is replaced in one step, and deriving it twice at
    midnight does no harm.
    """

    def __init__(self, credentials: Credentials, host: str) -> None:
        self.host = host
        self._credentials = credentials
        self._today: tuple[int, str, bytes] = self._derive(0)

    def authorization(self, body: bytes, timestamp: int) -> str:
        """Return the header's value for a body sent at `timestamp` (Unix seconds)."""
        today = self._today
        if today[0] != timestamp // _DAY_S:
            today = self._today = self._derive(timestamp // _DAY_S)
        _, date, key = today
        text = string_to_sign(canonical_request(self.host, body), timestamp, date)
        return (
            f"{_ALGORITHM} Credential={self._credentials.secret_id}/{date}/{SERVICE}/tc3_request, "
            f"SignedHeaders={_SIGNED_HEADERS}, Signature={signature(key, text)}"
        )

    def _derive(self, day: int) -> tuple[int, str, bytes]:
        date = utc_date(day * _DAY_S)
        return day, date, derive_key(self._credentials.secret_key, date)
