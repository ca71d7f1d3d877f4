"""Requests and responses of the HTTP API, for OpenAPI 3.1; their examples are in examples.json."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from jobs.job import MAX_KEY_LENGTH
from producer import bounds
from producer.web.problems import MEDIA_TYPE, Problem, ProblemField

LONGEST_WAIT_S = 60

_EXAMPLES: dict[str, dict[str, Any]] = json.loads(
    (files(__package__) / "examples.json").read_text("utf-8")
)
JOB, BATCH, STATUS = _EXAMPLES["job"], _EXAMPLES["batch"], _EXAMPLES["status"]
SENT = JOB | _EXAMPLES["sent"]
ONE_BATCH = BATCH | _EXAMPLES["one_batch"]
STEERED = BATCH | _EXAMPLES["steered"]
SUBMITTED = BATCH | _EXAMPLES["submitted"] | {"file": _EXAMPLES["tally"]}
CHECKED = _EXAMPLES["tally"] | _EXAMPLES["checked"]

LifeS = Annotated[float, Field(gt=0, le=bounds.LONGEST_LIFE_DAYS * 86_400, allow_inf_nan=False)]


class _Document(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class CodeRequest(_Document):
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
    expires_in: Annotated[LifeS, Field(strict=True)] | None = None
    """Seconds after which the code is of no use and is not sent."""
    reference: Annotated[str, Field(max_length=MAX_KEY_LENGTH)] | None = None
    """Your own name for it, returned everywhere; never put a phone number into it: one with a plus
    comes back masked."""
    resend: Annotated[bool, Field(strict=True)] = False
    """Send even if another event's code for this number is waiting, or was just sent."""


class Job(_Document):
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
    test: bool
    """A test token asked for it: nothing was sent."""
    phone: str
    doubt: str | None
    batch_id: str | None
    reference: str | None
    key: str | None
    """The idempotency key that it came with."""
    created_at: str | None
    finished_at: str | None
    due_at: str | None
    replaces: str | None
    replaced_by: str | None
    estimated_send_at: str | None
    """When its request will probably leave; null once it has left."""
    same_number: bool = False
    """True: this is another event's job for the same number, and no job was added."""
    earliest_resend_at: str | None = None
    """In that case: when the number may get another code; null while that job waits."""


class ProblemDocument(_Document):
    """An error (RFC 9457). `code` is for programs, `detail` for a person."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemField] | None = None


def _flag(value: str) -> bool | None:
    """Return a form's `true` or `false`, or None for anything else, which is refused."""
    return {"true": True, "false": False}.get(value)


_Flag = Annotated[bool, BeforeValidator(_flag)]
_Text = Annotated[str, Field(max_length=200)]


class BatchForm(_Document):
    """The fields that may come with a file."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(max_length=64)] | None = None
    """The batch's id; by default from the file's content."""
    name: _Text | None = None
    """The batch's name for people; by default the file's name."""
    max_rate: (
        Annotated[float, Field(ge=bounds.SLOWEST, le=bounds.FASTEST, allow_inf_nan=False)] | None
    ) = None
    """Jobs per second at most, below the account's limit."""
    starts_at: AwareDatetime | None = None
    """Send nothing before this time, such as 2026-11-27T10:00:00Z."""
    expires_in: LifeS | None = None
    """Seconds from the start after which the codes are of no use and are not sent."""
    skip_sent: _Flag = False
    """`true` leaves out rows whose number got a code or waits for one."""
    again: _Flag = False
    """`true` submits the same content again as another batch, which needs another `id`."""
    encoding: _Text | None = None
    """The text's encoding, such as gb18030, if it is not detected correctly."""
    sheet: _Text | None = None
    """The workbook's sheet; by default the first."""
    phone_column: _Text | None = None
    """The column of the numbers; by default detected by its name and cells."""
    country_column: _Text | None = None
    """The column of the countries or their calling codes."""


def form_body() -> dict[str, Any]:
    """Return the OpenAPI description of a file with `BatchForm`'s fields."""
    file = {
        "type": "string",
        "format": "binary",
        "description": "CSV, Excel .xlsx or JSON Lines, also packed as .gz; with a file name.",
    }
    fields = {"file": file}
    for name, field in BatchForm.model_json_schema()["properties"].items():
        kinds = field.pop("anyOf", [{}])  # in a form, what is null is left out
        fields[name] = {**field, **kinds[0]}
        if fields[name].get("default", "") is None:
            del fields[name]["default"]
    schema = {
        "type": "object",
        "properties": fields,
        "required": ["file"],
        "additionalProperties": False,
    }
    example = {"file": "country_code,phone_num\r\n852,55501234\r\n", "name": "May"}
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": schema, "example": example}},
    }


