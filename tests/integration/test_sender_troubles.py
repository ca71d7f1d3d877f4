"""The sender when the account is halted, Redis is full or away, or the worker is being stopped."""

from __future__ import annotations

import itertools
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from config.redis import connect
from config.settings import Settings
from jobs.account import OUTAGE_MISSES, Account
from jobs.codes import Kind, OwnCode
from jobs.job import Lane, SendCodeJob, State
from jobs.ledger import Begun, Ledger
from jobs.phone import PhoneNumber
from tests.integration.conftest import PatientSender
from tests.ledger_acts import Acts
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from worker.background import Runtime
from worker.limiter import LATEST_S, Limiter
from worker.reach import FEWEST
from worker.reactions import MOST_THROTTLED, Answered, Reactions
from worker.recorder import Ended, NotNow, Recorder, Work
from worker.retry import Again
from worker.sender import Sender
from worker.verdict import Verdict

# a busy machine's probe must come well within the interval, for which nothing here waits
pytestmark = pytest.mark.settings(
    sendcode_backoff=0.01, sendcode_http_timeout=2, sendcode_phone_interval=60
)


REFUSED = ("9901", "9902", "9904", "9908")
"""Prefixes of numbers that the API refuses, each in another way."""


def submit(ledger: Ledger, phone_num: str) -> str:
    return ledger.submit(SendCodeJob.for_event(PhoneNumber("852", phone_num))).record.job_id


def in_a_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


# the account


def canary(acts: Acts) -> str:
    """The job that is allowed to try now."""
    acts.redis.hset(acts.keys.account, "canary_due", "1")
    (job_id,) = acts.sweep()
    return job_id


def test_when_the_account_is_well_again_the_canary_is_sent_and_all_others_after_it(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, account: Account
) -> None:
    sandbox.change(account_state="AuthFailure.TokenFailure")
    ids = [submit(ledger, f"9900000{n}") for n in range(4)]
    for job_id in ids:
        sender.send(job_id)
    halted = sandbox.stats()["requests"]
    still_ill = sender.send(canary(acts))
    sandbox.change(account_state=None)

    first = sender.send(canary(acts))
    others = [sender.send(job_id) for job_id in acts.sweep()]

    assert halted == 1  # the others were told by the ledger
    assert isinstance(still_ill, NotNow)
    assert isinstance(first, Ended)
    assert [type(each) for each in others] == [Ended] * 3
    assert account.state().state == "running"
    assert {(acts.state(job_id), acts.job(job_id).attempts) for job_id in ids} == {(State.SENT, 1)}


@pytest.mark.parametrize("prefix", ["9920", "9932", "9937"])
def test_a_canary_without_a_real_answer_is_no_sign_of_life(
    prefix: str,
    acts: Acts,
    runtime: Runtime,
    ledger: Ledger,
    sender: PatientSender,
    sandbox: Sandbox,
    account: Account,
) -> None:
    account.halt("api", "LimitExceeded", "used up")
    job_id = submit(ledger, f"{prefix}0001")

    acts.run_out(job_id)

    thread, _ = in_a_thread(lambda: sender.send(canary(acts)))
    wait_until(lambda: sandbox.stats()["requests"] >= 1)

    assert account.state().state == "halted"
    runtime.shutdown.order()
    thread.join()


def test_a_canary_s_refusal_for_its_number_s_sake_is_a_sign_of_life(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, account: Account
) -> None:
    account.halt("api", "LimitExceeded", "used up")
    acts.run_out(submit(ledger, "99010001"))

    sender.send(canary(acts))

    assert sandbox.stats()["requests"] == 1
    assert account.state().state == "running"


@pytest.mark.settings(sendcode_rate_limit=20)
@pytest.mark.parametrize("prefix", REFUSED)
def test_a_refusal_is_a_sign_of_life(
    prefix: str, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, account: Account
) -> None:
    for _ in range(OUTAGE_MISSES - 1):
        account.record_miss("InternalError", "out")

    sender.send(submit(ledger, f"{prefix}0001"))

    assert sandbox.stats()["requests"] == 1
    assert account.record_miss("InternalError", "out") == "going on"


