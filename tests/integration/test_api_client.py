from __future__ import annotations

import base64
import gzip
import json
import logging
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import trustme

from jobs.codes import Kind, OwnCode
from tests.integration.fault_server import (
    ACCEPTED,
    FaultServer,
    Peer,
    Script,
    answering,
    dripping,
    endless,
    http_answer,
    once,
    refused,
    silent,
    tunnelling,
)
from tests.sandbox import Sandbox, number_for
from tests.waiting import wait_until
from worker.api import Answer, SendVerifyCodeClient
from worker.deadline import Exchange, now_s
from worker.pool import Session
from worker.signing import Credentials, Signer

# A call that outlives its deadline is a failure, even if it ends in the right way after all.
pytestmark = pytest.mark.timeout(90)

CREDENTIALS = Credentials("AKIDEXAMPLE", "SECRETEXAMPLE", "TOKENEXAMPLE")
COUNTRY, PHONE = "852", "18888888888"
PATIENCE_S = 100.0  # where no time-out is meant to happen
HASTE_S = 0.4  # where one is
PADDED = http_answer(ACCEPTED + b" " * 9_000)
OK = http_answer(ACCEPTED, headers="Content-Type: application/json; charset=utf-8\r\n")


def make_client(
    url: str,
    timeout_s: float = PATIENCE_S,
    *,
    clock: Callable[[], float] = lambda: 1551113065,
    now: Callable[[], float] = now_s,
    ca_bundle: str | None = None,
    proxy: str | None = None,
) -> SendVerifyCodeClient:
    return SendVerifyCodeClient(
        url, CREDENTIALS, timeout_s, clock=clock, now=now, ca_bundle=ca_bundle, proxy=proxy
    )


def send_once(
    url: str,
    timeout_s: float = PATIENCE_S,
    ca_bundle: str | None = None,
    proxy: str | None = None,
) -> Answer:
    client = make_client(url, timeout_s, ca_bundle=ca_bundle, proxy=proxy)
    try:
        return client.send(COUNTRY, PHONE)
    finally:
        client.close()


