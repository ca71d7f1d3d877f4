"""The sandbox over real sockets: what a client sees of each way of answering."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection

import pytest

from sandbox.numbers import MAGIC_NUMBERS, MagicNumber
from tests.sandbox import Sandbox, number_for
from tests.sandbox_calls import (
    Call,
    call_to,
    plain_socket,
    post,
    read_reply,
)
from tests.waiting import wait_until

MINUTE_MS = 60_000
LIMIT_60 = "FailedOperation.SendVerifyCodeLimit60"
# Behaviours that a client sees as a plain, complete answer of the API, and their codes.
PLAIN = [
    row
    for row in MAGIC_NUMBERS
    if "." in row.behaviour or row.behaviour[0].isupper() or row.behaviour == "ok"
]
PAGES = {
    "bad-gateway-before": 502,
    "bad-gateway-after": 502,
    "gateway-timeout-after": 504,
    "html-before": 200,
    "html-after": 200,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    """A sandbox without a past, with the vendor's interval and no limit."""
    running.change(
        rate_limit=0,
        phone_interval=60,
        latency_ms=0,
        jitter_ms=0,
        answer_ms=0,
        counts_at_end=False,
        closes=False,
        slow_ms=0,
        drip_ms=0,
        clock_skew_s=0,
        faults={},
        account_state=None,
    )
    running.reset()
    return running


def call_magic(sock: socket.socket, sandbox: Sandbox, behaviour: str, prefix: str) -> str:
    """Send the call and return its number; the answer is the test's business."""
    phone_num = number_for(behaviour, prefix=prefix)
    sock.sendall(call_to(sandbox.url, phone_num).wire())
    return phone_num


def rows(*behaviours: str) -> list[MagicNumber]:
    return [row for row in MAGIC_NUMBERS if row.behaviour in behaviours]


def accepted(sandbox: Sandbox, phone_num: str) -> int:
    return int(sandbox.number(f"852{phone_num}")["accepted"])


def test_a_right_call_gets_a_request_id_and_nothing_else(sandbox: Sandbox) -> None:
    reply = post(sandbox.url, "51230000")

    response = json.loads(reply.body)["Response"]
    assert list(response) == ["RequestId"]
    assert str(uuid.UUID(response["RequestId"])) == response["RequestId"]
    assert reply.headers["content-type"] == "application/json"
    assert accepted(sandbox, "51230000") == 1


def test_a_magic_number_of_a_code_gets_that_code_in_an_answer_of_status_200(
    sandbox: Sandbox, subtests: pytest.Subtests
) -> None:
    for row in PLAIN:
        with subtests.test(f"{row.prefix}-{row.behaviour}"):
            reply = post(sandbox.url, f"{row.prefix}0001")

            assert reply.code == (None if row.behaviour == "ok" else row.behaviour)


def test_internal_error_may_hide_an_accepted_send(sandbox: Sandbox) -> None:
    number = number_for("internal-error-after")

    assert post(sandbox.url, number).code == "InternalError"
    assert post(sandbox.url, number).code == LIMIT_60
    assert accepted(sandbox, number) == 1


@pytest.mark.parametrize("row", rows("hang-up-before", "hang-up-after"), ids=lambda row: row.prefix)
def test_a_hang_up_closes_the_connection_without_a_byte(sandbox: Sandbox, row: MagicNumber) -> None:
    with plain_socket(sandbox.url) as sock:
        number = call_magic(sock, sandbox, row.behaviour, row.prefix)

        assert sock.recv(1) == b""

    assert accepted(sandbox, number) == row.behaviour.endswith("after")


@pytest.mark.parametrize("row", rows("reset-before", "reset-after"), ids=lambda row: row.prefix)
def test_a_reset_resets_the_connection(sandbox: Sandbox, row: MagicNumber) -> None:
    with plain_socket(sandbox.url) as sock:
        number = call_magic(sock, sandbox, row.behaviour, row.prefix)

        with pytest.raises(ConnectionResetError):
            sock.recv(1)

    assert accepted(sandbox, number) == row.behaviour.endswith("after")


@pytest.mark.parametrize("row", rows("silence-before", "silence-after"), ids=lambda row: row.prefix)
def test_silence_leaves_the_connection_open_and_says_nothing(
    sandbox: Sandbox, row: MagicNumber
) -> None:
    with plain_socket(sandbox.url) as sock:
        number = call_magic(sock, sandbox, row.behaviour, row.prefix)
        # The answer, were there one, would have been sent in the turn that counted the request.
        wait_until(lambda: sandbox.number(f"852{number}")["requests"])
        sock.setblocking(False)

        with pytest.raises(BlockingIOError):
            sock.recv(1)

    assert accepted(sandbox, number) == row.behaviour.endswith("after")


@pytest.mark.parametrize("row", rows(*PAGES), ids=lambda row: row.prefix)
def test_a_proxys_page_is_html_with_its_status(sandbox: Sandbox, row: MagicNumber) -> None:
    reply = post(sandbox.url, f"{row.prefix}0001")

    assert reply.status == PAGES[row.behaviour]
    assert reply.headers["content-type"] == "text/html"
    assert reply.body.startswith(b"<html>")
    assert accepted(sandbox, f"{row.prefix}0001") == row.behaviour.endswith("after")


