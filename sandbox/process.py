"""A sandbox as a process of its own, which shares no interpreter lock with the caller.

For benchmarks, fault tests and the demo; a test that measures nothing takes the thread
(`sandbox.server.Sandbox`), which starts faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

from sandbox.client import SandboxClient
from sandbox.signature import Credentials

STOP_TIMEOUT_S: Final = 10
_TOP: Final = str(Path(__file__).resolve().parent.parent)


class SandboxProcess(SandboxClient):
    """`with SandboxProcess("--rate-limit", "200") as sandbox: ...`; any free port unless given.

    Args:
        options: as on the command line (`python -m sandbox --help`).
        credentials: the key pair that signatures are checked against; handed over in the
            environment, where no process list shows it.
    """

    def __init__(self, *options: str, credentials: Credentials | None = None) -> None:
        super().__init__(url="")
        self.credentials = credentials or Credentials()
        self._command = [sys.executable, "-m", "sandbox", "--port", "0", *options]

    @property
    def pid(self) -> int:
        """The process' id, while it runs."""
        return self._process.pid

    def __enter__(self) -> Self:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (_TOP, os.environ.get("PYTHONPATH")))),
            "TENCENTCLOUD_SECRET_ID": self.credentials.secret_id,
            "TENCENTCLOUD_SECRET_KEY": self.credentials.secret_key,
        }
        self._process = subprocess.Popen(  # stopped in __exit__
            self._command, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sandbox ended at once, exit code {self._process.wait()}")
        self.url = json.loads(line)["url"]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it with SIGTERM, with SIGKILL if that takes too long; returns its exit code."""
        self._process.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended by itself.

        Raises:
            subprocess.TimeoutExpired: it has not within `STOP_TIMEOUT_S`.
        """
        code = self._process.wait(STOP_TIMEOUT_S)
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self._process.stdout.close()
        return code
