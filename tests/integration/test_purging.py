"""`sendcode purge`: what ended long ago is removed, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.job import SendCodeJob, batch_job_id
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.mending import Mending
from jobs.webhooks import Webhooks
from tests.commands import Command
from tests.ended_jobs import DEAD, SENT, customers, end, end_event, number, run_batch
from tests.ledger_acts import DEFAULTS

pytestmark = pytest.mark.settings(**DEFAULTS)
PURGE = ("purge", "--older-than", "7d", "--yes", "--json")


@pytest.fixture
def age(redis: Redis, keys: Keys) -> Callable[..., None]:
    """Have batches, or jobs, ended eight days ago: `age("b1", job_id)`."""

    def make_old(*ids: str) -> None:
        for each in ids:
            for key in (keys.batch(each), keys.job(each)):
                if redis.hexists(key, "finished"):
                    redis.hincrby(key, "finished", -8 * 86_400_000)

    return make_old


def job_ids(redis: Redis, keys: Keys) -> set[str]:
    return {key.removeprefix(keys.job("")) for key in redis.scan_iter(keys.job("*"), 1000)}


def test_old_events_and_batches_go_and_all_else_stays(
    ledger: Ledger,
    batches: Batches,
    redis: Redis,
    keys: Keys,
    settings: Settings,
    age: Callable[..., None],
    sendcode: Command,
) -> None:
    old = end_event(ledger, 1, SENT).job_id
    new = end_event(ledger, 2, SENT).job_id
    letter = end_event(ledger, 3, DEAD).job_id
    waiting = ledger.submit(SendCodeJob.for_event(number(4), key="waits")).record.job_id
    run_batch(ledger, batches, "old", customers(3, first=10), lambda _: SENT)
    run_batch(ledger, batches, "new", customers(3, first=20), lambda _: SENT)
    run_batch(ledger, batches, "failed", customers(3, first=30), lambda n: DEAD if n == 1 else SENT)
    age(old, letter, "old", "failed", *(batch_job_id("failed", n) for n in (1, 2, 3)))
    before = job_ids(redis, keys)

    dry = json.loads(sendcode("purge", "--older-than", "7d", "--dry-run", "--json").out)
    assert job_ids(redis, keys) == before
    done = json.loads(sendcode(*PURGE).out)

    assert (
        done
        == {**dry, "dry_run": False}
        == {
            "jobs": 4,
            "batches": 1,
            "letters": 0,
            "dry_run": False,
        }
    )
    gone = {old, *(batch_job_id("old", n) for n in (1, 2, 3))}
    assert job_ids(redis, keys) == before - gone >= {new, letter, waiting}
    assert {batch.batch_id for batch in batches.list()} == {"new", "failed"}
    assert not list(redis.scan_iter("*:old"))
    assert Mending(redis, settings).misfits() == []
    assert json.loads(sendcode(*PURGE).out)["jobs"] == 0
    assert [json.loads(each)["what"] for each in redis.lrange(keys.actions, 0, 0)] == ["purge"]


def test_dead_letters_go_with_their_batch_where_that_is_asked_for(
    ledger: Ledger,
    batches: Batches,
    redis: Redis,
    keys: Keys,
    settings: Settings,
    age: Callable[..., None],
    sendcode: Command,
) -> None:
    run_batch(ledger, batches, "failed", customers(3), lambda n: DEAD if n == 1 else SENT)
    age("failed", *(batch_job_id("failed", n) for n in (1, 2, 3)))

    done = json.loads(sendcode(*PURGE, "--dead-letters").out)

    assert (done["letters"], done["batches"], done["jobs"]) == (1, 1, 3)
    assert job_ids(redis, keys) == set()
    assert redis.llen(keys.dead) == 0
    assert Mending(redis, settings).misfits() == []


def test_a_dead_letter_of_which_nobody_can_read_when_it_ended_stays(
    ledger: Ledger, redis: Redis, keys: Keys, age: Callable[..., None], sendcode: Command
) -> None:
    new, old = end_event(ledger, 1, DEAD).job_id, end_event(ledger, 2, DEAD).job_id
    age(old)
    redis.hset(keys.job(new), "num", str(redis.hget(keys.job(old), "num")))

    done = json.loads(sendcode(*PURGE, "--dead-letters").out)

    assert (done["letters"], done["jobs"]) == (1, 1)
    assert redis.lrange(keys.dead, 0, -1) == [new]


def test_a_job_goes_with_the_one_that_stands_in_its_place(
    ledger: Ledger,
    redis: Redis,
    keys: Keys,
    settings: Settings,
    age: Callable[..., None],
    sendcode: Command,
) -> None:
    dead = DeadLetters(redis, settings)
    old = end_event(ledger, 1, DEAD).job_id
    found = dead.find(old)
    assert found
    _, new = dead.replace(Decision("replace", "one"), found, number(2))
    age(old)
    assert json.loads(sendcode(*PURGE).out)["jobs"] == 0
    ledger.sweep()
    end(ledger, new, SENT)
    age(new)

    assert json.loads(sendcode(*PURGE).out)["jobs"] == 2

    assert job_ids(redis, keys) == set()


def test_what_a_backend_is_still_to_be_told_of_stays(
    ledger: Ledger,
    webhooks: Webhooks,
    redis: Redis,
    keys: Keys,
    age: Callable[..., None],
    sendcode: Command,
) -> None:
    webhooks.set("shop", "https://backend.example/told")
    job_id = ledger.submit(SendCodeJob.for_event(number(1), key="k"), token="shop").record.job_id
    end(ledger, job_id, SENT)
    age(job_id)

    assert json.loads(sendcode(*PURGE).out)["jobs"] == 0

    assert job_ids(redis, keys) == {job_id}


def test_a_purge_that_was_interrupted_is_done_again_and_goes_on(
    ledger: Ledger,
    batches: Batches,
    redis: Redis,
    keys: Keys,
    settings: Settings,
    age: Callable[..., None],
    sendcode: Command,
) -> None:
    run_batch(ledger, batches, "old", customers(5), lambda _: SENT)
    age("old")
    redis.delete(keys.job("old-1"), keys.job("old-2"))  # as it was interrupted
    assert Mending(redis, settings).misfits() == []

    done = json.loads(sendcode(*PURGE).out)

    assert (done["jobs"], done["batches"]) == (3, 1)
    assert job_ids(redis, keys) == set()


def test_less_than_an_hour_is_refused_and_nobody_is_asked_without_a_terminal(
    sendcode: Command,
) -> None:
    assert sendcode("purge", "--older-than", "30min", "--yes").exit_code == 2
    assert sendcode("purge", "--older-than", "7d").exit_code == 2
