"""Messages that are no job of ours: put aside, capped, their content in no log."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
from typing import Any

import redis

from config.logging import fields
from config.names import SEND_CODE_TASK

log = logging.getLogger("sendcode.quarantine")

MAX_ENTRIES = 100
MAX_KEPT_CHARACTERS = 2_000
MAX_BODY_CHARACTERS = 8_192
"""A body of ours has about 250."""
_LONGEST_JOB_ID = 200


def fault_of(message: Any) -> str | None:
    """Say why a message is no job of ours, or None if it is one: a `send_code` with one id."""
    if not isinstance(message, dict):
        return "not a message"
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        return "not a Celery message"
    if headers.get("task") != SEND_CODE_TASK:
        return "unknown task"
    if message.get("content-type") != "application/json":
        return "not JSON"
    if not isinstance(properties.get("delivery_tag"), str):
        return "no delivery tag"
    return _body_fault(message.get("body"), properties.get("body_encoding"))


def _body_fault(body: Any, encoding: Any) -> str | None:
    if not isinstance(body, str) or len(body) > MAX_BODY_CHARACTERS:
        return "body too large or missing"
    try:
        text = base64.b64decode(body, validate=True) if encoding == "base64" else body
        args, kwargs, _ = json.loads(text)
        (job_id,) = args
    except (binascii.Error, ValueError, TypeError, RecursionError):
        return "body unreadable"
    if not isinstance(job_id, str) or not 0 < len(job_id) <= _LONGEST_JOB_ID or kwargs:
        return "not one job id"
    return None


def put_aside(client: redis.Redis, key: str, queue: str, reason: str, content: str) -> None:
    """Keep the start of `content` with its queue and reason in the list `key`; never raises."""
    log.error(
        "message put aside: it is no job",
        extra=fields(queue=queue, reason=reason, size=len(content)),
    )
    entry = {
        "at_ms": round(time.time() * 1000),
        "queue": queue,
        "reason": reason,
        "size": len(content),
        "content": content[:MAX_KEPT_CHARACTERS],
    }
    try:
        with client.pipeline() as pipe:
            pipe.lpush(key, json.dumps(entry))
            pipe.ltrim(key, 0, MAX_ENTRIES - 1)
            pipe.execute()
    except redis.RedisError as exc:
        log.warning("message not kept", extra=fields(error=type(exc).__name__))
