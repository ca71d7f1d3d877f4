"""`make fuzz`: ask the HTTP API all that its description allows, and much that it does not.

Schemathesis makes the requests, one by one and as stories, with a token of every scope and without
one, and holds each answer against the OpenAPI document: no 5xx, no status, header or body that is
not described. Server, Valkey and connections are real. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from config.data_key import new_data_key
from config.redis import connect
from config.settings import Settings
from demo.world import UNBOUNDED, EmbeddedValkey
from producer.tokens import Tokens
from tests.web_server import WebServer

_CONFIG = """
[checks]
# What no schema can say: a number that cannot be, a file that is none, a key that was used before.
positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422"]

[parameters]
"query.wait" = 0
"""
_STORAGE = Path(__file__).resolve().parent.parent / ".hypothesis"


@dataclass(frozen=True)
class Figures:
    """What one run did."""

    cases: int
    failures: tuple[str, ...]
    report: str
    """For a person, with a command that repeats each failure."""


def fuzz(
    settings: Settings,
    folder: Path,
    *,
    with_token: bool,
    cases: int,
    seed: int,
    phases: str = "examples,coverage,fuzzing,stateful",
) -> Figures:
    """Ask an API of its own with these settings.

    `cases` are those of each operation that are made at random, at most; `coverage` goes through
    all that is at a limit of a schema, or just beyond it, and makes no more or fewer of them.
    """
    config, report = folder / "schemathesis.toml", folder / "report.json"
    config.write_text(_CONFIG, encoding="utf-8")
    storage = folder / ".hypothesis"  # tables of all characters: 2 s of work, the same each time
    if not storage.exists():
        _STORAGE.mkdir(exist_ok=True)
        storage.symlink_to(_STORAGE)
    with WebServer(settings) as web, connect(settings) as client:
        _, token = Tokens(client, settings).new("fuzz", ["admin"])
        command = [
            *(sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run"),
            f"{web.url}/openapi.json",
            *("--max-examples", str(cases), "--seed", str(seed), "--phases", phases),
            *("--generation-database", "none"),
            *("--report", "json", "--report-json-path", str(report)),
            *("--suppress-health-check", "all", "--warnings", "off", "--request-timeout", "60"),
            *("--continue-on-failure", "--no-shrink"),
            *(("--header", f"Authorization: Bearer {token}") if with_token else ()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    found = json.loads(report.read_text(encoding="utf-8"))
    failures = [f"{each['title']}: {', '.join(each['operations'])}" for each in found["failures"]]
    errors = [str(each) for each in found["errors"]]
    return Figures(found["test_cases"]["generated"], (*failures, *errors), done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=250, help="of each operation (default: 250)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    total, failed = 0, False
    with tempfile.TemporaryDirectory() as name, EmbeddedValkey(Path(name), fsync="no") as valkey:
        for database, with_token in enumerate((True, False)):
            settings = Settings(
                sendcode_redis_url=SecretStr(valkey.url(database)),
                sendcode_data_keys=SecretStr(new_data_key("k1")),
                **UNBOUNDED,
            )
            figures = fuzz(
                settings, Path(name), with_token=with_token, cases=options.cases, seed=options.seed
            )
            if figures.failures:
                print(figures.report)
            what = "with a token" if with_token else "without a token"
            print(f"{what}: {figures.cases:,} cases, {len(figures.failures)} kinds of failures")
            total, failed = total + figures.cases, failed or bool(figures.failures)
    print(f"together: {total:,} cases")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