class BatchDocument(_Document):
    """A batch as it is now. Times are ISO 8601 in UTC."""

    model_config = ConfigDict(json_schema_extra={"examples": [BATCH]})

    batch_id: str
    name: str
    state: str
    """`importing`, `scheduled`, `running`, `paused`, `done` or `cancelled`."""
    total: int
    accepted: int
    rejected: int
    rows_lost: int
    """Rows that were lost: submit the file again."""
    finished: int
    counts: dict[str, int]
    """Rows by state."""
    by_code: dict[str, int]
    """Failed jobs by code."""
    possible_duplicate: int
    rate: float
    eta_seconds: float | None
    max_rate: float | None
    bound: str | None
    """The rule of the quotas, such as `budget`, that paused it."""
    by: str | None
    corrects: str | None
    starts_at: str | None
    created_at: str
    expires_at: str | None
    finished_at: str | None


class Customers(_Document):
    """Customers of a batch, with those of the files that corrected it."""

    total: int
    done: int
    left: int
    """Customers that a person left as they are."""
    open: int
    corrections: list[str]


class OneBatch(BatchDocument):
    """One batch."""

    customers: Customers


class BatchList(_Document):
    """Batches, the newest first."""

    batches: list[BatchDocument]
    more: bool
    """There are older ones: ask again with the last id as `before`."""


class SteeredDocument(BatchDocument):
    """A batch that was paused, resumed or cancelled."""

    changed: bool
    before: str


class Tally(_Document):
    """The rows of a file, counted."""

    rows: int
    valid: int
    invalid: int
    invalid_by_reason: list[dict[str, Any]]
    doubts: list[dict[str, Any]]
    """Rows that are sent all the same."""
    repairs: list[dict[str, Any]]
    sent_before: dict[str, Any] | None
    waiting_elsewhere: dict[str, Any] | None


class SubmittedDocument(BatchDocument):
    """A batch that was submitted."""

    already_submitted: bool
    file: Tally | None
    """Null if the file was not read, as all of it had been submitted before."""
    left_aside: list[str]
    """Fields that had no effect: a batch keeps those of its first submission."""
    notes: list[str]
    """What a person should know about how the file was read."""


class CheckedDocument(Tally):
    """What submitting a file would do."""

    file: str
    notes: list[str]
    batch_id: str
    refused: str | None
    """Why the whole file would be refused, if it would."""
    already_submitted: str | None
    """The state of the batch that has this content."""
    doubles: dict[str, Any]
    used_too_often: dict[str, Any]
    in_interval: dict[str, Any] | None
    rate: float | None
    waiting_before: int | None
    workers: int | None
    halted: bool | None
    eta_seconds: float | None


class StatusDocument(_Document):
    """The whole system, as `sendcode status --json` shows it."""

    at: str
    ledger: dict[str, Any]
    account: dict[str, Any]
    queues: dict[str, int]
    memory_used: float | None
    in_work: int
    rows_waiting: int
    oldest_due_s: dict[str, float]
    oldest_event_s: dict[str, float]
    totals: dict[str, int]
    dead_by_code: dict[str, int]
    perhaps_sent_by_code: dict[str, int]
    rate: dict[str, Any]
    workers: list[dict[str, Any]]
    quarantined: int
    unknown_data_keys: list[str]
    quota_refusals: dict[str, int]
    webhooks: list[dict[str, Any]]
    misfits: list[str]
    damage: list[dict[str, Any]]
    batches: list[dict[str, Any]]


_, _definitions = models_json_schema(
    [(ProblemDocument, "serialization")], ref_template="#/components/schemas/{model}"
)
PROBLEM_SCHEMAS: dict[str, Any] = _definitions["$defs"]
"""Schemas that FastAPI leaves out, as no route returns these models."""
LOCATION = {"Location": {"schema": {"type": "string"}}}


def answers(description: str, example: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the OpenAPI description of a JSON response, with its example."""
    content = {"application/json": {"example": example}}
    return {"description": description, "content": content, **more}


_PROBLEMS: dict[int, tuple[str, str, str]] = {
    400: ("The body is not a JSON document.", "malformed", "the body is not a JSON document"),
    408: ("The rest of the body did not arrive.", "request_timeout", "send it again"),
    409: ("It conflicts with what is named.", "content_held", "batch 9f2c81d04ab7 has …"),
    401: ("No token, or one that is not known.", "unauthorized", "send a token"),
    403: ("The token does not allow this.", "forbidden", "this token has no scope send"),
    404: ("It does not exist, or is no longer kept.", "not_found", "there is no such job"),
    405: ("This path does not allow the method.", "method_not_allowed", "Method Not Allowed"),
    413: ("The body is too large.", "too_large", "at most 4,096 bytes"),
    415: ("Another media type is expected.", "unsupported_media_type", "send JSON"),
    422: ("The request is invalid; nothing was done.", "invalid_request", "phone: …"),
    429: ("A quota refuses it.", "quota_exceeded", "the quota number … is spent"),
    503: ("Nothing was accepted; try again with the same key.", "unavailable", "Redis …"),
}
"""By status: its meaning, and the code and detail of an example."""
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of these errors."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        what, code, detail = _PROBLEMS[status]
        content = {
            "schema": {"$ref": "#/components/schemas/ProblemDocument"},
            "example": Problem(status, code, detail).document(),
        }
        described[status] = {"description": what, "content": {MEDIA_TYPE: content}}
        if status in {429, 503}:
            described[status]["headers"] = _RETRY_AFTER
    return described
