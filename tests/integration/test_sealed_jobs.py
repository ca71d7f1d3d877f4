"""Jobs' numbers are sealed: nobody reads one in Redis, and nobody has one sent by writing there."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery
from pydantic import SecretStr
from redis import Redis

from config.data_key import new_data_key
from config.settings import Settings
from jobs.account import Account
from jobs.actions import recent_actions
from jobs.batches import Batches
from jobs.codes import OwnCode
from jobs.deadletters import DeadLetters, Decision
from jobs.finding import Finder
from jobs.identity import LedgerRefusedError, upgraded_ids
from jobs.job import NO_NUMBER, SendCodeJob, State
from jobs.keys import Keys, old_digest
from jobs.ledger import LOCKED_WAIT_MS, Ledger
from jobs.mending import Mending
from jobs.phone import PhoneNumber
from jobs.removing import Forgetting
from jobs.scripts import WRITES, time_ms
from jobs.upgrade import Upgrade
from jobs.vault import CHANGED, UNOPENED
from producer.deadletters import Choice
from producer.decisions import Decisions, Plan
from tests.commands import Command
from tests.eavesdropper import Eavesdropper
from tests.integration.conftest import PatientSender
from tests.ledger_acts import UNSENT, Acts, number, number_key, row
from tests.ledger_checks import all_of
from tests.sandbox import Sandbox
from worker.background import Runtime
from worker.recorder import Ended, NotNow

pytestmark = pytest.mark.settings(
    sendcode_backoff=0.01, sendcode_http_timeout=2, sendcode_phone_interval=60
)
GOOD, OTHER = PhoneNumber("852", "99001111"), PhoneNumber("852", "99002222")
"""The sandbox sends to both."""

SAID = "Mrs Wong of room 7 rang"
"""A person's reason."""

Forge = Callable[[Redis, str, str], object]
FORGERIES: dict[str, Forge] = {
    "another job's number": lambda redis, key, other: redis.hset(
        key, "num", str(redis.hget(other, "num"))
    ),
    "a whole record copied": lambda redis, key, other: redis.copy(other, key, replace=True),
    "another lane": lambda redis, key, _: redis.hset(key, "lane", "batch"),
    "a longer life": lambda redis, key, _: redis.hincrby(key, "term", 90_000_000),
    "a later expiry": lambda redis, key, _: redis.hincrby(key, "not_after", 1),
    "a later expiry, and accepted as much later": lambda redis, key, _: (
        redis.hincrby(key, "not_after", 90_000_000),
        redis.hincrby(key, "created", 90_000_000),
    ),
    "an attempt in doubt, begun long after its expiry": lambda redis, key, _: redis.hset(
        key, "doubt", str(int(redis.hget(key, "term") or 0) + 601_000)
    ),
    "no expiry": lambda redis, key, _: redis.hdel(key, "not_after"),
    "an expiry that is no time": lambda redis, key, _: redis.hset(key, "not_after", ""),
    "no expiry, and none that it is sealed for": lambda redis, key, _: redis.hdel(
        key, "not_after", "term"
    ),
    "its expiry as the life of an older release's event": lambda redis, key, _: (
        redis.hset(key, "life", str(redis.hget(key, "term"))),
        redis.hdel(key, "not_after", "term"),
    ),
    "another country": lambda redis, key, _: redis.hset(key, "cc", "65"),
    "another index": lambda redis, key, _: redis.hset(
        key, "num", "A" * 22 + str(redis.hget(key, "num"))[22:]
    ),
    "a changed envelope": lambda redis, key, _: redis.hset(
        key, "num", str(redis.hget(key, "num"))[:-8] + "AAAAAAA="
    ),
    "no envelope": lambda redis, key, _: redis.hset(key, "num", "A" * 22 + ":v1.k1."),
    "a number in the clear": lambda redis, key, _: redis.hset(key, "num", OTHER.phone_num),
}

KEEPS_ITS_NUMBER = {
    name for name in FORGERIES if name.startswith(("a later", "an ", "no expiry"))
} - {"no expiry, and none that it is sealed for"}
"""Only when it could be sent was changed: its number is sealed for this job all the same."""


class Everything(Eavesdropper):
    """Hears the ledger's own commands, too."""

    def _is_outside(self, command: str) -> bool:
        return bool(command)


