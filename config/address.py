"""Where Redis is and how to log in: `SENDCODE_REDIS_URL`, read once, here.

redis-py, kombu and Celery each read a URL in their own way. They get these parts instead, and what
two of them could have understood differently is refused with its remedy.
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
_OF_OURS = ("ssl_certfile", "ssl_keyfile")
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
    """What the URL says of TLS, by redis-py's names; None without TLS."""
    now: Callable[[], RedisAddress] | None = field(default=None, repr=False, compare=False)
    """What the settings name by now, where they follow their files."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the address that a URL names.

        Raises:
            ValueError: it is wrong or ambiguous; the text has the reason and the remedy alone.
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
            raise ValueError(f"names several hosts; those of Sentinels are {_SENTINEL_EXAMPLE}")
        service = None
        if is_sentinel:
            service, _, path = path.partition("/")
            if not service or (service.isdigit() and not path):
                raise ValueError(
                    f"must name the Sentinels' service before the database: {_SENTINEL_EXAMPLE}"
                )
            service = _decoded(service)
        if path and not re.fullmatch(r"[0-9]{1,9}", path, re.ASCII):
            raise ValueError("must end in the number of a database, as /0, with no slash after it")
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
        """Return redis-py's options of TLS; none without TLS."""
        if self.tls is None:
            return {}
        options: dict[str, Any] = {**self.tls, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
        if "ssl_certfile" in self.tls:
            options["ssl_password"] = ""  # else OpenSSL asks on the terminal, where a key has one
        return options

    def wrong_files(self) -> str:
        """Return what is wrong with the files of TLS by now, by their names, or nothing."""
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
            return "ssl_certfile and ssl_keyfile hold no certificate and key that fit"
        return ""

    @property
    def is_here(self) -> bool:
        """Return whether it is on this machine (loopback)."""
        return all(is_loopback(name) for name, _ in self.hosts)

    def with_its_login_now(self) -> RedisAddress:
        """Return it as the settings' files have it by now, unless they name another place."""
        latest = self.now() if self.now else self
        return latest if latest.is_place_of(self) else self

    def is_place_of(self, other: RedisAddress) -> bool:
        """Return whether only the logins differ."""
        return (self.place, self.tls) == (other.place, other.tls)

    def of_a_stranger(self) -> RedisAddress:
        """Return the same place for one who has no login and no certificate of ours."""
        tls = self.tls and {name: value for name, value in self.tls.items() if name not in _OF_OURS}
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
        """Return what a worker shows of it to Flower, in kombu's JSON."""
        return self.place


def is_loopback(host: str) -> bool:
    """Return whether a host's name, or an address as in a URL, is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_ambiguous(rest: str) -> None:
    """Refuse what one reader would cut off, strip or take for a separator."""
    if "://" in rest:
        raise ValueError(f"must be one URL; several Sentinels are {_SENTINEL_EXAMPLE}")
    for sign, name, code in ((";", "semicolon", "%3B"), ("#", "hash", "%23")):
        if sign in rest:
            raise ValueError(f"has a {name}; in a password it must be percent-encoded: {code}")
    if not rest.isprintable() or " " in rest:
        raise ValueError(
            "has a blank or an unprintable sign: write several Sentinels with commas alone between "
            "them; in a password a blank is %20"
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
        raise ValueError("has a port that is no number up to 65535")
    if name.startswith("["):
        name = name[1:-1]
        try:
            IPv6Address(name)
        except ValueError:
            raise ValueError("has brackets around what is no IPv6 address") from None
    return name, port


def _options(scheme: str, query: str | None) -> dict[str, str]:
    """Accept the files of TLS and the Sentinels' login, and no weakened TLS."""
    known: tuple[str, ...] = _TLS_OPTIONS if scheme in {"rediss", "sentinels"} else ()
    known += _SENTINEL_LOGIN if scheme.startswith("sentinel") else ()
    options: dict[str, str] = {}
    for part in query.split("&") if query is not None else ():
        name, _, text = part.partition("=")
        value = _decoded(text)
        if name in _TLS_OPTIONS and name not in known:
            raise ValueError("takes no options of TLS; they need rediss:// or sentinels://")
        if name not in known or name in options or not value:
            allowed = f"but {', '.join(known)}, each once and with a value" if known else "here"
            raise ValueError(f"takes no options {allowed}")
        if name == "ssl_cert_reqs" and value != "required":
            raise ValueError("must not weaken TLS: leave out ssl_cert_reqs, or set it to required")
        if name in _TLS_FILES and not is_file(value):
            raise ValueError(f"{name} names a file that is not there or must not be read")
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
        raise ValueError("has a percent-encoded sign that is no UTF-8") from None
