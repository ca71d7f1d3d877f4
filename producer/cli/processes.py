"""`sendcode worker`, `flower`, `demo` and `sandbox`: this process becomes that program.

Programs are started, never imported: a producer knows neither worker nor sandbox from inside.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, NoReturn

import typer

from config import QUEUES
from config.address import is_loopback
from config.flower import FLOWER_PORT, LOOPBACK, NO_AUTH, flower_environment
from config.settings import CREDENTIALS, DATA_KEYS, load_settings
from producer.cli.console import CommandFailedError, MisusedError, say
from producer.cli.options import settings_here


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Threads (default: SENDCODE_CONCURRENCY, 48)."),
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option(
            help=f"Only these, by commas, of {' and '.join(QUEUES)}. Events come "
            "first in any order. Recovered jobs come as events: some worker must take those."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What it is called on this machine (default: a name of its own)."),
    ] = None,
) -> None:
    """Run a worker, until Ctrl-C or SIGTERM.

    The same as `celery -A worker worker`. What is in work is finished or handed back first.
    """
    load_settings(required=(*CREDENTIALS, DATA_KEYS))
    consumed = _known_queues(queues) if queues is not None else ()
    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise MisusedError("--name: letters, digits, dots, dashes and underscores only")
    become(worker_command(name, concurrency, consumed), os.environ)


def flower(
    address: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = FLOWER_PORT,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Without a password; on a loopback address only.")
    ] = False,
) -> None:
    """Run Flower, the view on workers, tasks and queues.

    The same as `celery -A worker flower`; both listen on a loopback address unless told otherwise.
    Its login is SENDCODE_FLOWER_USER and SENDCODE_FLOWER_PASSWORD. It shows, and changes nothing
    (FLOWER_READ_ONLY=false lets it). Its /metrics and /healthcheck are open to everybody who can
    reach the port, login or not: they name workers and count tasks.
    """
    settings = settings_here(required=())
    secret = settings.sendcode_flower_password
    password = None if secret is None or no_auth else secret.get_secret_value()
    if no_auth and not is_loopback(address):
        raise MisusedError(
            f"--no-auth is for a loopback address, not for {address}: set a password"
        )
    if password is None and not no_auth:
        raise MisusedError(
            "SENDCODE_FLOWER_PASSWORD is not set: set it, or SENDCODE_FLOWER_PASSWORD_FILE; "
            "on a loopback address --no-auth does without"
        )
    user = settings.sendcode_flower_user
    environment = flower_environment(os.environ, user, password)
    if no_auth:
        environment[NO_AUTH] = "1"
    check_free(address, port, "Flower")
    say(f"Flower on http://{address}:{port} ({f'login {user}' if password else 'no login'})")
    become(flower_command(address, port), environment)


def demo(context: typer.Context) -> None:
    """Show the whole system on this machine; nothing else is needed.

    Its options: sendcode demo --help.
    """
    become([*module_command("demo"), *context.args], os.environ)


def sandbox(context: typer.Context) -> None:
    """Run the stand-in for the API.

    All options are its own: sendcode sandbox --help.
    """
    become([*module_command("sandbox"), *context.args], os.environ)


def become(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by the command: its signals and its exit code are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, dict(environment))  # noqa: S606 (no shell is wanted)


def worker_command(
    name: str | None = None, concurrency: int | None = None, queues: Sequence[str] = ()
) -> list[str]:
    """Return the command of a worker, whose full name will be `name` "@" this host."""
    command = [*module_command("worker"), "worker"]
    if name is not None:
        command += ["--hostname", f"{name}@%h"]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    if queues:
        command += ["--queues", ",".join(queues)]
    return command


def flower_command(address: str, port: int) -> list[str]:
    """Return the command of Flower; its login goes into its environment."""
    return [*module_command("worker"), "flower", f"--address={address}", f"--port={port}"]


def module_command(module: str) -> list[str]:
    """Return the command of a program of ours.

    `-P`: a worker.py or config.py that happens to lie in the current folder is not ours.
    """
    return [sys.executable, "-P", "-m", module]


def _known_queues(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in QUEUES]
    if unknown or not names:
        known = ",".join(QUEUES)
        raise MisusedError(f"--queues: {', '.join(unknown) or 'none'}: must be among {known}")
    return list(dict.fromkeys(names))


def check_free(address: str, port: int, what: str, option: str = "--address") -> None:
    """Raise an error in plain words where a server would end with a traceback.

    `option`: that of the address.
    """
    try:
        (family, *_, place), *_ = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except socket.gaierror:
        raise MisusedError(f"{option}: {address} is no address of this machine") from None
    except OSError as exc:
        raise CommandFailedError(
            f"{what} cannot listen on {address}:{port} ({(exc.strerror or 'failed').lower()}): "
            f"choose another one with --port or {option}"
        ) from None
