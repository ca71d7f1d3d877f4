"""What it means when Redis cannot be used, in words: one line with place, reason and remedy.

Texts of Redis' own errors are not passed on: they may repeat a command's arguments.
"""

from __future__ import annotations

import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from config.redis import error_code

_CHECK_URL = "check user and password in SENDCODE_REDIS_URL"
_START = "start it, or set SENDCODE_REDIS_URL"
_REASONS: tuple[tuple[type[redis.RedisError], str, str], ...] = (
    (AuthorizationError, "refuses the login", _CHECK_URL),
    (NoPermissionError, "does not allow this user what sendcode needs", _CHECK_URL),
    (AuthenticationError, "refuses the login", _CHECK_URL),
    (BusyLoadingError, "is still loading its data", "try again in a moment"),
    (OutOfMemoryError, "is full", "make room or raise its maxmemory"),
    (ReadOnlyError, "is a read-only replica", "set SENDCODE_REDIS_URL to the primary"),
    (MaxConnectionsError, "has no connection left", "raise its maxclients"),
    (redis.TimeoutError, "does not answer in time", "check the server and the way to it"),
    (redis.ConnectionError, "cannot be reached", _START),
)
_BY_ERROR_CODE = {
    "NOAUTH": ("wants a login", _CHECK_URL),
    "WRONGPASS": ("refuses the login", _CHECK_URL),
    "NOPERM": ("does not allow this user what sendcode needs", _CHECK_URL),
    "MISCONF": ("cannot write to its disk and refuses changes", "look at its log and its disk"),
    "OOM": ("is full", "make room or raise its maxmemory"),
    "READONLY": ("is a read-only replica", "set SENDCODE_REDIS_URL to the primary"),
    "BUSY": ("is held up by a script of somebody else", "look at its log"),
    "CLUSTERDOWN": ("is a Redis Cluster that is down", "use a single primary"),
    "DB": ("has no database of that number", "set a lower one in SENDCODE_REDIS_URL"),
    "MOVED": ("is a Redis Cluster", "use a single primary, with replicas where wanted"),
    "CROSSSLOT": ("is a Redis Cluster", "use a single primary, with replicas where wanted"),
}


class RedisUnavailableError(Exception):
    """Redis cannot be used. The message names the place (no password), the reason and the remedy.

    What was asked for may have been done nevertheless, if only the answer was lost.
    """

    @classmethod
    def from_redis(cls, error: redis.RedisError, place: str) -> RedisUnavailableError:
        """Word an error of the Redis client; `place` is `Settings.redis_place`."""
        reason, remedy = _reason(error)
        return cls(f"Redis at {place} {reason}: {remedy}")


def _reason(error: redis.RedisError) -> tuple[str, str]:
    code = error_code(error)
    if code in _BY_ERROR_CODE:
        return _BY_ERROR_CODE[code]
    for kind, reason, remedy in _REASONS:
        if isinstance(error, kind):
            return reason, remedy
    name = type(error).__name__
    return f"failed ({name}{f' {code}' if code != name else ''})", "look at its log"
