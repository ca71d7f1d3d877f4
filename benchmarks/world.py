"""What every measurement runs in: a Valkey, a sandbox and a folder of its own, gone afterwards."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis
from pydantic import SecretStr

from benchmarks.processes import BenchmarkError, Running
from config.redis import connect
from config.settings import Settings, load_settings
from jobs.batch import BatchRow
from jobs.batches import CHUNK_ROWS, Batches
from jobs.phone import PhoneNumber
from producer.valkey import EmbeddedValkey
from sandbox.client import SandboxProcess

TOP = Path(__file__).resolve().parent.parent
COUNTRY = "852"
PUBLISH_S = 300.0
_OURS = ("SENDCODE_", "TENCENTCLOUD_", "CELERY", "FLOWER")


class World:
    """Everything on loopback. Durable as in production: the server syncs every write."""

    def __init__(self, *sandbox_options: str, **settings: Any) -> None:
        """Make it; `sandbox_options` are those of `python -m sandbox`, `settings` ours."""
        self._sandbox_options = sandbox_options
        self._changes = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        enter = self._stack.enter_context
        self.folder = Path(enter(tempfile.TemporaryDirectory(prefix="sendcode-bench-")))
        self.valkey = enter(EmbeddedValkey(self.folder / "valkey"))
        self.sandbox = enter(SandboxProcess(*self._sandbox_options))
        values: dict[str, Any] = {
            "tencentcloud_secret_id": self.sandbox.credentials.secret_id,
            "tencentcloud_secret_key": self.sandbox.credentials.secret_key,
            "sendcode_endpoint": self.sandbox.url,
            "sendcode_redis_url": self.valkey.url(),
        }
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            del os.environ[name]  # a measurement does not depend on who measures
        self.settings: Settings = load_settings(None, **{**values, **self._changes})
        self.redis: redis.Redis = connect(self.settings)
        self._stack.callback(self.redis.close)

    def run(self, name: str, *command: str, **environment: str) -> Running:
        """Start a Python module or program that knows this world from its environment."""
        said = {
            field.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for field in Settings.model_fields
            if (value := getattr(self.settings, field)) is not None
        }
        line = [sys.executable, "-m", *command]
        return Running(name, line, self.folder, {**said, "PYTHONPATH": str(TOP), **environment})

    def worker(self, name: str, *options: str) -> Running:
        """Start a sendcode worker as its users do."""
        return self.run(name, "celery", "-A", "worker", "worker", "-n", f"{name}@%h", *options)

    def publish(self, peer: str, jobs: int) -> dict[str, float]:
        """Give a peer of `benchmarks.peers` its jobs; say what that took (see there)."""
        with self.run(f"publish-{peer}", "benchmarks.peers.publish", peer, str(jobs)) as publisher:
            code = publisher.process.wait(PUBLISH_S)
            if code:
                raise BenchmarkError(f"publishing for {peer} failed:\n{publisher.log[-2000:]}")
            took: dict[str, float] = json.loads(publisher.log.splitlines()[-1])
        return took

    def forget(self) -> None:
        """Empty the server and the sandbox, for the next one to be measured."""
        self.redis.flushall()
        self.sandbox.reset()

    def submit_batch(self, batch_id: str, rows: int, *, first: int = 0) -> None:
        """Put a batch into the ledger."""
        batches = Batches(self.redis, self.settings)
        batches.open(batch_id, f"digest of {batch_id}", ["country_code", "phone_num"])
        for start in range(0, rows, CHUNK_ROWS):
            numbers = [number(first + n) for n in range(start, min(rows, start + CHUNK_ROWS))]
            chunk = [
                BatchRow(line, (COUNTRY, each), PhoneNumber(COUNTRY, each))
                for line, each in enumerate(numbers, start + 2)
            ]
            batches.append(batch_id, start, chunk, last=start + len(chunk) == rows)

    def requests(self) -> int:
        """Count those that the sandbox has seen."""
        return int(self.sandbox.stats(numbers=False)["requests"])


def number(n: int) -> str:
    """Give the n-th number, fictional and as long as a real one."""
    return f"{50_000_000 + n:08d}"


def tell(text: str) -> None:
    """Say on stderr what is being measured: results alone go to stdout."""
    sys.stderr.write(f"{text}\n")
