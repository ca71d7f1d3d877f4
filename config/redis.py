"""How to reach Redis: `redis://`, `rediss://` and `sentinel://` URLs, for everything but Celery.

And what to tell of its errors: their texts may repeat a command's arguments, their codes do not.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from config.settings import Settings

_SOCKET_TIMEOUT_S = 5.0
_ERROR_CODE = re.compile(r"(?:^|caused error: )[^A-Za-z]*([A-Z]{2,})\b")
"""In an error's text; redis-py puts the command of a pipeline in front."""


def connect(settings: Settings, *, retries: int = 2) -> redis.Redis:
    """Make a client (thread-safe, connects on first use) that answers with `str`.

    A command is tried again up to `retries` times: every script of ours may be applied twice.
    """
    options = {
        "decode_responses": True,
        "socket_timeout": _SOCKET_TIMEOUT_S,
        "socket_connect_timeout": _SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "max_connections": 2_000,  # a worker's threads, and more
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
    }
    url = urlsplit(settings.redis_url)
    if url.scheme != "sentinel":
        return redis.Redis.from_url(settings.redis_url, **options)
    service, _, database = url.path.strip("/").partition("/")
    hosts = [_host_and_port(part) for part in url.netloc.rpartition("@")[2].split(",")]
    credentials = {
        "username": unquote(url.username) if url.username else None,
        "password": unquote(url.password) if url.password else None,
    }
    sentinel = Sentinel(hosts, sentinel_kwargs={"socket_timeout": _SOCKET_TIMEOUT_S})
    master: redis.Redis = sentinel.master_for(
        service, db=int(database or 0), **credentials, **options
    )
    return master


def error_code(error: Exception) -> str:
    """Give the server's own code for a refusal (MISCONF, READONLY …), else the class' name."""
    if not isinstance(error, redis.RedisError):
        return type(error).__name__
    told = _ERROR_CODE.search(str(error))
    return told[1] if told else error.status_code or type(error).__name__


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host else (port, 26379)