@pytest.mark.settings(sendcode_rate_limit=20)
def test_a_code_that_nobody_has_heard_of_never_loops_nor_halts_the_account(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, account: Account
) -> None:
    for _ in range(OUTAGE_MISSES - 1):
        account.record_miss("InternalError", "out")
    job_id = submit(ledger, "99910001")

    sender.send(job_id)

    assert sandbox.number("85299910001")["requests"] == 2
    assert acts.state(job_id) is State.DEAD
    assert account.state().state == "running"


@pytest.mark.usefixtures("sandbox")
def test_a_canary_with_a_code_that_nobody_has_heard_of_ends_and_the_halt_goes_on(
    acts: Acts, ledger: Ledger, sender: PatientSender, account: Account
) -> None:
    account.halt("api", "LimitExceeded", "used up")
    job_id = submit(ledger, "99910001")
    acts.run_out(job_id)

    sender.send(canary(acts))

    assert acts.state(job_id) is State.DEAD
    assert account.state().state == "halted"


def test_a_job_in_doubt_keeps_its_doubt_through_an_account_wide_answer(
    acts: Acts, ledger: Ledger, sender: PatientSender, sandbox: Sandbox, account: Account
) -> None:
    job_id = submit(ledger, "99000001")
    acts.begun(job_id)
    acts.run_out(job_id)
    acts.sweep()
    sandbox.change(account_state={"behaviour": "LimitExceeded", "requests": 1})

    sender.send(job_id)

    assert acts.job(job_id).in_doubt
    assert acts.job(job_id).attempts == 1
    account.resume("person")
    acts.run_out(job_id)
    acts.sweep()
    sender.send(job_id)
    whats = [entry.what for entry in acts.job(job_id).story]
    assert whats == ["attempt", "probe", "probe"]
    assert acts.state(job_id) is State.SENT


def begun(acts: Acts, ledger: Ledger, job_id: str) -> tuple[Work, Begun]:
    """Claim a job and begin its first try."""
    claim = ledger.claim(job_id, "t")
    assert claim.record is not None
    first = acts.begin(job_id, "t")
    work = Work(claim.record, "t", is_canary=False)
    work.tries = work.attempts = 1
    return work, first


def reacting(
    ledger: Ledger, runtime: Runtime, account: Account, settings: Settings
) -> tuple[Recorder, Reactions]:
    limiter = Limiter(ledger.client, settings, runtime.shutdown.sleep)
    reactions = Reactions(account, limiter, settings, runtime.reach)
    return Recorder(ledger, runtime.shutdown), reactions


def test_a_job_whose_calls_do_not_get_out_is_left_to_others_that_send_and_spends_nothing(
    acts: Acts, ledger: Ledger, runtime: Runtime, account: Account, settings: Settings
) -> None:
    job_id, others = submit(ledger, "99000001"), itertools.count(51230001)
    work, _ = begun(acts, ledger, job_id)
    recorder, reactions = reacting(ledger, runtime, account, settings)
    verdict = Verdict(Kind.TRANSIENT, OwnCode.CONNECT, "refused")

    before = []
    for _ in range(FEWEST - 1):
        before.append(reactions.react(Answered(work, "first", verdict)).then)
        other = submit(ledger, str(next(others)))
        acts.finish(other, acts.begun(other))
    left = recorder.apply(work, reactions.react(Answered(work, "first", verdict)))

    assert all(isinstance(each, Again) for each in before)
    assert left == NotNow("Network.Connect", 0)
    assert (acts.state(job_id), acts.job(job_id).attempts) == (State.PARKED, 0)


