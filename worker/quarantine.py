"""Messages that are no job of ours: put aside, capped, their content in no log."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import uuid
from typing import Any

import redis

from config.logging import fields
from config.names import SEND_CODE_TASK
from config.redis import error_code
from jobs.clock import time_ms

log = logging.getLogger("sendcode.quarantine")

MAX_ENTRIES = 100
MAX_KEPT_CHARACTERS = 2_000
KEPT_S = 30 * 86_400
"""From the youngest entry on."""
MAX_BODY_CHARACTERS = 8_192
"""A body of ours has about 250."""
_LONGEST_JOB_ID = 200
_MOVE_ASIDE = """
-- KEYS: where a queue should be, where to move what is there. ARGV: seconds to keep it.
-- Reply: the type of what was moved. Twice: there is nothing left to move.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'list' or kind == 'none' then return false end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return kind
"""


class NotAJobError(Exception):
    """A message is none of ours; says why, in words that show nothing of it."""


def job_id_of(message: Any) -> str:
    """Read the job's id out of a message: a `send_code` with one id.

    Raises:
        NotAJobError: it is no such message.
    """
    if not isinstance(message, dict):
        raise NotAJobError("not a message")
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise NotAJobError("not a Celery message")
    if headers.get("task") != SEND_CODE_TASK:
        raise NotAJobError("unknown task")
    if message.get("content-type") != "application/json":
        raise NotAJobError("not JSON")
    body = message.get("body")
    if not isinstance(body, str) or len(body) > MAX_BODY_CHARACTERS:
        raise NotAJobError("body too large or missing")
    return _job_id_in(body, properties.get("body_encoding"))


def _job_id_in(body: str, encoding: Any) -> str:
    try:
        text = base64.b64decode(body, validate=True) if encoding == "base64" else body
        parts = json.loads(text)
        if not isinstance(parts, list):
            raise NotAJobError("body unreadable")  # an object would be unpacked by its names
        args, kwargs, _ = parts
        (job_id,) = args
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise NotAJobError("body unreadable") from None
    if not isinstance(job_id, str) or not 0 < len(job_id) <= _LONGEST_JOB_ID or kwargs:
        raise NotAJobError("not one job id")
    return job_id


def message_of(job_id: str, queue: str) -> dict[str, Any]:
    """Make a message anew from all that counts in one, as Celery's protocol 2 has it.

    Celery and kombu believe every field of a message, and a wrong one ends the worker (a time
    limit that is no pair, a list for an id): nothing that came from outside is passed on to them.
    """
    body = json.dumps([[job_id], {}, {"callbacks": None, "errbacks": None, "chain": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": SEND_CODE_TASK,
            "id": job_id,
            "root_id": job_id,
            "argsrepr": repr((job_id,)),
            "kwargsrepr": "{}",
            "retries": 0,
            "timelimit": [None, None],
            "ignore_result": False,
        },
        "properties": {
            "correlation_id": job_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def move_aside(client: redis.Redis, quarantine: str, key: str) -> None:
    """Rename a key that is no list where a queue should be; a queue in its place is left alone.

    Raises:
        redis.RedisError: it is perhaps still there.
    """
    kept = f"{quarantine}:{key}"
    kind: Any = client.eval(_MOVE_ASIDE, 2, key, kept, KEPT_S)
    if kind is not None:
        told = kind.decode() if isinstance(kind, bytes) else kind
        put_aside(client, quarantine, key, f"the queue itself is a {told}, kept as {kept}", "")


def put_aside(client: redis.Redis, key: str, queue: str, reason: str, content: str) -> None:
    """Keep the start of `content` with its queue and reason in the list `key`; never raises."""
    log.error(
        "message put aside: it is no job",
        extra=fields(queue=queue, reason=reason, size=len(content)),
    )
    entry = {
        "at_ms": 0,
        "queue": queue,
        "reason": reason,
        "size": len(content),
        "content": content[:MAX_KEPT_CHARACTERS],
    }
    try:
        entry["at_ms"] = time_ms(client.time())
        with client.pipeline() as pipe:
            pipe.lpush(key, json.dumps(entry))
            pipe.ltrim(key, 0, MAX_ENTRIES - 1)
            pipe.expire(key, KEPT_S)  # it may hold numbers
            pipe.execute()
    except redis.RedisError as exc:
        log.warning("message not kept", extra=fields(error=error_code(exc)))
