"""Where Redis is and how to log in: `SENDCODE_REDIS_URL`, read once, here.

redis-py, kombu and Celery each parse a URL in their own way. They get the parsed parts instead, and
a URL that two of them could understand differently is refused, with the remedy.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

_PORT = 6379
_SENTINEL_PORT = 26379
_SCHEMES = ("redis", "rediss", "sentinel", "sentinels")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS = (*_TLS_FILES, "ssl_cert_reqs")
_OUR_CERTIFICATE = ("ssl_certfile", "ssl_keyfile")
_SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")
_HOST = re.compile(r"(\[[^\[\]]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
_SENTINEL_EXAMPLE = "sentinel://one:26379,two:26379/service/0"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One Redis, or the Sentinels that know which one it is."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    """Redis itself (one), or the Sentinels of `service`."""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: dict[str, str] | None = field(default=None, hash=False)
    """The URL's TLS options, by redis-py's names; None without TLS."""
    now: Callable[[], RedisAddress] | None = field(default=None, repr=False, compare=False)
    """Returns the address in the settings' files now; None if the settings follow no files."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the address that a URL names.

        Raises:
            ValueError: it is wrong or ambiguous; the message has only the reason and the remedy.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in _SCHEMES:
            raise ValueError("must be a redis://, rediss://, sentinel:// or sentinels:// URL")
        _refuse_ambiguous(rest)
        rest, question_mark, query = rest.partition("?")
        authority, _, path = rest.partition("/")
        login, _, places = authority.rpartition("@")
        if "@" in path + query:
            raise ValueError(
                "has a password that must be percent-encoded: %2F for a slash, %3F for a question "
                "mark, %40 for an at sign"
            )
        username, password = _login(login)
        is_sentinel = scheme.startswith("sentinel")
        hosts = tuple(_host(each, is_sentinel) for each in places.split(","))
        if len(hosts) > 1 and not is_sentinel:
            raise ValueError(f"names several hosts; write several Sentinels as {_SENTINEL_EXAMPLE}")
        service = None
        if is_sentinel:
            service, _, path = path.partition("/")
            if not service or (service.isdigit() and not path):
                raise ValueError(
                    f"must name the Sentinels' service before the database: {_SENTINEL_EXAMPLE}"
                )
            service = _decoded(service)
        if path and not re.fullmatch(r"[0-9]{1,9}", path, re.ASCII):
            raise ValueError("must end in a database number such as /0, with no slash after it")
        options = _options(scheme, query if question_mark else None)
        has_tls = scheme in {"rediss", "sentinels"}
        return cls(
            scheme=scheme,
            hosts=hosts,
            database=int(path or 0),
            username=username,
            password=password,
            service=service,
            sentinel_username=options.pop("sentinel_username", None),
            sentinel_password=options.pop("sentinel_password", None),
            tls={"ssl_cert_reqs": "required", **options} if has_tls else None,
        )

    @property
    def tls_options(self) -> dict[str, Any]:
        """Return redis-py's TLS options; none without TLS."""
        if self.tls is None:
            return {}
        options: dict[str, Any] = {**self.tls, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
        if "ssl_certfile" in self.tls:
            options["ssl_password"] = ""  # else OpenSSL asks for a key's passphrase on the terminal
        return options

    def tls_file_fault(self) -> str:
        """Return what is wrong with the TLS files now, by the option's name; "" if nothing is."""
        context, tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self.tls or {}
        try:
            if authority := tls.get("ssl_ca_certs"):
                context.load_verify_locations(authority)
        except OSError:
            return "ssl_ca_certs holds no certificate that can be read"
        try:
            if ours := tls.get("ssl_certfile"):
                context.load_cert_chain(ours, tls.get("ssl_keyfile"), password="")
        except OSError:
            return "ssl_certfile and ssl_keyfile do not hold a certificate and its key"
        return ""

    @property
    def is_here(self) -> bool:
        """Return whether Redis is on this machine (loopback)."""
        return all(is_loopback(name) for name, _ in self.hosts)

    def with_current_login(self) -> RedisAddress:
        """Return the address in the settings' files now, or this one if they name another place."""
        latest = self.now() if self.now else self
        return latest if latest.is_same_place(self) else self

    def is_same_place(self, other: RedisAddress) -> bool:
        """Return whether the two addresses differ in their logins alone, if at all."""
        return (self.place, self.tls) == (other.place, other.tls)

    def without_credentials(self) -> RedisAddress:
        """Return the same place without a login and without our client certificate."""
        tls = self.tls and {k: v for k, v in self.tls.items() if k not in _OUR_CERTIFICATE}
        return replace(self, username=None, password=None, tls=tls, now=None)

    @property
    def place(self) -> str:
        """Return the address without login or options, fit for messages."""
        hosts = ",".join(
            f"[{name}]:{n}" if ":" in name else f"{name}:{n}" for name, n in self.hosts
        )
        service = f"/{self.service}" if self.service else ""
        return f"{self.scheme}://{hosts}{service}/{self.database}"

    def __json__(self) -> str:
        """Return what kombu's JSON shows of it, for instance in Flower."""
        return self.place


def is_loopback(host: str) -> bool:
    """Return whether a host name, or an address as in a URL, means this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_ambiguous(rest: str) -> None:
    """Refuse what one of the parsers would cut off, strip or take for a separator."""
    if "://" in rest:
        raise ValueError(f"must be one URL; several Sentinels are written as {_SENTINEL_EXAMPLE}")
    for character, name, code in ((";", "semicolon", "%3B"), ("#", "hash", "%23")):
        if character in rest:
            raise ValueError(f"has a {name}; in a password it must be percent-encoded: {code}")
    if not rest.isprintable() or " " in rest:
        raise ValueError(
            "has a space or an unprintable character: separate several Sentinels by commas alone; "
            "in a password write %20 for a space"
        )


def _login(text: str) -> tuple[str | None, str | None]:
    username, colon, password = text.partition(":")
    if username and not colon:
        raise ValueError(
            "has a user name and no password; a password alone is written with a colon in front: "
            "redis://:password@host"
        )
    if username and not password:
        raise ValueError("has a user name and an empty password")
    return _decoded(username) or None, _decoded(password) or None


def _host(text: str, is_sentinel: bool) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise ValueError(
            "must name its host as name, name:port or [IPv6 address]:port"
            if text
            else "must name its host, with one comma between several Sentinels"
        )
    name, port = match[1], int(match[2] or (_SENTINEL_PORT if is_sentinel else _PORT))
    if not 0 < port < 65536:  # noqa: PLR2004 (the highest port)
        raise ValueError("has a port that is not a number up to 65535")
    if name.startswith("["):
        name = name[1:-1]
        try:
            IPv6Address(name)
        except ValueError:
            raise ValueError("has brackets around something other than an IPv6 address") from None
    return name, port


def _options(scheme: str, query: str | None) -> dict[str, str]:
    """Return the URL's options: files of TLS and the Sentinels' login; refuse to weaken TLS."""
    known: tuple[str, ...] = _TLS_OPTIONS if scheme in {"rediss", "sentinels"} else ()
    known += _SENTINEL_LOGIN if scheme.startswith("sentinel") else ()
    options: dict[str, str] = {}
    for part in query.split("&") if query is not None else ():
        name, _, text = part.partition("=")
        value = _decoded(text)
        if name in _TLS_OPTIONS and name not in known:
            raise ValueError("takes no TLS options; they need rediss:// or sentinels://")
        if name not in known or name in options or not value:
            allowed = f"but {', '.join(known)}, each once and with a value" if known else "here"
            raise ValueError(f"takes no options {allowed}")
        if name == "ssl_cert_reqs" and value != "required":
            raise ValueError("must not weaken TLS: leave out ssl_cert_reqs, or set it to required")
        if name in _TLS_FILES and not is_file(value):
            raise ValueError(f"{name} names a file that does not exist or cannot be read")
        options[name] = value
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("has an ssl_keyfile and no ssl_certfile")
    if "sentinel_username" in options and "sentinel_password" not in options:
        raise ValueError("has a sentinel_username and no sentinel_password")
    return options


def is_file(path: str) -> bool:
    """Return whether a path names a file that can be found."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("has percent-encoded bytes that are not UTF-8") from None
