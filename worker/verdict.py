"""What an answer of the API means for a job: the table, and the reading of an answer. Pure.

An answer is judged by its code, never by its message. What is no answer of this API leaves
open whether a code went out, and is ambiguous.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobs.codes import CodeTable, OwnCode

HTTP_OK = 200
_REDIRECTS = range(300, 400)


class Kind(StrEnum):
    """What happened, and with it what to do next."""

    SENT = "sent"
    TRANSIENT = "transient"
    """Not sent, for a passing reason: try again after a wait."""
    AMBIGUOUS = "ambiguous"
    """Perhaps sent: only a probe inside the number's interval can tell."""
    THROTTLED = "throttled"
    """Not sent: the whole fleet is too fast. Spends no attempt."""
    TOO_EARLY = "too_early"
    """Not sent: a code went to this number within the interval. To a probe it is the proof that
    the attempt before it was accepted."""
    TOO_OFTEN = "too_often"
    """Not sent: too many codes to this number lately. Long waits, few tries."""
    PERMANENT = "permanent"
    """Not sent, and never will be: the number is at fault."""
    CLOCK = "clock"
    """Not sent: the timestamp was more than 5 minutes off. The client has noted the server's
    time: take a slot and call again, once; if it stays, it is as ACCOUNT."""
    ACCOUNT = "account"
    """Not sent, and no job is at fault: halt the sending."""
    UNKNOWN = "unknown"
    """A code that nobody documented: one more try."""
    STALE = "stale"
    """Not sent: the caller's time was over before anything was written. It may have lost its
    lease meanwhile, so it must not go on with the job."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One call's result. Safe to log and to show: it holds no telephone number and no secret.

    Attributes:
        kind: What to do next.
        code: The API's code, or one of `OwnCode`; empty when the code was sent.
        message: The API's message, cleaned; or ours.
        request_id: The vendor's, for a ticket; None when no answer brought one.
    """

    kind: Kind
    code: str = ""
    message: str = ""
    request_id: str | None = None


VERDICTS = CodeTable(
    exact={
        "OperationDenied.ServiceBusy": Kind.TRANSIENT,
        "FailedOperation.SendVerifyCodeLimit60": Kind.TOO_EARLY,
        "FailedOperation.SendVerifyCodeLimit": Kind.TOO_OFTEN,
        "FailedOperation.PhoneBindUpper": Kind.PERMANENT,
        "AuthFailure.SignatureExpire": Kind.CLOCK,
        "IpInBlacklist": Kind.ACCOUNT,
        "IpNotInWhitelist": Kind.ACCOUNT,
        "ActionOffline": Kind.ACCOUNT,
        "InvalidAction": Kind.ACCOUNT,
        "NoSuchProduct": Kind.ACCOUNT,
        "NoSuchVersion": Kind.ACCOUNT,
        "InvalidRequest": Kind.ACCOUNT,
        "RequestSizeLimitExceeded": Kind.ACCOUNT,
        OwnCode.DNS: Kind.TRANSIENT,
        OwnCode.CONNECT: Kind.TRANSIENT,
        OwnCode.CONNECT_TIMEOUT: Kind.TRANSIENT,
        OwnCode.TLS: Kind.TRANSIENT,
        OwnCode.STALE: Kind.STALE,
        OwnCode.READ_TIMEOUT: Kind.AMBIGUOUS,
        OwnCode.LOST: Kind.AMBIGUOUS,
        OwnCode.HTTP_STATUS: Kind.AMBIGUOUS,
        OwnCode.REDIRECT: Kind.AMBIGUOUS,
        OwnCode.TOO_LARGE: Kind.AMBIGUOUS,
        OwnCode.NOT_JSON: Kind.AMBIGUOUS,
        OwnCode.WRONG_SHAPE: Kind.AMBIGUOUS,
    },
    prefix={
        "ServiceUnavailable": Kind.TRANSIENT,
        "ResourceUnavailable": Kind.TRANSIENT,
        "ResourceInsufficient": Kind.TRANSIENT,
        "InternalError": Kind.AMBIGUOUS,
        "RequestLimitExceeded": Kind.THROTTLED,
        "InvalidParameter": Kind.PERMANENT,  # and InvalidParameterValue, with .UnSupportArea
        "MissingParameter": Kind.PERMANENT,
        "UnknownParameter": Kind.PERMANENT,
        "AuthFailure": Kind.ACCOUNT,
        "UnauthorizedOperation": Kind.ACCOUNT,
        "Unsupported": Kind.ACCOUNT,
        "LimitExceeded": Kind.ACCOUNT,
    },
)


def classify(code: str) -> Kind:
    """The kind for a code: exact, then by prefix, else UNKNOWN."""
    return VERDICTS.find(code) or Kind.UNKNOWN


def own_verdict(code: OwnCode, message: str) -> Verdict:
    """The verdict on a call that brought no answer of the API."""
    return Verdict(classify(code), str(code), message)


def judge_status(status: int) -> Verdict | None:
    """The verdict on an HTTP status alone; None when the body has to be read (200)."""
    if status == HTTP_OK:
        return None
    code = OwnCode.REDIRECT if status in _REDIRECTS else OwnCode.HTTP_STATUS
    return own_verdict(code, f"HTTP status {status}")


def judge_body(body: bytes) -> Verdict:
    """The verdict on the body of an answer with HTTP status 200; never raises.

    The content type is not looked at: a proxy's page does not become an answer by its header,
    nor does an answer stop being one.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return own_verdict(OwnCode.NOT_JSON, f"{len(body)} bytes that are no JSON")
    response = answer.get("Response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        return own_verdict(OwnCode.WRONG_SHAPE, "JSON without a Response object")
    return _judge_response(response)


def _judge_response(response: dict[str, Any]) -> Verdict:
    request_id = _clean_request_id(response.get("RequestId"))
    if "Error" not in response:
        if request_id is None:
            return own_verdict(OwnCode.WRONG_SHAPE, "neither an Error nor a RequestId")
        return Verdict(Kind.SENT, request_id=request_id)

    error = response["Error"]
    code = error.get("Code") if isinstance(error, dict) else None
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return Verdict(
            Kind.AMBIGUOUS, str(OwnCode.WRONG_SHAPE), "an Error without a readable Code", request_id
        )
    return Verdict(classify(code), code, _clean_message(error.get("Message")), request_id)


# What the server says ends in logs, terminals, spreadsheets and Flower: nothing that could steer
# them gets through, and no telephone number that it may repeat to us, however grouped.
_CODE = re.compile(r"(?!.*\d{5})[A-Za-z][A-Za-z0-9_]{0,63}(?:\.[A-Za-z0-9_]{1,64}){0,3}", re.ASCII)
_NOT_IN_REQUEST_ID = re.compile(r"[^A-Za-z0-9._-]")
_NUMBER = re.compile(r"\+?\d(?:[^0-9A-Za-z]{0,3}\d){4,}")
_LONGEST_REQUEST_ID = 128
_LONGEST_MESSAGE = 300


def _clean_request_id(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return _NOT_IN_REQUEST_ID.sub("?", value[:_LONGEST_REQUEST_ID])


def _clean_message(value: object) -> str:
    if not isinstance(value, str):
        return ""
    printable = "".join(char if char.isprintable() else " " for char in value)
    return _NUMBER.sub("[number]", printable).strip()[:_LONGEST_MESSAGE]
