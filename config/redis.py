"""How to reach Redis, for every part: the ledger, Celery's broker and its results.

All speak RESP2: Redis' own newer protocol is refused by some servers and proxies, and nothing here
needs it. Behind Sentinels, answers of a server that is no longer the primary are refused.

Errors are shown by their codes: Redis' own texts may repeat a command's arguments.
"""

from __future__ import annotations

import re
import ssl
from threading import Lock
from time import monotonic
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)

from config.address import RedisAddress
from config.settings import Settings

_SOCKET_TIMEOUT_S = 5.0
MOST_CONNECTIONS = 16
"""Of one client, shared by all threads of its process: each is used for a millisecond or so."""
_SENTINEL_TIMEOUT_S = 2.0
CONFIRMED_FOR_S = 1.0
"""How long a Sentinel's answer is believed, by each pool of connections."""
_UNANSWERED_FOR_S = 10.0
"""After no Sentinel answered, seconds until one is asked again: each may take its time-out."""
_ERROR_CODE = re.compile(r"(?:^|caused error: )[^A-Za-z]*([A-Z]{2,})\b")
"""In an error's text; redis-py puts the command of a pipeline in front."""


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
            encoding_errors="replace",  # one bad byte must not hide all that comes with it
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            health_check_interval=30,
            max_connections=MOST_CONNECTIONS,
            timeout=timeout_s,  # to wait for one of them
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        )
    )


def lets_anybody_in(settings: Settings) -> bool:
    """Return whether Redis answers somebody who has neither login nor certificate of ours."""
    once = Retry(NoBackoff(), 0)
    pool = make_pool(settings.redis.of_a_stranger(), socket_timeout=_SOCKET_TIMEOUT_S, retry=once)
    try:
        return bool(redis.Redis.from_pool(pool).ping())
    except (redis.RedisError, OSError):
        return False


def make_pool(address: RedisAddress, **options: Any) -> redis.ConnectionPool:
    """Return a pool of connections to `address`; `options` are redis-py's, beside the address.

    A `connection_class` among them is derived from that of `connection_class()`. With a `timeout`
    (seconds) its users wait so long for a free connection instead of opening one more.
    """
    waits = "timeout" in options
    options |= {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "protocol": 2,
        **_tls_options(address),
    }
    options.setdefault("connection_class", connection_class(address))
    if address.service is None:
        ((host, port),) = address.hosts
        kind = redis.BlockingConnectionPool if waits else redis.ConnectionPool
        return kind(**options, host=host, port=port)
    behind = _WaitingSentinelPool if waits else SentinelConnectionPool
    return behind(address.service, Sentinels(address), **options)


def _tls_options(address: RedisAddress) -> dict[str, Any]:
    if address.tls is None:
        return {}
    return {**address.tls, "ssl_min_version": ssl.TLSVersion.TLSv1_2}


class _WaitingSentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """A pool whose users wait for a free connection, where redis-py would open one more."""


def connection_class(address: RedisAddress) -> type[redis.Connection]:
    """Return the class of connections to `address`."""
    if address.service is None:
        return redis.Connection if address.tls is None else redis.SSLConnection
    return PrimaryConnection if address.tls is None else PrimarySSLConnection


class Sentinels(Sentinel):
    """The Sentinels of an address: which server is the primary, and whether it still is."""

    def __init__(self, address: RedisAddress) -> None:
        options = {
            "username": address.sentinel_username,
            "password": address.sentinel_password,
            "protocol": 2,
            "socket_timeout": _SENTINEL_TIMEOUT_S,
            "socket_connect_timeout": _SENTINEL_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),  # the next one is asked
        }
        if address.tls is not None:
            options |= {"ssl": True, **_tls_options(address)}
        super().__init__(address.hosts, sentinel_kwargs=options)
        self._lock = Lock()
        self._primary: tuple[str, int] | None = None
        self._ask_at = 0.0

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the address of the primary.

        Raises:
            MasterNotFoundError: none is known, or it is down or being replaced. Its cause is the
                last Sentinel's error if none of them could be asked.
        """
        failed: redis.RedisError | None = None
        answered = False
        for sentinel in self.sentinels:
            try:
                state: Any = sentinel.sentinel_master(service_name)
            except redis.RedisError as exc:
                failed = exc
                continue
            answered = True
            flags = state["flags"].split(",")
            if self.check_master_state(state, service_name) and "failover_in_progress" not in flags:
                others = [each for each in self.sentinels if each is not sentinel]
                self.sentinels = [sentinel, *others]  # who answers is asked first from now on
                self._primary = state["ip"], state["port"]
                self._ask_at = monotonic() + CONFIRMED_FOR_S
                return self._primary
        if answered:
            raise MasterNotFoundError("the Sentinels know of no healthy primary")
        raise MasterNotFoundError("no Sentinel could be asked") from failed

    def confirm(self, service_name: str, address: tuple[str, int]) -> None:
        """Check that `address` is the primary's.

        A server that hung, or was cut off, while another took its place goes on as a primary for
        seconds when it is back; what it accepts is lost. Where no Sentinel can be asked, it is
        believed.

        Raises:
            MasterNotFoundError: it is not.
        """
        if self._ask_at < monotonic() and self._lock.acquire(timeout=2 * _SENTINEL_TIMEOUT_S):
            try:
                if self._ask_at < monotonic():  # no other thread has asked meanwhile
                    self._ask(service_name)
            finally:
                self._lock.release()
        if self._primary != address:
            raise MasterNotFoundError("another server is the primary now")

    def _ask(self, service_name: str) -> None:
        try:
            self.discover_master(service_name)
        except MasterNotFoundError as exc:
            if exc.__cause__ is None:
                self._primary, self._ask_at = None, monotonic() + CONFIRMED_FOR_S
            else:
                self._ask_at = monotonic() + _UNANSWERED_FOR_S


class PrimaryConnection(SentinelManagedConnection):
    """A connection to the primary that the Sentinels name, whenever it connects or is answered.

    redis-py asks them when it takes a connection from its pool, but not when a command that failed
    is tried again.
    """

    def connect_check_health(
        self,
        check_health: bool = True,
        retry_socket_connect: bool = False,  # noqa: ARG002 (the Sentinels are asked for each try)
    ) -> None:
        if self._sock is None:
            self.host, self.port = self.connection_pool.get_master_address()
            super().connect_check_health(check_health, retry_socket_connect=False)

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
    """Return the server's own code for a refusal (MISCONF, READONLY …), else the class' name."""
    if not isinstance(error, redis.RedisError):
        return type(error).__name__
    code = _ERROR_CODE.search(str(error))
    return code[1] if code else error.status_code or type(error).__name__
