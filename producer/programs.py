"""The programs of the house that run as processes of their own, and how each is started.

They are started, never imported: a producer knows neither the worker nor the sandbox from inside.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

FLOWER_COLUMNS = "uuid,state,result,received,started,runtime,worker"
"""Failures are told in the result, too."""


class UnfitLoginError(ValueError):
    """Flower cannot take this user or password; says which variable and why."""


def worker(
    name: str | None = None, concurrency: int | None = None, queues: Sequence[str] = ()
) -> list[str]:
    """Return the command of a worker, whose full name will be `name` "@" this host."""
    command = [*_python("worker"), "worker"]
    if name is not None:
        command += ["--hostname", f"{name}@%h"]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    if queues:
        command += ["--queues", ",".join(queues)]
    return command


def flower(address: str, port: int) -> list[str]:
    """Return the command of Flower; its login goes into its environment."""
    options = [f"--address={address}", f"--port={port}"]
    return [*_python("worker"), "flower", *options]


def sandbox(*options: str) -> list[str]:
    """Return the command of the stand-in of the API."""
    return [*_python("sandbox"), *options]


def demo(*options: str) -> list[str]:
    """Return the command of the demo."""
    return [*_python("demo"), *options]


def flower_environment(
    environment: Mapping[str, str], user: str, password: str | None
) -> dict[str, str]:
    """Return Flower's environment: its login, which no process list shows; no API credentials.

    It is read-only unless FLOWER_READ_ONLY says otherwise: what it could do to a task it would do
    behind the ledger's back. Flower's own variables are kept where they are set.

    Raises:
        UnfitLoginError: Flower would misread the login.
    """
    changed = {
        name: value for name, value in environment.items() if not name.startswith("TENCENTCLOUD_")
    }
    changed.setdefault("FLOWER_READ_ONLY", "true")
    changed.setdefault("FLOWER_TASKS_COLUMNS", FLOWER_COLUMNS)
    changed.pop("FLOWER_BASIC_AUTH", None)
    if password is not None:
        # Flower takes several logins, with commas between them, and compares ASCII only
        _check("SENDCODE_FLOWER_USER", user, ":,")
        _check("SENDCODE_FLOWER_PASSWORD", password, ",")
        changed["FLOWER_BASIC_AUTH"] = f"{user}:{password}"
    return changed


def _check(variable: str, value: str, unfit: str) -> None:
    if not (value.isascii() and value.isprintable()) or set(value) & set(unfit):
        signs = " and no ".join(f'"{sign}"' for sign in unfit)
        raise UnfitLoginError(f"{variable}: must be plain ASCII, with no {signs}, to suit Flower")


def _python(module: str) -> list[str]:
    """`-P`: a worker.py or config.py that happens to lie in the current folder is not ours."""
    return [sys.executable, "-P", "-m", module]
