"""`make trial`: the containers of docker-compose.yml are killed in mid-batch, and codes counted.

Needs Docker with Compose, and the image (`docker compose build`). It brings secrets, volumes and a
project name of its own, and takes the ports that docker-compose.yml publishes. With
`--before IMAGE`, workers, web and Flower begin as that image and are exchanged first.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.waiting import wait_until
from tests.worker_process import TOP

PROJECT = "sendcode-trial"
FILES = ("docker-compose.yml", "docker-compose.sandbox.yml")
PARTS = ("worker", "web", "flower")
KILLED = ("worker", "redis", "web", "worker", "flower", "redis")
PATIENCE_S = 900.0
BETWEEN_S = 8
"""Of load between two kills."""
STATS = """
import ssl, urllib.request
trust = ssl.create_default_context(cafile="/run/secrets/sandbox_tls")
place = "https://localhost:8020/_sandbox/stats?numbers=0"
print(urllib.request.urlopen(place, context=trust).read().decode())
"""


class Containers:
    """The project in Compose; its secrets are in `folder`."""

    def __init__(self, folder: Path, before: str | None) -> None:
        has_plugin = _run("docker", "compose", "version", check=False).returncode == 0
        compose = ["docker", "compose"] if has_plugin else ["docker-compose"]
        files = [word for name in FILES for word in ("-f", str(TOP / name))]
        self._compose = [*compose, "-p", PROJECT, "--project-directory", str(folder), *files]
        self._older = folder / "before.yml"
        services = {part: {"image": before} for part in PARTS}
        self._older.write_text(json.dumps({"services": services}))  # JSON is YAML as well

    def up(self, *, older: bool = False) -> None:
        """Start what is missing, and exchange what has another image."""
        more = ["-f", str(self._older)] if older else []
        self._call(*more, "up", "-d", "--no-build", "--scale", "worker=2")

    def down(self) -> None:
        self._call("down", "--volumes", "--timeout", "40")

    def sendcode(self, *words: str, given: str = "", check: bool = True) -> str:
        return self._call("exec", "-T", "web", "sendcode", *words, given=given, check=check)

    def kill(self, service: str) -> None:
        """Kill one container of a service, and start it again after three seconds."""
        name = self._call("ps", "-q", service).split()[0]
        _run("docker", "kill", name)
        time.sleep(3)
        _run("docker", "start", name)

    def received(self) -> dict[str, Any]:
        """Return what the sandbox counted."""
        text = self._call("exec", "-T", "sandbox", "python3", "-c", STATS)
        return dict(json.loads(text))

    def _call(self, *words: str, given: str = "", check: bool = True) -> str:
        return _run(*self._compose, *words, given=given, check=check).stdout


def _run(*words: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    if check and ran.returncode:
        sys.exit(f"{' '.join(words)}: exit code {ran.returncode}\n{ran.stderr}")
    return ran


def _try(containers: Containers, rows: int, before: str | None) -> bool:
    """Send `rows` codes under kills; return whether each was sent, and none twice."""
    containers.up(older=before is not None)
    wait_until(lambda: _has_two_workers(containers), "two workers")
    numbers = "".join(f"852,{51_000_000 + n}\n" for n in range(rows))
    file = f"country_code,phone_num\n{numbers}"
    containers.sendcode("batch", "submit", "--yes", "--id", "trial", "-", given=file)
    time.sleep(BETWEEN_S)
    if before is not None:
        began = time.monotonic()
        containers.up()
        print(f"exchanged within {time.monotonic() - began:.0f} s")
        time.sleep(BETWEEN_S)
    for service in KILLED:
        containers.kill(service)
        print(f"killed: {service}", flush=True)
        time.sleep(BETWEEN_S)

    wait_until(lambda: _status(containers).get("state") == "done", "the batch", PATIENCE_S)

    counts, received = _status(containers)["counts"], containers.received()
    print(f"ledger: {counts}; accepted: {received['accepted']}, doubled: {received['doubled']}")
    return bool(
        sum(counts.get(each, 0) for each in ("sent", "sent_inferred")) == rows
        and received["accepted_numbers"] == rows
        and received["doubled"] == 0
    )


def _has_two_workers(containers: Containers) -> bool:
    return bool(re.search(r"^workers +2 alive", containers.sendcode("status", check=False), re.M))


def _status(containers: Containers) -> dict[str, Any]:
    said = containers.sendcode("batch", "status", "trial", "--json", check=False)
    return dict(json.loads(said or "{}"))


def main() -> int:
    """Return the exit code: 0 if nothing was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("--rows", type=int, default=1500, help="codes to send (1500)")
    parser.add_argument("--before", metavar="IMAGE", help="begin with that one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        _run("make", "-C", name, "-f", str(TOP / "Makefile"), "secrets", "SANDBOX=1")
        containers = Containers(Path(name), options.before)
        try:
            is_well = _try(containers, options.rows, options.before)
        finally:
            containers.down()
    print("each code was sent once" if is_well else "LOST OR DOUBLED")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
