"""The demo's world: the whole system on this machine, on free ports, at a quick pace."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from config.redis import connect
from config.settings import Settings
from producer import overview, programs
from producer.demo import standin
from producer.demo.children import Children, Keeper
from producer.demo.interrupts import Interrupts
from producer.valkey import EmbeddedValkey, free_port

RATE_LIMIT = 20
"""The API's own: it is what the demo shows."""
PHONE_INTERVAL_S = 9
"""The API has 60: nobody wants to wait so long for a demo. A probe must fit well inside."""
QUICK: dict[str, Any] = {
    "sendcode_rate_limit": RATE_LIMIT,
    "sendcode_phone_interval": PHONE_INTERVAL_S,
    "sendcode_http_timeout": 1,
    "sendcode_lease": 2,
    "sendcode_sweep_interval": 0.5,
    "sendcode_backoff": 0.3,
    "sendcode_frequency_wait": 3,
    "sendcode_canary_interval": 2,
    # In so short an interval a busy machine may come too late for a proof; the default would then
    # send once more, and say so. A demo is to show no double at all.
    "sendcode_ambiguous": "hold",
}
LATENCY_MS = 20
"""Each way: the API is not on this machine."""
WORKERS = 2
START_S = 40.0
_LOOPBACK = "127.0.0.1"
_TOP = str(Path(__file__).resolve().parents[2])
_NOT_FOR_THE_DEMO = ("SENDCODE_", "TENCENTCLOUD_", "FLOWER_", "CELERY")


class NotStartedError(Exception):
    """A part of the world did not come up in time."""


class World:
    """Valkey, the stand-in of the API, two workers and Flower; all end with the block."""

    def __init__(self, directory: Path, interrupts: Interrupts) -> None:
        self.directory = directory
        self.environment = _inherited()
        self._interrupts = interrupts
        self._stack = ExitStack()
        self._valkey = EmbeddedValkey(directory / "valkey")
        self._flower_port = free_port()
        self._secret_key = secrets.token_hex(16)
        self.flower_url = f"http://{_LOOPBACK}:{self._flower_port}"
        self.flower_user = "demo"
        self.flower_password = secrets.token_hex(6)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start all; what does not need another comes up side by side.

        Raises:
            NotStartedError: something did not come up in time.
            ChildEndedError: something ended at once.
            ValkeyError: the embedded server cannot be had.
        """
        keeper = self._stack.enter_context(Keeper(self.environment, self._interrupts))
        self._start_valkey(keeper)
        children = Children(self.directory, self.environment, keeper, self._interrupts)
        self.children = self._stack.enter_context(children)
        self.sandbox_url = self._start_sandbox()
        self.settings = self._settle()
        said = _in_environment(self.settings)
        for number in range(1, WORKERS + 1):
            self.children.start(f"worker-{number}", programs.worker(f"demo-{number}"), **said)
        flower = programs.flower_environment(said, self.flower_user, self.flower_password)
        self.children.start("flower", programs.flower(_LOOPBACK, self._flower_port), **flower)
        with connect(self.settings) as client:
            self._wait_for(
                lambda: overview.look(client, self.settings).alive == WORKERS, "the workers"
            )
        self._wait_for(lambda: standin.answers(self.flower_url, "/healthcheck"), "Flower")

    def _start_valkey(self, keeper: Keeper) -> None:
        with self._interrupts.held():
            self._valkey.start()
            if self._valkey.pid is not None:
                keeper.look_after(self._valkey.pid)
                self._stack.callback(keeper.forget, self._valkey.pid)
            self._stack.callback(self._valkey.stop)

    def _start_sandbox(self) -> str:
        ready = self.directory / "sandbox.json"
        options = {
            "--port": 0,
            "--ready-file": ready,
            "--rate-limit": RATE_LIMIT,
            "--phone-interval": PHONE_INTERVAL_S,
            "--latency-ms": LATENCY_MS,
            "--answer-ms": LATENCY_MS,
        }
        command = programs.sandbox(*(str(part) for pair in options.items() for part in pair))
        self.children.start("sandbox", command, TENCENTCLOUD_SECRET_KEY=self._secret_key)
        self._wait_for(ready.exists, "the stand-in of the API")
        return str(json.loads(ready.read_text(encoding="utf-8"))["url"])

    def _settle(self) -> Settings:
        """Make the settings from nothing but these: no real account may come into a demo."""
        return Settings(
            **QUICK,
            tencentcloud_secret_id=SecretStr("AKIDEXAMPLE"),
            tencentcloud_secret_key=SecretStr(self._secret_key),
            sendcode_endpoint=self.sandbox_url,
            sendcode_redis_url=SecretStr(self._valkey.url()),
        )

    def _wait_for(self, is_there: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_S
        while not is_there():
            self.children.check()
            if time.monotonic() > deadline:
                raise NotStartedError(f"{what} did not start; see the logs in {self.directory}")
            time.sleep(0.05)


def _inherited() -> dict[str, str]:
    """Give this process' environment without what is said there about sendcode and its parts."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_NOT_FOR_THE_DEMO)
    }
    # the house is found even where it is not installed
    path = (_TOP, environment.get("PYTHONPATH"))
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def _in_environment(settings: Settings) -> dict[str, str]:
    return {
        field.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for field in Settings.model_fields
        if (value := getattr(settings, field)) is not None
    }