class JumpingClock:
    """Goes as the real one does, and ahead by what a test adds: a process that was frozen."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return now_s() + self.ahead_s

    def jump(self) -> None:
        self.ahead_s += 100


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_tls(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


# The request


def test_accepted_request_is_sent_with_its_request_id_and_times() -> None:
    with FaultServer(answering(OK)) as server:
        answer = send_once(server.url)

    assert answer.verdict.kind is Kind.SENT
    assert answer.verdict.request_id == "abc"
    assert answer.sent_at is not None
    assert answer.answered_at is not None
    assert answer.sent_at <= answer.answered_at
    assert answer.took_ms >= 0


def test_request_on_the_wire_is_the_documented_one_and_nothing_else() -> None:
    with FaultServer(answering(OK)) as server:
        send_once(server.url)

    (request,) = server.requests
    host = f"127.0.0.1:{server.port}"
    assert request.line == "POST / HTTP/1.1"
    assert request.body == b'{"CountryCode": "852", "PhoneNum": "18888888888"}'
    assert len(request.header_list) == len(request.headers)
    assert request.headers == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": Signer(CREDENTIALS, host).authorization(request.body, 1551113065),
        "content-length": "49",
        "content-type": "application/json",
        "host": host,
        "user-agent": "sendcode/0.1",
        "x-tc-action": "SendVerifyCode",
        "x-tc-language": "en-US",
        "x-tc-requestclient": "sendcode/0.1",
        "x-tc-timestamp": "1551113065",
        "x-tc-token": "TOKENEXAMPLE",
        "x-tc-version": "2022-09-28",
    }


def test_headers_and_body_leave_in_one_write() -> None:
    with FaultServer(answering(OK)) as server:
        send_once(server.url)

    (request,) = server.requests
    assert server.chunks[0].endswith(request.body)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://API.example.com", "api.example.com"),
        ("https://api.example.com:443/", "api.example.com"),
        ("https://api.example.com:8443", "api.example.com:8443"),
        ("http://127.0.0.1:80", "127.0.0.1"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_host_is_named_as_a_url_names_it(endpoint: str, host: str) -> None:
    assert f"//{host}/" in repr(make_client(endpoint))


@pytest.mark.parametrize("endpoint", ["", "api.example.com", "ftp://host", "https://host/path"])
def test_endpoint_that_is_no_base_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        make_client(endpoint)


# Connections


def test_connection_is_used_again() -> None:
    with FaultServer(answering(OK)) as server:
        client = make_client(server.url)
        kinds = [client.send(COUNTRY, PHONE).verdict.kind for _ in range(3)]
        client.close()

    assert kinds == [Kind.SENT] * 3
    assert server.connections == 1


def test_connection_that_was_idle_for_long_is_not_used_again() -> None:
    now = JumpingClock()
    with FaultServer(answering(OK)) as server:
        client = make_client(server.url, now=now)
        client.send(COUNTRY, PHONE)
        now.jump()
        answer = client.send(COUNTRY, PHONE)
        client.close()

    assert answer.verdict.kind is Kind.SENT
    assert server.connections == 2


def test_connection_closed_by_the_server_is_replaced() -> None:
    closing = http_answer(ACCEPTED, headers="Connection: close\r\n")
    with FaultServer(once(closing)) as server:
        client = make_client(server.url)
        kinds = [client.send(COUNTRY, PHONE).verdict.kind for _ in range(3)]
        client.close()

    assert kinds == [Kind.SENT] * 3
    assert server.connections == 3


def test_late_answer_is_not_taken_for_that_of_the_next_request() -> None:
    gone = threading.Event()

    def late_first(peer: Peer) -> None:
        peer.read_request()
        if peer.server.connections == 1:
            gone.wait()
        peer.write(http_answer(refused("FailedOperation.PhoneBindUpper")))

    with FaultServer(late_first) as server:
        client = make_client(server.url, 1.5)
        first = client.send(COUNTRY, PHONE)
        gone.set()
        second = client.send(COUNTRY, PHONE)
        client.close()

    assert first.verdict.code == OwnCode.READ_TIMEOUT
    assert second.verdict.code == "FailedOperation.PhoneBindUpper"
    assert server.connections == 2


def test_threads_get_their_own_answers_over_few_connections() -> None:
    def echo(peer: Peer) -> None:
        while request := peer.read_request():
            number = json.loads(request.body)["PhoneNum"]
            peer.write(http_answer(refused("InternalError.N" + number)))

    with FaultServer(echo) as server:
        client = make_client(server.url)
        numbers = [f"{serial:04d}" for serial in range(200)]
        with ThreadPoolExecutor(8) as threads:
            codes = list(threads.map(lambda n: client.send(COUNTRY, n).verdict.code, numbers))
        client.close()

    assert codes == [f"InternalError.N{number}" for number in numbers]
    assert server.connections <= 8


# Faults


def reset(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def hang_up(peer: Peer) -> None:
    peer.read_request()


HTML = b"<html><body>Bad gateway</body></html>"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = "Content-Encoding: gzip\r\n"


def bomb(peer: Peer) -> None:
    once(http_answer(gzip.compress(b"[" * 50_000_000), headers=GZIP))(peer)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (silent, OwnCode.READ_TIMEOUT),
        (dripping(b"", b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 9_000), OwnCode.READ_TIMEOUT),
        (dripping(PADDED[:-9_000], PADDED[-9_000:]), OwnCode.READ_TIMEOUT),
        (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), OwnCode.READ_TIMEOUT),
        (hang_up, OwnCode.LOST),
        (reset, OwnCode.LOST),
        (once(OK[:20]), OwnCode.LOST),
        (once(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n" + ACCEPTED), OwnCode.LOST),
        (once(OK[:-3]), OwnCode.LOST),
        (once(CHUNKED + b"40\r\n" + ACCEPTED), OwnCode.LOST),
        (once(CHUNKED + b"zz\r\n" + ACCEPTED), OwnCode.LOST),
        (once(b"220 mail.example.com ESMTP\r\n"), OwnCode.LOST),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"), OwnCode.LOST),
        (endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 70_000), OwnCode.LOST),
        (once(http_answer(b"no gzip", headers=GZIP)), OwnCode.LOST),
        (once(http_answer(ACCEPTED, status="500 Oops")), OwnCode.HTTP_STATUS),
        (once(http_answer(HTML, status="502 Bad Gateway")), OwnCode.HTTP_STATUS),
        (once(b"HTTP/1.1 204 No Content\r\n\r\n"), OwnCode.HTTP_STATUS),
        (endless(b"HTTP/1.1 503 Busy\r\n\r\n", b"x" * 9_000), OwnCode.HTTP_STATUS),
        (once(http_answer(HTML)), OwnCode.NOT_JSON),
        (once(http_answer(b"")), OwnCode.NOT_JSON),
        (once(http_answer(b"[" * 60_000)), OwnCode.NOT_JSON),
        (once(b"HTTP/1.1 200 OK\r\n\r\n" + ACCEPTED[:-3]), OwnCode.NOT_JSON),
        (once(http_answer(b"[]")), OwnCode.WRONG_SHAPE),
        (once(http_answer(ACCEPTED + b" " * 65_536)), OwnCode.TOO_LARGE),
        (endless(CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n"), OwnCode.TOO_LARGE),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 9_000), OwnCode.TOO_LARGE),
        (bomb, OwnCode.TOO_LARGE),
    ],
)
def test_call_without_a_proper_answer_is_ambiguous(script: Script, code: OwnCode) -> None:
    timeout_s = HASTE_S if code is OwnCode.READ_TIMEOUT else PATIENCE_S
    with FaultServer(script) as server:
        answer = send_once(server.url, timeout_s)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.AMBIGUOUS, code)
    assert answer.sent_at is not None
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http_answer(ACCEPTED + b" " * (65_536 - len(ACCEPTED))), Kind.SENT),
        (http_answer(gzip.compress(ACCEPTED, mtime=0), headers=GZIP), Kind.SENT),
        (http_answer(ACCEPTED, headers="Content-Type: text/html\r\n"), Kind.SENT),
        (CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ACCEPTED), ACCEPTED), Kind.SENT),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Kind.SENT),
        (
            http_answer(
                refused("FailedOperation.PhoneBindUpper"),
                headers="Content-Type: application/json;charset=utf-8\r\n",
            ),
            Kind.PERMANENT,
        ),
    ],
)
def test_unusual_but_proper_answer_is_understood(answer: bytes, kind: Kind) -> None:
    with FaultServer(once(answer)) as server:
        assert send_once(server.url).verdict.kind is kind


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_redirect_is_not_followed_nor_its_body_read(status: str) -> None:
    with FaultServer(answering(OK)) as elsewhere:
        head = f"HTTP/1.1 {status}\r\nLocation: {elsewhere.url}/\r\n\r\n".encode()
        with FaultServer(endless(head, b"x" * 9_000)) as server:
            answer = send_once(server.url)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.AMBIGUOUS, OwnCode.REDIRECT)
    assert elsewhere.connections == 0


def test_answer_in_time_after_a_slow_start_is_read() -> None:
    def slow(peer: Peer) -> None:
        peer.read_request()
        peer.drip(OK[:5])
        peer.write(OK[5:])

    with FaultServer(slow) as server:
        assert send_once(server.url).verdict.kind is Kind.SENT


# Nothing sent


def test_refused_connection_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    answer = send_once(f"http://127.0.0.1:{port}")

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.CONNECT)
    assert answer.verdict.message == "ConnectionRefusedError"
    assert (answer.sent_at, answer.answered_at) == (None, None)


def test_error_that_the_caller_is_handling_is_not_taken_for_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    try:
        int("no number")
    except ValueError:
        answer = send_once(f"http://127.0.0.1:{port}")

    assert answer.verdict.message == "ConnectionRefusedError"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse instead of waiting")
def test_connect_time_out_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        answer = send_once(f"http://127.0.0.1:{address[1]}", HASTE_S)
        for filler in fillers:
            filler.close()

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.CONNECT_TIMEOUT)
    assert answer.sent_at is None


def test_failing_name_look_up_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    answer = send_once("https://api.example.com")

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.DNS)


def test_host_name_that_cannot_be_looked_up_is_not_sent() -> None:
    answer = send_once(f"http://{'a' * 64}.example.com")

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.DNS)


def test_second_address_is_tried_when_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
    with FaultServer(answering(OK)) as server:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (refusing, ("127.0.0.1", server.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: addresses)

        answer = send_once("http://api.example.com")

    assert answer.verdict.kind is Kind.SENT


def test_verified_server_gets_the_request(authority: trustme.CA, ca_file: str) -> None:
    with FaultServer(answering(OK), tls=server_tls(authority)) as server:
        client = make_client(server.url, ca_bundle=ca_file)
        kinds = [client.send(COUNTRY, PHONE).verdict.kind for _ in range(2)]
        client.close()

    assert kinds == [Kind.SENT] * 2
    assert server.connections == 1


def test_dripping_answer_over_tls_ends_at_the_deadline(authority: trustme.CA, ca_file: str) -> None:
    script = dripping(PADDED[:-9_000], PADDED[-9_000:])
    with FaultServer(script, tls=server_tls(authority)) as server:
        answer = send_once(server.url, HASTE_S, ca_file)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.AMBIGUOUS, OwnCode.READ_TIMEOUT)


def test_self_signed_certificate_is_not_sent_to(authority: trustme.CA) -> None:
    with FaultServer(answering(OK), tls=server_tls(authority)) as server:
        answer = send_once(server.url)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.TLS)
    assert answer.verdict.message == "SSLCertVerificationError"
    assert server.requests == []


def test_certificate_of_another_host_is_not_sent_to(authority: trustme.CA, ca_file: str) -> None:
    with FaultServer(answering(OK), tls=server_tls(authority, "example.com")) as server:
        answer = send_once(server.url, ca_bundle=ca_file)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.TLS)
    assert server.requests == []


def test_server_without_tls_is_not_sent_to() -> None:
    with FaultServer(lambda peer: peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        answer = send_once(server.url.replace("http:", "https:"))

    assert answer.verdict.kind is Kind.TRANSIENT
    assert answer.sent_at is None


def test_tls_handshake_that_never_ends_is_not_sent() -> None:
    with FaultServer(lambda peer: peer.drip(b"\x16\x03\x03\x40\x00" + b"x" * 9_000)) as server:
        answer = send_once(server.url.replace("http:", "https:"), HASTE_S)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.CONNECT_TIMEOUT)
    assert answer.sent_at is None


def test_handshake_that_takes_all_the_time_is_a_failure_of_the_network_and_not_of_the_caller() -> (
    None
):
    with FaultServer(lambda peer: peer.drip(b"\x16\x03\x03\x40\x00" + b"x" * 9_000)) as server:
        client = make_client(server.url.replace("http:", "https:"), HASTE_S)
        answer = client.send(COUNTRY, PHONE, not_after=now_s() + HASTE_S)
        client.close()

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.CONNECT_TIMEOUT)


# Too late


def test_call_that_is_stale_from_the_start_writes_nothing() -> None:
    with FaultServer(answering(OK)) as server:
        client = make_client(server.url)
        client.send(COUNTRY, PHONE)

        answer = client.send(COUNTRY, PHONE, not_after=now_s() - 0.001)
        client.close()

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.STALE, OwnCode.STALE)
    assert (answer.sent_at, answer.answered_at) == (None, None)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("timeout_s", "kind"), [(PATIENCE_S, Kind.TRANSIENT), (10 * PATIENCE_S, Kind.STALE)]
)
def test_worker_frozen_while_it_connects_does_not_send_late(
    authority: trustme.CA, ca_file: str, timeout_s: float, kind: Kind
) -> None:
    now = JumpingClock()
    with FaultServer(answering(OK), tls=server_tls(authority), accepted=now.jump) as server:
        client = make_client(server.url, timeout_s, now=now, ca_bundle=ca_file)
        answer = client.send(COUNTRY, PHONE, not_after=now() + 10)
        client.close()

    assert answer.verdict.kind is kind
    assert answer.sent_at is None
    assert server.requests == []


def test_call_that_took_too_long_to_connect_leaves_its_connection_to_the_next(
    authority: trustme.CA, ca_file: str
) -> None:
    now = JumpingClock()
    with FaultServer(answering(OK), tls=server_tls(authority), accepted=now.jump) as server:
        client = make_client(server.url, 10 * PATIENCE_S, now=now, ca_bundle=ca_file)
        late = client.send(COUNTRY, PHONE, not_after=now() + 10)
        answer = client.send(COUNTRY, PHONE, not_after=now() + 10)
        client.close()

    assert late.verdict.kind is Kind.STALE
    assert answer.verdict.kind is Kind.SENT
    assert (len(server.requests), server.connections) == (1, 1)


def test_deadline_that_passes_while_connecting_is_not_sent(
    authority: trustme.CA, ca_file: str
) -> None:
    now = JumpingClock()
    with FaultServer(answering(OK), tls=server_tls(authority), accepted=now.jump) as server:
        client = make_client(server.url, now=now, ca_bundle=ca_file)
        answer = client.send(COUNTRY, PHONE)
        client.close()

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.CONNECT_TIMEOUT)
    assert server.requests == []


def test_call_within_its_time_is_sent() -> None:
    with FaultServer(answering(OK)) as server:
        client = make_client(server.url)
        answer = client.send(COUNTRY, PHONE, not_after=now_s() + PATIENCE_S)
        client.close()

    assert answer.verdict.kind is Kind.SENT


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux' own")
def test_kernel_gives_the_request_up_when_the_deadline_does() -> None:
    exchange = Exchange(now_s)
    with FaultServer(answering(OK)) as server:
        session = Session(server.url, exchange, 5)
        exchange.start(PATIENCE_S, None)
        response = session.post_once(requests.Request("POST", server.url, data=b"{}").prepare())
        connection = response.raw.connection
        assert connection is not None
        user_timeout_ms = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        response.close()
        session.close()

    assert 0 < user_timeout_ms <= PATIENCE_S * 1000


# Connections that are open before they are needed


def test_a_connection_that_is_ready_is_used(authority: trustme.CA, ca_file: str) -> None:
    with FaultServer(answering(OK), tls=server_tls(authority)) as server:
        client = make_client(server.url, ca_bundle=ca_file)
        for _ in range(3):
            client.make_ready()
        ready = server.connections
        answer = client.send(COUNTRY, PHONE)
        client.close()

    assert answer.verdict.kind is Kind.SENT
    assert (ready, server.connections) == (1, 1)


def test_while_an_api_closes_each_connection_the_next_ones_are_open_already(
    authority: trustme.CA, ca_file: str
) -> None:
    def accepted() -> None:
        server.stopped.wait(0.1)  # as far away as that

    with FaultServer(once(OK), tls=server_tls(authority), accepted=accepted) as server:
        client = make_client(server.url, ca_bundle=ca_file)
        client.make_ready()
        kinds = []
        for call in range(6):
            if call > 1:  # from now on they follow each other
                wait_until(lambda call=call: server.connections > call)  # type: ignore[misc]
            client.make_ready()
            kinds.append(client.send(COUNTRY, PHONE).verdict.kind)
        client.close()

    assert kinds == [Kind.SENT] * 6


def test_a_connection_that_was_closed_before_its_use_is_not_written_into() -> None:
    def script(peer: Peer) -> None:
        if server.connections == 1:
            return  # the first is closed at once
        answering(OK)(peer)

    with FaultServer(script) as server:
        client = make_client(server.url)
        client.make_ready()
        wait_until(lambda: server.closed == 1)
        answer = client.send(COUNTRY, PHONE)
        client.close()

    assert answer.verdict.kind is Kind.SENT
    assert len(server.requests) == 1


def test_an_api_that_is_not_there_is_found_out_by_the_call_alone() -> None:
    with FaultServer(silent) as server:
        pass  # nobody listens any more
    client = make_client(server.url)

    client.make_ready()
    answer = client.send(COUNTRY, PHONE)
    client.close()

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.CONNECT)


# Through a proxy


@pytest.fixture
def api(authority: trustme.CA) -> Iterator[FaultServer]:
    with FaultServer(answering(OK), tls=server_tls(authority)) as server:
        yield server


def test_the_call_goes_through_the_proxy_over_one_tunnel(api: FaultServer, ca_file: str) -> None:
    with FaultServer(tunnelling) as proxy:
        client = make_client(api.url, ca_bundle=ca_file, proxy=proxy.url)
        kinds = [client.send(COUNTRY, PHONE).verdict.kind for _ in range(3)]
        client.close()

    assert kinds == [Kind.SENT] * 3
    assert (len(api.requests), api.connections, proxy.connections) == (3, 1, 1)


def test_what_a_proxy_acknowledges_is_no_arrival_at_the_api(api: FaultServer, ca_file: str) -> None:
    with FaultServer(tunnelling) as proxy:
        answer = send_once(api.url, ca_bundle=ca_file, proxy=proxy.url)

    assert answer.verdict.kind is Kind.SENT
    assert answer.acknowledged_at is None


def test_the_proxy_learns_the_api_s_place_and_its_own_login_and_no_more(
    api: FaultServer, ca_file: str
) -> None:
    with FaultServer(tunnelling) as proxy:
        address = proxy.url.replace("//", "//u%40ser:pass%2Fword@")
        assert send_once(api.url, ca_bundle=ca_file, proxy=address).verdict.kind is Kind.SENT

    (request,) = proxy.requests
    place = f"127.0.0.1:{api.port}"
    assert request.line == f"CONNECT {place} HTTP/1.1"
    login = base64.b64encode(b"u@ser:pass/word").decode()
    assert request.headers == {"host": place, "proxy-authorization": f"Basic {login}"}
    assert "proxy-authorization" not in api.requests[0].headers


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (once(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n"), "HTTP status 407"),
        (once(b"HTTP/1.1 403 No\r\n\r\n" + HTML), "HTTP status 403"),
        (once(b"HTTP/1.0 503 Gone\r\n\r\n"), "HTTP status 503"),
        (once(b"HTTP/1.1 301 There\r\nLocation: https://x/\r\n\r\n"), "HTTP status 301"),
        (once(b"220 mail.example.com ESMTP\r\n\r\n"), "no answer to CONNECT"),
        (once(b"\x15\x03\x01\x00\x02\x02\x50"), "no answer to CONNECT"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"), "no answer to CONNECT"),
        (hang_up, "no answer to CONNECT"),
        (reset, "ConnectionResetError"),
    ],
)
def test_a_proxy_that_refuses_has_sent_nothing(
    script: Script, message: str, api: FaultServer, ca_file: str
) -> None:
    with FaultServer(script) as proxy:
        answer = send_once(api.url, ca_bundle=ca_file, proxy=proxy.url)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.PROXY)
    assert message in answer.verdict.message
    assert answer.sent_at is None
    assert api.connections == 0


@pytest.mark.parametrize(
    ("address", "failure"),
    [("127.0.0.1", "ConnectionRefusedError"), (f"{'a' * 64}.example.com", "UnicodeError")],
)
def test_a_proxy_that_is_not_reached_is_named_and_the_api_is_not(
    address: str, failure: str, api: FaultServer, ca_file: str
) -> None:
    answer = send_once(api.url, ca_bundle=ca_file, proxy=f"http://{address}:{closed_port()}")

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.PROXY)
    assert failure in answer.verdict.message
    assert api.connections == 0


@pytest.mark.parametrize(
    "script", [silent, dripping(b"", b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 9_000)]
)
def test_waiting_for_the_proxy_ends_at_the_deadline_with_nothing_sent(
    script: Script, api: FaultServer, ca_file: str
) -> None:
    with FaultServer(script) as proxy:
        answer = send_once(api.url, HASTE_S, ca_file, proxy.url)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.TRANSIENT, OwnCode.CONNECT_TIMEOUT)
    assert answer.sent_at is None


def test_worker_frozen_while_the_proxy_connects_does_not_send_late(
    api: FaultServer, ca_file: str
) -> None:
    now = JumpingClock()
    with FaultServer(tunnelling, accepted=now.jump) as proxy:
        client = make_client(api.url, now=now, ca_bundle=ca_file, proxy=proxy.url)
        answer = client.send(COUNTRY, PHONE, not_after=now() + 10)
        client.close()

    assert (answer.verdict.kind, answer.sent_at) == (Kind.TRANSIENT, None)
    assert api.requests == []


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (silent, OwnCode.READ_TIMEOUT),
        (hang_up, OwnCode.LOST),
        (reset, OwnCode.LOST),
        (dripping(PADDED[:-9_000], PADDED[-9_000:]), OwnCode.READ_TIMEOUT),
        (once(http_answer(HTML, status="502 Bad Gateway")), OwnCode.HTTP_STATUS),
    ],
)
def test_what_happens_behind_the_tunnel_is_as_ambiguous_as_without(
    script: Script, code: OwnCode, authority: trustme.CA, ca_file: str
) -> None:
    timeout_s = HASTE_S if code is OwnCode.READ_TIMEOUT else PATIENCE_S
    with (
        FaultServer(script, tls=server_tls(authority)) as server,
        FaultServer(tunnelling) as proxy,
    ):
        answer = send_once(server.url, timeout_s, ca_file, proxy.url)

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.AMBIGUOUS, code)
    assert answer.sent_at is not None


def test_a_proxy_that_looks_inside_is_trusted_only_by_a_bundle_that_says_so(
    ca_file: str, api: FaultServer, authority: trustme.CA
) -> None:
    """It answers for the API with a certificate of the company's own."""
    inside = server_tls(authority)

    def looking_inside(peer: Peer) -> None:
        peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with inside.wrap_socket(peer.sock, server_side=True) as tls_sock:
            answering(OK)(Peer(tls_sock, peer.server))

    with FaultServer(looking_inside) as proxy:
        without = send_once(api.url, proxy=proxy.url)
        trusted = send_once(api.url, ca_bundle=ca_file, proxy=proxy.url)

    assert (without.verdict.kind, without.verdict.code) == (Kind.TRANSIENT, OwnCode.TLS)
    assert without.sent_at is None
    assert trusted.verdict.kind is Kind.SENT


