"""The main job: a batch of customers with every kind of ending, through real workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from demo.accounting import most_allowed
from jobs.batch import Batch, BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, State
from jobs.phone import PhoneNumber
from sandbox.client import SandboxClient
from tests.eavesdropper import Eavesdropper, numbers_in, unwrapped
from tests.expected_ends import ENDS
from tests.forked import ForkedSandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

RATE = 20
ROWS = 120
INTERVAL_S = 15
SLOW = {"9902", "9904"}  # refused for ever: they wait long and often
THROTTLED = {"9927"}  # slows everybody down: one such number is enough
TWICE = PhoneNumber("852", "51230002")

pytestmark = pytest.mark.settings(
    sendcode_rate_limit=RATE,
    sendcode_phone_interval=INTERVAL_S,
    sendcode_http_timeout=3,  # a sandbox on a busy machine is no lost answer
    sendcode_frequency_wait=0.5,
    sendcode_backoff=0.05,
)


@dataclass(frozen=True)
class Ran:
    """A batch that was worked off, and all that could be seen of it."""

    batch: Batch
    rows: list[tuple[int, BatchRow, JobRecord | None]]
    stats: dict[str, Any]
    commands: list[str]
    logs: str
    results: str
    dead: list[str]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxClient]:
    """A process of its own, so that it stamps arrivals when they arrive."""
    options = ("--rate-limit", str(RATE), "--phone-interval", str(INTERVAL_S))
    with ForkedSandbox(*options, folder=tmp_path) as process:
        process.change(slow_ms=300)
        yield process


def customers() -> list[BatchRow]:
    """One number of each kind, one that comes twice, some that are none, and ordinary ones."""
    kinds = sorted(ENDS.keys() - SLOW - THROTTLED)
    phones = [PhoneNumber("852", f"{kind}{n:04d}") for n, kind in enumerate(kinds, 1)]
    phones += [TWICE, TWICE]
    phones += [PhoneNumber("852", f"5{n:07d}") for n in range(ROWS - len(phones) - 5)]
    rows = [BatchRow(n, ["a name", each.phone_num], each) for n, each in enumerate(phones, 2)]
    bad = [BatchRow(n, ["a name", "?"], None, "not_digits", "no number") for n in range(5)]
    return [*rows[:60], *bad, *rows[60:]]


@pytest.fixture
def ran(
    sandbox: SandboxClient,
    settings: Settings,
    redis: Redis,
    batches: Batches,
    start_worker: Callable[..., WorkerProcess],
) -> Ran:
    batches.open("b1", "digest", ["name", "phone"])
    batches.append("b1", 0, customers(), last=True)
    with Eavesdropper(settings.redis_url, settings.sendcode_key_prefix) as eavesdropper:
        workers = [start_worker(ready=False) for _ in range(2)]
        wait_until(lambda: (batch := batches.get("b1")) and batch.is_over, "the batch's end", 300)
        results = [str(redis.get(key)) for key in redis.scan_iter("celery-task-meta-*")]
        assert [worker.stop() for worker in workers] == [0, 0]
    batch = batches.get("b1")
    assert batch is not None
    return Ran(
        batch=batch,
        rows=list(batches.rows("b1")),
        stats=sandbox.stats(),
        commands=eavesdropper.commands,
        logs="\n".join(worker.log for worker in workers),
        results="\n".join(results),
        dead=[str(job_id) for job_id in redis.lrange("send-code.dead-letter", 0, -1)],
    )


def test_a_mixed_batch_with_every_kind_of_ending(ran: Ran) -> None:
    every_row_has_the_one_end_that_it_should_have(ran)
    each_number_was_sent_what_its_jobs_say(ran)
    the_limit_was_kept(ran)
    dead_letters_are_listed_with_what_a_ticket_needs(ran)
    no_number_is_seen_outside_of_the_ledger(ran)


def every_row_has_the_one_end_that_it_should_have(ran: Ran) -> None:
    ends: Counter[str] = Counter()
    for _, row, record in ran.rows:
        if row.phone is None:
            assert record is None
            continue
        assert record is not None
        end = ENDS.get(row.phone.phone_num[:4], ENDS["9900"])
        told = f"row of {row.phone.phone_num}: {record.state} {record.code}"
        assert (record.state, record.code) == (end.state, end.code), told
        assert record.possible_duplicate is end.perhaps_twice, told
        ends[record.state] += 1
    assert len(ran.rows) == ROWS
    assert ran.batch.counts == {**ends, State.REJECTED: 5}
    assert ran.batch.state == "done"


def each_number_was_sent_what_its_jobs_say(ran: Ran) -> None:
    expected: Counter[str] = Counter()
    for _, row, _ in ran.rows:
        if row.phone is not None:
            end = ENDS.get(row.phone.phone_num[:4], ENDS["9900"])
            expected[f"852{row.phone.phone_num}"] += end.sent
    assert ran.stats["accepted_per_number"] == +expected
    assert ran.stats["doubled_numbers"] == {f"852{TWICE.phone_num}": 2}  # an interval apart


def the_limit_was_kept(ran: Ran) -> None:
    most = most_allowed(ran.stats, RATE)
    assert ran.stats["most_in_any_second"] <= most, str(ran.stats)
    assert ran.stats["rejected_rate_limit"] <= most - RATE, str(ran.stats)


def dead_letters_are_listed_with_what_a_ticket_needs(ran: Ran) -> None:
    dead = {
        record.job_id: record
        for _, _, record in ran.rows
        if record and record.state in {State.DEAD, State.UNKNOWN}
    }
    assert sorted(ran.dead) == sorted(dead)
    by_code = {record.code: record for record in dead.values()}
    for code in ("InvalidParameterValue.UnSupportArea", "FailedOperation.PhoneBindUpper"):
        assert by_code[code].request_id
        assert by_code[code].message
        assert by_code[code].finished_ms
        assert by_code[code].attempts == 1


def no_number_is_seen_outside_of_the_ledger(ran: Ran) -> None:
    numbers = {row.phone.phone_num for _, row, _ in ran.rows if row.phone}
    numbers |= {f"852{number}" for number in numbers}
    heard = "\n".join(unwrapped(command) for command in ran.commands)

    # it was listened to: messages, events of every kind, results
    for sign in ("LPUSH send-code.batch", "task-received", "task-succeeded", "task-failed"):
        assert sign in heard, f"nobody said {sign}"
    assert ran.results.count("request_id") > ROWS / 2
    assert "job finished" in ran.logs
    for place, text in (("Redis", heard), ("a result", ran.results), ("a log", ran.logs)):
        assert numbers_in(text, numbers) == set(), f"numbers seen in {place}"
    assert "SECRETEXAMPLE" not in heard + ran.results + ran.logs
