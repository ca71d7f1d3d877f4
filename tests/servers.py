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
_OVER = "test_a_batch_under_way_reaches_each_number_once_over_a_failover"
_USERS = "test_the_whole_system_works_under_its_users_and_nothing_is_refused"
TESTS = (
    # the ledger's scripts
    "tests/integration/test_submit_and_claim.py",
    "tests/integration/test_sweep.py",
    # worker, commands and Flower, as users with no more rights than they need
    f"tests/acceptance/test_redis_users.py::{_USERS}",
    # behind Sentinels of the same release, over a failover
    f"tests/acceptance/test_sentinel.py::{_OVER}",
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
