"""The way to the API, for a worker that sends and a doctor that checks it: proxy, trust, faults.

What fails on it, before a request is written, has sent nothing.
"""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from config.settings import Settings
from jobs.codes import OwnCode

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_LARGEST_HEAD = 16 * 1024  # bytes of a proxy's answer to CONNECT


class ProxyError(OSError):
    """The proxy was not reached, or refused the way to the API: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that tunnels (CONNECT): it learns the API's name and port, and no more."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """The value of `Proxy-Authorization`, where its URL has a user."""

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read `SENDCODE_PROXY`, which the settings have checked."""
        parts = urlsplit(url)
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        basic = base64.b64encode(login.encode()).decode()
        authorization = "" if parts.username is None else f"Basic {basic}"
        return cls(parts.hostname or "", parts.port or 80, authorization)

    def _request_for(self, host: str, port: int) -> bytes:
        place = b"%s:%d" % (f"[{host}]".encode() if ":" in host else host.encode("idna"), port)
        head = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (place, place)
        if self.authorization:
            head += b"Proxy-Authorization: %s\r\n" % self.authorization.encode()
        return head + b"\r\n"

    def tunnel(
        self,
        reach: Callable[[str, int], socket.socket],
        host: str,
        port: int,
        remaining_s: Callable[[], float],
    ) -> socket.socket:
        """Open a tunnel to the API; `reach` connects to the proxy.

        Raises:
            TimeoutError: `remaining_s`, which raises it, has come to its end.
            ProxyError: the proxy is not there, or refuses.
        """
        request = self._request_for(host, port)
        try:
            sock = reach(self.host, self.port)
            try:
                _pass(sock, request, remaining_s)
            except BaseException:
                sock.close()
                raise
        except (TimeoutError, ProxyError):
            raise
        except (OSError, UnicodeError) as exc:
            failure = type(exc).__name__
        else:
            return sock
        raise ProxyError(f"the proxy was not reached: {failure}")


def _pass(sock: socket.socket, request: bytes, remaining_s: Callable[[], float]) -> None:
    # A proxy that loses its client by a reset has no reason to go on delivering what it has not
    # delivered yet. The kernel resets it also when the process is killed.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head:
        sock.settimeout(remaining_s())
        got = sock.recv(1)  # byte by byte: what follows belongs to TLS
        head += got
        if not got or len(head) > _LARGEST_HEAD:
            raise ProxyError("the proxy gave no answer to CONNECT")
    version, _, rest = head.partition(b" ")
    status = rest[:3].decode("ascii", "replace")
    if not version.startswith(b"HTTP/") or not status.isdecimal():
        raise ProxyError("the proxy gave no answer to CONNECT")
    if not status.startswith("2"):
        raise ProxyError(f"the proxy answered HTTP status {status}")


class _TlsContext(ssl.SSLContext):
    """One that threads may share.

    urllib3 sets the ALPN list again for each connection, which frees the list that another thread
    may just be connecting with. Ours is set once.
    """

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        pass


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return the context that checks the API's certificate, by `SENDCODE_CA_BUNDLE` or as usual."""
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_bundle or DEFAULT_CA_BUNDLE_PATH)
    ssl.SSLContext.set_alpn_protocols(context, ["http/1.1"])
    return context


_BEFORE_WRITING: tuple[tuple[type[BaseException], OwnCode], ...] = (
    (socket.gaierror, OwnCode.DNS),
    (UnicodeError, OwnCode.DNS),  # a host name that cannot be looked up
    (ProxyError, OwnCode.PROXY),
    (ssl.SSLError, OwnCode.TLS),
    (TimeoutError, OwnCode.CONNECT_TIMEOUT),
)


def code_before_writing(exc: BaseException) -> OwnCode:
    """Name what kept a call from being sent."""
    return next((own for kind, own in _BEFORE_WRITING if isinstance(exc, kind)), OwnCode.CONNECT)


def in_short(exc: BaseException) -> str:
    """Describe an error without its text, which may hold addresses or what a server sent."""
    return str(exc) if isinstance(exc, ProxyError) else type(exc).__name__


def shake_hands(settings: Settings) -> None:
    """Resolve the API's name, connect as a worker does, agree on TLS; nothing is sent.

    Raises:
        OSError, UnicodeError: it does not work; see `code_before_writing`.
    """
    url, timeout_s = urlsplit(settings.sendcode_endpoint), settings.sendcode_http_timeout
    host, has_tls = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if has_tls else 80)

    ends_at = time.monotonic() + timeout_s

    def remaining_s() -> float:
        if (remaining := ends_at - time.monotonic()) <= 0:
            raise TimeoutError
        return remaining

    def reach(host: str, port: int) -> socket.socket:
        return socket.create_connection((host, port), remaining_s())

    if has_tls and settings.proxy_url:
        sock = Proxy.from_url(settings.proxy_url).tunnel(reach, host, port, remaining_s)
    else:
        sock = reach(host, port)
    with sock:
        sock.settimeout(remaining_s())
        if has_tls:
            tls_context(settings.sendcode_ca_bundle).wrap_socket(sock, server_hostname=host).close()
