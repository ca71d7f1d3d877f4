"""The world that faults are let loose on: Valkey, the sandbox and a proxy before each of them.

Its clock runs ten times as fast as the real one by settings alone, so that a recovery that takes
a quarter of a minute takes a second or two here. `NORMAL` is the real clock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import Settings
from producer.valkey import EmbeddedValkey
from sandbox.client import SandboxProcess
from tests.faults.proxy import ProxyProcess

QUICK: Mapping[str, Any] = {
    "sendcode_rate_limit": 200,
    "sendcode_phone_interval": 6,
    "sendcode_http_timeout": 0.5,
    "sendcode_lease": 1.2,
    "sendcode_sweep_interval": 0.15,
    "sendcode_backoff": 0.1,
    "sendcode_frequency_wait": 2,
    "sendcode_canary_interval": 0.5,
    "sendcode_concurrency": 16,
}
NORMAL: Mapping[str, Any] = {}
"""Every setting as it comes."""

ANSWER_MS = 80
"""What the API takes for an answer: a time in which a worker can die, with some jobs in hand."""


class World:
    """Servers on loopback, in a folder of their own; nothing of them is left at the end.

    Attributes:
        settings: those of a worker that reaches Redis and the API directly.
        detour: those of a worker that reaches both through the proxies, where networks fail.
    """

    def __init__(
        self,
        pace: Mapping[str, Any] = QUICK,
        *,
        sandbox_options: Sequence[str] = (),
        **changes: Any,
    ) -> None:
        self._pace = {**pace, **changes}
        self._sandbox_options = sandbox_options
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sendcode-faults-"))
            self.folder = Path(folder)
            self.valkey = EmbeddedValkey(self.folder / "valkey").start()
            stack.callback(self.valkey.kill)
            values = {
                "tencentcloud_secret_id": "AKIDEXAMPLE",
                "tencentcloud_secret_key": "SECRETEXAMPLE",
                "sendcode_redis_url": self.valkey.url(),
                **self._pace,
            }
            rough = Settings(**values)
            self.sandbox = stack.enter_context(
                SandboxProcess(
                    "--rate-limit",
                    str(rough.sendcode_rate_limit),
                    "--phone-interval",
                    str(rough.sendcode_phone_interval),
                    "--answer-ms",
                    str(ANSWER_MS),
                    *self._sandbox_options,
                )
            )
            self.settings = Settings(**values, sendcode_endpoint=self.sandbox.url)
            self.redis_proxy = stack.enter_context(ProxyProcess(self.valkey.port))
            api_port = int(self.sandbox.url.rpartition(":")[2])
            self.api_proxy = stack.enter_context(ProxyProcess(api_port))
            password = self.valkey.password
            self.detour = Settings(
                **{
                    **values,
                    "sendcode_redis_url": f"redis://:{password}@127.0.0.1:{self.redis_proxy.port}/0",
                    "sendcode_endpoint": f"http://127.0.0.1:{self.api_proxy.port}",
                }
            )
            # gives up at once: who injects faults must not be held up by them
            self.redis: redis.Redis = redis.Redis.from_url(
                self.valkey.url(),
                decode_responses=True,
                socket_timeout=0.5,
                socket_connect_timeout=0.5,
                retry=Retry(NoBackoff(), 0),
            )
            stack.callback(self.redis.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def interval_s(self) -> float:
        return self.settings.sendcode_phone_interval
