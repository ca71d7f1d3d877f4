"""`python -m tests.servers SERVER…`: which servers do? The tests that a server decides, with each.

A SERVER is the path of a binary (`redis-server`, `valkey-server`). Prints a line of a table for
each; the exit code is 1 if a test failed with any of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TESTS = (
    # the scripts of the ledger and of the limiter
    *(f"tests/integration/test_{name}.py" for name in ("submit_and_claim", "feed", "sweep")),
    *(f"tests/integration/test_{name}.py" for name in ("attempts", "account", "dead_letters")),
    *(
        f"tests/integration/test_{name}.py"
        for name in ("webhooks", "quotas", "mending", "replicas")
    ),
    # workers, commands and Flower by logins, TLS and proxies; Sentinels; users
    *(f"tests/acceptance/test_{name}.py" for name in ("redis_servers", "sentinel", "redis_users")),
)


def main(servers: list[str]) -> int:
    """Test each; returns the exit code."""
    failed = False
    print("| Server | tests passed | failed |\n| --- | --- | --- |", flush=True)
    for server in servers:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "2", *TESTS],
            cwd=TOP,
            env={**os.environ, "VALKEY_SERVER": server},
            capture_output=True,
            text=True,
            check=False,
        )
        counts = {
            what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|error)", ran.stdout)
        }
        wrong = re.findall(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
        failed = failed or ran.returncode != 0
        print(f"| {_version(server)} | {counts.get('passed', 0)} | {len(wrong)} |", flush=True)
        print(
            *wrong, *([ran.stdout[-2000:]] if ran.returncode > 1 else []), sep="\n", file=sys.stderr
        )
    return int(failed)


def _version(server: str) -> str:
    shown = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    name, version = re.findall(r"(\w+) server v=([\d.]+)", shown.stdout)[0]
    return f"{name} {version}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
