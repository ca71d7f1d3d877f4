"""`sendcode forget`: nothing of a person is left, and all else is as it was."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.job import SendCodeJob
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.mending import Mending
from producer.results import results
from tests.commands import Command, Ran
from tests.ended_jobs import DEAD, PERMANENT, SENT, customers, end, end_event, number, run_batch
from tests.ledger_acts import number_key
from tests.ledger_checks import all_of

Forget = Callable[..., Ran]


@pytest.fixture
def forget(sendcode: Command, monkeypatch: pytest.MonkeyPatch) -> Forget:
    def run(n: int, *options: str) -> Ran:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"+852 {number(n).phone_num}\n"))
        return sendcode("forget", *options)

    return run


def test_without_a_number_nothing_is_looked_for_and_no_option_named_that_there_is_not(
    sendcode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    ran = sendcode("forget", "--yes")

    assert ran.exit_code == 2
    assert ran.err == (
        "sendcode: standard input: must be one line with one phone number, not 0 lines\n"
    )


def open_number(redis: Redis, ledger: Ledger, n: int) -> None:
    """Let the interval of a number be over."""
    phone = number(n)
    redis.hset(number_key(ledger, phone), "until", 1)


def test_a_person_s_jobs_rows_and_history_are_blanked_and_all_else_stays(
    forget: Forget,
    redis: Redis,
    ledger: Ledger,
    batches: Batches,
    settings: Settings,
    sendcode: Command,
) -> None:
    endings = {1: SENT, 2: DEAD, 3: PERMANENT}
    run_batch(ledger, batches, "b1", customers(3), lambda n: endings[n])
    for n in (1, 2):
        open_number(redis, ledger, n)
    end_event(ledger, 1, SENT)
    open_number(redis, ledger, 1)
    before = sendcode("batch", "status", "b1", "--json").json

    for n in (1, 2):
        assert forget(n, "--yes").exit_code == 0

    text = all_of(redis)
    for n in (1, 2):
        phone = number(n)
        assert phone.phone_num not in text
        assert f"Customer {n}" not in text
        assert ledger.records.vault.index(phone.country_code, phone.phone_num) not in text
    kept = number(3)
    assert ledger.records.vault.index(kept.country_code, kept.phone_num) in text
    after = sendcode("batch", "status", "b1", "--json").json
    assert after["counts"] == before["counts"]
    (batch,) = batches.list()
    assert [(row.status, row.cells) for row in results(batches, batch)] == [
        ("sent", ["", "", ""]),
        ("dead", ["", "", ""]),
        ("dead", ["Customer 3", "852", number(3).phone_num]),
    ]
    acts = [each["what"] for each in sendcode("actions", "--json").json]
    assert acts.count("forget") == 2
    mending = Mending(redis, settings)
    assert mending.misfits() == []
    assert mending.mend() == []
    assert number(1).phone_num not in all_of(redis)


def test_a_forgotten_dead_letter_is_not_tried_again(
    forget: Forget, redis: Redis, ledger: Ledger, sendcode: Command
) -> None:
    job = end_event(ledger, 1, DEAD)

    assert forget(1, "--yes").exit_code == 0

    assert redis.llen("send-code.dead-letter") == 0
    refused = sendcode("dead", "requeue", job.job_id, "--force")
    assert refused.exit_code != 2
    record = ledger.job(job.job_id)
    assert record is not None
    assert record.state == "dead"


def test_what_was_set_aside_of_a_person_s_records_goes_with_them(
    forget: Forget, redis: Redis, ledger: Ledger, keys: Keys, settings: Settings
) -> None:
    broken = [end_event(ledger, n).job_id for n in (2, 3)]
    for job_id in broken:
        redis.hset(keys.job(job_id), mapping={"attempts": "several", "reference": "a customer"})
        assert ledger.set_aside(job_id)
        assert redis.exists(keys.unreadable(job_id))
    dead = DeadLetters(redis, settings)
    letter = dead.find(broken[0])
    assert letter
    _, corrected = dead.replace(Decision("replace", "one"), letter, number(1))
    ledger.sweep()
    end(ledger, corrected, SENT)
    open_number(redis, ledger, 1)

    for n in (1, 3):
        assert forget(n, "--yes").exit_code == 0

    assert "a customer" not in all_of(redis)
    assert ledger.records.vault.index("852", number(3).phone_num) not in all_of(redis)
    assert not redis.exists(*map(keys.unreadable, broken))


def test_what_has_not_ended_stays_and_is_named(
    forget: Forget, redis: Redis, ledger: Ledger
) -> None:
    job = SendCodeJob.for_event(number(1), key="waits")
    ledger.submit(job)

    ran = forget(1, "--yes")

    assert ran.exit_code == 1
    assert f"1 have not ended ({job.job_id})" in ran.err
    assert ledger.records.vault.index("852", number(1).phone_num) in all_of(redis)


def test_a_number_in_its_interval_is_known_until_that_is_over(
    forget: Forget, redis: Redis, ledger: Ledger
) -> None:
    end_event(ledger, 1, SENT)
    phone = number(1)
    redis.hset(number_key(ledger, phone), "until", 4_000_000_000_000)

    ran = forget(1, "--yes")

    assert ran.exit_code == 1
    assert "until a minute has passed" in ran.err
    assert phone.phone_num not in all_of(redis)
    assert redis.exists(number_key(ledger, phone))


def test_a_person_is_forgotten_only_if_somebody_says_yes(
    forget: Forget, redis: Redis, ledger: Ledger
) -> None:
    end_event(ledger, 1, DEAD)

    ran = forget(1)

    assert ran.exit_code == 2
    assert number(1).phone_num not in ran.err
    assert ledger.records.vault.index("852", number(1).phone_num) in all_of(redis)
