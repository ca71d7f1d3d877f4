"""`sendcode worker`, `flower` and `sandbox`: this process becomes that program.

They are started, not imported: a producer knows neither the worker nor the sandbox from inside.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, NoReturn

import typer

from producer.cli.console import MisusedError, say

LOOPBACK = "127.0.0.1"
FLOWER_PORT = 5555


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Threads [default: SENDCODE_CONCURRENCY, 48]."),
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option(
            help="Only these queues, by commas, the first before the others: send-code.event,"
            "send-code.batch."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Tells several workers of one machine apart.")
    ] = "celery",
) -> None:
    """Run a worker, until Ctrl-C or SIGTERM.

    The same as `celery -A worker worker`. What is in work is finished or handed back first.
    """
    from config.settings import load_settings

    load_settings().credentials()
    options = ["--hostname", f"{_plain_name(name)}@%h"]
    if concurrency is not None:
        options += ["--concurrency", str(concurrency)]
    if queues is not None:
        options += ["--queues", _known_queues(queues)]
    become("celery", ["-A", "worker", "worker", *options], os.environ)


def flower(
    address: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = FLOWER_PORT,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Without a password; on a loopback address only.")
    ] = False,
) -> None:
    """Run Flower, the view on workers, tasks and queues.

    Its login is SENDCODE_FLOWER_USER and SENDCODE_FLOWER_PASSWORD. It shows, and changes nothing
    (FLOWER_READ_ONLY=false lets it). Its /metrics and /healthcheck are open to everybody who can
    reach the port, login or not: they name workers and count tasks.
    """
    from config.settings import load_settings

    settings = load_settings()
    secret = settings.sendcode_flower_password
    password = None if secret is None or no_auth else secret.get_secret_value()
    environment = flower_environment(os.environ, settings.sendcode_flower_user, password)
    if no_auth and not _is_loopback(address):
        raise MisusedError(
            f"--no-auth is for a loopback address, not for {address}: set a password"
        )
    if password is None and not no_auth:
        raise MisusedError(
            "SENDCODE_FLOWER_PASSWORD is not set: set it, or SENDCODE_FLOWER_PASSWORD_FILE; "
            "on a loopback address --no-auth does without"
        )
    login = f"login {settings.sendcode_flower_user}" if password else "no login"
    say(f"Flower on http://{address}:{port} ({login})")
    options = [f"--address={address}", f"--port={port}"]
    become("celery", ["-A", "worker", "flower", *options], environment)


def sandbox(context: typer.Context) -> None:
    """Run the stand-in of the API.

    All options are its own: sendcode sandbox --help.
    """
    become("sandbox", context.args, os.environ)


def flower_environment(
    environment: Mapping[str, str], user: str, password: str | None
) -> dict[str, str]:
    """Give Flower's environment: its login in it, which no process list shows; no credentials.

    Raises:
        MisusedError: Flower cannot take this user or password.
    """
    changed = {
        name: value for name, value in environment.items() if not name.startswith("TENCENTCLOUD_")
    }
    changed.setdefault("FLOWER_READ_ONLY", "true")
    changed.setdefault(
        "FLOWER_TASKS_COLUMNS", "uuid,state,result,exception,received,started,runtime,worker"
    )
    changed.pop("FLOWER_BASIC_AUTH", None)
    if password is None:
        return changed
    for variable, value, unfit in (
        ("SENDCODE_FLOWER_USER", user, ",:"),
        ("SENDCODE_FLOWER_PASSWORD", password, ","),
    ):
        if not (value.isascii() and value.isprintable()) or set(value) & set(unfit):
            signs = " and ".join(unfit)
            raise MisusedError(
                f"{variable}: Flower takes ASCII letters, digits and signs, but not {signs}"
            )
    changed["FLOWER_BASIC_AUTH"] = f"{user}:{password}"
    return changed


def become(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by `python -m module`: its signals and exit code are its own.

    `-P`: a file that happens to be called config.py in the current folder is not ours.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-P", "-m", module, *arguments]
    os.execve(sys.executable, command, dict(environment))  # noqa: S606 (no shell is wanted)


def _known_queues(text: str) -> str:
    from config.names import QUEUES

    names = [name.strip() for name in text.split(",") if name.strip()]
    strange = [name for name in names if name not in QUEUES]
    if strange or not names:
        known = ",".join(QUEUES)
        raise MisusedError(f"--queues: {', '.join(strange) or 'none'}: must be among {known}")
    return ",".join(dict.fromkeys(names))


def _plain_name(name: str) -> str:
    if not name or not all(char.isalnum() or char in "._-" for char in name):
        raise MisusedError("--name: letters, digits, dots, dashes and underscores only")
    return name


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
