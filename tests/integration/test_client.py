"""The client for backends (clients/python) against the real server, and its fake against itself."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from redis import Redis
from standardwebhooks import Webhook

from config.settings import Settings
from jobs.job import event_job_id
from jobs.ledger import Ledger
from producer.tokens import Tokens
from sendcode_client import (
    AsyncClient,
    Client,
    Job,
    KeyReusedError,
    NotAcceptedError,
    RefusedError,
    TokenError,
    WebhookError,
    verify_webhook,
)
from sendcode_client.testing import FakeSendcode
from tests.web_server import WebServer

Server = tuple[str, str]
"""URL and token."""
PHONE = "+852 5550 1234"


@pytest.fixture
def real(settings: Settings, redis: Redis) -> Iterator[Server]:
    _, token = Tokens(redis, settings).new("shop", ["send", "read"])
    with WebServer(settings) as server:
        yield server.url, token


@pytest.fixture
def fake() -> Iterator[FakeSendcode]:
    with FakeSendcode(sends_at_once=False) as server:
        yield server


@pytest.fixture(params=["real", "fake"])
def server(request: pytest.FixtureRequest) -> Server:
    """The real server, and the fake, which must behave alike."""
    found: Any = request.getfixturevalue(request.param)
    return (found.url, found.token) if isinstance(found, FakeSendcode) else found


def sync_call(server: Server, method: str, *words: Any, **options: Any) -> Any:
    with Client(*server) as client:
        return getattr(client, method)(*words, **options)


def async_call(server: Server, method: str, *words: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(*server) as client:
            return await getattr(client, method)(*words, **options)

    return asyncio.run(run())


@pytest.fixture(params=[sync_call, async_call])
def call(request: pytest.FixtureRequest, server: Server) -> Callable[..., Any]:
    return lambda *words, **options: request.param(server, *words, **options)


def test_a_code_is_accepted_once_for_a_key(call: Callable[..., Any]) -> None:
    first: Job = call("send_code", PHONE, key="signup-1", reference="c 1")
    again: Job = call("send_code", PHONE, key="signup-1", reference="c 1")

    assert not first.replayed
    assert again.replayed
    assert first.job_id == again.job_id == call("get", "signup-1").job_id
    assert call("job", first.job_id).reference == "c 1"
    assert "5550" not in str(first.raw)


def test_what_is_not_there_is_none(call: Callable[..., Any]) -> None:
    assert call("get", "signup-0") is None
    assert call("job", "ev-0/../x?") is None


def test_a_key_used_otherwise_is_an_error_that_names_its_job(call: Callable[..., Any]) -> None:
    job: Job = call("send_code", PHONE, key="signup-1")

    with pytest.raises(KeyReusedError) as error:
        call("send_code", "852", "55501235", key="signup-1")

    assert error.value.job_id == job.job_id


@pytest.mark.parametrize("key", ["signup-é", "注册-81723" * 20])
def test_a_key_in_any_script_is_the_same_key_again(call: Callable[..., Any], key: str) -> None:
    first: Job = call("send_code", PHONE, key=key)

    again: Job = call("send_code", PHONE, key=key)

    assert again.replayed
    assert first.job_id == again.job_id == call("get", key).job_id


def test_a_key_in_latin_1_is_that_key_too(server: Server) -> None:
    url, token = server
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "signup-é"}  # as Latin-1

    answer = requests.post(f"{url}/v1/codes", json={"phone": PHONE}, headers=headers, timeout=30)

    with Client(*server) as client:
        job = client.get("signup-é")
    assert job is not None
    assert job.job_id == answer.json()["job_id"]


def test_a_key_is_the_same_through_http_and_python(real: Server) -> None:
    with Client(*real) as client:
        job: Job = client.send_code(PHONE, key="注册-1")

    assert job.job_id == event_job_id("注册-1")
    assert job.raw["key"] == "注册-1"


def test_a_key_that_no_header_can_hold_is_refused_by_name(call: Callable[..., Any]) -> None:
    with pytest.raises(RefusedError, match="control characters") as error:
        call("send_code", PHONE, key="signup\n1")

    assert error.value.errors[0]["field"] == "Idempotency-Key"


def test_a_request_that_could_not_be_said_is_not_sent_before_the_next(fake: FakeSendcode) -> None:
    with Client(fake.url, "sct_\n") as client:
        with pytest.raises(ValueError, match="header"):
            client.send_code(PHONE, key="signup-1")
        client._token = fake.token
        job = client.send_code(PHONE, key="signup-2")

    assert [each.job_id for each in fake.codes] == [job.job_id]


def test_a_wrong_token_is_an_error_of_its_own(server: Server) -> None:
    with Client(server[0], "sct_wrong") as client, pytest.raises(TokenError):
        client.send_code(PHONE)


def test_a_number_that_makes_no_sense_is_refused_by_field(real: Server) -> None:
    with Client(*real) as client, pytest.raises(RefusedError) as error:
        client.send_code("+7 916 123 45 67")

    assert error.value.errors[0]["field"] == "phone"


@pytest.mark.parametrize("ask", [sync_call, async_call])
def test_a_waiting_caller_has_the_end_at_once(fake: FakeSendcode, ask: Any) -> None:
    job: Job = ask((fake.url, fake.token), "send_code", PHONE, key="signup-1")
    threading.Timer(0.1, fake.end, ["signup-1"]).start()

    ended: Job = ask((fake.url, fake.token), "wait", job, 30)

    assert ended.is_sent


@pytest.mark.parametrize("ask", [sync_call, async_call])
def test_what_fails_on_the_way_is_tried_again_with_the_same_key(
    fake: FakeSendcode, ask: Any
) -> None:
    fake.down = True
    threading.Timer(0.3, setattr, [fake, "down", False]).start()

    ask((fake.url, fake.token), "send_code", PHONE)

    assert len(fake.codes) == 1


def test_a_server_that_stays_away_is_told_from_a_refusal(fake: FakeSendcode) -> None:
    fake.down = True

    with (
        Client(fake.url, fake.token, timeout=0.3) as client,
        pytest.raises(NotAcceptedError, match="status 503"),
    ):
        client.send_code(PHONE)


def test_a_connection_that_the_server_has_closed_is_opened_anew(
    settings: Settings, redis: Redis, ledger: Ledger
) -> None:
    _, token = Tokens(redis, settings).new("shop", ["send"])
    with WebServer(settings) as server, Client(server.url, token) as client:
        client.send_code(PHONE, key="signup-1")
        sock = client._connection(1).sock
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        client.send_code(PHONE, key="signup-2", resend=True)

    assert ledger.client.llen(ledger.keys.event_queue) == 2


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[tuple[bytes, dict[str, str]]]]]:
    """A receiver's URL, and what it received."""
    received: list[tuple[bytes, dict[str, str]]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((body, dict(self.headers)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", received
        server.shutdown()


def test_a_webhook_is_verified_as_the_standard_s_own_library_does(
    webhook: tuple[str, list[tuple[bytes, dict[str, str]]]],
) -> None:
    url, received = webhook
    with FakeSendcode(webhook=url) as fake, Client(fake.url, fake.token) as client:
        client.send_code(PHONE, key="signup-1")
    ((body, headers),) = received

    payload = verify_webhook(body, headers, ["whsec_AAAA", fake.webhook_secret])

    assert payload["data"]["key"] == "signup-1"
    oracle: Any = Webhook(fake.webhook_secret)
    lower = {name.lower(): value for name, value in headers.items()}
    assert oracle.verify(body, lower) == payload
    attempts: list[Callable[[], Any]] = [
        lambda: verify_webhook(body + b" ", headers, fake.webhook_secret),
        lambda: verify_webhook(body, headers, "whsec_AAAA"),
        lambda: verify_webhook(body, headers, fake.webhook_secret, now=time.time() + 301),
        lambda: verify_webhook(body, {}, fake.webhook_secret),
    ]
    for wrong in attempts:
        with pytest.raises(WebhookError):
            wrong()
