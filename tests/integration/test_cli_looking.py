"""`sendcode send`, `status`, `doctor`, `halt` and `resume` on a real ledger."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from redis import Redis

from config import DEAD_LETTER_QUEUE, EVENT_QUEUE, QUEUES
from config.settings import Settings
from demo.world import EmbeddedValkey
from jobs.account import OUTDATED, WEBHOOKS, Account
from jobs.batches import Batches
from jobs.job import Lane, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from tests.commands import SEND, Command
from tests.ended_jobs import DEAD, SENT, customers, end, end_event
from tests.integration.fault_server import FaultServer, silent, tunnelling
from tests.ledger_acts import Acts, row
from tests.refusals import REFUSALS
from worker.limiter import Limiter
from worker.presence import Leases, Presence, Shutdown

NUMBER = "51234567"


def presence(ledger: Ledger, name: str, clock: Callable[[], float] = time.monotonic) -> Presence:
    present = Presence(ledger, Leases(), Shutdown(), 20, clock)
    present.name = name
    return present


def in_an_hour() -> str:
    return str(round(time.time() * 1000) + 3_600_000)


@pytest.fixture
def alive(redis: Redis, keys: Keys) -> None:
    """A worker gave a sign of life."""
    redis.hset(keys.workers, "w1@here", str(round(time.time() * 1000)))


def test_an_accepted_job_is_shown_with_its_number_masked(sendcode: Command) -> None:
    ran = sendcode(*SEND)

    assert ran.exit_code == 0
    job_id, state, phone = ran.out.strip().split("  ")
    assert state == "queued"
    assert phone == "+852 ******67"
    assert f"sendcode job show {job_id}" in ran.err
    assert NUMBER not in ran.out + ran.err


def test_json_is_one_document_and_nothing_else_is_said(sendcode: Command) -> None:
    ran = sendcode(*SEND, "--json")

    assert ran.exit_code == 0
    assert ran.err == ""
    assert ran.json["state"] == "queued"
    assert {"job_id", "code", "message", "request_id", "attempts", "possible_duplicate"} <= set(
        ran.json
    )
    assert ran.json["phone"] == "+852 ******67"


def test_the_same_key_shows_what_became_of_its_job(sendcode: Command, ledger: Ledger) -> None:
    job_id = sendcode(*SEND, "--key", "k", "--json").json["job_id"]
    end(ledger, job_id, DEAD)

    ran = sendcode(*SEND, "--key", "k", "--wait", "1", "--json")

    assert ran.exit_code == 1
    assert ran.json["job_id"] == job_id
    assert ran.json["state"] == "dead"
    assert ran.err.startswith("sendcode: not sent: OperationDenied.ServiceBusy")


def test_the_same_key_after_its_job_has_ended_does_nothing_and_says_so(
    sendcode: Command, ledger: Ledger
) -> None:
    first = sendcode(*SEND, "--key", "k")
    end(ledger, first.out.split()[0], SENT)

    ran = sendcode(*SEND, "--key", "k")

    assert first.err.startswith("accepted; what becomes of it: ")
    assert ran.exit_code == 0
    assert ran.err.startswith("nothing was done: the job of this key is sent already; its story: ")


def test_the_key_of_another_number_is_refused(sendcode: Command) -> None:
    sendcode(*SEND, "--key", "k")

    ran = sendcode("send", "--country-code", "852", "--phone", "51234568", "--key", "k")

    assert ran.exit_code == 2
    assert "this key was used before, for +852 ******67" in ran.err


def test_waiting_in_vain_says_that_the_job_goes_on(sendcode: Command) -> None:
    ran = sendcode(*SEND, "--wait", "0.1")

    assert ran.exit_code == 1
    assert "not sent within 0.1 s: the job is queued and goes on" in ran.err


def halt_for_a_person(account: Account) -> None:
    account.halt("person", "Halted", "key rotation")


def halt_for_a_key(account: Account) -> None:
    account.halt("api", "AuthFailure.SignatureFailure", "The signature does not match.")


def halt_for_an_outage(account: Account) -> None:
    while account.record_miss("Answer.HttpStatus", "HTTP status 503") == "going on":
        pass


@pytest.mark.settings(sendcode_canary_interval=12.5)
@pytest.mark.parametrize(
    ("halt", "words"),
    [
        (
            halt_for_a_key,
            " by an answer to w1@vm: AuthFailure.SignatureFailure (the secret key does not fit the "
            "secret id); no worker is left that it does not refuse: correct secret id, key and "
            "token in their files; if they are in the environment, restart the workers; one job "
            "tries every 12.5 s, and all go on when it succeeds",
        ),
        (halt_for_a_person, " by a person (key rotation): sendcode resume"),
        (
            halt_for_an_outage,
            ", as the API is out (Answer.HttpStatus: HTTP status 503; w1@vm was the last to see "
            "it): wait; one job tries every 12.5 s, and all go on when it succeeds; if it stays, "
            "check network, firewall, any proxy and SENDCODE_ENDPOINT; after a change of settings "
            "restart the workers",
        ),
    ],
)
@pytest.mark.parametrize(
    "command", [[*SEND, "--wait", "0"], ["status"], ["batch", "status", "b1"], ["doctor"]]
)
def test_why_sending_is_halted_is_said_alike_everywhere(
    halt: Callable[[Account], None],
    words: str,
    command: list[str],
    sendcode: Command,
    redis: Redis,
    settings: Settings,
    batches: Batches,
) -> None:
    batches.open("b1", "digest", ["name"])
    batches.append("b1", 0, customers(3), last=True)
    halt(Account(redis, settings, worker="w1@vm"))

    ran = sendcode(*command)

    told = " ".join((ran.out + ran.err).split())
    assert re.search(r"all sending is halted since [-\d :]*\d\d:\d\d:\d\d" + re.escape(words), told)


def test_waiting_on_a_halted_account_is_in_vain(sendcode: Command, account: Account) -> None:
    account.halt("person", "Halted", "key rotation")

    ran = sendcode(*SEND, "--wait", "0")

    assert ran.exit_code == 1
    assert "not sent yet" in ran.err


def test_halt_and_resume_say_what_they_did(sendcode: Command, account: Account) -> None:
    halted = sendcode("halt", "--reason", "key rotation", "--json")
    assert halted.json["changed"] is True
    assert halted.json["account"]["by"] == "person"
    assert account.state().message == "key rotation"

    assert sendcode("halt", "--json").json["changed"] is False

    resumed = sendcode("resume", "--json")
    assert resumed.json["changed"] is True
    assert resumed.json["account"]["state"] == "running"
    assert "was not halted" in sendcode("resume").err


def test_a_halt_s_reason_is_kept_without_numbers(sendcode: Command) -> None:
    told = sendcode("halt", "--reason", "+85299007002 complains", "--json")

    assert told.json["account"]["message"] == "******02 complains"
    assert "--reason: kept as" in told.err


def test_a_person_may_end_the_apis_halt(sendcode: Command, account: Account) -> None:
    account.halt("api", "AuthFailure.SecretIdNotFound", "")

    ran = sendcode("resume")

    assert "the API had halted it: AuthFailure.SecretIdNotFound" in ran.err
    assert account.state().state == "running"


def test_status_of_an_empty_system(sendcode: Command) -> None:
    ran = sendcode("status", "--json")

    assert ran.exit_code == 0
    assert ran.json["queues"] == dict.fromkeys((*QUEUES, DEAD_LETTER_QUEUE), 0)
    assert ran.json["totals"] == {}
    assert ran.json["workers"] == []
    assert ran.json["account"]["state"] == "running"
    assert ran.json["rate"]["last_second"] == 0
    assert "none alive: sendcode worker" in sendcode("status").out


@pytest.mark.usefixtures("alive")
def test_status_counts_what_is_there(
    sendcode: Command, ledger: Ledger, batches: Batches, redis: Redis, keys: Keys
) -> None:
    end_event(ledger, 1, DEAD)
    batches.open("b1", "digest", ["name"])
    batches.append("b1", 0, customers(3, first=2), last=True)
    redis.lpush(keys.quarantine, "{}")
    redis.hset(keys.workers, "w0@here", str(round((time.time() - 60) * 1000)))
    sendcode(*SEND)

    ran = sendcode("status", "--json")

    assert ran.json["queues"][EVENT_QUEUE] == 1
    assert ran.json["queues"][DEAD_LETTER_QUEUE] == 1
    assert ran.json["in_work"] == 1
    assert ran.json["totals"] == {"dead": 1}
    assert ran.json["dead_by_code"] == {"OperationDenied.ServiceBusy": 1}
    assert ran.json["quarantined"] == 1
    assert [batch["batch_id"] for batch in ran.json["batches"]] == ["b1"]
    assert {each["name"]: each["alive"] for each in ran.json["workers"]} == {
        "w0@here": False,
        "w1@here": True,
    }
    shown = sendcode("status").out
    assert "1 alive: w1@here" in shown
    assert "w0@here silent for" in shown
    assert "b1  running  0 of 3 finished" in shown
    assert "1 messages put aside" in shown


def test_two_workers_of_one_name_are_counted_and_warned_of(
    sendcode: Command, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = presence(ledger, "w1@here"), presence(ledger, "w1@here")
    for present in (first, second, first, second, first):
        present.beat()

    assert caplog.messages.count(
        "another worker has the same name: give each its own (sendcode worker --name)"
    ) == len((first, second))
    assert "2 alive: w1@here, w1@here" in sendcode("status").out
    assert "several workers are called w1@here: give each its own name" in sendcode("status").out
    assert "several workers are called w1@here: give each" in sendcode("doctor").out

    second.sign_off()

    assert "1 alive: w1@here" in sendcode("status").out
    assert "several" not in sendcode("status").out


@pytest.mark.parametrize("part", ["consumer", "sweeper", "jobs"])
def test_a_worker_of_which_a_part_stands_still_is_silent_and_gives_up_its_jobs(
    part: str, sendcode: Command, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    passed_s = 0.0
    leases = Leases()
    present = Presence(ledger, leases, Shutdown(), 20, lambda: time.monotonic() + passed_s)
    present.name = "w1@here"
    for each in ("consumer", "sweeper"):
        present.note_progress(each)
    present.beat()
    assert "1 alive: w1@here" in sendcode("status").out

    passed_s = 60
    for each in {"consumer", "sweeper"} - {part}:
        present.note_progress(each)
    with ExitStack() as work:
        if part == "jobs":
            work.enter_context(leases.hold("ev-1", "token"))
        present.beat()
        present.beat()

    # and the seconds that a busy machine takes until it is asked
    assert re.search(r"w1@here silent for [6-9]\d s", sendcode("status").out)
    assert caplog.text.count("a part of this worker stands still") == 1


def test_status_says_which_dead_letters_were_perhaps_sent(
    sendcode: Command, ledger: Ledger
) -> None:
    end_event(ledger, 1, DEAD)
    end_event(ledger, 2, replace(DEAD, state=State.UNKNOWN))

    assert "OperationDenied.ServiceBusy 2 (1 perhaps sent)" in sendcode("status").out
    told = sendcode("status", "--json").json
    assert told["perhaps_sent_by_code"] == {"OperationDenied.ServiceBusy": 1}


def test_status_tells_how_many_jobs_were_perhaps_sent_twice_apart_from_how_they_ended(
    sendcode: Command, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    end_event(ledger, 1, SENT)
    redis.hset(keys.totals, mapping={"sent": 4051, "possible_duplicate": 28})

    shown = sendcode("status").out

    assert "sent 4,051\n" in re.sub(" +\n", "\n", shown)
    assert "28 of all jobs perhaps sent twice" in shown


def test_a_worker_whose_clock_is_wrong_is_alive_all_the_same(
    sendcode: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: 1_000_000.0)
        presence(ledger, "w1@there").beat()

    assert sendcode("status", "--json").json["workers"][0]["alive"] is True


def test_status_shows_a_slowed_rate(sendcode: Command, redis: Redis, keys: Keys) -> None:
    seconds, micros = redis.time()
    now_us = int(seconds) * 1_000_000 + int(micros)
    redis.hset(
        keys.pace,
        mapping={
            "per_window": 20,
            "window_us": 1_000_000,
            "level": 10,
            "level_at_us": now_us,
            "level_holds_s": 10,
            "refused": 3,
            "refused_at_us": now_us,
            "caution_us": "60000.25",
        },
    )
    redis.hset(keys.pace_ring, mapping={"0": f"100:{now_us - 10}", "1": f"81:{now_us - 2_000_000}"})

    rate = sendcode("status", "--json").json["rate"]

    assert (rate["factor"], rate["allowed"]) == (0.5, 10)
    assert rate["refused"] == 3
    assert rate["caution_ms"] == 60.00025
    assert rate["last_second"] == 1
    assert "slowed to 50% of it: the API refuses more than about 10" in sendcode("status").out


@pytest.mark.settings(sendcode_rate_limit=20)
@pytest.mark.parametrize(
    ("told_s", "is_lower"), [([20.0], False), ([20.0, 12.5], True), ([19.5], True), ([20.3], False)]
)
def test_status_says_when_another_worker_holds_the_limit_down(
    told_s: list[float],
    is_lower: bool,
    sendcode: Command,
    redis: Redis,
    settings: Settings,
) -> None:
    for told in told_s:
        theirs = settings.model_copy(update={"sendcode_rate_limit": told})
        Limiter(redis, theirs, time.sleep).take(Lane.EVENT)

    shown = sendcode("status").out

    assert f"limit {told_s[-1]:g}" in shown
    assert ("lower than SENDCODE_RATE_LIMIT here, 20" in shown) == is_lower
    assert sendcode("status", "--json").json["rate"]["setting"] == 20


@pytest.mark.usefixtures("sandbox")
def test_doctor_finds_what_the_tests_world_lacks(sendcode: Command) -> None:
    ran = sendcode("doctor", "--json")

    assert ran.exit_code == 1
    levels = {finding["name"]: finding["level"] for finding in ran.json["findings"]}
    assert ran.json["ok"] is False
    assert levels.pop("workers") == "fail"
    assert levels.pop("appendfsync") == "fail"  # the tests' server runs with fsync="no"
    assert set(levels.values()) == {"ok"}
    assert all(
        bool(finding["remedy"]) is (finding["level"] != "ok") for finding in ran.json["findings"]
    )


@pytest.mark.usefixtures("alive", "sandbox")
def test_doctor_shows_a_line_for_each_finding(sendcode: Command) -> None:
    ran = sendcode("doctor")

    assert "OK    1 worker is alive" in ran.out
    assert "FAIL  appendfsync no: a crash of the machine forgets" in ran.out
    assert ": set appendfsync always" in ran.out
    assert ran.err == "sendcode: 1 of 18 checks failed\n"


@pytest.mark.settings(sendcode_rate_limit=20)
@pytest.mark.usefixtures("alive")
def test_doctor_asks_for_as_many_threads_as_a_slow_api_takes(
    sendcode: Command, redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.pace, mapping={"answer_us": 3_000_000})

    ran = sendcode("doctor", "--json")

    [found] = [finding for finding in ran.json["findings"] if finding["name"] == "threads"]
    assert found["level"] == "warn"
    assert "takes 3.0 s to answer, so 20/s need 78 threads; workers have 1 x 48" in found["text"]
    assert found["remedy"] == "start 1 more, or set SENDCODE_CONCURRENCY to 78 for all"


@pytest.mark.settings(sendcode_rate_limit=20)
@pytest.mark.usefixtures("alive")
def test_doctor_asks_for_no_threads_where_they_suffice(
    sendcode: Command, redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.pace, mapping={"answer_us": 1_000_000})

    names = [finding["name"] for finding in sendcode("doctor", "--json").json["findings"]]

    assert "threads" not in names


def test_a_worker_that_went_long_ago_is_forgotten(redis: Redis, keys: Keys, ledger: Ledger) -> None:
    present = presence(ledger, "w1@here")
    redis.hset(keys.workers, "w2@there", "1")

    present.beat()

    assert list(redis.hgetall(keys.workers)) == [present.entry]


def test_doctor_finds_an_import_that_nobody_completes(
    sendcode: Command, acts: Acts, batches: Batches
) -> None:
    batches.open("half", "digest 1", ["cc", "num"])
    batches.append("half", 0, [row()])
    batches.open("young", "digest 2", ["cc", "num"])
    acts.redis.hset(acts.keys.batch("half"), "created", "1")

    ran = sendcode("doctor")

    assert "WARN  batch half has waited for the rest of its file" in ran.out
    assert "batch young" not in ran.out


@pytest.mark.parametrize(
    ("mark", "said"),
    [(OUTDATED, "its release cannot read this ledger"), (WEBHOOKS, "w1@here delivers webhooks")],
)
def test_workers_that_send_no_codes_are_named_and_do_not_count(
    mark: str, said: str, sendcode: Command, redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.workers, f"w1@here/1.{mark}", in_an_hour())

    shown, doctor = sendcode("status").out, sendcode("doctor").out

    assert "none alive: sendcode worker" in shown
    assert said in shown
    assert "FAIL  no worker that is alive sends codes: jobs are accepted, and wait" in doctor
    assert sendcode("status", "--json").json["workers"][0]["idle"] == mark


def test_doctor_fails_where_a_due_job_waits_and_nothing_is_sent(
    sendcode: Command, redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.workers, "w1@here", in_an_hour())
    job_id = sendcode(*SEND, "--json").json["job_id"]
    redis.hset(keys.job(job_id), "created", in_an_hour())
    before = sendcode("doctor").out
    a_minute_ago = str(round(time.time() * 1000) - 90_000)
    redis.hset(keys.job(job_id), "created", a_minute_ago)
    redis.hset(keys.sweeps, "at", a_minute_ago)

    ran = sendcode("doctor")

    assert "has waited" not in before
    assert "FAIL  the oldest event job that is due has waited for" in ran.out
    assert "FAIL  no worker has looked for due jobs for" in ran.out


@pytest.fixture
def careful_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A server as the README asks for."""
    with EmbeddedValkey(tmp_path_factory.mktemp("careful")) as server:
        yield server


