"""What is told of an error of Redis: its code, never its text."""

from __future__ import annotations

import pytest
import redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from config.redis import error_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (redis.ResponseError("MISCONF Valkey is configured to save RDB snapshots"), "MISCONF"),
        (redis.ResponseError("UNBLOCKED force unblock from blocking operation"), "UNBLOCKED"),
        (redis.ResponseError("WRONGTYPE Operation against a key"), "WRONGTYPE"),
        (
            redis.ResponseError(
                "Command # 1 (LPUSH x 51234567) of pipeline caused error: MISCONF Errors writing"
            ),
            "MISCONF",
        ),
        (ReadOnlyError("You can't write against a replica", status_code="READONLY"), "READONLY"),
        (OutOfMemoryError("command not allowed when used memory", status_code="OOM"), "OOM"),
        (OutOfMemoryError("command not allowed when used memory"), "OutOfMemoryError"),
        (redis.ConnectionError("Error 111 connecting to x"), "ConnectionError"),
        (redis.TimeoutError("Timeout reading from socket"), "TimeoutError"),
        (OSError("EOF"), "OSError"),
    ],
)
def test_an_error_is_named_by_the_server_s_own_code_or_by_its_class(
    error: Exception, code: str
) -> None:
    assert error_code(error) == code