def submit(ledger: Ledger, phone: PhoneNumber, life_s: float | None = 600) -> str:
    return ledger.submit(SendCodeJob.for_event(phone, life_s=life_s)).record.job_id


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_record_is_not_sent_and_becomes_a_dead_letter(
    forgery: str,
    acts: Acts,
    sender: PatientSender,
    sandbox: Sandbox,
    redis: Redis,
    keys: Keys,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    forged, good = submit(acts.ledger, GOOD), submit(acts.ledger, OTHER)
    FORGERIES[forgery](redis, keys.job(forged), keys.job(good))

    ended = sender.send(forged)

    assert isinstance(ended, Ended)
    assert (ended.record.state, ended.record.code) == (State.UNKNOWN, OwnCode.FORGED)
    assert acts.job(forged).phone == (GOOD if forgery in KEEPS_ITS_NUMBER else NO_NUMBER)
    assert redis.lrange(keys.dead, 0, -1) == [forged]
    assert [each.levelno for each in caplog.records] == [logging.ERROR]
    assert sandbox.stats()["accepted"] == 0
    acts.free_number(OTHER)  # a worker had it for a moment
    acts.run_out(good)
    sender.send(good)
    assert list(sandbox.stats()["accepted_per_number"]) == [OTHER.e164[1:]]
    Mending(redis, settings).mend()  # whoever forges may leave indexes that do not fit


def test_thirty_records_made_by_hand_send_nothing_and_the_doctor_says_so(
    acts: Acts, sender: PatientSender, sandbox: Sandbox, redis: Redis, keys: Keys, sendcode: Command
) -> None:
    real = submit(acts.ledger, GOOD)
    for n in range(30):
        envelope = base64.b64encode(os.urandom(40)).decode()
        num = [f"9900{n:04}", f"{n:022}:v1.k1.{envelope}"][n % 2]
        redis.copy(keys.job(real), keys.job(f"ev-made{n}"))
        redis.hset(keys.job(f"ev-made{n}"), mapping={"num": num, "cc": ["852", "86"][n % 3 == 0]})
        redis.zadd(keys.due("event"), {f"ev-made{n}": 1})
        redis.hincrby(keys.sweeps, "events", 1)

    ended = [sender.send(job_id) for job_id in acts.sweep() if job_id != real]

    assert len(ended) == 30
    assert all(isinstance(each, Ended) and each.record.code == OwnCode.FORGED for each in ended)
    assert sandbox.stats()["accepted"] == 0
    assert "FAIL  30 jobs' records were forged" in sendcode("doctor").out
    assert "30 jobs' records were forged" in sendcode("status").out
    sender.send(real)
    assert sandbox.stats()["accepted"] == 1


def test_a_country_that_the_api_serves_no_more_is_not_asked_for(
    acts: Acts, sender: PatientSender, sandbox: Sandbox
) -> None:
    job_id = submit(acts.ledger, PhoneNumber("86", "00000000000"))

    ended = sender.send(job_id)

    assert isinstance(ended, Ended)
    assert (ended.record.state, ended.record.code) == (State.DEAD, OwnCode.COUNTRY)
    assert sandbox.stats()["accepted"] == 0


@pytest.mark.parametrize("trouble", ["no such key", "another key of its id", "a garbled index"])
@pytest.mark.usefixtures("sandbox")
def test_a_job_under_a_key_that_a_worker_lacks_waits_and_is_sent_when_the_key_is_back(
    trouble: str,
    acts: Acts,
    sender: PatientSender,
    redis: Redis,
    settings: Settings,
    celery_app: Celery,
    sendcode: Command,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_id, next_id = (submit(acts.ledger, phone, life_s=None) for phone in (GOOD, OTHER))
    own = settings.sendcode_data_keys
    assert own is not None
    data_keys = new_data_key("k1" if trouble == "another key of its id" else "k2")
    index = str(redis.hget(acts.keys.vault, "index"))
    if trouble == "a garbled index":
        redis.hset(acts.keys.vault, "index", "v1.k1.AAAA")
        data_keys = f"{own.get_secret_value()},{data_keys}"
    stranger = settings.model_copy(update={"sendcode_data_keys": SecretStr(data_keys)})
    runtime = Runtime(stranger, celery_app)
    runtime.presence.name = "w7@vm"
    redis.hset(acts.keys.job(next_id), "created", str(time_ms(redis.time()) - 3_600_000))

    result = runtime.sender.send(job_id)
    old = runtime.sender.send(next_id)

    assert isinstance(result, NotNow)
    assert result.due_in_s is not None
    assert result.due_in_s < LOCKED_WAIT_MS / 1000, "another worker may have the key"
    assert isinstance(old, NotNow)
    assert old.due_in_s == LOCKED_WAIT_MS / 1000
    assert (acts.state(job_id), acts.job(job_id).code) == (State.PARKED, OwnCode.LOCKED)
    assert [each.levelno for each in caplog.records] == [logging.ERROR]  # for both
    (seen,) = runtime.ledger.records.read([job_id])
    assert seen is not None
    assert (seen.locked, seen.flaw, seen.phone.masked) == ("k1", "", "+852 ******")
    assert runtime.ledger.set_aside(job_id) is None
    assert redis.llen(acts.keys.dead) == 0
    assert "FAIL  jobs are sealed under data key k1, which w7@vm lacks" in sendcode("doctor").out
    assert sendcode("status", "--json").json["unknown_data_keys"] == ["k1"]
    assert redis.ttl(acts.keys.vault_unknown) > 0
    redis.hset(acts.keys.vault, "index", index)
    acts.run_out(job_id)
    sender.send(job_id)
    assert (acts.state(job_id), acts.job(job_id).phone) == (State.SENT, GOOD)
    runtime.sender._client.close()
    runtime.ledger.client.close()


def test_a_broken_record_under_a_key_that_a_worker_lacks_becomes_a_dead_letter(
    acts: Acts, redis: Redis, keys: Keys, settings: Settings
) -> None:
    job_id = submit(acts.ledger, GOOD)
    redis.hdel(keys.job(job_id), "cc")
    stranger = settings.model_copy(update={"sendcode_data_keys": SecretStr(new_data_key("k2"))})

    Ledger(redis, stranger).set_aside(job_id)

    assert redis.lrange(keys.dead, 0, -1) == [job_id]


@pytest.mark.usefixtures("sandbox")
def test_no_command_and_no_key_names_a_number(
    acts: Acts,
    redis: Redis,
    keys: Keys,
    settings: Settings,
    sender: PatientSender,
) -> None:
    canary, corrected = PhoneNumber("852", "99017346"), PhoneNumber("852", "59371846")
    dead = DeadLetters(redis, settings)
    with Everything(settings.redis_url, keys.prefix) as heard:
        refused = submit(acts.ledger, canary)
        sender.send(refused)
        assert acts.state(refused) is State.DEAD
        assert refused in Finder(redis, settings).by_number(canary.phone_num).job_ids
        dead.requeue(Decision("requeue", refused), dead.window(0))
        acts.ledger.cancel(refused)
        again = submit(acts.ledger, canary)
        sender.send(again)
        acts.run_out(again)
        dead.replace(Decision("replace", again), dead.window(0)[0], corrected)
        sender.send(f"{again}.r1")
        acts.ledger.identity.attempted(1, canary)
        acts.ledger.identity.flag_forgotten(0)
        Mending(redis, settings).mend()
        Forgetting(redis, settings).forget(canary, [refused])

    assert len(heard.commands) > 30
    for phone in (canary, corrected):
        assert phone.phone_num not in "\n".join(heard.commands)
        assert phone.phone_num not in all_of(redis)


def test_no_command_and_no_key_has_what_a_person_wrote_and_each_door_shows_it(
    acts: Acts,
    redis: Redis,
    keys: Keys,
    settings: Settings,
    sendcode: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead, account = DeadLetters(redis, settings), Account(redis, settings)
    decisions = Decisions(redis, settings)
    with Everything(settings.redis_url, keys.prefix) as heard:
        cancelled, dropped, replaced = acts.event(0), acts.event(1), acts.event(2)
        acts.ledger.cancel(cancelled, SAID)
        acts.finish(dropped, acts.begun(dropped), State.DEAD, "Some.Code")
        dead.drop(Decision("drop", "all", SAID), dead.window(0))
        acts.finish(replaced, acts.begun(replaced), State.DEAD, "Some.Code")
        dead.replace(Decision("replace", "it", SAID), dead.window(0)[0], number(3))
        account.halt("person", "Halted", SAID)
        account.resume("person", reason=SAID)
        account.halt("person", "Halted", SAID)
        token = decisions.propose(Plan("drop", Choice(), SAID))
        decisions.close()

    def shown(settings: Settings) -> list[str]:
        ledger, found = Ledger(redis, settings), []
        for job_id in (cancelled, dropped, replaced, f"{replaced}.r1"):
            record = ledger.job(job_id)
            assert record is not None
            found.append(record.story[-1].note)
        found += [each.reason for each in recent_actions(redis, settings, 9)]
        plan = Decisions(redis, settings).get(token).plan
        return [*found, Account(redis, settings).state().message, plan.reason]

    assert SAID not in "\n".join(heard.commands)
    assert SAID not in all_of(redis)
    told = shown(settings)
    notes = [
        SAID,
        f"was dead Some.Code; {SAID}",
        f"was dead Some.Code; {SAID}; by {replaced}.r1, {number(3).masked}",
        f"stands for {replaced}; {SAID}",
    ]
    assert told == [*notes, *[SAID] * 8]
    doors = [("actions",), ("status",), ("job", "show", dropped), ("job", "show", cancelled)]
    for door in doors:
        assert SAID in sendcode(*door).out
    stranger = settings.model_copy(update={"sendcode_data_keys": SecretStr(new_data_key("k2"))})
    assert shown(stranger) == [each.replace(SAID, UNOPENED) for each in told]
    monkeypatch.setenv("SENDCODE_DATA_KEYS", new_data_key("k2"))
    for door in doors:
        assert UNOPENED in sendcode(*door).out


def test_a_person_s_words_moved_elsewhere_are_not_shown_and_old_ones_in_the_clear_are(
    acts: Acts, redis: Redis, keys: Keys, settings: Settings
) -> None:
    mine, other, old = acts.event(0), acts.event(1), acts.event(2)
    for job_id in (mine, other, old):
        acts.ledger.cancel(job_id, SAID)
    redis.hset(keys.job(other), "story:1", str(redis.hget(keys.job(mine), "story:1")))
    redis.hset(keys.job(old), "story:1", f'[5,"cancel","","",null,"{SAID}"]')
    redis.lpush(keys.actions, f'{{"token":"t","at_ms":5,"what":"halt","reason":"{SAID}"}}')
    redis.hset(keys.account, mapping={"state": "halted", "by": "person", "message": SAID})

    assert [acts.job(each).story[0].note for each in (mine, other, old)] == [SAID, CHANGED, SAID]
    assert recent_actions(redis, settings, 1)[0].reason == SAID
    assert Account(redis, settings).state().message == SAID


@pytest.mark.settings(sendcode_rate_limit=100)
def test_what_an_older_release_left_in_the_clear_is_sealed_in_place(
    acts: Acts, batches: Batches, redis: Redis, keys: Keys, settings: Settings
) -> None:
    waiting, sent, refused = acts.event(0, life_s=600), acts.event(1), acts.event(2)
    acts.finish(sent, acts.begun(sent))
    acts.finish(refused, acts.begun(refused), State.DEAD, "Some.Code", number="open")
    acts.batch([row(4)], expires_ms=4_000_000_000_000)
    assert acts.sweep() == ["b1-1"]
    acts.park("b1-1", acts.begun("b1-1"), left=UNSENT)
    left_in_the_clear(acts, settings)
    aside = keys.unreadable("ev-broken")
    redis.hset(aside, mapping={"num": number(2).phone_num, "attempts": "several"})
    redis.expire(aside, 600)
    ledger = Ledger(redis, settings)
    later = Acts(ledger, batches, redis, keys)

    assert [later.job(each).phone for each in (waiting, sent)] == [number(0), number(1)]
    assert Finder(redis, settings).by_number(number(0).phone_num).job_ids == [waiting]
    new = later.event(1)
    token = later.claimed(new)
    assert later.begin(new, token).kind == "wait"  # the number is closed under its old key
    later.park(new, token)

    assert list(Upgrade(redis, settings, ledger.identity, settle_s=0).run()) == [WRITES]

    for n in (0, 1, 2):
        assert number(n).phone_num not in all_of(redis)
        assert old_digest("852", number(n).phone_num) not in all_of(redis)
    assert redis.hget(number_key(ledger, number(1)), "codes") == "1"
    assert [later.job(each).phone for each in (waiting, sent, "b1-1")] == [
        *(number(0), number(1)),
        number(4),
    ]
    assert later.job(new).state is State.PARKED
    assert later.begin(waiting, later.claimed(waiting)).kind == "first"
    assert list(Upgrade(redis, settings, ledger.identity, settle_s=0).run()) == []


UNDONE: dict[str, Callable[[Redis, Keys], object]] = {
    "it says that it is not upgraded": lambda redis, keys: redis.hdel(
        keys.ledger, "upgraded", "raised_at"
    ),
    "it poses as another one that a person accepted": lambda redis, keys: (
        redis.hset(keys.ledger, "former", str(redis.hget(keys.ledger, "id"))),
        redis.hset(keys.ledger, "id", "0" * 16),
        redis.hdel(keys.ledger, "upgraded", "raised_at"),
    ),
}


@pytest.mark.parametrize("undone", UNDONE)
@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "after a restart"])
def test_a_ledger_that_was_upgraded_once_seals_nothing_for_who_takes_that_back(
    undone: str,
    is_restarted: bool,
    acts: Acts,
    settings: Settings,
    tmp_path: Path,
) -> None:
    redis, keys = acts.redis, acts.keys
    worker = Ledger(redis, settings, tmp_path / "ledger.json")
    job_id = submit(worker, GOOD)
    acts.batch([row(1), row(2)])
    assert list(Upgrade(redis, settings, worker.identity, settle_s=0).run()) == []
    Ledger(redis, settings, tmp_path / "ledger.json").identity.ask()  # and a state file is written
    if is_restarted:
        upgraded_ids(settings).clear()
        worker = Ledger(redis, settings, tmp_path / "ledger.json")
    UNDONE[undone](redis, keys)
    redis.copy(keys.job(job_id), keys.job("ev-forged"))
    redis.hset(keys.job("ev-forged"), mapping={"num": OTHER.phone_num, "state": "queued"})
    forged_row = row(9).encode()
    redis.lset(keys.rows("b1"), 0, forged_row)

    for ledger in (worker, Ledger(redis, settings)):  # whoever is asked
        assert list(Upgrade(redis, settings, ledger.identity, settle_s=0).run()) == []
        assert ledger.claim("ev-forged", "t").verdict != "granted"

    assert redis.hget(keys.job("ev-forged"), "num") == OTHER.phone_num
    assert redis.lindex(keys.rows("b1"), 0) == forged_row
    with pytest.raises(LedgerRefusedError, match=r"were sealed before.*: sendcode ledger accept"):
        worker.sweep()
    redis.delete(keys.job("ev-forged"))


def test_a_backup_of_before_the_upgrade_is_refused_until_a_person_accepts_it(
    acts: Acts, redis: Redis, keys: Keys, settings: Settings, tmp_path: Path
) -> None:
    worker = Ledger(redis, settings, tmp_path / "ledger.json")
    job_id = submit(worker, GOOD, life_s=None)
    worker.identity.ask()
    redis.hset(keys.job(job_id), "num", GOOD.phone_num)
    redis.hdel(keys.ledger, "version", "upgraded")
    with pytest.raises(LedgerRefusedError) as refused:
        worker.sweep()

    worker.identity.accept(0)

    assert "\n" not in str(refused.value)
    worker.sweep()
    assert list(Upgrade(redis, settings, worker.identity, settle_s=0).run()) == [WRITES]
    assert worker.job(job_id) == acts.job(job_id)
    assert acts.job(job_id).phone == GOOD
    assert GOOD.phone_num not in all_of(redis)


def left_in_the_clear(acts: Acts, settings: Settings) -> None:
    """Have the ledger as a release left it that sealed nothing, and nobody know better."""
    upgraded_ids(settings).clear()
    redis, keys, ledger = acts.redis, acts.keys, acts.ledger
    for key in list(redis.scan_iter(keys.job("*"))):
        phone = acts.job(key.removeprefix(keys.job(""))).phone
        redis.hset(key, "num", phone.phone_num)
        redis.hdel(key, "term")
        index = ledger.records.vault.index(phone.country_code, phone.phone_num)
        digest = old_digest(phone.country_code, phone.phone_num)
        for name in (keys.number, keys.asked):
            if redis.exists(name(index)):
                redis.rename(name(index), name(digest))
    redis.hdel(keys.ledger, "version", "upgraded")