def test_the_proxy_sees_a_reset_when_a_call_is_given_up(api: FaultServer) -> None:
    """Else it might go on delivering what it has not delivered yet."""
    ends: list[str] = []

    def swallowing(peer: Peer) -> None:
        peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while peer.sock.recv(65_536):
                pass
            ends.append("closed")
        except ConnectionResetError:
            ends.append("reset")

    with FaultServer(swallowing) as proxy:
        send_once(api.url, HASTE_S, proxy=proxy.url)
        wait_until(lambda: ends, "the end of the tunnel")

    assert ends == ["reset"]


def test_plain_http_goes_to_loopback_and_so_past_the_proxy() -> None:
    with FaultServer(answering(OK)) as server, FaultServer(tunnelling) as proxy:
        answer = send_once(server.url, proxy=proxy.url)

    assert answer.verdict.kind is Kind.SENT
    assert proxy.connections == 0


# What the environment and the server must not do


@pytest.fixture
def hostile_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultServer]:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1\nlogin somebody\npassword else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with FaultServer(answering(OK)) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield proxy


def test_netrc_and_proxies_of_the_environment_are_ignored(hostile_environment: FaultServer) -> None:
    with FaultServer(answering(OK)) as server:
        send_once(server.url)

    assert server.requests[0].headers["authorization"].startswith("TC3-HMAC-SHA256 ")
    assert hostile_environment.connections == 0


