"""The world that faults are let loose on: Valkey, the sandbox and a proxy before each of them.

Its clock runs ten times as fast as the real one by settings alone, so that a recovery that takes
a quarter of a minute takes a second or two here. `NORMAL` is the real clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import Settings
from demo.world import World as DemoWorld
from sandbox.signature import Credentials
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


class World(DemoWorld):
    """The demo's world with a proxy before each server.

    Attributes:
        settings: those of a worker that reaches Redis and the API directly.
        detour: those of a worker that reaches both through the proxies, where networks fail.
        hasty_redis: a client that gives up at once: who injects faults must not be held up by them.
    """

    def __init__(
        self,
        pace: Mapping[str, Any] = QUICK,
        *,
        sandbox_options: Sequence[str] = (),
        credentials: Credentials | None = None,
        **changes: Any,
    ) -> None:
        options = ("--answer-ms", str(ANSWER_MS), *sandbox_options)
        super().__init__({**pace, **changes}, sandbox_options=options, credentials=credentials)

    def _start(self) -> None:
        super()._start()
        enter = self._stack.enter_context
        self.redis_proxy = enter(ProxyProcess(self.valkey.port))
        self.api_proxy = enter(ProxyProcess(int(self.sandbox.url.rpartition(":")[2])))
        password = self.valkey.password
        self.detour = Settings(
            **self.values(
                sendcode_redis_url=f"redis://:{password}@127.0.0.1:{self.redis_proxy.port}/0",
                sendcode_endpoint=f"http://127.0.0.1:{self.api_proxy.port}",
            )
        )
        self.hasty_redis: redis.Redis = enter(
            redis.Redis.from_url(
                self.valkey.url(),
                decode_responses=True,
                socket_timeout=0.5,
                socket_connect_timeout=0.5,
                retry=Retry(NoBackoff(), 0),
            )
        )

    @property
    def interval_s(self) -> float:
        return self.settings.sendcode_phone_interval
