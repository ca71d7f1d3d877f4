"""`sendcode sandbox`, or `python -m sandbox`: the stand-in for the API as its own server."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sandbox.numbers import BEHAVIOURS, TABLE
from sandbox.server import Server
from sandbox.settings import Settings, SettingsError
from sandbox.signature import Credentials

_NAME: Final = "sendcode sandbox"
DEFAULT_PORT: Final = 8020
LAST_PORT: Final = 65_535
SECRET_ID: Final = "TENCENTCLOUD_SECRET_ID"  # noqa: S105 - names of variables
SECRET_KEY: Final = "TENCENTCLOUD_SECRET_KEY"  # noqa: S105
TOKEN: Final = "TENCENTCLOUD_TOKEN"  # noqa: S105
_EXAMPLE: Final = Credentials()
_NO_OPTIONS: Final = frozenset({"faults", "account_state"})
"""Settings without an option: one has `--fault`, the other is changed while it runs."""


def main() -> None:
    """Run until SIGTERM or SIGINT. Exit code 1: it failed; 2: wrong options (argparse)."""
    parser = _parser()
    options = parser.parse_args()
    if options.list_numbers:
        with _output():
            print(TABLE, end="")
    else:
        _run(parser, options)


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    try:
        given = {
            name: value for name, value in vars(options).items() if name in Settings.model_fields
        }
        settings = Settings().changed({**given, "faults": dict(options.fault)})
    except SettingsError as exc:
        parser.error(str(exc))
    token = os.environ.get(TOKEN) or None
    credentials = Credentials(options.secret_id, options.secret_key, token)
    server = Server(credentials, settings, seed=options.seed)
    tls = None if options.tls is None else _tls(options.tls)
    asyncio.run(_serve(server, options.host, options.port, tls))


def _tls(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _exit_on_error(f"--tls {file}"):
        context.load_cert_chain(file)
    return context


@contextmanager
def _exit_on_error(what: str) -> Iterator[None]:
    """Exit with one line, `what` and the reason, if the operating system refuses something."""
    try:
        yield
    except OSError as exc:
        sys.exit(f"{_NAME}: {what}: {(exc.strerror or str(exc)).lower()}")


@contextmanager
def _output() -> Iterator[None]:
    """Write to standard output within the block."""
    try:
        with _exit_on_error("standard output"):
            yield
            print(end="", flush=True)
    except SystemExit:  # else the interpreter would fail again to write the rest as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise


async def _serve(server: Server, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _exit_on_error(f"cannot listen on {host}:{port}"):
        url = await server.listen(host, port, tls)
    with _output():
        print(json.dumps({"url": url, "pid": os.getpid()}))
    gc.freeze()  # what is loaded now stays: collections scan only requests, and are short
    await stop.wait()
    await server.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="A stand-in for the SendVerifyCode API, as strict as the real one. Prints one "
        'line, {"url": ...}, once it listens. Counts and settings: URL/_sandbox/stats.',
        epilog="Behaviours for --fault: any code of the API, or "
        + ", ".join(BEHAVIOURS)
        + ". The probabilities add up to at most 1; a request meets at most one.",
    )
    add = parser.add_argument

    def add_with_default(name: str, default: object, text: str, **more: Any) -> None:
        """Add an option whose default --help shows; other defaults are secret, or nothing."""
        add(name, default=default, help=f"{text} (default: %(default)s)", **more)

    add_with_default("--host", "127.0.0.1", "address to listen on")
    add_with_default("--port", DEFAULT_PORT, "0 takes any free one", type=_port)
    add("--secret-id", **_from_environment(SECRET_ID, _EXAMPLE.secret_id))
    add("--secret-key", **_from_environment(SECRET_KEY, _EXAMPLE.secret_key))
    for name, field in Settings.model_fields.items():
        text = (field.description or "").removesuffix(".")
        option = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            add(option, action="store_true", help=text)
        elif name not in _NO_OPTIONS:
            kind = float if field.annotation is float else str
            add_with_default(option, field.default, text, type=kind)
    add(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="NAME=PROBABILITY",
        help="treat ordinary numbers like this, at random; may be repeated",
    )
    add_with_default("--seed", 0, "of faults, queue and work", type=int)
    add("--tls", type=Path, metavar="FILE", help="serve https by this certificate and key (PEM)")
    add("--list-numbers", action="store_true", help="print the magic numbers and stop")
    return parser


def _from_environment(variable: str, example: str) -> dict[str, Any]:
    """Return default and help of an option whose value no process list should show."""
    text = f"of the account (or from {variable}, or else {example})"
    return {"default": os.environ.get(variable) or example, "help": text}


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= LAST_PORT):
        raise argparse.ArgumentTypeError(f"must be 0 to {LAST_PORT}")
    return int(text)


def _fault(text: str) -> tuple[str, float]:
    name, _, probability = text.partition("=")
    try:
        return name, float(probability)
    except ValueError:
        raise argparse.ArgumentTypeError("must be NAME=PROBABILITY") from None


if __name__ == "__main__":
    main()