def test_a_job_that_is_throttled_again_and_again_steps_aside_and_spends_nothing(
    acts: Acts, ledger: Ledger, runtime: Runtime, account: Account, settings: Settings
) -> None:
    job_id = submit(ledger, "99000001")
    work, ledger_begun = begun(acts, ledger, job_id)
    recorder, reactions = reacting(ledger, runtime, account, settings)
    work.throttled = MOST_THROTTLED - 2
    answered = Answered(work, "first", Verdict(Kind.THROTTLED, "RequestLimitExceeded", "slowly"))

    one_more = recorder.apply(work, reactions.react(answered))
    work.attempts += 1
    last = recorder.apply(work, reactions.react(answered))

    record = acts.job(job_id)
    assert ledger_begun.kind == "first"
    assert one_more == Again(0)
    assert isinstance(last, NotNow)
    assert last.due_in_s == 5
    assert (record.state, record.attempts) == (State.PARKED, 0)
    assert not record.in_doubt


# Redis


def test_without_redis_nothing_is_sent(sandbox: Sandbox, settings: Settings) -> None:
    away = Settings(**{**settings.model_dump(), "sendcode_redis_url": "redis://127.0.0.1:9/0"})
    runtime = Runtime(away, object())

    assert runtime.sender.send("ev-1") == NotNow("redis")

    assert sandbox.stats()["requests"] == 0


@pytest.fixture
def full_redis(redis: Redis) -> Iterator[Callable[[], None]]:
    """Fill the server up; there is room again after the test, or when `maxmemory` is set to 0."""

    def fill() -> None:
        redis.config_set("maxmemory", 1)

    yield fill
    redis.config_set("maxmemory", 0)


def test_a_full_redis_lets_nothing_be_sent(
    full_redis: Callable[[], None],
    acts: Acts,
    ledger: Ledger,
    sender: PatientSender,
    sandbox: Sandbox,
    redis: Redis,
) -> None:
    job_id = submit(ledger, "99000001")
    full_redis()

    result = sender.send(job_id)

    redis.config_set("maxmemory", 0)
    assert result == NotNow("redis")
    assert sandbox.stats()["requests"] == 0
    assert isinstance(sender.send(job_id), Ended)
    assert acts.state(job_id) is State.SENT


@pytest.mark.settings(sendcode_http_timeout=3, sendcode_phone_interval=20)
def test_what_the_api_answered_is_recorded_when_redis_has_room_again(
    full_redis: Callable[[], None],
    acts: Acts,
    ledger: Ledger,
    sender: PatientSender,
    sandbox: Sandbox,
    redis: Redis,
) -> None:
    sandbox.change(answer_ms=600)
    job_id = submit(ledger, "99000001")
    thread, results = in_a_thread(lambda: sender.send(job_id))
    wait_until(lambda: sandbox.stats()["requests"] == 1)
    full_redis()
    redis.config_resetstat()

    wait_until(lambda: "errorstat_OOM" in redis.info("errorstats"))
    redis.config_set("maxmemory", 0)
    thread.join(PATIENCE_S)

    assert [type(each) for each in results] == [Ended]
    assert (acts.state(job_id), acts.job(job_id).attempts) == (State.SENT, 1)
    assert sandbox.stats()["requests"] == 1


@pytest.mark.settings(sendcode_backoff=2)
def test_the_limiter_hears_of_a_request_before_the_pause_that_follows_it(
    acts: Acts,
    ledger: Ledger,
    runtime: Runtime,
    sender: PatientSender,
    sandbox: Sandbox,
    redis: Redis,
) -> None:
    job_id = submit(ledger, "99200001")

    thread, results = in_a_thread(lambda: sender.send(job_id))
    wait_until(lambda: redis.hget(acts.keys.pace, "heard") == "1")

    assert sandbox.stats()["requests"] == 1
    runtime.shutdown.order()
    thread.join(PATIENCE_S)
    assert [type(each) for each in results] == [NotNow]
    assert redis.hget(acts.keys.pace, "heard") == "1"  # and not a second time


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells of acknowledgements")
def test_the_limiter_hears_of_a_request_while_the_api_works_on_it(
    acts: Acts, ledger: Ledger, sender: Sender, sandbox: Sandbox, redis: Redis
) -> None:
    sandbox.change(answer_ms=4000)
    job_id = submit(ledger, "99000001")

    thread, results = in_a_thread(lambda: sender.send(job_id))
    wait_until(lambda: redis.hget(acts.keys.pace, "ways") == "1")

    assert sandbox.stats()["requests"] == 1
    assert redis.hget(acts.keys.pace, "heard") is None  # of its answer
    thread.join(PATIENCE_S)
    assert [type(each) for each in results] == [Ended]


