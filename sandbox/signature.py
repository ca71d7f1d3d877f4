"""Verifies the TC3-HMAC-SHA256 signature of a request as received.

Source: the vendor's page "Signature v3" and the official SDK. Written from these alone, so that it
does not repeat a mistake of the client under test.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from sandbox.wire import Request

SERVICE: Final = "intlpartnersmgt"
ALGORITHM: Final = "TC3-HMAC-SHA256"
TERMINATION: Final = "tc3_request"
MAX_CLOCK_DIFFERENCE_S: Final = 300
_AUTHORIZATION: Final = re.compile(
    rf"{ALGORITHM} Credential=(?P<id>[^/,\s]+)/(?P<date>[^/,\s]+)/(?P<service>[^/,\s]+)"
    r"/(?P<end>[^/,\s]+), ?SignedHeaders=(?P<headers>[^,\s]+), ?Signature=(?P<signature>\S+)"
)
_TIMESTAMP: Final = re.compile(r"[0-9]{1,11}")
_ALWAYS_SIGNED: Final = frozenset(("content-type", "host"))


class Refused(Exception):  # noqa: N818 - an expected answer of the API, not a fault of ours
    """The API refuses a request with this error code and message."""

    def __init__(self, code: str, message: str = "The request was refused.") -> None:
        super().__init__(code)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Credentials:
    """The account's key pair, with a token if temporary; `repr` hides the secret parts."""

    secret_id: str = "AKIDEXAMPLE"  # noqa: S105 - the vendor's example
    secret_key: str = field(default="SECRETEXAMPLE", repr=False)
    token: str | None = field(default=None, repr=False)


def verify(request: Request, credentials: Credentials, now: float) -> None:
    """Check that `request` was signed with `credentials` less than five minutes from `now`.

    Raises:
        Refused: with MissingParameter or the AuthFailure code that the API answers.
    """
    stamp = request.headers.get("x-tc-timestamp")
    if stamp is None:
        raise Refused("MissingParameter", "The header X-TC-Timestamp is missing.")
    if not _TIMESTAMP.fullmatch(stamp):
        raise Refused("InvalidParameter", "X-TC-Timestamp is not in Unix seconds.")
    parts = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if parts is None:
        raise _invalid("it is missing or not in the form of TC3-HMAC-SHA256")
    if parts["service"] != SERVICE or parts["end"] != TERMINATION:
        raise _invalid("the service in its credential scope is not the one called")
    signed = parts["headers"].split(";")
    if not _ALWAYS_SIGNED.issubset(signed) or signed != sorted(set(signed)):
        raise _invalid("SignedHeaders must be sorted and contain content-type and host")
    if not set(signed) <= request.headers.keys():
        raise _invalid("a header in SignedHeaders is not in the request")
    if abs(int(stamp) - now) > MAX_CLOCK_DIFFERENCE_S:
        raise Refused("AuthFailure.SignatureExpire")
    if parts["date"] != datetime.fromtimestamp(int(stamp), UTC).strftime("%Y-%m-%d"):
        raise _invalid("the date in its credential scope is not the UTC date of X-TC-Timestamp")
    if parts["id"] != credentials.secret_id:
        raise Refused("AuthFailure.SecretIdNotFound")
    expected = _sign(request, credentials.secret_key, signed, stamp, parts["date"])
    if not hmac.compare_digest(expected, parts["signature"].encode()):
        raise Refused("AuthFailure.SignatureFailure")
    if request.headers.get("x-tc-token") != credentials.token:  # it is not signed
        raise Refused("AuthFailure.TokenFailure")


def _sign(request: Request, secret_key: str, signed: list[str], stamp: str, date: str) -> bytes:
    # The vendor's page says that header values, like names, are trimmed and in lower case. A POST
    # has no query string: the target of a request that gets here is "/".
    lines = "".join(f"{name}:{request.headers[name].lower()}\n" for name in signed)
    canonical = "\n".join(
        (request.method, "/", "", lines, ";".join(signed), hashlib.sha256(request.body).hexdigest())
    )
    scope = f"{date}/{SERVICE}/{TERMINATION}"
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    return hmac.new(_signing_key(secret_key, date), text.encode(), "sha256").hexdigest().encode()


@lru_cache(maxsize=8)
def _signing_key(secret_key: str, date: str) -> bytes:
    key = f"TC3{secret_key}".encode()
    for part in (date, SERVICE, TERMINATION):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _invalid(reason: str) -> Refused:
    return Refused(
        "AuthFailure.InvalidAuthorization", f"The Authorization header is not valid: {reason}."
    )