def test_a_server_error_has_status_500_and_an_answer_in_the_apis_form(sandbox: Sandbox) -> None:
    reply = post(sandbox.url, number_for("server-error-before"))

    assert reply.status == 500
    assert json.loads(reply.body)["Response"]["Error"]["Code"] == "InternalError"


@pytest.mark.parametrize(
    "row", rows("truncated-before", "truncated-after"), ids=lambda row: row.prefix
)
def test_a_truncated_answer_ends_in_the_middle_of_its_body(
    sandbox: Sandbox, row: MagicNumber
) -> None:
    with plain_socket(sandbox.url) as sock:
        number = call_magic(sock, sandbox, row.behaviour, row.prefix)
        received = b"".join(iter(lambda: sock.recv(4096), b""))

    head, _, body = received.partition(b"\r\n\r\n")
    announced = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert 0 < len(body) < announced
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert accepted(sandbox, number) == row.behaviour.endswith("after")


def test_an_oversized_answer_is_right_but_longer_than_a_mebibyte(sandbox: Sandbox) -> None:
    reply = post(sandbox.url, number_for("oversized-after"))

    assert reply.code is None
    assert len(reply.body) > 1024 * 1024


def test_an_empty_answer_has_no_body(sandbox: Sandbox) -> None:
    reply = post(sandbox.url, number_for("empty-after"))

    assert (reply.status, reply.body) == (200, b"")


def test_a_strange_answer_is_json_but_not_the_apis(sandbox: Sandbox) -> None:
    reply = post(sandbox.url, number_for("strange-after"))

    assert reply.status == 200
    assert "Response" not in json.loads(reply.body)


def test_who_follows_the_redirect_is_told_a_lie_and_counted(sandbox: Sandbox) -> None:
    number = number_for("redirect-before", prefix="9953")
    call = call_to(sandbox.url, number)
    reply = post(sandbox.url, number)
    assert reply.status == 307
    place = reply.headers["location"].removeprefix(sandbox.url)

    connection = HTTPConnection(call.host)
    connection.request("POST", place, body=call.body, headers=call.headers())
    followed = connection.getresponse()
    told = json.loads(followed.read())
    connection.close()

    assert "Error" not in told["Response"]
    assert accepted(sandbox, number) == 0
    assert sandbox.stats()["redirects_followed"] == 1


def test_a_dripped_body_comes_byte_by_byte_after_its_headers(sandbox: Sandbox) -> None:
    sandbox.change(drip_ms=MINUTE_MS)

    with plain_socket(sandbox.url) as sock:
        number = call_magic(sock, sandbox, "drip-body-after", "9955")
        received = b""
        while not received.endswith(b"\r\n\r\n{"):
            received += sock.recv(4096)
        wait_until(lambda: accepted(sandbox, number))
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_a_dripped_answer_comes_byte_by_byte_from_the_first(sandbox: Sandbox) -> None:
    sandbox.change(drip_ms=MINUTE_MS)

    with plain_socket(sandbox.url) as sock:
        call_magic(sock, sandbox, "drip-headers-after", "9956")

        assert sock.recv(4096) == b"H"


@pytest.mark.parametrize("behaviour", ["drip-body-after", "drip-headers-after", "slow"])
def test_a_client_with_patience_gets_the_whole_answer(sandbox: Sandbox, behaviour: str) -> None:
    assert post(sandbox.url, number_for(behaviour)).code is None


def test_a_slow_answer_is_decided_at_once_and_sent_later(sandbox: Sandbox) -> None:
    sandbox.change(slow_ms=MINUTE_MS)

    with plain_socket(sandbox.url) as sock:
        number = call_magic(sock, sandbox, "slow", "9960")
        wait_until(lambda: accepted(sandbox, number))
        sock.setblocking(False)

        with pytest.raises(BlockingIOError):
            sock.recv(1)


@pytest.mark.parametrize(
    ("behaviour", "code"), [("charset", None), ("charset-error", "FailedOperation.PhoneBindUpper")]
)
def test_the_content_type_may_carry_a_charset(
    sandbox: Sandbox, behaviour: str, code: str | None
) -> None:
    reply = post(sandbox.url, number_for(behaviour))

    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.code == code


# Clock, latency, connections


@pytest.mark.parametrize("skew_s", [-301, 301])
def test_the_apis_clock_can_be_wrong_and_its_date_header_tells(
    sandbox: Sandbox, skew_s: int
) -> None:
    sandbox.change(clock_skew_s=skew_s)
    reply = post(sandbox.url, "51230000")
    assert reply.code == "AuthFailure.SignatureExpire"

    api_time = int(parsedate_to_datetime(reply.headers["date"]).timestamp())

    assert post(sandbox.url, "51230000", timestamp=api_time).code is None


