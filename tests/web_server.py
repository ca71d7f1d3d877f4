"""The HTTP API in this process, on a port of its own, with a real server."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

import requests
import uvicorn

from config.settings import Settings
from producer.web.app import make_app
from tests.waiting import PATIENCE_S, wait_until

PATIENT_S = 30.0
"""A busy machine is no Redis that does not answer."""


class WebServer:
    """`sendcode web` in a thread; `call` asks it something with a token."""

    def __init__(
        self, settings: Settings, answer_s: float = PATIENT_S, guess_delay_s: float = 0
    ) -> None:
        options = uvicorn.Config(
            make_app(settings, answer_s=answer_s, guess_delay_s=guess_delay_s),
            host="127.0.0.1",
            port=0,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        self._server = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.token = ""

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._server.started)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def call(
        self, method: str, path: str, *, token: str | None = None, key: str = "", **options: Any
    ) -> requests.Response:
        """Send a request, with this server's token and an idempotency key unless told otherwise."""
        headers = dict(options.pop("headers", {}))
        secret = self.token if token is None else token
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        if key:
            headers["Idempotency-Key"] = key
        with direct_session() as session:
            return session.request(
                method, self.url + path, headers=headers, timeout=PATIENCE_S, **options
            )


def direct_session() -> requests.Session:
    """Return one that looks for no proxy, which takes longer than a request."""
    session = requests.Session()
    session.trust_env = False
    return session
