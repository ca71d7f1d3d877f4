"""How to reach Redis, for every part: the ledger, Celery's broker and its results.

All speak RESP2: some servers and proxies refuse Redis' newer protocol, and nothing here needs it.
Behind Sentinels, answers of a server that is no longer the primary are refused
(config/sentinels.py).

Errors are shown by their codes: Redis' own messages may repeat a command's arguments.
"""

from __future__ import annotations

import re
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.driver_info import DriverInfo
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool, SentinelManagedConnection

from config.address import RedisAddress
from config.sentinels import Login, sentinels_of
from config.settings import Settings

_SOCKET_TIMEOUT_S = 5.0
MOST_CONNECTIONS = 16
"""Of one client, shared by all threads of its process: each is used for a millisecond or so."""
_DRIVER = DriverInfo()
"""What `CLIENT LIST` shows of us: redis-py would read its own version anew for each connection."""
_ERROR_CODE = re.compile(r"(?:^|caused error: )[^A-Za-z]*([A-Z]{2,})\b")
"""In an error's message; redis-py puts a pipeline's command in front of it."""


class NotReplicatedError(redis.RedisError):
    """Done, but too few replicas have confirmed it: a failover may undo it."""

    def __init__(self, text: str, reply: Any) -> None:
        super().__init__(text)
        self.reply = reply
        """What the script replied."""


def connect(
    settings: Settings, *, retries: int = 2, timeout_s: float = _SOCKET_TIMEOUT_S
) -> redis.Redis:
    """Return a client (thread-safe, connects on first use) that answers with `str`.

    A command is tried again up to `retries` times: every script of ours may be applied twice.
    `timeout_s` bounds each try.
    """
    return redis.Redis.from_pool(
        make_pool(
            settings.redis,
            decode_responses=True,
            encoding_errors="replace",  # one bad byte must not hide the rest of a reply
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            health_check_interval=30,
            max_connections=MOST_CONNECTIONS,
            timeout=timeout_s,  # the wait for a free connection
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        )
    )


def lets_anybody_in(settings: Settings) -> bool:
    """Return whether Redis answers a client that has neither our login nor our certificate."""
    address, once = settings.redis.without_credentials(), Retry(NoBackoff(), 0)
    pool = make_pool(address, socket_timeout=_SOCKET_TIMEOUT_S, retry=once)
    try:
        return bool(redis.Redis.from_pool(pool).ping())
    except (redis.RedisError, OSError):
        return False


def make_pool(address: RedisAddress, **options: Any) -> redis.ConnectionPool:
    """Return a pool of connections to `address`; `options` are redis-py's, besides the address.

    A `connection_class` among them is derived from that of `connection_class()`. With a `timeout`,
    callers wait that many seconds for a free connection instead of opening one more.
    """
    waits = "timeout" in options
    options |= {
        "db": address.database,
        "username": None,  # kombu passes its URL's
        "password": None,
        "credential_provider": Login(address),
        "protocol": 2,
        **address.tls_options,
    }
    options.setdefault("connection_class", connection_class(address))
    options.setdefault("driver_info", _DRIVER)
    if address.service is None:
        ((host, port),) = address.hosts
        kind = redis.BlockingConnectionPool if waits else redis.ConnectionPool
        return kind(**options, host=host, port=port)
    sentinel_kind = _WaitingSentinelPool if waits else SentinelConnectionPool
    return sentinel_kind(address.service, sentinels_of(address), **options)


class _WaitingSentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """A pool whose callers wait for a free connection, where redis-py would open one more."""


def connection_class(address: RedisAddress) -> type[redis.Connection]:
    """Return the class of connections to `address`."""
    if address.service is None:
        return redis.Connection if address.tls is None else redis.SSLConnection
    return PrimaryConnection if address.tls is None else PrimarySSLConnection


class PrimaryConnection(SentinelManagedConnection):
    """A connection to the primary that the Sentinels name, checked as it connects or reads.

    redis-py asks them when it takes a connection from its pool, but not when it retries a command
    that failed.
    """

    def connect_check_health(
        self,
        check_health: bool = True,
        retry_socket_connect: bool = False,  # noqa: ARG002 (the Sentinels are asked for each try)
    ) -> None:
        if self._sock is None:
            self.host, self.port = self.connection_pool.get_master_address()
            super().connect_check_health(check_health, retry_socket_connect=False)
            self.connection_pool.sentinel_manager.watch(self)

    def _connect_retry(self) -> None:
        self.connect_check_health()

    def read_response(self, *args: Any, **options: Any) -> Any:
        response = super().read_response(*args, **options)
        pool = self.connection_pool
        pool.sentinel_manager.confirm(pool.service_name, (self.host, self.port))
        return response


class PrimarySSLConnection(PrimaryConnection, redis.SSLConnection):
    """The same over TLS."""


def error_code(error: BaseException) -> str:
    """Return the server's own error code (MISCONF, READONLY …), else the error's class name."""
    if not isinstance(error, redis.RedisError):
        return type(error).__name__
    code = _ERROR_CODE.search(str(error))
    return code[1] if code else error.status_code or type(error).__name__
