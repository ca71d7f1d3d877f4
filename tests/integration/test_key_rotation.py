"""All of the ledger under another data key, while a batch is sent, killed and begun again."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from config import BATCH_QUEUE
from config.data_key import new_data_key
from config.settings import Settings
from demo.world import environment_of
from jobs.account import Account
from jobs.actions import recent_actions
from jobs.batches import Batches
from jobs.identity import approval_binding
from jobs.job import SendCodeJob
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.quarantine import put_aside, read_quarantine
from jobs.rotation import Rotation
from jobs.scripts import LedgerPart
from jobs.vault import SealedError, Vault, key_id_of
from producer import send_code
from producer.deadletters import Choice
from producer.decisions import Decisions, Plan
from producer.tokens import Tokens
from tests.commands import SEND, Command, run, run_program
from tests.ended_jobs import customers, number
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.web_server import WebServer
from tests.worker_process import WorkerProcess

ROWS = 10_000 if os.environ.get("SENDCODE_HEAVY") else 200
OLD, NEW, LOST = (new_data_key(key_id) for key_id in ("old", "new", "lost"))
DYING = """
import os, signal, sys
from config.redis import connect
from config.settings import load_settings
from jobs.rotation import Rotation

def die_at_last(done):
    if done > int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

settings = load_settings(None)
Rotation(connect(settings), settings).rotate(die_at_last)
"""
"""A rotation that is killed when it has sealed more than so many texts anew."""

pytestmark = pytest.mark.settings(sendcode_data_keys=f"{NEW},{OLD}")


def under(settings: Settings, *keys: str) -> Settings:
    """Return the settings of a program that has other keys."""
    return Settings(**{**settings.model_dump(), "sendcode_data_keys": ",".join(keys)})


def counted(redis: Redis, settings: Settings) -> Counter[str]:
    """Count what is sealed, by the id of its key."""
    found: Counter[str] = Counter()
    for (_, key_id), count in Rotation(redis, settings).count().items():
        found[key_id] += count
    return found


@pytest.fixture
def old_batch(redis: Redis, settings: Settings) -> str:
    """A batch and an event of before, under the old key alone."""
    before = under(settings, OLD)
    batches = Batches(redis, before)
    batches.open("b1", "digest", ["name", "country_code", "phone_num"])
    rows = customers(ROWS)
    for first in range(0, ROWS, 500):
        batches.append("b1", first, rows[first : first + 500], last=first + 500 >= ROWS)
    Ledger(redis, before).submit(SendCodeJob.for_event(PhoneNumber("852", "51990001"), key="e1"))
    ledger_key = Keys(before.sendcode_key_prefix).ledger
    bound_to = approval_binding(str(redis.hget(ledger_key, "id")))
    approval = Vault(redis, before).seal(b"", bound_to)
    redis.hset(ledger_key, "approval", approval)
    put_aside(redis, before, BATCH_QUEUE, "not a message", "no job")
    assert counted(redis, settings)["old"] > ROWS
    return "b1"


def test_a_rotation_under_a_running_batch_killed_and_begun_again_loses_and_doubles_nothing(
    old_batch: str,
    settings: Settings,
    sandbox: Sandbox,
    redis: Redis,
    batches: Batches,
    start_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
) -> None:
    chance = random.Random(1)
    start_worker()

    for _ in range(2):
        command = [sys.executable, "-c", DYING, str(chance.randrange(ROWS // 5))]
        dying = run_program(command, environment_of(settings), cwd=tmp_path)
        assert dying.exit_code == -signal.SIGKILL, dying.err
    assert run(settings, "keys", "rotate", cwd=tmp_path).exit_code == 0

    wait_until(lambda: (batch := batches.get(old_batch)) and batch.is_over, "the batch's end", 300)
    wait_until(lambda: sandbox.stats()["accepted"] >= ROWS + 1, "the event's end")
    Rotation(redis, settings).rotate()
    assert set(counted(redis, settings)) == {"new"}
    accepted = sandbox.stats()["accepted_per_number"]
    assert len(accepted) == ROWS + 1
    assert set(accepted.values()) == {1}
    batch = batches.get(old_batch)
    assert batch is not None
    assert batch.sent == batch.finished == ROWS  # on a busy machine some by their probes


@pytest.mark.usefixtures("old_batch")
def test_after_a_rotation_the_old_key_can_go(
    sendcode: Command, settings: Settings, redis: Redis
) -> None:
    ledger = Ledger(redis, under(settings, NEW))
    job_id = SendCodeJob.for_event(PhoneNumber("852", "51990001"), key="e1").job_id

    tried = sendcode("keys", "rotate", "--dry-run")
    before = counted(redis, settings)
    ran = sendcode("keys", "rotate", "--json")
    status = sendcode("keys", "status", "--json")

    assert f"{before['old']:,} texts under other keys than new" in tried.err
    assert ran.exit_code == 0
    assert ran.json["sealed_anew"] == before["old"]
    assert ran.json["complete"]
    assert status.json["keys"]["old"] == dict.fromkeys(status.json["keys"]["old"], 0)
    assert status.json["keys"]["new"]["rows"] == ROWS
    assert [each.content for each in read_quarantine(redis, under(settings, NEW))] == ["no job"]
    record = ledger.job(job_id)
    assert record is not None
    assert record.phone == PhoneNumber("852", "51990001")
    assert [row.phone for _, row, _ in Batches(redis, under(settings, NEW)).rows("b1")] == [
        number(n) for n in range(1, ROWS + 1)
    ]


@pytest.mark.usefixtures("old_batch")
def test_a_number_s_history_outlives_a_rotation(settings: Settings, redis: Redis) -> None:
    first = send_code("852", "51990002", key="e2", settings=under(settings, OLD))
    Rotation(redis, settings).rotate()

    again = send_code("852", "51990002", key="e3", settings=under(settings, NEW))

    assert again.job_id == first.job_id


def test_what_people_wrote_outlives_a_rotation(
    sendcode: Command, settings: Settings, redis: Redis, keys: Keys
) -> None:
    before, after = under(settings, OLD), under(settings, NEW)
    job = SendCodeJob.for_event(number(1), key="e1")
    Ledger(redis, before).submit(job)
    Ledger(redis, before).cancel(job.job_id, "she rang")
    redis.copy(keys.job(job.job_id), keys.unreadable(job.job_id))
    Account(redis, before).halt("person", "Halted", "a rush")
    decisions = Decisions(redis, before)
    token = decisions.propose(Plan("drop", Choice(), "too late"))
    decisions.close()

    status = sendcode("keys", "status", "--json")
    rotated = sendcode("keys", "rotate", "--json")

    written = {"note": 1, "action": 2, "decision": 1, "halt": 1, "job": 1, "unreadable": 2}
    assert {what: status.json["keys"]["old"][what] for what in written} == written
    assert rotated.json["complete"]
    assert set(counted(redis, settings)) == {"new"}
    record = Ledger(redis, after).job(job.job_id)
    assert record is not None
    assert record.story[-1].note == "she rang"
    assert [each.reason for each in recent_actions(redis, after, 2)] == ["a rush", "she rang"]
    assert Account(redis, after).state().message == "a rush"
    assert Decisions(redis, after).get(token).plan.reason == "too late"
    assert str(redis.hget(keys.unreadable(job.job_id), "story:1")).count("v1.new.") == 1


def test_what_is_under_a_lost_key_is_kept_and_named(
    sendcode: Command, settings: Settings, redis: Redis, keys: Keys
) -> None:
    job = SendCodeJob.for_event(number(1), key="e1")
    Ledger(redis, under(settings, OLD)).submit(job)
    Rotation(redis, settings).rotate()
    lost = SendCodeJob.for_event(number(2), key="e2")
    Ledger(redis, under(settings, LOST, NEW)).submit(lost)
    was = redis.hgetall(keys.job(lost.job_id))

    status, rotated = sendcode("keys", "status"), sendcode("keys", "rotate")

    assert status.exit_code == rotated.exit_code == 1
    assert "lost (not here)" in status.out
    assert "SENDCODE_DATA_KEYS does not have lost" in status.err
    assert "SENDCODE_DATA_KEYS does not have lost" in rotated.err
    assert redis.hgetall(keys.job(lost.job_id)) == was


def test_what_was_moved_is_left_alone_and_named(
    sendcode: Command, settings: Settings, redis: Redis, keys: Keys
) -> None:
    mine, other = (SendCodeJob.for_event(number(n), key=f"e{n}") for n in (1, 2))
    for job in (mine, other):
        Ledger(redis, under(settings, OLD)).submit(job)
    moved = str(redis.hget(keys.job(mine.job_id), "num"))
    redis.hset(keys.job(other.job_id), "num", moved)

    rotated = sendcode("keys", "rotate")

    assert rotated.exit_code == 0
    assert f"job {other.job_id}" in rotated.err
    assert redis.hget(keys.job(other.job_id), "num") == moved
    assert key_id_of(str(redis.hget(keys.job(mine.job_id), "num"))) == "new"


def test_what_was_changed_between_reading_and_writing_is_not_overwritten(
    settings: Settings, redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.job("ev-1"), "num", "changed")
    redis.rpush(keys.rows("b1"), "a", "-b")
    ledger = LedgerPart(redis, settings)

    put = ledger.run_script(
        "reseal", ["job", "ev-1", "num", "read", "anew", "rows", "b1", 1, "b", "anew"]
    )

    assert put == 0
    assert redis.hget(keys.job("ev-1"), "num") == "changed"
    assert redis.lrange(keys.rows("b1"), 0, -1) == ["a", "-b"]
    redis.delete(keys.job("ev-1"), keys.rows("b1"))


def test_a_program_with_another_key_says_so_and_accepts_nothing(
    sendcode: Command, settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_code("852", "51990001", key="e1", settings=under(settings, OLD))
    other = under(settings, LOST)
    monkeypatch.setenv("SENDCODE_DATA_KEYS", LOST)
    _, token = Tokens(redis, other).new("shop", ["send"])

    sent = sendcode(*SEND)
    doctor = sendcode("doctor")
    with WebServer(other) as web:
        web.token = token
        answer = web.call("POST", "/v1/codes", key="e2", json={"phone": "+85251990002"})
    with pytest.raises(SealedError):
        send_code("852", "51990002", key="e3", settings=other)

    assert sent.exit_code == 1
    assert "SENDCODE_DATA_KEYS has no key old" in sent.err
    assert "FAIL  the ledger is sealed under data key old, which is not here" in doctor.out
    assert answer.status_code == 503
    assert "has no key old" in answer.json()["detail"]
    assert len(list(redis.scan_iter("sendcode:job:*"))) == 1