@pytest.mark.usefixtures("sandbox")
def test_doctor_is_content_where_all_is_as_asked(
    sendcode: Command, careful_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch, keys: Keys
) -> None:
    monkeypatch.setenv("SENDCODE_REDIS_URL", careful_valkey.url())
    with Redis.from_url(careful_valkey.url()) as client:
        client.hset(keys.workers, "w1@here", str(round(time.time() * 1000)))

        ran = sendcode("doctor")

    assert ran.exit_code == 0
    assert {line.split()[0] for line in ran.out.splitlines()} == {"OK"}
    assert ran.err == ""


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("MISCONF", "cannot write to its disk and refuses changes: look at its log and its disk"),
        ("READONLY", "is a read-only replica: set SENDCODE_REDIS_URL to the primary"),
        ("NOREPLICAS", "accepts nothing while it has too few replicas: see to its replicas"),
        ("OOM", "is full: make room or raise its maxmemory"),
    ],
)
def test_doctor_fails_where_redis_answers_and_refuses_every_write(
    code: str,
    found: str,
    sendcode: Command,
    careful_valkey: EmbeddedValkey,
    monkeypatch: pytest.MonkeyPatch,
    keys: Keys,
) -> None:
    url = careful_valkey.url()
    monkeypatch.setenv("SENDCODE_REDIS_URL", url)
    with Redis.from_url(url, decode_responses=True) as client:
        client.hset(keys.workers, "w1@here", str(round(time.time() * 1000)))
        with REFUSALS[code](client, careful_valkey.directory):
            ran = sendcode("doctor")

        assert ran.exit_code == 1
        assert found in ran.out
        if code == "MISCONF":
            assert "the last snapshot failed, so no write is accepted" in ran.out
        if code == "OOM":
            assert "of its memory limit is used, so it accepts no jobs" in ran.out
        assert sendcode("doctor").exit_code == 0
        assert client.exists(keys.doctor) == 0 or client.pttl(keys.doctor) > 0


