"""Which server is the primary, as the Sentinels report it, and whether it still is.

All connections of a process to one address ask the same `Sentinels`, so that all follow a failover
at the same moment. In a process that lives longer than a second, a thread for each Sentinel
subscribes to its announcements: the first of a failover comes a tenth of a second or more before
the replica stops following its primary. From then on no answer of the old primary is trusted,
because what it accepts is lost.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any
from weakref import WeakSet, WeakValueDictionary, ref

import redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from config.address import RedisAddress

_TIMEOUT_S = 2.0
CONFIRMED_FOR_S = 1.0
"""How long a Sentinel's answer is trusted."""
_ASK_EVERY_S = CONFIRMED_FOR_S / 2
_REPLY_VALID_S = 3.0
"""How long a reply counts beside the others': longer than the time-out of one that hangs."""
_UNANSWERED_FOR_S = 10.0
"""Seconds until a Sentinel is asked again after none answered: each may take its time-out."""

Place = tuple[str, int]


class Login(CredentialProvider):
    """The login, read anew for each connection that opens: a password may have been replaced."""

    def __init__(self, address: RedisAddress, *, of_sentinels: bool = False) -> None:
        self._address = address
        self._of_sentinels = of_sentinels

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        now = self._address.with_current_login()
        username, password = now.username, now.password
        if self._of_sentinels:
            username, password = now.sentinel_username, now.sentinel_password
        if username:
            return username, password or ""
        return (password,) if password else ()  # type: ignore[return-value]  # without a login


class Sentinels(Sentinel):
    """The Sentinels of one address. Thread-safe."""

    def __init__(self, address: RedisAddress) -> None:
        options = {
            "credential_provider": Login(address, of_sentinels=True),
            "protocol": 2,
            "socket_timeout": _TIMEOUT_S,
            "socket_connect_timeout": _TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),  # the next one is asked
        }
        if address.tls is not None:
            options |= {"ssl": True, **address.tls_options}
        super().__init__(address.hosts, sentinel_kwargs=options)
        self._lock = Lock()
        self._replies: dict[redis.Redis, tuple[float, dict[str, Any]]] = {}
        self._primary: Place | None = None
        self._ask_at = 0.0
        self._listens_in = 0
        self._connections: WeakSet[Any] = WeakSet()
        self._connections_lock = Lock()

    def discover_master(self, service_name: str) -> Place:
        """Return the address of the primary.

        Raises:
            MasterNotFoundError: none is known, or it is down or being replaced. Its cause is the
                last Sentinel's error if none of them could be asked.
        """
        failed: redis.RedisError | None = None
        answered = False
        for sentinel in self.sentinels:
            try:
                primary = self.ask(sentinel, service_name)
            except redis.RedisError as exc:
                failed = exc
                continue
            answered = True
            if primary is not None:
                others = [each for each in self.sentinels if each is not sentinel]
                self.sentinels = [sentinel, *others]  # asked first from now on
                return primary
        if answered:
            raise MasterNotFoundError("the Sentinels know of no healthy primary")
        raise MasterNotFoundError("no Sentinel could be asked") from failed

    def ask(self, sentinel: redis.Redis, service_name: str) -> Place | None:
        """Ask a Sentinel; return the primary by the last replies of all, None without one.

        Raises:
            redis.RedisError: it could not be asked.
        """
        state: Any = sentinel.sentinel_master(service_name)
        now = monotonic()
        self._replies[sentinel] = now, state
        self._primary = self._judge(
            [state for at, state in self._replies.copy().values() if at > now - _REPLY_VALID_S]
        )
        self._ask_at = now + CONFIRMED_FOR_S
        if self._primary is not None:
            self._end_connections_to_others(self._primary)
        return self._primary

    def _judge(self, states: list[dict[str, Any]]) -> Place | None:
        """Return the primary that the newest configuration names, unless it is being replaced."""
        newest = max(state["config-epoch"] for state in states)
        replaced = {_place(each) for each in states if "failover_in_progress" in each["flags"]}
        named = (
            _place(state)
            for state in states
            if state["config-epoch"] == newest and self.check_master_state(state, "")
        )
        return next((place for place in named if place not in replaced), None)

    def watch(self, connection: redis.Connection) -> None:
        """Watch a connection; close it as soon as a server other than its own is the primary.

        A caller would otherwise wait for the time-out of a server that hangs or is cut off.
        """
        with self._connections_lock:
            self._connections.add(connection)

    def _end_connections_to_others(self, primary: Place) -> None:
        with self._connections_lock:
            connections = list(self._connections)
        for each in connections:
            open_socket = each._sock  # None while it is closed
            if open_socket is not None and (each.host, each.port) != primary:
                with suppress(OSError):
                    # below TLS, which only the thread that uses it may shut down
                    socket.socket.shutdown(open_socket, socket.SHUT_RDWR)

    def confirm(self, service_name: str, address: Place) -> None:
        """Check that `address` is the primary's.

        A server that is being replaced, or that hung or was cut off while another took its place,
        still acts as the primary for seconds; what it accepts is lost. Where no Sentinel can be
        asked, the last known primary is trusted.

        Raises:
            MasterNotFoundError: it is not.
        """
        if self._ask_at < monotonic() and self._lock.acquire(timeout=2 * _TIMEOUT_S):
            try:
                if self._ask_at < monotonic():  # no other thread has asked meanwhile
                    self._ask_any(service_name)
                    self._listen_to_all(service_name)
            finally:
                self._lock.release()
        if self._primary != address:
            raise MasterNotFoundError("another server is the primary now")

    def _ask_any(self, service_name: str) -> None:
        try:
            self.discover_master(service_name)
        except MasterNotFoundError as exc:
            if exc.__cause__ is not None:
                self._ask_at = monotonic() + _UNANSWERED_FOR_S

    def _listen_to_all(self, service_name: str) -> None:
        """Start the threads, once in this process: a fork inherits none."""
        if self._listens_in == os.getpid():
            return
        self._listens_in = os.getpid()
        for sentinel in self.sentinels:
            work = (ref(self), sentinel, service_name)
            Thread(target=_listen, args=work, name="sentinel", daemon=True).start()


def _place(state: dict[str, Any]) -> Place:
    return state["ip"], state["port"]


def _listen(
    sentinels: Callable[[], Sentinels | None], sentinel: redis.Redis, service_name: str
) -> None:
    """Ask a Sentinel whenever it announces something, and every half second."""
    while sentinels():
        try:
            with sentinel.pubsub() as announcements:
                announcements.psubscribe("*")
                while asking := sentinels():
                    asking.ask(sentinel, service_name)
                    del asking  # else the reference would keep it alive
                    announcements.get_message(timeout=_ASK_EVERY_S)
        except redis.RedisError:
            sleep(CONFIRMED_FOR_S)
    sentinel.close()


_known: WeakValueDictionary[RedisAddress, Sentinels] = WeakValueDictionary()
_known_lock = Lock()


def sentinels_of(address: RedisAddress) -> Sentinels:
    """Return the Sentinels of an address: the same ones for all that use it in this process."""
    with _known_lock:
        known = _known.get(address)
        if known is None:
            known = _known[address] = Sentinels(address)
        return known
