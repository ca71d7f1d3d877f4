"""What the HTTP API takes and gives back, as OpenAPI 3.1 shows it, with an example for each."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from producer import bounds
from producer.web.problems import MEDIA_TYPE

MAX_REFERENCE = 200
LONGEST_WAIT_S = 60

JOB: dict[str, Any] = {
    "job_id": "ev-5f2b0c8a4d1e9f3a7b6c",
    "state": "queued",
    "code": None,
    "message": None,
    "request_id": None,
    "attempts": 0,
    "possible_duplicate": False,
    "phone": "+852 ******67",
    "doubt": None,
    "batch_id": None,
    "reference": "customer 81723",
    "created_at": "2026-11-26T09:30:00.000Z",
    "finished_at": None,
    "due_at": None,
    "replaces": None,
    "replaced_by": None,
    "estimated_send_at": "2026-11-26T09:30:00.150Z",
}
SENT = JOB | {
    "state": "sent",
    "request_id": "f1f5a2f0-0c41-4b37-9a34-6d1f3a1b2c3d",
    "attempts": 1,
    "finished_at": "2026-11-26T09:30:00.391Z",
    "estimated_send_at": None,
}


class CodeRequest(BaseModel):
    """Whom to send a code to: `phone`, or `country_code` and `phone_num`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"phone": "+852 5550 1234", "expires_in": 600, "reference": "customer 81723"},
                {"country_code": "852", "phone_num": "55501234"},
            ]
        },
    )

    phone: Annotated[str, Field(max_length=64)] | None = None
    """The whole number in international form."""
    country_code: Annotated[str, Field(max_length=64)] | None = None
    phone_num: Annotated[str, Field(max_length=64)] | None = None
    expires_in: (
        Annotated[float, Field(gt=0, le=bounds.LONGEST_LIFE_DAYS * 86_400, allow_inf_nan=False)]
        | None
    ) = None
    """Seconds after which the code is of no use and is not sent."""
    reference: Annotated[str, Field(max_length=MAX_REFERENCE)] | None = None
    """Your own name for it, given back everywhere; never put a phone number into it."""
    resend: bool = False
    """Send although another event waits with a code for this number, or has just sent one."""


class Job(BaseModel):
    """A job as it is now. The number is masked; times are ISO 8601 in UTC."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB, SENT]})

    job_id: str
    state: str
    """`queued`, `leased`, `sending` and `parked` are on the way; `sent`, `sent_inferred`, `dead`,
    `unknown`, `cancelled` and `expired` are final."""
    code: str | None
    """Why it failed or waits: a code of the API or of sendcode."""
    message: str | None
    request_id: str | None
    attempts: int
    possible_duplicate: bool
    phone: str
    doubt: str | None
    batch_id: str | None
    reference: str | None
    created_at: str | None
    finished_at: str | None
    due_at: str | None
    replaces: str | None
    replaced_by: str | None
    estimated_send_at: str | None
    """When its request will leave, as far as can be told; null once it has left."""
    same_number: bool = False
    """Another event's job for this number stands for the one that was asked for."""
    earliest_resend_at: str | None = None
    """In that case: when the number may get another code; null while its own waits."""


class ProblemField(BaseModel):
    """One part of the request that is wrong."""

    field: str
    code: str
    detail: str


class ProblemDocument(BaseModel):
    """An error (RFC 9457). `code` is for programs, `detail` for a person."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemField] | None = None


_EXAMPLES: dict[int, tuple[str, str, str, bool]] = {
    400: ("The body is no JSON document.", "malformed", "the body is no JSON document", False),
    401: ("No token, or one that is not known.", "unauthorized", "send a token", False),
    403: ("The token does not allow this.", "forbidden", "this token has no scope send", False),
    404: ("There is no such thing.", "not_found", "there is no such job", False),
    413: ("The body is too large.", "too_large", "at most 4,096 bytes", False),
    415: ("Another kind of body is wanted.", "unsupported_media_type", "send JSON", False),
    422: ("The request makes no sense; nothing was done.", "invalid_request", "phone: …", False),
    429: ("Too many wrong tokens, or a quota is spent.", "too_many", "wait", True),
    503: ("Nothing was accepted; try again with the same key.", "unavailable", "Redis …", True),
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of these errors."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        what, code, detail, retried = _EXAMPLES[status]
        example = {
            "type": f"urn:sendcode:problem:{code}",
            "title": what,
            "status": status,
            "detail": detail,
            "code": code,
        }
        described[status] = {
            "description": what,
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/ProblemDocument"},
                    "example": example,
                }
            },
            **({"headers": _RETRY_AFTER} if retried else {}),
        }
    return described
