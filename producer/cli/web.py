"""`sendcode web`: the console and the HTTP API."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import redis
import typer
import uvicorn

from config.logging import set_up_logging
from config.redis import connect
from config.rereading import read_again_on_hangup
from config.tracing import set_up_tracing
from jobs.vault import Vault
from producer.cli.console import say
from producer.cli.options import settings_here
from producer.cli.processes import check_free
from producer.web.app import make_app


def web(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default: SENDCODE_WEB_HOST).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port (default: SENDCODE_WEB_PORT).")
    ] = None,
) -> None:
    """Run the console and the HTTP API, until Ctrl-C or SIGTERM.

    Requests that are being answered are finished first. Put a proxy with TLS in front of it where
    others than this machine reach it.
    """
    settings = settings_here()
    address, place = host or settings.sendcode_web_host, port or settings.sendcode_web_port
    check_free(address, place, "The HTTP API", "--host")
    # a Redis that is absent is waited for, and reported to those who ask
    with connect(settings, retries=0) as client, suppress(redis.RedisError):
        Vault(client, settings).check()
    set_up_logging(settings.sendcode_log_format, settings.sendcode_log_level)
    if not sys.stdin.isatty():
        read_again_on_hangup(settings)
    set_up_tracing("sendcode-web")
    place_url = f"http://{address}:{place}"
    say(f"console on {place_url}/, HTTP API on {place_url}/v1, described on {place_url}/docs")
    uvicorn.run(
        make_app(settings),
        host=address,
        port=place,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=30,
        h11_max_incomplete_event_size=16_384,
    )
