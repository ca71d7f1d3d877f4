"""Why Redis cannot be used, in words: one line with place, reason and remedy.

For every command, the worker's start and the doctor. Redis' own error messages are not passed on:
they may repeat a command's arguments. Only the name of a refused command is taken from them.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    MaxConnectionsError,
    NoPermissionError,
)
from redis.sentinel import MasterNotFoundError

from config import SendcodeError, celery_prefix
from config.redis import NotReplicatedError, error_code
from config.settings import Settings

Words = tuple[str, str]
"""A reason, which follows "Redis at …", and a remedy."""

_CHECK_URL = "check user and password in SENDCODE_REDIS_URL"
_MORE_RIGHTS = "sendcode doctor names the rights that it lacks"
_CLUSTER_CODES = {"MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "CLUSTERDOWN"}
_CLUSTER_TEXTS = ("hash to the same slot", "in a cluster node")
"""The same errors inside a script, where they have no code."""
_NO_CONNECTION = (
    "has no connection left",
    "raise its maxclients; docs/faults.md says how many each program takes",
)
_TOO_SLOW = (
    "is too slow for all the threads that use it here",
    "try again; if it stays so, look at its load and the network to it",
)
_BY_ERROR_CODE: dict[str, Words] = {
    "NOAUTH": ("requires a login", _CHECK_URL),
    "WRONGPASS": ("refuses the login", _CHECK_URL),
    "WRONGTYPE": (
        "has a value of another type under one of sendcode's keys",
        "a worker moves it aside; without one: sendcode doctor --repair",
    ),
    "MISCONF": ("cannot write to its disk and refuses changes", "look at its log and its disk"),
    "LOADING": ("is still loading its data", "try again in a moment"),
    "OOM": ("is full", "make room or raise its maxmemory"),
    "NOREPLICAS": ("accepts nothing while it has too few replicas", "see to its replicas"),
    "READONLY": ("is a read-only replica", "set SENDCODE_REDIS_URL to the primary"),
    "BUSY": ("is blocked by somebody else's script", "look at its log"),
    "DB": ("has no database with that number", "set a lower one in SENDCODE_REDIS_URL"),
}
_BY_TEXT: tuple[tuple[str, Words], ...] = (
    ("max number of clients", _NO_CONNECTION),
    ("no connection available", _TOO_SLOW),
    ("without any password configured", ("has no password set", "leave it out of the URL")),
    ("in cluster mode", ("is in cluster mode: it has only database 0", "end its URL in /0")),
    (
        "unknown command 'sentinel",
        ("is not a Sentinel", "for Redis itself write redis:// or rediss://"),
    ),
    ("no such master", ("watches no service of that name", "check the name after the hosts")),
)
"""Errors without a code, by a part of their message in lower case."""
_NOT_REPLICATED = (
    "has recorded this, but too few of its replicas have: a failover may forget it",
    "ask again, with the same key or the same file, which does nothing twice, or see to the "
    "replicas (SENDCODE_WAIT_REPLICAS)",
)
_REASONS: tuple[tuple[type[redis.RedisError], Words], ...] = (
    (NotReplicatedError, _NOT_REPLICATED),
    (AuthenticationError, ("refuses the login", _CHECK_URL)),
    (MaxConnectionsError, _TOO_SLOW),
    (InvalidResponse, ("is not Redis but another program", "check host and port")),
    (redis.TimeoutError, ("does not answer in time", "check the server and the network to it")),
    (
        redis.ConnectionError,
        (
            "closed the connection",
            "look at its log; check that the port is Redis', and use rediss:// if it is a TLS port",
        ),
    ),
)
_TRUST = "name its authority's file: rediss://…?ssl_ca_certs=/path/to/ca.pem"
_CERTIFICATES: dict[int, Words] = {
    # OpenSSL's X509_V_ERR_…
    9: ("presents a certificate that is not valid yet", "check this machine's clock"),
    10: ("presents a certificate that has expired", "renew it, or check this machine's clock"),
    18: ("presents a self-signed certificate", _TRUST),
    19: ("presents a certificate from an authority that is not trusted here", _TRUST),
    20: ("presents a certificate from an authority that is not trusted here", _TRUST),
    62: ("presents a certificate for another name", "use its name in SENDCODE_REDIS_URL"),
    64: ("presents a certificate for another address", "use its name in SENDCODE_REDIS_URL"),
}
_OURS_REFUSED = re.compile(r"ALERT_(UNKNOWN_CA|\w*CERTIFICATE|DECRYPT)")
_COMMAND = re.compile(r"to run the '([A-Za-z|]+)' command|unknown command '([A-Za-z|]+)'")
_NO_PERMISSION = re.compile(
    r"no permissions|acl failure|can't run this command|can't access|not allowed from script",
    re.IGNORECASE,
)


class RedisUnavailableError(SendcodeError):
    """Redis cannot be used. The message names the place (no password), the reason and the remedy.

    The operation may have been done all the same, if only the answer was lost.
    """

    @classmethod
    def from_redis(cls, error: BaseException, settings: Settings) -> RedisUnavailableError:
        """Return one for an error of the Redis client, or of a library that has wrapped it."""
        return cls("{}: {}".format(*in_words(error, settings)))


def in_words(error: BaseException, settings: Settings) -> Words:
    """Return what is wrong with Redis, as "Redis at … is …", and the remedy."""
    reason, remedy = next(_reasons(error, settings))
    return f"Redis at {settings.redis.place} {reason}", remedy


def will_not_pass(error: BaseException) -> bool:
    """Return whether waiting is pointless: our settings or the server's have to be changed."""
    found = _first_redis_error(error)
    if isinstance(found, MasterNotFoundError) and isinstance(found.__cause__, redis.RedisError):
        found = found.__cause__
    return (
        isinstance(found, (AuthenticationError, InvalidResponse))
        or is_no_permission(found)
        or error_code(found) in {"DB", "CROSSSLOT"}
        or "unknown command" in str(found)
        or any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(error))
    )


