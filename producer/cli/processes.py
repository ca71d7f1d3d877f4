"""`sendcode worker`, `flower`, `demo` and `sandbox`: this process becomes that program."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, NoReturn

import typer

from config import QUEUES
from config.settings import CREDENTIALS, load_settings
from producer import programs
from producer.cli.console import CommandFailedError, MisusedError, say
from producer.cli.options import settings_here

LOOPBACK = "127.0.0.1"
FLOWER_PORT = 5555


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
    load_settings(required=CREDENTIALS)
    consumed = _known_queues(queues) if queues is not None else ()
    become(programs.worker(_plain_name(name), concurrency, consumed), os.environ)


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
    settings = settings_here()
    secret = settings.sendcode_flower_password
    password = None if secret is None or no_auth else secret.get_secret_value()
    if no_auth and not _is_loopback(address):
        raise MisusedError(
            f"--no-auth is for a loopback address, not for {address}: set a password"
        )
    if password is None and not no_auth:
        raise MisusedError(
            "SENDCODE_FLOWER_PASSWORD is not set: set it, or SENDCODE_FLOWER_PASSWORD_FILE; "
            "on a loopback address --no-auth does without"
        )
    user = settings.sendcode_flower_user
    try:
        environment = programs.flower_environment(os.environ, user, password)
    except programs.UnfitLoginError as exc:
        raise MisusedError(str(exc)) from exc
    _check_free(address, port)
    say(f"Flower on http://{address}:{port} ({f'login {user}' if password else 'no login'})")
    become(programs.flower(address, port), environment)


def demo(context: typer.Context) -> None:
    """Show the whole system on this machine; nothing else is needed.

    Its options: sendcode demo --help.
    """
    become(programs.demo(*context.args), os.environ)


def sandbox(context: typer.Context) -> None:
    """Run the stand-in of the API.

    All options are its own: sendcode sandbox --help.
    """
    become(programs.sandbox(*context.args), os.environ)


def become(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by the command: its signals and its exit code are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, dict(environment))  # noqa: S606 (no shell is wanted)


def _known_queues(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    strange = [name for name in names if name not in QUEUES]
    if strange or not names:
        known = ",".join(QUEUES)
        raise MisusedError(f"--queues: {', '.join(strange) or 'none'}: must be among {known}")
    return list(dict.fromkeys(names))


def _plain_name(name: str | None) -> str | None:
    if name is not None and not (name and all(char.isalnum() or char in "._-" for char in name)):
        raise MisusedError("--name: letters, digits, dots, dashes and underscores only")
    return name


def _check_free(address: str, port: int) -> None:
    """Find out now what Flower would answer with a traceback."""
    try:
        (family, *_, place), *_ = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except socket.gaierror:
        raise MisusedError(f"--address: {address} is no address of this machine") from None
    except OSError as exc:
        raise CommandFailedError(
            f"Flower cannot listen on {address}:{port} ({(exc.strerror or 'failed').lower()}): "
            "choose another place with --port or --address"
        ) from None


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
