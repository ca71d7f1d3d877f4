"""TLS 1.2 or newer, for the API, webhooks and Redis alike."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
import trustme

from config.redis import connect
from config.settings import load_settings
from jobs.api_connection import tls_context


class Front(NamedTuple):
    port: int
    ca_file: str
    is_old: bool
    shaken: list[str]
    """The versions of TLS that were agreed on."""


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Front]:
    """A server that speaks one version alone, and closes each connection when it is agreed on."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        context.minimum_version = context.maximum_version = request.param
    context.set_ciphers("ALL:@SECLEVEL=0")
    shaken: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]

        def serve() -> None:
            with suppress(OSError):  # it was closed
                while True:
                    guest, _ = listener.accept()
                    with (
                        suppress(OSError),
                        guest,
                        context.wrap_socket(guest, server_side=True) as own,
                    ):
                        shaken.append(own.version() or "")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Front(port, str(tmp_path / "ca.pem"), request.param < ssl.TLSVersion.TLSv1_2, shaken)
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(30)


@pytest.fixture(autouse=True)
def _a_machine_that_allows_old_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let OpenSSL's own default not be what refuses it."""
    made = ssl.SSLContext.__init__

    def lax(context: ssl.SSLContext, *_: object) -> None:
        made(context)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1

    monkeypatch.setattr(ssl.SSLContext, "__init__", lax)


def test_redis_is_spoken_to_by_tls_1_2_or_newer_alone(front: Front) -> None:
    url = f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={front.ca_file}"

    client = connect(load_settings(None, sendcode_redis_url=url), retries=0)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    client.close()

    assert bool(front.shaken) is not front.is_old


def test_the_api_and_webhooks_are_spoken_to_by_tls_1_2_or_newer_alone(front: Front) -> None:
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", front.port), 30) as sock,
        tls_context(front.ca_file).wrap_socket(sock, server_hostname="127.0.0.1") as own,
    ):
        own.recv(1)  # until the server, which is the last to agree in TLS 1.3, closes it

    assert bool(front.shaken) is not front.is_old
