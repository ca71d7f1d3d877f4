"""`sendcode demo` for tests of how it ends: what it starts is forked from the tests' template."""

from __future__ import annotations

from demo.__main__ import app
from demo.world import World
from producer.cli.console import run
from tests.forked import ForkedProcess, ForkedSandbox

if __name__ == "__main__":
    World.program, World.stand_in = ForkedProcess, ForkedSandbox
    run(lambda: app(prog_name="sendcode demo"))
