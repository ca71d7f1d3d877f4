"""The HTTP API under many callers at once: two `sendcode web` processes, a worker, a stand-in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from redis import Redis

from config.settings import Settings
from demo.world import environment_of, free_port
from jobs.ledger import Ledger
from producer.tokens import Tokens
from tests.commands import SENDCODE
from tests.forked import ForkedProcess
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.web_server import WebServer
from tests.worker_process import WorkerProcess

NUMBER = {"country_code": "852", "phone_num": "55501234"}
CALLERS = 50

Call = Callable[..., requests.Response]


@pytest.fixture
def call(settings: Settings, redis: Redis, tmp_path: Path) -> Iterator[Call]:
    """Send code requests to two processes of the API: `call(n, key=…, **json)` to the n-th."""
    _, token = Tokens(redis, settings).new("shop", ["send", "read"])
    ports = [free_port(), free_port()]
    processes = [
        ForkedProcess(
            f"web{port}",
            [*SENDCODE, "web", "--port", str(port)],
            tmp_path,
            environment_of(settings),
        )
        for port in ports
    ]

    def answers(port: int) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE_S).ok
        except requests.ConnectionError:
            return False

    def call(n: int, *, key: str, **json: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        url = f"http://127.0.0.1:{ports[n % 2]}/v1/codes"
        while True:
            # each over a connection of its own: one that was idle may be closed by now
            answer = requests.post(
                url, json={**NUMBER, **json}, headers=headers, timeout=PATIENCE_S
            )
            if answer.status_code != 503:  # so a busy machine says, and nothing was accepted
                return answer

    try:
        wait_until(lambda: all(map(answers, ports)))
        yield call
    finally:
        for process in processes:
            process.kill()


def test_a_hundred_requests_at_once_with_one_key_are_one_job_and_one_message(
    sandbox: Sandbox, call: Call, ledger: Ledger, start_worker: Callable[..., WorkerProcess]
) -> None:
    start_worker()

    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda n: call(n, key="signup-1"), range(100)))

    replayed = [answer.headers.get("Idempotent-Replayed") == "true" for answer in answers]
    jobs = {answer.json()["job_id"] for answer in answers}
    assert len(jobs) == 1
    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 99}
    assert replayed.count(True) == 99
    (job_id,) = jobs

    def ended() -> bool:
        job = ledger.job(job_id)
        return job is not None and job.state.is_final

    wait_until(ended)
    assert sandbox.number("85255501234")["accepted"] == 1


@pytest.mark.settings(sendcode_limit_number="5/10m")
def test_a_hundred_keys_at_once_for_one_number_are_held_to_its_quota(
    call: Call, ledger: Ledger
) -> None:
    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda n: call(n, key=f"k-{n}", resend=True), range(100)))

    assert Counter(answer.status_code for answer in answers) == {202: 5, 429: 95}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.json()["rule"] for answer in refused} == {"number"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert len(list(ledger.client.scan_iter(ledger.keys.job("*")))) == 5


def test_of_a_thousand_wrong_tokens_none_is_accepted(settings: Settings, redis: Redis) -> None:
    tokens = Tokens(redis, settings)
    _, right = tokens.new("shop", ["admin"])
    # each differs from a right one in one place, in its length, or altogether
    wrong = [
        *(
            right[:at] + chr(ord("!") + n) + right[at + 1 :]
            for at in range(4, 44)
            for n in range(0, 90, 9)
        ),
        *(right[:length] for length in range(len(right))),
        *(right + chr(ord("!") + n) for n in range(90)),
    ]
    wrong = [token for token in wrong if token != right]
    wrong += [f"sct_{n:043d}" for n in range(1_000 - len(wrong))]

    assert len(wrong) == 1_000
    assert not any(tokens.authenticate(token) for token in wrong)
    assert tokens.authenticate(right)

    asked = wrong[::9]  # a step that comes to each place, and to other letters each time
    with WebServer(settings) as web, requests.Session() as session:
        statuses = Counter(
            session.get(
                f"{web.url}/v1/status",
                headers={"Authorization": f"Bearer {token}"},
                timeout=PATIENCE_S,
            ).status_code
            for token in asked
        )
        web.token = right
        assert web.call("GET", "/v1/status").status_code == 200

    assert statuses == {401: len(asked)}
