"""`sendcode web` and `sendcode token`: the HTTP API, and who may use it."""

from __future__ import annotations

import sys
from typing import Annotated

import redis
import typer
import uvicorn

from config.logging import set_up_logging
from config.redis import connect
from config.rereading import read_again_on_hangup
from config.settings import Settings
from config.tracing import set_up_tracing
from jobs.vault import Vault
from jobs.webhooks import Webhooks, check_url
from producer.cli.console import CommandFailedError, ask_first, say, show, show_json
from producer.cli.display import moment, show_table
from producer.cli.options import JsonOption, ledger_connection, settings_here
from producer.cli.processes import check_free
from producer.tokens import Scope, Tokens
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
    _refuse_other_keys(settings)
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


def _refuse_other_keys(settings: Settings) -> None:
    """Raise IndexLockedError unless the ledger is sealed under these data keys."""
    client = connect(settings, retries=0)
    try:
        Vault(client, settings).check()
    except redis.RedisError:
        pass  # its absence is waited for, and reported to those who ask
    finally:
        client.close()


def new(
    name: Annotated[str, typer.Argument(help="Of the backend that will use it, such as shop.")],
    scope: Annotated[
        str, typer.Option(help=f"What it allows, by commas, of {', '.join(Scope)}.")
    ] = Scope.SEND,
    test: Annotated[
        bool, typer.Option("--test", help="Nothing is sent: its jobs end by their numbers alone.")
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where to send what becomes of its jobs; of its name."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token for a backend. It is shown once, and kept nowhere.

    A name has two at a time at most: make the new one, let the backend take it, revoke the old one
    by its id. A webhook belongs to the name: new tokens keep it, and its secret, which is shown
    once, too, when it is made.
    """
    scopes = [each.strip() for each in scope.split(",") if each.strip()]
    if test:
        scopes = [Scope.TEST if each == Scope.SEND else each for each in scopes] + [Scope.TEST]
    with ledger_connection() as (settings, client):
        if webhook:
            check_url(webhook, private_too=settings.sendcode_webhook_private)
        token, secret = Tokens(client, settings).new(name, scopes)
        signs = Webhooks(client, settings).set(name, webhook)[1] if webhook else ""
    if as_json:
        signed = {"webhook_secret": signs} if signs else {}
        show_json({**token.as_dict(), "token": secret, **signed})
        return
    show(secret)
    if signs:
        show(signs)
        say("the second one is the secret that signs its webhooks")
    say(
        f"token {token.id} of {name} ({', '.join(token.scopes)}): this is the only time it is shown"
    )


def list_tokens(as_json: JsonOption = False) -> None:
    """Show who may use the HTTP API, without their tokens."""
    with ledger_connection() as (settings, client):
        tokens = Tokens(client, settings).all()
    if as_json:
        show_json([token.as_dict() for token in tokens])
        return
    rows = [
        (
            token.id,
            token.name,
            ", ".join(token.scopes),
            moment(token.created_ms),
            moment(token.used_ms),
        )
        for token in tokens
    ]
    show_table(("id", "name", "scopes", "made", "last used"), rows)


def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_ID", help="Whose; all of a name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a token: its next request is refused. Asks first, or wants --yes."""
    with ledger_connection() as (settings, client):
        tokens = Tokens(client, settings)
        found = [each for each in tokens.all() if name in {each.name, each.id}]
        if not found:
            raise CommandFailedError(f"no token has the name or id {name}: sendcode token list")
        ask_first(f"Revoke {len(found)} token(s) of {found[0].name}?", yes=yes)
        gone = tokens.revoke(name)
    for token in gone:
        say(f"token {token.id} of {token.name} is revoked")
