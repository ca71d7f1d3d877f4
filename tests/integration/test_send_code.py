"""`from producer import send_code`: what a backend gets from it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

import producer
from config import EVENT_QUEUE
from config.settings import Settings
from demo.world import EmbeddedValkey, environment_of
from jobs.job import State
from jobs.ledger import Ending, Ledger
from producer import (
    KeyReusedError,
    PhoneError,
    RedisUnavailableError,
    SendcodeError,
    SettingsError,
    load_settings,
    send_code,
)
from tests.commands import Command
from tests.ended_jobs import SENT, end
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import TOP

NUMBER = ("852", "51234567")


def test_a_job_is_recorded_and_published(settings: Settings, ledger: Ledger, redis: Redis) -> None:
    record = send_code(*NUMBER, settings=settings)

    assert record.state is State.QUEUED
    assert ledger.job(record.job_id) == record
    assert redis.llen(EVENT_QUEUE) == 1


def test_the_same_key_gives_the_same_job_and_publishes_nothing(
    settings: Settings, redis: Redis
) -> None:
    first = send_code(*NUMBER, key="signup-1", settings=settings)
    again = send_code("+852", "5123 4567", key="signup-1", settings=settings)

    assert again.job_id == first.job_id
    assert redis.llen(EVENT_QUEUE) == 1


def test_without_a_key_every_call_is_a_new_job(settings: Settings) -> None:
    jobs = {send_code(*NUMBER, resend=True, settings=settings).job_id for _ in range(3)}

    assert len(jobs) == 3


def test_a_key_for_another_number_is_refused_without_showing_either(
    settings: Settings, redis: Redis
) -> None:
    send_code(*NUMBER, key="signup-1", settings=settings)

    with pytest.raises(KeyReusedError) as caught:
        send_code("852", "51234568", key="signup-1", settings=settings)

    assert "5123456" not in str(caught.value)
    assert "******67" in str(caught.value)
    assert redis.llen(EVENT_QUEUE) == 1


@pytest.mark.parametrize(
    ("country_code", "phone_num"), [("86", "13000000000"), ("852", "abc"), ("", "51234567")]
)
def test_a_number_that_cannot_be_sent_to_is_refused_before_anything_is_written(
    country_code: str, phone_num: str, settings: Settings, redis: Redis
) -> None:
    with pytest.raises(PhoneError):
        send_code(country_code, phone_num, settings=settings)

    assert redis.dbsize() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"key": "x" * 201},
        {"expires_in": 0.0},
        {"expires_in": 1e300},
        {"expires_in": float("inf")},
        {"expires_in": float("nan")},
        {"wait": -1.0},
        {"wait": float("nan")},
        {"wait": float("inf")},
        {"timeout": 0.0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    wrong: dict[str, object], settings: Settings
) -> None:
    with pytest.raises(ValueError, match=r"key|expires_in|wait|timeout"):
        send_code(*NUMBER, settings=settings, **wrong)  # type: ignore[arg-type] # wrong on purpose


def test_waiting_ends_with_the_job(settings: Settings, ledger: Ledger, redis: Redis) -> None:
    def work() -> None:
        wait_until(lambda: redis.llen(EVENT_QUEUE), "the message")
        job_id = next(iter(redis.scan_iter("sendcode:job:*"))).removeprefix("sendcode:job:")
        end(ledger, job_id, SENT)

    worker = threading.Thread(target=work)
    worker.start()
    record = send_code(*NUMBER, wait=PATIENCE_S, settings=settings)
    worker.join()

    assert record.state is State.SENT
    assert record.request_id


def test_waiting_is_over_when_the_time_is(settings: Settings) -> None:
    record = send_code(*NUMBER, wait=0.05, settings=settings)

    assert record.state is State.QUEUED


def test_a_life_is_counted_on_the_clock_of_redis(settings: Settings, redis: Redis) -> None:
    seconds, micros = redis.time()

    record = send_code(*NUMBER, expires_in=30, settings=settings)

    assert record.not_after_ms is not None
    assert record.not_after_ms >= int(seconds) * 1000 + int(micros) // 1000 + 30_000


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A server that may be killed."""
    with EmbeddedValkey(tmp_path_factory.mktemp("own"), fsync="no") as server:
        yield server


def at(settings: Settings, url: str) -> Settings:
    return Settings(**{**settings.model_dump(), "sendcode_redis_url": SecretStr(url)})