class SlowToBegin(Ledger):
    """On a Redis that answers so much later whenever an attempt is journaled."""

    def __init__(self, settings: Settings, slow_s: float) -> None:
        super().__init__(connect(settings), settings)
        self._slow_s = slow_s

    def begin(self, *arguments: Any) -> Begun:
        time.sleep(self._slow_s)
        return super().begin(*arguments)


def test_a_worker_too_slow_for_its_slots_says_so_and_leaves_the_job_to_others(
    acts: Acts, runtime: Runtime, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.ledger = SlowToBegin(runtime.settings, 3 * LATEST_S)
    job_id = submit(runtime.ledger, "99000001")

    result = runtime.sender.send(job_id)

    record = acts.job(job_id)
    assert isinstance(result, NotNow)
    assert (record.state, record.attempts, record.in_doubt) == (State.PARKED, 0, False)
    assert sandbox.stats()["requests"] == 0
    assert "too slow for its slots" in caplog.text


@pytest.mark.usefixtures("sandbox")
def test_where_redis_is_always_slow_a_worker_gets_used_to_it(acts: Acts, runtime: Runtime) -> None:
    runtime.ledger = SlowToBegin(runtime.settings, 1.5 * LATEST_S)

    for serial in range(40):  # ten are enough, but on a busy machine, which is late now and then
        job_id = submit(runtime.ledger, f"9900{serial:04}")
        runtime.sender.send(job_id)
        if serial >= 9 and acts.state(job_id) is State.SENT:
            break

    record = acts.job(job_id)
    assert (record.state, record.attempts) == (State.SENT, 1)


def test_connecting_however_long_it_takes_costs_no_slot(
    acts: Acts, runtime: Runtime, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, looked_up = socket.getaddrinfo, []

    def slowly(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if port == urlsplit(sandbox.url).port:
            looked_up.append(port)
            time.sleep(3 * LATEST_S)
        return look_up(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    job_id = submit(runtime.ledger, "99000001")

    runtime.sender.send(job_id)

    assert len(looked_up) == 1
    record = acts.job(job_id)
    assert (record.state, record.tries, record.attempts) == (State.SENT, 1, 1)
    assert len(record.story) == sandbox.stats()["requests"] == 1


# the order to stop


def is_handed_back(acts: Acts, job_id: str) -> bool:
    """Whether the job is due at once for any other worker, with no attempt spent on the stop."""
    record = acts.job(job_id)
    due_in_ms = acts.due_in_ms(job_id)
    return record.state is State.PARKED and due_in_ms is not None and due_in_ms <= 0


@pytest.mark.settings(sendcode_rate_limit=0.1)
def test_a_job_that_waits_for_its_slot_is_handed_back_unsent(
    acts: Acts, ledger: Ledger, runtime: Runtime, sandbox: Sandbox
) -> None:
    Limiter(ledger.client, runtime.settings, lambda _: None).take(Lane.EVENT)
    job_id = submit(ledger, "99000001")
    thread, results = in_a_thread(lambda: runtime.sender.send(job_id))
    wait_until(lambda: acts.state(job_id) is State.SENDING)

    runtime.shutdown.order()
    thread.join(PATIENCE_S)

    assert [type(each) for each in results] == [NotNow]
    assert is_handed_back(acts, job_id)
    assert acts.job(job_id).attempts == 0
    assert not acts.job(job_id).in_doubt
    assert sandbox.stats()["requests"] == 0
    assert acts.sweep() == [job_id]


@pytest.mark.settings(sendcode_rate_limit=0.1)
def test_batch_jobs_in_line_for_a_slot_are_handed_back_at_once(
    acts: Acts, runtime: Runtime, sandbox: Sandbox
) -> None:
    ids = acts.batch(4)
    acts.sweep()
    threads = [in_a_thread(partial(runtime.sender.send, job_id))[0] for job_id in ids]
    wait_until(lambda: sandbox.stats()["accepted"] == 1)
    wait_until(lambda: State.QUEUED not in {acts.state(job_id) for job_id in ids})

    runtime.shutdown.order()
    for thread in threads:
        thread.join(PATIENCE_S)

    unsent = [job_id for job_id in ids if acts.state(job_id) is not State.SENT]
    assert len(unsent) == 3
    assert all(is_handed_back(acts, job_id) for job_id in unsent)
    assert sandbox.stats()["requests"] == 1


def test_a_call_under_way_is_waited_for_and_recorded(
    acts: Acts, ledger: Ledger, runtime: Runtime, sender: PatientSender, sandbox: Sandbox
) -> None:
    sandbox.change(answer_ms=150)
    job_id = submit(ledger, "99000001")
    thread, results = in_a_thread(lambda: sender.send(job_id))
    wait_until(lambda: sandbox.stats()["requests"] == 1)

    runtime.shutdown.order()
    thread.join(PATIENCE_S)

    assert [type(each) for each in results] == [Ended]
    assert acts.state(job_id) is State.SENT


@pytest.mark.settings(sendcode_backoff=2)
@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(("prefix", "in_doubt"), [("9922", False), ("9932", True)])
def test_a_job_between_two_tries_is_handed_back_as_it_is(
    prefix: str,
    in_doubt: bool,
    acts: Acts,
    ledger: Ledger,
    runtime: Runtime,
    sender: PatientSender,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_id = submit(ledger, f"{prefix}0001")
    thread, results = in_a_thread(lambda: sender.send(job_id))
    wait_until(lambda: "attempt failed, trying again" in caplog.text)

    runtime.shutdown.order()
    thread.join(PATIENCE_S)

    record = acts.job(job_id)
    assert [type(each) for each in results] == [NotNow]
    assert is_handed_back(acts, job_id)
    assert (record.attempts, record.in_doubt, len(record.story)) == (1, in_doubt, 1)


def test_a_job_that_comes_after_the_order_is_handed_back_at_once(
    acts: Acts, ledger: Ledger, runtime: Runtime, sandbox: Sandbox
) -> None:
    runtime.shutdown.order()
    job_id = submit(ledger, "99000001")

    result = runtime.sender.send(job_id)

    assert isinstance(result, NotNow)
    assert is_handed_back(acts, job_id)
    assert sandbox.stats()["requests"] == 0


# the log


@pytest.mark.usefixtures("sandbox")
def test_each_end_is_one_line_of_the_right_loudness_without_the_number(
    ledger: Ledger, sender: PatientSender, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sendcode")
    ids = [submit(ledger, number) for number in ("99000001", "99010001", "99300001")]
    for job_id in ids:
        sender.send(job_id)

    ends = [record for record in caplog.records if record.getMessage() == "job finished"]
    told = [record.__dict__["fields"] for record in ends]
    assert [record.levelname for record in ends] == ["INFO", "ERROR", "INFO"]
    assert [each["job_id"] for each in told] == ids
    assert told[1]["code"] == "FailedOperation.PhoneBindUpper"
    assert told[2]["attempts"] == 2
    assert all(each["duration_ms"] >= 0 for each in told)
    everything = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert not any(number in everything for number in ("99000001", "99010001", "99300001"))
    assert [record.levelname for record in caplog.records if "again" in record.getMessage()] == [
        "WARNING"
    ]


def test_a_refusal_for_now_is_a_line_without_the_number(
    ledger: Ledger, sender: PatientSender, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sendcode")
    job_id = submit(ledger, "99030001")

    sender.send(job_id)

    (line,) = [each for each in caplog.records if each.getMessage() == "number refused for now"]
    told = line.__dict__["fields"]
    assert line.levelname == "INFO"
    assert (told["job_id"], told["again_in_ms"]) == (job_id, 3_000)
    assert {told["code"]: 1} == sandbox.stats()["codes"]
    assert "99030001" not in str(line.__dict__)
