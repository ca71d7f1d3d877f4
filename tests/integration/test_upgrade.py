"""A ledger gets a newer version, under processes that can read it and processes that cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from redis import Redis

from config import EVENT_QUEUE
from config.settings import Settings
from jobs.account import OUTDATED
from jobs.actions import recent_actions
from jobs.batches import Batches
from jobs.identity import Identity, LedgerRefusedError
from jobs.job import JobRecord, Lane, SendCodeJob, State, StoryEntry
from jobs.keys import Keys, old_digest
from jobs.ledger import Ledger
from jobs.mending import Mending
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from jobs.scripts import READS, WRITES, Script, terms_of
from jobs.upgrade import STEPS, Step, Upgrade, seal
from jobs.vault import UnknownKeyError
from producer import RedisUnavailableError, send_code
from producer.overview import read_overview
from tests.commands import SEND, Command
from tests.ledger_acts import DEFAULTS, NOTHING, Acts, number, row
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess
from worker.background import upgrade_and_mend

pytestmark = pytest.mark.settings(**DEFAULTS)

NEXT = READS + 1
READS_UP_TO = f"reads up to version {READS}"
ONE_LINE = rf"^the ledger is refused.* version {NEXT}, .*{READS_UP_TO}: start the release that"


@pytest.fixture
def upgraded_by(redis: Redis, settings: Settings) -> Callable[..., Upgrade]:
    """Make what a worker of the next release would run with this step."""

    def make(step: Step, *, lock_s: float = 30, settle_s: float = 0) -> Upgrade:
        identity = Identity(redis, settings)
        steps = [*STEPS, step]
        return Upgrade(redis, settings, identity, steps, lock_s=lock_s, settle_s=settle_s)

    return make


def nothing_to_convert(_redis: Redis, _settings: Settings, _begins: str) -> str:
    return ""


class Renames:
    """A step: each job gets the field `shape`, ten jobs a part; may be made to die in a part."""

    def __init__(self, job_ids: list[str], dies_at: str = "") -> None:
        self.job_ids = job_ids
        self.dies_at = dies_at
        self.parts: list[str] = []

    def __call__(self, redis: Redis, settings: Settings, begins: str) -> str:
        keys = Keys(settings.sendcode_key_prefix)
        self.parts.append(begins)
        first = int(begins or 0)
        for job_id in self.job_ids[first : first + 10]:
            redis.hset(keys.job(job_id), "shape", "new")
        if begins == self.dies_at != "":
            raise OSError("the worker died")
        return str(first + 10) if first + 10 < len(self.job_ids) else ""


def converted(redis: Redis, keys: Keys, job_ids: list[str]) -> int:
    return sum(redis.hget(keys.job(job_id), "shape") == "new" for job_id in job_ids)


def test_the_steps_lead_to_what_the_scripts_write_and_that_can_be_read() -> None:
    assert 1 + len(STEPS) == WRITES
    assert WRITES <= READS <= WRITES + 1


def test_a_new_ledger_has_the_version_that_is_written_and_lacks_no_step(
    ledger: Ledger, redis: Redis, settings: Settings, keys: Keys
) -> None:
    ledger.sweep()

    assert ledger.identity.ask().version == WRITES
    assert list(Upgrade(redis, settings, ledger.identity, settle_s=0).run()) == []
    redis.hdel(keys.ledger, "version")
    assert ledger.identity.ask().version == 1


def test_a_process_older_than_the_ledger_takes_nothing_and_says_what_to_do(
    ledger: Ledger, redis: Redis, keys: Keys, settings: Settings
) -> None:
    ledger.sweep()
    redis.hset(keys.ledger, "version", NEXT)
    before = redis.hgetall(keys.ledger)

    with pytest.raises(LedgerRefusedError, match=ONE_LINE):
        ledger.submit(SendCodeJob.for_event(number()))
    with pytest.raises(LedgerRefusedError, match=ONE_LINE):
        ledger.sweep()
    with pytest.raises(LedgerRefusedError, match=ONE_LINE):
        Batches(redis, settings).open("june", "d", ["phone"])
    with pytest.raises(RedisUnavailableError, match=READS_UP_TO):
        send_code("852", "51234567", settings=settings)
    assert ledger.claim("ev-1", "t").verdict == "refused"
    assert ledger.identity.is_outdated
    assert redis.hgetall(keys.ledger) == before


def test_what_an_older_process_holds_it_finishes(acts: Acts, redis: Redis, keys: Keys) -> None:
    first, second = acts.event(1), acts.event(2)
    token, other = acts.begun(first), acts.claimed(second)

    redis.hset(keys.ledger, "version", NEXT)

    assert acts.ledger.renew([(first, token), (second, other)]) == []
    assert acts.ledger.begin(second, other, 1, 500, NOTHING).kind == "first"
    acts.finish(first, token)
    assert acts.state(first) is State.SENT
    assert acts.park(second, other)


class LacksAKey(Upgrade):
    """In a process without the data key that some rows are sealed under."""

    def run(self) -> Iterator[int]:
        raise UnknownKeyError("k9")


def test_an_upgrade_that_lacks_a_data_key_keeps_nobody_from_mending(
    acts: Acts, redis: Redis, keys: Keys, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = acts.event()
    redis.delete(keys.due("event"))

    upgrade = LacksAKey(redis, settings, acts.ledger.identity)
    upgrade_and_mend(upgrade, Mending(redis, settings))

    assert acts.due_in_ms(job_id) is not None
    assert "this worker lacks a data key" in caplog.text


def test_an_older_process_mends_nothing(
    acts: Acts, redis: Redis, keys: Keys, settings: Settings
) -> None:
    acts.event()
    redis.delete(keys.due("event"))
    mending = Mending(redis, settings)
    redis.hset(keys.ledger, "version", NEXT)

    assert mending.misfits() == mending.mend() == []

    redis.hdel(keys.ledger, "version")
    assert mending.misfits() == ["events"]
    mending.mend()


def test_who_first_writes_newer_data_locks_out_those_who_cannot_read_it(
    ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    ledger.sweep()
    newer = Script(redis, keys, "open_batch", writes=NEXT)

    reply = newer([], batch="june", digest="d", again=0, known="", action="{}")

    assert reply[0] == "new"
    assert ledger.identity.ask().version == NEXT
    with pytest.raises(LedgerRefusedError, match=ONE_LINE):
        ledger.sweep()


def test_of_many_that_upgrade_at_once_each_part_is_done_by_one(
    acts: Acts, redis: Redis, keys: Keys, upgraded_by: Callable[..., Upgrade]
) -> None:
    job_ids = [acts.event(serial) for serial in range(35)]
    step = Renames(job_ids)
    done: list[int] = []
    threads = [
        Thread(target=lambda: done.extend(upgraded_by(step).run()), daemon=True) for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert step.parts == ["", "10", "20", "30"]
    assert done == [NEXT]
    assert converted(redis, keys, job_ids) == len(job_ids)
    assert list(upgraded_by(step).run()) == []
    left: Any = redis.hkeys(keys.ledger)
    assert not {"upgrade_token", "upgrade_until", "upgrade_cursor"} & set(left)


def test_an_upgrade_whose_worker_died_goes_on_where_it_was(
    acts: Acts, redis: Redis, keys: Keys, upgraded_by: Callable[..., Upgrade]
) -> None:
    job_ids = [acts.event(serial) for serial in range(35)]
    dying, surviving = Renames(job_ids, dies_at="20"), Renames(job_ids)
    with pytest.raises(OSError, match="died"):
        list(upgraded_by(dying).run())

    assert list(upgraded_by(surviving).run()) == []  # the dead one's lock holds
    redis.hset(keys.ledger, "upgrade_until", 1)

    assert list(upgraded_by(surviving).run()) == [NEXT]
    assert surviving.parts == ["20", "30"]
    assert converted(redis, keys, job_ids) == len(job_ids)


def test_a_part_is_over_before_its_lock_runs_out_however_slow_a_write_is(
    redis: Redis, keys: Keys, settings: Settings
) -> None:
    client = Counting(connection_pool=redis.connection_pool)
    with redis.pipeline() as pipe:
        for n in range(600):
            phone = number(n)
            record: dict[Any, str] = {"cc": phone.country_code, "num": phone.phone_num}
            pipe.hset(keys.job(f"ev-{n}"), mapping={**record, "lane": "event", "state": "sent"})
            pipe.expire(keys.job(f"ev-{n}"), 600)
        pipe.execute()

    assert max(written_in_parts(client, settings)) < 300
    old = old_digest("852", number(1).phone_num)
    redis.hset(keys.number(old), "codes", 1)
    redis.expire(keys.number(old), 600)

    assert sum(written_in_parts(client, settings)) == 1  # for what is kept of that number
    assert not redis.exists(keys.number(old))


class Counting(Redis):
    """Counts the scripts that it runs."""

    scripts = 0

    def execute_command(self, *command: Any, **options: Any) -> Any:
        reply: Any = super().execute_command(*command, **options)  # type: ignore[no-untyped-call]
        self.scripts += command[0] == "EVALSHA"
        return reply


def written_in_parts(client: Counting, settings: Settings) -> list[int]:
    """Seal all jobs; return how many scripts each part took."""
    begins, counts = "jobs 0", []
    while begins.startswith("jobs"):
        before = client.scripts
        begins = seal(client, settings, begins)
        counts.append(client.scripts - before)
    return counts


def test_no_step_begins_before_older_workers_have_had_time_to_finish(
    ledger: Ledger, redis: Redis, keys: Keys, upgraded_by: Callable[..., Upgrade]
) -> None:
    ledger.sweep()
    upgrade = upgraded_by(nothing_to_convert, settle_s=60)

    assert list(upgrade.run()) == []

    assert ledger.claim("ev-1", "t").verdict == "refused"
    redis.hincrby(keys.ledger, "raised_at", -60_000)
    assert list(upgrade.run()) == [NEXT]


def test_a_ledger_that_is_refused_is_not_upgraded(
    ledger: Ledger, redis: Redis, keys: Keys, settings: Settings
) -> None:
    ledger.sweep()
    redis.delete(keys.ledger)
    upgrade = Upgrade(redis, settings, ledger.identity, [*STEPS, nothing_to_convert], settle_s=0)

    assert list(upgrade.run()) == []
    assert redis.hget(keys.ledger, "version") is None


def test_commands_of_an_older_release_refuse_with_one_line(
    sendcode: Command, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    ledger.sweep()
    redis.hset(keys.ledger, "version", NEXT)

    for words in (SEND, ("batch", "list"), ("dead", "list"), ("halt", "--yes")):
        ran = sendcode(*words)
        assert ran.exit_code == (4 if words is SEND else 1)
        assert ran.err.count("\n") == 1
        assert "start the release that the other processes run" in ran.err
    accepted = sendcode("ledger", "accept", "--yes")
    assert accepted.exit_code == 1
    assert READS_UP_TO in accepted.err
    assert READS_UP_TO in sendcode("status").out
    assert sendcode("status", "--json").json["ledger"]["version"] == NEXT
    assert "FAIL  the ledger is refused" in sendcode("doctor").out
    assert redis.hget(keys.account, "state") is None


def test_a_worker_of_an_older_release_does_not_start(
    start_worker: Callable[..., WorkerProcess], redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.ledger, "version", NEXT)

    worker = start_worker(ready=False)

    assert worker.wait() == 2
    lines = [line for line in worker.log.splitlines() if "sendcode: " in line]
    assert len(lines) == 1
    assert "start the release that the other processes run (docs/upgrading.md)" in lines[0]


def test_a_worker_that_became_too_old_leaves_messages_to_others(
    settings: Settings,
    start_worker: Callable[..., WorkerProcess],
    sandbox: Sandbox,
    publisher: Publisher,
    ledger: Ledger,
    redis: Redis,
    keys: Keys,
) -> None:
    def last_beat() -> int:
        return max(map(int, redis.hvals(keys.workers)))

    worker = start_worker()
    newer = Script(redis, keys, "submit", writes=NEXT, terms=terms_of(settings))
    for n in range(5):
        num = ledger.records.seal(PhoneNumber("852", f"5123456{n}"), f"ev-{n}", Lane.EVENT, "")
        job: dict[str, Any] = {"id": f"ev-{n}", "cc": "852", "num": num, "call": "c"}
        terms = dict.fromkeys(
            ("term", "is_last", "reference", "token", "key", "trace", "known"), ""
        )
        newer(**job, **terms, life_ms=0, resend=1)
    wait_until(lambda: "nothing is sent" in worker.log, "the worker's line about it")

    publisher.publish([(Lane.EVENT, f"ev-{n}") for n in range(5)])
    beat = last_beat()
    wait_until(lambda: last_beat() > beat + 1_500, "two more beats")
    wait_until(
        lambda: [each.idle for each in read_overview(redis, settings).workers] == [OUTDATED],
        "that it shows that it sends nothing",
    )
    assert redis.llen(EVENT_QUEUE) >= 4  # all but the one that it was waiting for already

    redis.hdel(keys.ledger, "version")
    wait_until(lambda: sandbox.stats()["accepted"] == 5, "their codes, as the worker may go on")
    assert "sending goes on" in worker.log
    assert ledger.identity.ask().refused == ""
    assert worker.stop() == 0


def test_fields_that_a_newer_release_wrote_are_passed_over_and_missing_ones_defaulted(
    ledger: Ledger, redis: Redis, keys: Keys, settings: Settings, batches: Batches
) -> None:
    job_id = ledger.submit(SendCodeJob.for_event(number())).record.job_id
    batches.open("june", "d", ["phone"])
    batches.append("june", 0, [row()], last=True)
    redis.hset(
        keys.job(job_id), mapping={"colour": "red", "story:1": '[5,"attempt","X","",1,"",7]'}
    )
    redis.hdel(keys.job(job_id), "created", "attempts", "tries", "published")
    redis.hset(keys.batch("june"), "colour", "red")
    redis.hdel(keys.batch("june"), "name", "by", "rejected", "digest", "header")
    redis.hset(keys.counts("june"), "reviewed", 3)
    redis.lpush(keys.actions, '{"what":"paint","colour":"red"}')
    redis.lpush(keys.damage, '{"what":"a scratch","colour":"red"}')

    record = ledger.job(job_id)
    batch = batches.get("june")

    assert record is not None
    assert (record.flaw, record.created_ms, record.attempts) == ("", 0, 0)
    assert record.story[0] == StoryEntry(5, "attempt", "X", "", 1, "")
    assert batch is not None
    assert (batch.name, batch.rejected, batch.header, batch.accepted) == ("", 0, (), 1)
    assert "reviewed" not in batch.counts
    assert recent_actions(redis, settings, 1)[0].what == "paint"
    assert Mending(redis, settings).damage()[0].what == "a scratch"


def test_a_shorter_story_entry_of_an_older_release_is_read() -> None:
    values: dict[str, Any] = {"state": "sent", "lane": "event", "cc": "852", "num": "51234567"}

    record = JobRecord.decode("ev-1", {**values, "story:1": '[5,"attempt"]'})

    assert record.story == (StoryEntry(5, "attempt"),)