def test_without_redis_there_is_one_clear_error(settings: Settings) -> None:
    nowhere = at(settings, "redis://:secret@127.0.0.1:9/0")

    with pytest.raises(RedisUnavailableError, match="cannot be reached") as caught:
        send_code(*NUMBER, settings=nowhere)

    assert "127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_caller_goes_on_by_itself_when_redis_is_back(
    settings: Settings, own_valkey: EmbeddedValkey
) -> None:
    its = at(settings, own_valkey.url())
    send_code(*NUMBER, settings=its)

    own_valkey.kill()
    with pytest.raises(RedisUnavailableError):
        send_code(*NUMBER, settings=its)
    own_valkey.start()

    assert send_code(*NUMBER, settings=its).state is State.QUEUED


def test_a_full_redis_is_one_clear_error(settings: Settings, own_valkey: EmbeddedValkey) -> None:
    with Redis.from_url(own_valkey.url()) as client:
        client.config_set("maxmemory", "1mb")

        with pytest.raises(RedisUnavailableError, match="is full"):
            send_code(*NUMBER, settings=at(settings, own_valkey.url()))


@pytest.fixture
def may_not_push(settings: Settings, redis: Redis) -> Iterator[Settings]:
    """A user of Redis who may do all but what publishing takes."""
    redis.acl_setuser(
        "mute", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-lpush"]
    )
    url = settings.redis_url.split("@")[1]
    yield at(settings, f"redis://mute:pw@{url}")
    redis.acl_deluser("mute")


def test_a_job_that_cannot_be_published_is_accepted_all_the_same(
    may_not_push: Settings, ledger: Ledger, redis: Redis
) -> None:
    record = send_code(*NUMBER, settings=may_not_push)

    assert ledger.job(record.job_id) == record
    assert redis.llen(EVENT_QUEUE) == 0


def test_many_threads_share_the_connections(settings: Settings, redis: Redis) -> None:
    send_code(*NUMBER, settings=settings)
    before = int(redis.info("clients")["connected_clients"])

    def call(number: int) -> None:
        for serial in range(20):
            send_code("852", f"5123{number:02}{serial:02}", settings=settings)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert redis.llen(EVENT_QUEUE) == 161
    assert int(redis.info("clients")["connected_clients"]) <= before + 5 * 8


def test_forked_children_have_connections_of_their_own(settings: Settings, redis: Redis) -> None:
    send_code(*NUMBER, settings=settings)

    children = [_fork_and_send(40, settings) for _ in range(3)]
    for _ in range(40):
        send_code(*NUMBER, resend=True, settings=settings)
    exit_codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    assert exit_codes == [0, 0, 0]
    assert redis.llen(EVENT_QUEUE) == 1 + 4 * 40


def _fork_and_send(count: int, settings: Settings) -> int:
    child = os.fork()
    if child:
        return child
    signal.alarm(20)
    try:
        for _ in range(count):
            send_code(*NUMBER, resend=True, settings=settings)
    except BaseException:  # noqa: BLE001 (a child must not go on with the tests)
        os._exit(1)
    os._exit(0)