def test_doctor_takes_the_way_to_the_api_and_sends_nothing(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FaultServer(silent, tls=tls) as api, FaultServer(tunnelling) as proxy:
        monkeypatch.setenv("SENDCODE_ENDPOINT", api.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/ca.pem")
        distrusted = sendcode("doctor").out
        monkeypatch.setenv("SENDCODE_CA_BUNDLE", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SENDCODE_PROXY", proxy.url)
        trusted = sendcode("doctor").out
        monkeypatch.setenv("SENDCODE_PROXY", "http://127.0.0.1:9")
        without_proxy = sendcode("doctor").out

    assert f"FAIL  {api.url}: no secure connection: the server's certificate" in distrusted
    assert "any proxy on the way and SENDCODE_CA_BUNDLE" in distrusted
    assert "the environment sets REQUESTS_CA_BUNDLE, which sendcode does not follow" in distrusted
    assert f"OK    {api.url} through SENDCODE_PROXY answers, its certificate is trusted" in trusted
    assert "REQUESTS_CA_BUNDLE" not in trusted
    assert "the proxy was not reached: ConnectionRefusedError" in without_proxy
    assert api.requests == []
    (asked,) = proxy.requests
    assert asked.line == f"CONNECT 127.0.0.1:{api.port} HTTP/1.1"


@pytest.mark.parametrize(("has_key", "level"), [(True, "FAIL"), (False, "WARN")])
def test_an_api_out_of_reach_fails_where_sending_is_meant_to_happen(
    has_key: bool, level: str, sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDCODE_ENDPOINT", "https://no-such-host.invalid")
    monkeypatch.setenv("SENDCODE_ENDPOINT_ALLOWED", "no-such-host.invalid")
    if not has_key:
        monkeypatch.delenv("TENCENTCLOUD_SECRET_KEY")

    told = sendcode("doctor").out

    assert f"{level}  https://no-such-host.invalid: the service's host name was not found" in told


@pytest.mark.parametrize(
    ("of_another_host", "plain", "levels"),
    [
        (False, "false", {"login": "warn"}),
        (True, "false", {"login": "fail", "encryption": "fail"}),
        (True, "true", {"login": "fail", "encryption": "ok"}),
    ],
)
def test_doctor_minds_who_gets_into_redis_and_who_could_listen(
    of_another_host: bool,
    plain: str,
    levels: dict[str, str],
    sendcode: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENDCODE_REDIS_PLAIN", plain)
    with EmbeddedValkey(tmp_path / "open") as server:
        with Redis.from_url(server.url()) as admin:
            admin.config_set("requirepass", "")
        # no name of loopback, but leads there
        host = "0.0.0.0" if of_another_host else "127.0.0.1"  # noqa: S104 (nothing listens)
        monkeypatch.setenv("SENDCODE_REDIS_URL", f"redis://{host}:{server.port}/0")
        findings = sendcode("doctor", "--json").json["findings"]

    found = {each["name"]: each["level"] for each in findings}
    assert {name: found.get(name) for name in levels} == levels
    assert ("encryption" in found) is of_another_host


def test_doctor_without_redis_still_looks_at_the_rest(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDCODE_REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.delenv("TENCENTCLOUD_SECRET_KEY")

    ran = sendcode("doctor")

    assert ran.exit_code == 1
    assert "FAIL  Redis at redis://127.0.0.1:9/0 cannot be reached: start it" in ran.out
    assert "WARN  TENCENTCLOUD_SECRET_KEY is missing here" in ran.out


# what people did


def test_what_people_did_is_listed_the_newest_first(sendcode: Command, batches: Batches) -> None:
    assert sendcode("actions").out == "nobody did anything yet\n"
    batches.open("b1", "digest", ["name"])
    batches.append("b1", 0, customers(3), last=True)
    sendcode("halt", "--reason", "wrong file")
    sendcode("halt", "--reason", "again")
    sendcode("resume")
    sendcode("resume")
    sendcode("batch", "pause", "b1")

    told = sendcode("actions", "--json").json

    assert [(each["what"], each["about"], each["reason"]) for each in told] == [
        ("batch pause", "b1", ""),
        ("resume", "", ""),
        ("halt", "", "wrong file"),
        ("batch submit", "b1", ""),
    ]
    assert sendcode("actions", "--limit", "1", "--json").json == told[:1]
    shown = sendcode("actions").out
    assert "halt" in shown
    assert "wrong file" in shown


def test_the_api_s_halt_is_no_person_s_action(sendcode: Command, account: Account) -> None:
    account.halt("api", "LimitExceeded", "used up")
    account.resume("api")

    assert sendcode("actions", "--json").json == []


def test_one_waiting_job_is_cancelled_and_one_that_has_ended_is_not(
    sendcode: Command, acts: Acts
) -> None:
    waiting, over = acts.event(1), acts.event(2)
    acts.finish(over, acts.begun(over))

    done = sendcode("job", "cancel", waiting, "--reason", "asked for")
    refused = sendcode("job", "cancel", over)

    assert (done.exit_code, refused.exit_code) == (0, 1)
    assert "has ended: sent" in refused.err
    assert "asked for" in sendcode("job", "show", waiting).out
    assert "job cancel" in sendcode("actions").out


def test_status_names_the_job_that_was_refused_and_the_one_that_tried_last(
    sendcode: Command, acts: Acts, account: Account
) -> None:
    refused, tried = acts.event(1), acts.event(2)
    acts.run_out(tried)
    account.refuse(refused, 1, "LimitExceeded", "used up")
    acts.redis.hset(acts.keys.account, "canary_due", "1")
    assert acts.sweep() == [tried]

    shown, told = sendcode("status").out, sendcode("status", "--json").json["account"]

    assert (told["job"], told["canary"]) == (refused, tried)
    assert f"about job {refused}" in " ".join(shown.split())
    assert tried in shown