def test_bundle_of_the_environment_does_not_make_a_server_trusted(
    authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, ca_file)
    with FaultServer(answering(OK), tls=server_tls(authority)) as server:
        answer = send_once(server.url)

    assert answer.verdict.code == OwnCode.TLS


def test_cookies_of_the_server_are_not_sent_back() -> None:
    with FaultServer(answering(http_answer(ACCEPTED, headers="Set-Cookie: a=b\r\n"))) as server:
        client = make_client(server.url)
        for _ in range(2):
            client.send(COUNTRY, PHONE)
        client.close()

    assert all("cookie" not in request.headers for request in server.requests)


@pytest.mark.parametrize(
    "script",
    [answering(OK), hang_up, reset, silent, once(http_answer(HTML)), once(b"\xff")],
)
def test_no_number_and_no_secret_is_told_to_anybody(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultServer(script) as server:
        client = make_client(server.url, HASTE_S)
        answer = client.send(COUNTRY, PHONE)
        client.close()

    told = f"{client!r} {client.__dict__!r} {answer!r} {caplog.text}"
    for secret in (PHONE, "SECRETEXAMPLE", "AKIDEXAMPLE", "TOKENEXAMPLE", "Signature="):
        assert secret not in told


def test_defect_of_our_own_is_raised_when_nothing_was_sent() -> None:
    def broken() -> float:
        raise ZeroDivisionError

    with FaultServer(answering(OK)) as server:
        client = make_client(server.url, clock=broken)
        with pytest.raises(ZeroDivisionError):
            client.send(COUNTRY, PHONE)

    assert server.requests == []


@pytest.mark.parametrize("answer", [OK, OK[:-3], http_answer(HTML, status="502 Bad Gateway")])
def test_no_socket_is_left_open(answer: bytes) -> None:
    before = os.listdir("/dev/fd")

    with FaultServer(once(answer)) as server:
        client = make_client(server.url)
        for _ in range(10):
            client.send(COUNTRY, PHONE)
        client.close()

    assert os.listdir("/dev/fd") == before


# Against the sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(rate_limit=0) as running:
        yield running


def sandbox_client(sandbox: Sandbox, timeout_s: float = PATIENCE_S) -> SendVerifyCodeClient:
    credentials = Credentials(sandbox.credentials.secret_id, sandbox.credentials.secret_key)
    return SendVerifyCodeClient(sandbox.url, credentials, timeout_s)


def test_credentials_may_change_between_temporary_and_lasting_ones(sandbox: Sandbox) -> None:
    client = sandbox_client(sandbox)
    answers: list[str] = []

    for token in (None, "TOKENEXAMPLE", "ANOTHERTOKEN", None):
        sandbox.rotate("AKIDEXAMPLE", "SECRETEXAMPLE", token)
        client.sign_with(Credentials("AKIDEXAMPLE", "SECRETEXAMPLE", token))
        answers.append(client.send(COUNTRY, f"5123000{len(answers)}").verdict.code)
    client.close()

    assert answers == ["", "", "", ""]


@pytest.mark.parametrize(
    ("behaviour", "prefix", "kind"),
    [
        ("ok", None, Kind.SENT),
        ("charset", None, Kind.SENT),
        ("charset-error", None, Kind.PERMANENT),
        ("FailedOperation.PhoneBindUpper", None, Kind.PERMANENT),
        ("InvalidParameterValue.UnSupportArea", None, Kind.PERMANENT),
        ("FailedOperation.SendVerifyCodeLimit", "9902", Kind.TOO_OFTEN),
        ("FailedOperation.SendVerifyCodeLimit60", "9904", Kind.TOO_EARLY),
        ("ServiceUnavailable", "9920", Kind.TRANSIENT),
        ("RequestLimitExceeded.UinLimitExceeded", None, Kind.THROTTLED),
        ("InternalError", "9930", Kind.AMBIGUOUS),
        ("hang-up-after", "9934", Kind.AMBIGUOUS),
        ("reset-after", None, Kind.AMBIGUOUS),
        ("html-after", None, Kind.AMBIGUOUS),
        ("truncated-after", None, Kind.AMBIGUOUS),
        ("oversized-after", None, Kind.AMBIGUOUS),
        ("empty-after", None, Kind.AMBIGUOUS),
        ("strange-after", None, Kind.AMBIGUOUS),
        ("redirect-before", "9953", Kind.AMBIGUOUS),
        ("server-error-before", None, Kind.AMBIGUOUS),
        ("AuthFailure.SignatureFailure", None, Kind.ACCOUNT),
        ("UnsupportedOperation", None, Kind.ACCOUNT),
        ("FailedOperation.NeverHeardOf", "9990", Kind.UNKNOWN),
    ],
)
def test_sandbox_is_understood(
    sandbox: Sandbox, behaviour: str, prefix: str | None, kind: Kind
) -> None:
    client = sandbox_client(sandbox)

    answer = client.send(COUNTRY, number_for(behaviour, prefix=prefix))
    client.close()

    assert answer.verdict.kind is kind
    assert sandbox.stats()["requests"] == 1


@pytest.mark.parametrize("behaviour", ["silence-after", "drip-body-after", "drip-headers-after"])
def test_sandbox_that_does_not_come_to_an_end_is_left_at_the_deadline(
    sandbox: Sandbox, behaviour: str
) -> None:
    client = sandbox_client(sandbox, HASTE_S)

    answer = client.send(COUNTRY, number_for(behaviour))
    client.close()

    assert (answer.verdict.kind, answer.verdict.code) == (Kind.AMBIGUOUS, OwnCode.READ_TIMEOUT)


@pytest.mark.parametrize("skew_s", [3600, -3600])
def test_clock_of_this_machine_is_corrected_for_the_next_call(
    sandbox: Sandbox, skew_s: int
) -> None:
    sandbox.change(clock_skew_s=skew_s)
    client = sandbox_client(sandbox)

    kinds = [client.send(COUNTRY, number_for("ok", serial)).verdict.kind for serial in range(3)]
    offset_s = client.clock_offset_s
    client.close()

    assert kinds == [Kind.CLOCK, Kind.SENT, Kind.SENT]
    assert abs(offset_s - skew_s) < 30


def test_wrong_secret_key_is_the_account_s_fault(sandbox: Sandbox) -> None:
    client = SendVerifyCodeClient(
        sandbox.url, Credentials(sandbox.credentials.secret_id, "wrong"), PATIENCE_S
    )

    answer = client.send(COUNTRY, number_for("ok"))
    client.close()

    assert answer.verdict.kind is Kind.ACCOUNT
    assert answer.verdict.code == "AuthFailure.SignatureFailure"
