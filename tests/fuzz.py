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
_COMMANDS = """
import contextlib, json, sys
from schemathesis.cli import schemathesis
for arguments in json.loads(sys.argv[1]):
    with contextlib.suppress(SystemExit):
        schemathesis(arguments)
"""
"""Its command line several times in one process: to start it takes longer than a short run."""
_STORAGE = Path(__file__).resolve().parent.parent / ".hypothesis"


@dataclass(frozen=True)
class Run:
    """What one run asks.

    `cases` are those of each operation that are made at random, at most; `coverage` goes through
    all that is at a limit of a schema, or just beyond it, and makes no more or fewer of them.
    """

    with_token: bool
    cases: int
    phases: str = "examples,coverage,fuzzing,stateful"


@dataclass(frozen=True)
class Figures:
    """What one run did."""

    cases: int
    failures: tuple[str, ...]
    report: str
    """Of all runs, for a person, with a command that repeats each failure."""


def fuzz(settings: Settings, folder: Path, *runs: Run, seed: int) -> list[Figures]:
    """Ask an API of its own with these settings; return what each run did."""
    config = folder / "schemathesis.toml"
    reports = [folder / f"report-{n}.json" for n, _ in enumerate(runs)]
    config.write_text(_CONFIG, encoding="utf-8")
    storage = folder / ".hypothesis"  # tables of all characters: 2 s of work, the same each time
    if not storage.exists():
        _STORAGE.mkdir(exist_ok=True)
        storage.symlink_to(_STORAGE)
    with WebServer(settings) as web, connect(settings) as client:
        _, token = Tokens(client, settings).new("fuzz", ["admin"])
        arguments = [
            [
                *(f"--config-file={config}", "run", f"{web.url}/openapi.json"),
                *("--max-examples", str(run.cases), "--seed", str(seed), "--phases", run.phases),
                *("--generation-database", "none"),
                *("--report", "json", "--report-json-path", str(report)),
                *("--suppress-health-check", "all", "--warnings", "off", "--request-timeout", "60"),
                *("--continue-on-failure", "--no-shrink"),
                *(("--header", f"Authorization: Bearer {token}") if run.with_token else ()),
            ]
            for run, report in zip(runs, reports, strict=True)
        ]
        command = [sys.executable, "-c", _COMMANDS, json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return [_figures(report, done.stdout) for report in reports]


def _figures(report: Path, shown: str) -> Figures:
    found = json.loads(report.read_text(encoding="utf-8"))
    failures = [f"{each['title']}: {', '.join(each['operations'])}" for each in found["failures"]]
    errors = [str(each) for each in found["errors"]]
    return Figures(found["test_cases"]["generated"], (*failures, *errors), shown)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=250, help="of each operation (default: 250)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, EmbeddedValkey(Path(name), fsync="no") as valkey:
        settings = Settings(
            sendcode_redis_url=SecretStr(valkey.url()),
            sendcode_data_keys=SecretStr(new_data_key("k1")),
            **UNBOUNDED,
        )
        runs = [Run(with_token, options.cases) for with_token in (True, False)]
        found = fuzz(settings, Path(name), *runs, seed=options.seed)
    failed = any(each.failures for each in found)
    if failed:
        print(found[0].report)
    for run, each in zip(runs, found, strict=True):
        what = "with a token" if run.with_token else "without a token"
        print(f"{what}: {each.cases:,} cases, {len(each.failures)} kinds of failures")
    print(f"together: {sum(each.cases for each in found):,} cases")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