@pytest.fixture
def silent() -> Iterator[str]:
    """A Redis that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.mark.parametrize("wait", [None, 30])
def test_a_silent_redis_holds_nobody_up_for_longer_than_the_timeout(
    wait: float | None, silent: str, settings: Settings
) -> None:
    answered = threading.Event()

    def watch() -> None:
        assert answered.wait(5), "it blocks for longer than Redis' own time-outs"

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(RedisUnavailableError, match="does not answer in time"):
        send_code(*NUMBER, wait=wait, timeout=0.2, settings=at(settings, silent))
    answered.set()
    watcher.join()


def test_a_whole_number_may_be_given_in_international_form(
    settings: Settings, ledger: Ledger
) -> None:
    record = send_code("+852 5123 4567", settings=settings)

    assert record.phone.e164 == "+85251234567"
    assert ledger.job(record.job_id) == record


@pytest.mark.parametrize("number", [(852, "51234567"), ("852", 51234567), (85251234567,), (None,)])
def test_a_number_that_is_no_text_is_refused_with_the_reason(
    number: tuple[Any, ...], settings: Settings, redis: Redis
) -> None:
    with pytest.raises(TypeError, match=r"(country_code|phone_num): must be text, not") as caught:
        send_code(*number, settings=settings)

    assert "51234567," not in str(caught.value)
    assert redis.dbsize() == 0


def test_a_doubtful_number_is_sent_to_and_flagged(settings: Settings, sendcode: Command) -> None:
    record = send_code("852", "12", settings=settings)

    assert "2 digits is too short for country code 852" in record.as_dict()["doubt"]
    shown = sendcode("send", "--country-code", "852", "--phone", "12")
    assert shown.err.count("doubtful: a number of 2 digits is too short") == 1
    assert send_code(*NUMBER, settings=settings).as_dict()["doubt"] is None


@pytest.mark.usefixtures("first_code")
def test_an_application_s_own_env_file_is_not_looked_at(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("export SENDCODE_RATE_LIMIT='plenty\n!! theirs\n")
    (tmp_path / "sendcode.env").write_text("SENDCODE_KEY_PREFIX=named\n")
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    assert send_code(*NUMBER).state is State.QUEUED

    with pytest.raises(SettingsError, match="line 1: is not NAME=value"):
        load_settings()
    monkeypatch.delenv("SENDCODE_KEY_PREFIX")
    named = load_settings("sendcode.env")
    assert named.sendcode_key_prefix == "named"
    assert send_code(*NUMBER, settings=named).state is State.QUEUED


@pytest.mark.usefixtures("first_code")
def test_a_misspelt_variable_is_named_in_the_application_s_log(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in environment_of(settings, SENDCODE_AMBIGOUS="hold").items():
        monkeypatch.setenv(name, value)

    for _ in range(2):
        assert send_code(*NUMBER).state is State.QUEUED

    told = (
        "SENDCODE_AMBIGOUS is not a setting and changes nothing: did you mean SENDCODE_AMBIGUOUS?"
    )
    assert caplog.text.count(told) == 1


def test_whatever_it_raises_on_purpose_has_one_base() -> None:
    refusals = (KeyReusedError, PhoneError, RedisUnavailableError, SettingsError)

    assert all(issubclass(refusal, SendcodeError) for refusal in refusals)


SAMPLE = """
from producer import (
    JobRecord, KeyReusedError, PhoneError, RedisUnavailableError, SendcodeError, SettingsError,
    State, load_settings, send_code,
)

def sign_up(phone: str) -> bool:
    try:
        job: JobRecord = send_code(phone, key="signup-1", timeout=1)
        job = send_code("852", "51234567", wait=3, settings=load_settings("sendcode.env"))
    except PhoneError as exc:
        print(exc.code)
        return False
    except SendcodeError:
        return False
    return job.state is State.SENT or job.state.is_sent
"""
"""A user's module, as a type checker sees it."""


MISTAKES = {
    "": "",
    "from producer import anything": 'Module "producer" has no attribute "anything"',
    "send_code('852', 51234567)": 'incompatible type "int"; expected "str | None"',
    "send_code('852', '5', retries=3)": 'Unexpected keyword argument "retries"',
}
"""Lines of a backend, and what a type checker says of each."""


def test_a_type_checker_sees_what_a_backend_does_wrong(tmp_path: Path) -> None:
    samples = [tmp_path / f"sample{number}.py" for number in range(len(MISTAKES))]
    for sample, mistake in zip(samples, MISTAKES, strict=True):
        sample.write_text(f"{SAMPLE}\n{mistake}\n")

    # no options: then `make types` and this read each other's cache
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *samples],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"in 3 files (checked {len(samples)} source files)" in ran.stdout, ran.stdout
    for sample, complaint in zip(samples, MISTAKES.values(), strict=True):
        # its folder may be that of the run before, from the cache
        told = [line for line in ran.stdout.splitlines() if f"/{sample.name}:" in line]
        errors = [line for line in told if " error: " in line]
        assert len(errors) == (1 if complaint else 0), ran.stdout
        assert all(complaint in error for error in errors)


def test_a_name_that_producer_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'send_codes'"):
        _ = producer.send_codes  # type: ignore[attr-defined] # not there on purpose


def test_an_ended_job_is_given_at_once(settings: Settings, ledger: Ledger) -> None:
    record = send_code(*NUMBER, key="k", settings=settings)
    end(ledger, record.job_id, Ending(State.DEAD, "FailedOperation.PhoneBindUpper"))

    again = send_code(*NUMBER, key="k", wait=PATIENCE_S, settings=settings)

    assert again.state is State.DEAD
