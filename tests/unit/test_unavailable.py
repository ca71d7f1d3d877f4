"""What is said when Redis cannot be used."""

from __future__ import annotations

import pytest
import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from producer.unavailable import RedisUnavailableError

PLACE = "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (redis.ConnectionError("Error 111 connecting to x"), "cannot be reached: start it"),
        (redis.TimeoutError("Timeout reading from socket"), "does not answer in time"),
        (AuthenticationError("invalid username-password pair"), "refuses the login: check user"),
        (redis.ResponseError("WRONGPASS invalid username-password pair"), "refuses the login"),
        (redis.ResponseError("NOAUTH Authentication required."), "wants a login"),
        (NoPermissionError("this user has no permissions"), "does not allow this user"),
        (BusyLoadingError("Redis is loading the dataset in memory"), "still loading"),
        (OutOfMemoryError("command not allowed when used memory"), "is full: make room"),
        (redis.ResponseError("OOM command not allowed when used memory"), "is full: make room"),
        (ReadOnlyError("You can't write against a read only replica."), "read-only replica"),
        (redis.ResponseError("MISCONF Errors writing to the AOF file"), "cannot write to its disk"),
        (redis.ResponseError("MOVED 3999 127.0.0.1:6381"), "is a Redis Cluster"),
        (redis.ResponseError("ERR something new"), "failed (ResponseError ERR)"),
    ],
)
def test_each_error_is_one_line_with_place_reason_and_remedy(
    error: redis.RedisError, words: str
) -> None:
    told = str(RedisUnavailableError.from_redis(error, PLACE))

    assert told.startswith(f"Redis at {PLACE} ")
    assert words in told
    assert "\n" not in told


def test_what_redis_repeats_of_a_command_is_not_passed_on() -> None:
    error = redis.ResponseError("ERR unknown command 'x', with args beginning with: '18888888888'")

    assert "18888888888" not in str(RedisUnavailableError.from_redis(error, PLACE))
