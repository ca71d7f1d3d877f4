"""`sendcode sandbox`, or `python -m sandbox`: the stand-in of the API as a server of its own."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sandbox.numbers import BEHAVIOURS, MAGIC_NUMBERS, behaviour_named
from sandbox.server import Server
from sandbox.settings import Settings, SettingsError
from sandbox.signature import Credentials

DEFAULT_PORT: Final = 8020
MOST_PORT: Final = 65_535
SECRET_ID: Final = "TENCENTCLOUD_SECRET_ID"  # noqa: S105 - names of variables
SECRET_KEY: Final = "TENCENTCLOUD_SECRET_KEY"  # noqa: S105
TOKEN: Final = "TENCENTCLOUD_TOKEN"  # noqa: S105
_EXAMPLE: Final = Credentials()


class FailedError(Exception):
    """What was asked cannot be done; the message names the thing and the reason."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit code (2, by argparse, for wrong options)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.list_numbers:
            with _output():
                _print_numbers(as_json=options.json)
        else:
            _run(parser, options)
    except FailedError as exc:
        print(f"{parser.prog}: {exc}", file=sys.stderr)
        return 1
    return 0


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
    with _named(f"--tls {file}"):
        context.load_cert_chain(file)
    return context


@contextmanager
def _named(thing: str) -> Iterator[None]:
    """Put the name of the thing before an error's reason."""
    try:
        yield
    except OSError as exc:
        raise FailedError(f"{thing}: {(exc.strerror or str(exc)).lower()}") from exc


@contextmanager
def _output() -> Iterator[None]:
    """Write to standard output within the block."""
    try:
        with _named("standard output"):
            yield
            print(end="", flush=True)
    except FailedError:  # what is left could not be written at the end of the process either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise


async def _serve(server: Server, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _named(f"cannot listen on {host}:{port}"):
        url = await server.listen(host, port, tls)
    with _output():
        print(json.dumps({"url": url, "pid": os.getpid()}))
    gc.freeze()  # what is loaded by now stays: collections look at requests only, and are short
    await stop.wait()
    await server.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sendcode sandbox",
        description="A stand-in of the SendVerifyCode API, as strict as the real one. Prints one "
        'line, {"url": ...}, once it listens. Counts and settings: URL/_sandbox/stats.',
        epilog="Behaviours for --fault: any code of the API, or "
        + ", ".join(BEHAVIOURS)
        + ". The probabilities add up to at most 1; a request meets at most one.",
    )
    add = parser.add_argument

    def shown(name: str, default: object, text: str, **more: Any) -> None:
        """Add an option whose default --help shows; others are secret, or nothing."""
        add(name, default=default, help=f"{text} (default: %(default)s)", **more)

    shown("--host", "127.0.0.1", "address to listen on")
    shown("--port", DEFAULT_PORT, "0 takes any free one", type=_port)
    shown("--rate-limit", 20.0, "requests per second, 0 for no limit", type=float)
    shown("--phone-interval", 60.0, "seconds between codes for a number", type=float)
    add("--secret-id", **_from_environment(SECRET_ID, _EXAMPLE.secret_id))
    add("--secret-key", **_from_environment(SECRET_KEY, _EXAMPLE.secret_key))
    shown("--latency-ms", 0.0, "way of a request to the API", type=float)
    shown("--jitter-ms", 0.0, "mean of a random queue before the counting", type=float)
    shown(
        "--answer-ms",
        "0",
        "how long it works on a request: a number, LEAST-MOST (uniform) or lognormal:MEDIAN:SIGMA",
    )
    add(
        "--count-at-end",
        action="store_true",
        dest="counts_at_end",
        help="count a request when its work is done",
    )
    add(
        "--close", action="store_true", dest="closes", help="close each connection after its answer"
    )
    shown(
        "--clock-skew",
        0.0,
        "by which its clock is ahead",
        type=float,
        dest="clock_skew_s",
        metavar="SECONDS",
    )
    add(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="NAME=PROBABILITY",
        help="treat ordinary numbers like this, at random; may be repeated",
    )
    shown("--seed", 0, "of faults, queue and work", type=int)
    add("--tls", type=Path, metavar="FILE", help="serve https by this certificate and key (PEM)")
    add("--list-numbers", action="store_true", help="print the magic numbers and stop")
    add("--json", action="store_true", help="print them as JSON")
    return parser


def _from_environment(variable: str, example: str) -> dict[str, Any]:
    """Return default and help of an option whose value should be in no process list."""
    text = f"of the account (or from {variable}, or else {example})"
    return {"default": os.environ.get(variable) or example, "help": text}


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_PORT):
        raise argparse.ArgumentTypeError(f"must be 0 to {MOST_PORT}")
    return int(text)


def _fault(text: str) -> tuple[str, float]:
    name, equals, probability = text.partition("=")
    try:
        behaviour_named(name)
        return name, float(probability)
    except ValueError as exc:
        reason = exc if equals else "it is not NAME=PROBABILITY"
        raise argparse.ArgumentTypeError(str(reason)) from None


def _print_numbers(*, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(row) for row in MAGIC_NUMBERS], indent=1))
        return
    print("PhoneNum  requests  behaviour                                what it is")
    for row in MAGIC_NUMBERS:
        tries = "all" if row.tries is None else f"first {row.tries}"
        print(f"{row.prefix}xxxx  {tries:8}  {row.behaviour:39}  {row.note}")


if __name__ == "__main__":
    sys.exit(main())
