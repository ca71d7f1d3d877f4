"""A web server as a process of its own, on a port of its own, in a world."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

from demo.world import Process, World, free_port
from tests.commands import SENDCODE


class WebProcess:
    """`sendcode web`, or another `command` that takes a `--port`."""

    def __init__(
        self,
        world: World,
        name: str,
        command: Sequence[str] = (*SENDCODE, "web"),
        **environment: str,
    ) -> None:
        self._world = world
        self._name = name
        port = free_port()
        self._command = [*command, "--port", str(port)]
        self._environment = environment
        self.url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        """Start it, also again after it was killed."""
        self.process: Process = self._world.start(self._name, self._command, **self._environment)

    @property
    def answers(self) -> bool:
        """Whether it answers, whatever it says."""
        try:
            with suppress(HTTPError), urlopen(f"{self.url}/livez", timeout=2):  # noqa: S310
                pass
        except (OSError, HTTPException):
            return False
        return True

    def kill(self) -> None:
        """End it as a crash would, and start it again."""
        self.process.kill()
        self.start()
