"""What an answer of the API means for a job. Pure.

An answer is judged by its code (`jobs/codes.py` has the table), never by its message. What is no
answer of this API leaves open whether a code went out, and is ambiguous.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from jobs.codes import Kind, OwnCode, explain

HTTP_OK = 200
_REDIRECTS = range(300, 400)


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


def own_verdict(code: OwnCode, message: str) -> Verdict:
    """Return the verdict on a call that brought no answer of the API."""
    return Verdict(explain(code).kind, str(code), message)


def judge_status(status: int) -> Verdict | None:
    """Return the verdict on an HTTP status alone; None when the body has to be read (200)."""
    if status == HTTP_OK:
        return None
    code = OwnCode.REDIRECT if status in _REDIRECTS else OwnCode.HTTP_STATUS
    return own_verdict(code, f"HTTP status {status}")


def judge_body(body: bytes) -> Verdict:
    """Return the verdict on the body of an answer with HTTP status 200; never raises.

    The content type does not count: a proxy's page does not become an answer by its header,
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
    return Verdict(explain(code).kind, code, _clean_message(error.get("Message")), request_id)


# What the server says ends up in logs, terminals, spreadsheets and Flower: nothing that could steer
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