def test_an_arrival_is_stamped_after_the_latency_of_its_way(sandbox: Sandbox) -> None:
    sandbox.change(latency_ms=150, jitter_ms=1)
    left_at = time.monotonic()

    post(sandbox.url, "51230000")

    answered_at = time.monotonic()
    [[arrived_at, number, code]] = sandbox.stats(arrivals=True)["arrivals"]
    assert left_at + 0.150 <= arrived_at <= answered_at
    assert (number, code) == ("85251230000", "OK")


def test_arrivals_are_in_the_order_of_their_stamps_whatever_the_jitter(sandbox: Sandbox) -> None:
    sandbox.change(jitter_ms=5)
    calls = [call_to(sandbox.url, f"5123{n:04d}").wire() for n in range(30)]
    socks = [
        socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) for _ in calls
    ]

    for sock, wire in zip(socks, calls, strict=True):
        sock.sendall(wire)
    replies = [read_reply(sock) for sock in socks]
    for sock in socks:
        sock.close()

    arrivals = sandbox.stats(arrivals=True)["arrivals"]
    assert {reply.code for reply in replies} == {None}
    assert len(arrivals) == len(calls)
    assert [at for at, _, _ in arrivals] == sorted(at for at, _, _ in arrivals)


def test_a_request_is_counted_before_the_work_on_it(sandbox: Sandbox) -> None:
    sandbox.change(answer_ms="60000-60000")

    with plain_socket(sandbox.url) as sock:
        sock.sendall(call_to(sandbox.url, "51230000").wire())
        wait_until(lambda: accepted(sandbox, "51230000"))
        sock.setblocking(False)

        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_a_request_may_be_counted_only_when_the_work_on_it_is_done(sandbox: Sandbox) -> None:
    sandbox.change(answer_ms="150-150", counts_at_end=True)
    left_at = time.monotonic()

    post(sandbox.url, "51230000")

    answered_at = time.monotonic()
    [[counted_at, _, code]] = sandbox.stats(arrivals=True)["arrivals"]
    assert left_at + 0.150 <= counted_at <= answered_at
    assert code == "OK"


def test_each_connection_may_be_closed_after_its_answer(sandbox: Sandbox) -> None:
    sandbox.change(closes=True)

    with plain_socket(sandbox.url) as sock:
        sock.sendall(call_to(sandbox.url, "51230000").wire())
        reply = read_reply(sock)

        assert (reply.code, reply.headers["connection"]) == (None, "close")
        assert sock.recv(1) == b""


@pytest.mark.parametrize(
    "phone_num", ["51230000", number_for("reset-after"), number_for("drip-body-after")]
)
def test_a_request_in_flight_is_carried_out_though_its_client_is_gone(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, phone_num: str
) -> None:
    sandbox.change(latency_ms=50)

    with plain_socket(sandbox.url) as sock:
        sock.sendall(call_to(sandbox.url, phone_num).wire())

    wait_until(lambda: accepted(sandbox, phone_num))
    assert caplog.records == []  # nor does the answer without a taker make asyncio complain


def test_half_a_request_is_never_carried_out(sandbox: Sandbox) -> None:
    wire = call_to(sandbox.url, "51230000").wire()

    with plain_socket(sandbox.url) as sock:
        sock.sendall(wire[:-1])
    assert sandbox.stats()["requests"] == 0


def test_a_connection_is_kept_for_many_requests_even_if_they_come_at_once(
    sandbox: Sandbox,
) -> None:
    calls = [call_to(sandbox.url, f"5123{n:04d}").wire() for n in range(300)]

    with plain_socket(sandbox.url) as sock:
        sock.sendall(b"".join(calls))
        received = b""
        while received.count(b"RequestId") < len(calls):
            received += sock.recv(65536)

    assert sandbox.stats()["accepted"] == len(calls)


def test_what_is_no_http_is_answered_400_and_the_connection_closed(sandbox: Sandbox) -> None:
    with plain_socket(sandbox.url) as sock:
        sock.sendall(b"EHLO there\r\n\r\n")

        assert read_reply(sock).status == 400
        assert sock.recv(1) == b""


def test_another_path_is_not_the_api(sandbox: Sandbox) -> None:
    with plain_socket(sandbox.url) as sock:
        sock.sendall(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")

        assert read_reply(sock).status == 404

    assert sandbox.stats()["requests"] == 0


def test_a_signature_for_another_host_than_the_header_says_is_refused(sandbox: Sandbox) -> None:
    reply = post(sandbox.url, "51230000", signed_host="intlpartnersmgt.tencentcloudapi.com")

    assert reply.code == "AuthFailure.SignatureFailure"


def test_the_vendors_host_is_accepted_when_it_is_the_one_that_was_signed(sandbox: Sandbox) -> None:
    vendor: Call = call_to(sandbox.url, "51230000", host="intlpartnersmgt.tencentcloudapi.com")

    with plain_socket(sandbox.url) as sock:
        sock.sendall(vendor.wire())

        assert read_reply(sock).code is None