def _reasons(error: BaseException, settings: Settings) -> Iterator[Words]:
    """Yield the reasons that fit, each with its remedy, the most specific ones first."""
    found = _first_redis_error(error)
    if isinstance(found, MasterNotFoundError):
        yield _no_primary(found, settings)
    if not isinstance(found, redis.ResponseError):
        yield from _connection_reasons(error, settings)
    if is_no_permission(found):
        yield _no_permission(found)
    code, text = error_code(found), str(found)
    if code in _CLUSTER_CODES or any(part in text for part in _CLUSTER_TEXTS):
        yield _cluster_reason(code, text, settings)
    yield from (words for part, words in _BY_TEXT if part in text.lower())
    if code in _BY_ERROR_CODE:
        yield _BY_ERROR_CODE[code]
    if (command := _COMMAND.search(text)) and command[2]:
        yield (
            f"does not know the command {command[2].upper()}",
            "it may be older than 6.2, a proxy that hides it, or a Sentinel (write sentinel://)",
        )
    yield from (words for kind, words in _REASONS if isinstance(found, kind))
    name = type(found).__name__
    yield f"failed ({name}{f' {code}' if code != name else ''})", "look at its log"


def _connection_reasons(error: BaseException, settings: Settings) -> Iterator[Words]:
    """Yield the reasons that lie between here and the server: name, network, TLS."""
    if wrong := settings.redis.tls_file_fault():
        yield (
            f"cannot be asked: {wrong}",
            "name PEM files that this user may read, without passphrase",
        )
    no_tls = ("does not speak TLS on this port", "use its TLS port, or redis:// without TLS")
    for each in _chain(error):
        match each:
            case ssl.SSLCertVerificationError():
                unknown = ("presents a certificate that cannot be trusted", _TRUST)
                yield _CERTIFICATES.get(each.verify_code, unknown)
            case ssl.SSLError() if "CERTIFICATE_REQUIRED" in str(each):
                yield (
                    "asks for a client certificate",
                    "name ssl_certfile and ssl_keyfile in its URL",
                )
            case ssl.SSLError() if _OURS_REFUSED.search(str(each)):
                yield "refuses our certificate", "name one that it trusts in ssl_certfile"
            case ssl.SSLEOFError():
                yield (
                    "closed the TLS connection at once",
                    "look at its log: it wants a certificate that it trusts (ssl_certfile in its "
                    "URL), or does not speak TLS on this port",
                )
            case ssl.SSLError():
                yield no_tls
            case TimeoutError() if "handshake" in str(each):
                yield no_tls
            case socket.gaierror():
                yield "has a host name that cannot be resolved", "check the name, or DNS"
            case ConnectionRefusedError():
                yield "cannot be reached", _start(settings)
            case ConnectionError() | TimeoutError():
                pass
            case OSError() if each.errno is not None:
                yield "cannot be reached from here", "check the network and any firewall"


def _cluster_reason(code: str, text: str, settings: Settings) -> Words:
    if not celery_prefix(settings.sendcode_key_prefix):
        return (
            "is in cluster mode, and sendcode's keys are not all on one node",
            "set SENDCODE_KEY_PREFIX={sendcode}, in braces, or use a single primary",
        )
    if code == "MOVED":
        node = text.rsplit(maxsplit=1)[-1]
        return (
            f"is not the node of its cluster that has sendcode's keys: {node} is",
            "name that one in SENDCODE_REDIS_URL",
        )
    if code == "CLUSTERDOWN":
        return "is a node of a cluster that is down", "look at its nodes"
    return (
        "is moving sendcode's keys to another node of its cluster",
        "wait for it, then name that one in SENDCODE_REDIS_URL",
    )


def _start(settings: Settings) -> str:
    if "sendcode_redis_url" in settings.model_fields_set or Path(".env").exists():
        return "start it, or set SENDCODE_REDIS_URL"
    return (
        "this folder has no .env that names another one, so go to the folder in which sendcode was "
        "set up, or ask whoever set it up; to set it up yourself, start with sendcode init"
    )


def _no_primary(error: MasterNotFoundError, settings: Settings) -> Words:
    cause = error.__cause__
    if cause is None:
        return "has no primary that its Sentinels call healthy", "wait, or look at the Sentinels"
    if isinstance(cause, AuthenticationError):
        does = "want a login" if error_code(cause) == "NOAUTH" else "refuse the login"
        return (
            f"is not found: its Sentinels {does}",
            "check sentinel_username and sentinel_password in SENDCODE_REDIS_URL",
        )
    reason, remedy = next(_reasons(cause, settings))
    return f"is not found: the last Sentinel that was asked {reason}", remedy


def is_no_permission(error: BaseException) -> bool:
    """Return whether the server's ACL refused it."""
    return isinstance(error, NoPermissionError) or bool(
        isinstance(error, redis.ResponseError) and _NO_PERMISSION.search(str(error))
    )


def _no_permission(error: BaseException) -> Words:
    text = str(error)
    if command := _COMMAND.search(text):
        what = f"the command {command[1].replace('|', ' ').upper()}"
    elif "channel" in text:
        what = "a channel that sendcode needs"
    elif "key" in text:
        what = "a key that sendcode needs"
    else:
        what = "a command that sendcode needs"
    return f"refuses this user {what}", _MORE_RIGHTS


def _first_redis_error(error: BaseException) -> BaseException:
    """Return the first Redis error inside those that kombu and we have wrapped around it."""
    return next((each for each in _chain(error) if isinstance(each, redis.RedisError)), error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
