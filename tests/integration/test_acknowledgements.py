"""What the kernel tells of a request on its way, while the API works on it."""

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from jobs.codes import Kind
from tests.integration.fault_server import ACCEPTED, FaultServer, Peer, http_answer
from tests.waiting import PATIENCE_S, wait_until
from worker.acknowledged import Acknowledgements
from worker.api import Answer, SendVerifyCodeClient
from worker.signing import Credentials

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="Linux alone tells of acknowledgements"
)

OK = http_answer(ACCEPTED)


class Api:
    """Answers a request when it is allowed to, with or without TLS."""

    def __init__(self, authority: trustme.CA | None, folder: Path) -> None:
        self.may_answer = threading.Semaphore(0)
        self.bundle: str | None = None
        tls = None
        if authority:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(tls)
            self.bundle = str(folder / "ca.pem")
            authority.cert_pem.write_to_path(self.bundle)
        self.server = FaultServer(self._work, tls=tls)

    def _work(self, peer: Peer) -> None:
        while peer.read_request():
            self.may_answer.acquire()
            peer.write(OK)

    def client(self, **options: object) -> SendVerifyCodeClient:
        return SendVerifyCodeClient(
            self.server.url,
            Credentials("AKIDEXAMPLE", "SECRETEXAMPLE"),
            PATIENCE_S,
            ca_bundle=self.bundle,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture(params=["plain", "TLS"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    made = Api(trustme.CA() if request.param == "TLS" else None, tmp_path)
    with made.server:
        yield made
        made.may_answer.release(100)


def send(client: SendVerifyCodeClient, acknowledged: Callable[[float, float], object]) -> Answer:
    return client.send("852", "18888888888", when_acknowledged=acknowledged)


def test_a_request_is_known_to_have_arrived_while_its_answer_takes_long(api: Api) -> None:
    client = api.client()
    known: list[tuple[float, float]] = []
    answers: list[Answer] = []

    for call in range(1, 4):  # the connection is kept
        thread = threading.Thread(
            target=lambda: answers.append(send(client, lambda *both: known.append(both)))
        )
        thread.start()
        wait_until(lambda call=call: len(known) == call)  # type: ignore[misc]
        assert len(answers) == call - 1
        api.may_answer.release()
        thread.join()
    client.close()

    for answer, (sent_at, acknowledged_at) in zip(answers, known, strict=True):
        assert answer.verdict.kind is Kind.SENT
        assert (answer.sent_at, answer.acknowledged_at) == (sent_at, acknowledged_at)
        assert answer.answered_at is not None
        assert sent_at <= acknowledged_at <= answer.answered_at


def test_waiting_for_a_late_answer_takes_no_processor_time(api: Api) -> None:
    """A report that nobody reads would have the waiting thread woken for ever."""
    client = api.client()
    used_s: list[float] = []

    def call() -> None:
        send(client, lambda _sent, _at: threading.Timer(1, api.may_answer.release).start())
        used_s.append(time.thread_time())

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    client.close()

    assert used_s[0] < 0.5  # of the second that it waited


def test_where_the_system_tells_of_no_acknowledgement_the_answer_is_read_all_the_same(
    api: Api,
) -> None:
    client = api.client(is_acknowledged=False)
    known: list[float] = []
    api.may_answer.release(2)

    answers = [send(client, lambda *both: known.extend(both)) for _ in range(2)]
    client.close()

    assert [answer.verdict.kind for answer in answers] == [Kind.SENT, Kind.SENT]
    assert [answer.acknowledged_at for answer in answers] == [None, None]
    assert known == []


def test_nothing_is_left_open_by_many_calls(api: Api) -> None:
    api.may_answer.release(600)

    def call_often() -> int:
        client = api.client()
        for _ in range(30):
            assert send(client, lambda _sent, _at: None).acknowledged_at is not None
        client.close()
        return len(os.listdir("/proc/self/fd"))

    open_before = call_often()  # with the server's own end, and what is opened once

    wait_until(lambda: call_often() <= open_before + 1)


def test_a_report_is_taken_off_the_queue_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            acknowledgements = Acknowledgements(near)

            for _ in range(3):
                acknowledgements.before_writing()
                near.send(b"a request")
                acknowledgements.written()
                poll = select.poll()
                poll.register(near, 0)
                assert poll.poll(10_000)  # for an error, which a report passes for
                age_s = acknowledgements.age_s()

                assert age_s is not None
                assert age_s >= 0
                assert acknowledgements.age_s() is None
                assert poll.poll(0) == []


def test_an_acknowledgement_that_may_be_another_write_s_is_not_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            acknowledgements = Acknowledgements(near)
            acknowledgements.before_writing()
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            near.send(b"more than the peer takes" * 10_000)
            acknowledgements.written()
            acknowledgements.before_writing()
            near.send(b"a request")
            acknowledgements.written()
            left = 240_000 + len(b"a request")
            while left:
                left -= len(far.recv(65_536))
            poll = select.poll()
            poll.register(near, 0)
            assert poll.poll(10_000)

            assert acknowledgements.age_s() is None
