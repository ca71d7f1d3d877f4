"""Rows wait sealed: nothing of a customer lies open in Redis, and what was moved is not shown."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batch import BLOCK_ROWS, BatchRow
from jobs.batches import Batches
from jobs.finding import Finder
from jobs.forgetting import Forgetting
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.mending import Mending
from tests.ended_jobs import DEAD, SENT, customers, end, number, run_batch
from tests.ledger_checks import all_of, check_ledger

HEADER = ["name", "country_code", "phone_num"]
REJECTED = BatchRow(9, ["Mr. Wrong", "999", "99000000"], None, "unknown_country_code", "none")
MOST_BYTES = 150


def opened(batches: Batches, batch_id: str, rows: list[BatchRow]) -> None:
    batches.open(batch_id, f"digest of {batch_id}", HEADER)
    batches.append(batch_id, 0, rows, last=True)


def read(batches: Batches, batch_id: str = "b1") -> list[BatchRow]:
    return [row for _, row, _ in batches.rows(batch_id)]


def test_no_cell_of_a_customer_lies_open_in_redis(batches: Batches, redis: Redis) -> None:
    opened(batches, "b1", [REJECTED, *customers(5)])

    text = all_of(redis)

    assert "Mr. Wrong" not in text
    assert "99000000" not in text
    assert "Customer" not in text
    assert read(batches) == [REJECTED, *customers(5)]


def test_a_waiting_row_takes_little_memory(batches: Batches, redis: Redis, keys: Keys) -> None:
    rng = random.Random(1)
    rows = []
    for n in range(2_000):
        name = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=12))
        cells = [name, f"{name}{n}@example.com", "852", number(n).phone_num]
        rows.append(BatchRow(n + 2, cells, number(n)))

    opened(batches, "b1", rows)

    used: Any = [redis.memory_usage(key("b1"), samples=0) for key in (keys.rows, keys.cells)]
    assert sum(used) / len(rows) <= MOST_BYTES


@pytest.mark.parametrize("portion", [1, 7, BLOCK_ROWS, BLOCK_ROWS + 1, 500])
def test_rows_that_came_in_portions_are_read_as_they_were(portion: int, batches: Batches) -> None:
    rows = [*customers(BLOCK_ROWS - 2), REJECTED, *customers(BLOCK_ROWS + 9)]
    batches.open("b1", "digest", HEADER)

    for first in range(0, len(rows), portion):
        batches.append("b1", first, rows[first : first + portion])

    assert read(batches) == rows
    numbers = (1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, len(rows))
    ids = [f"b1-{number}" for number in numbers]
    assert list(batches.rows_of(ids).values()) == [rows[number - 1] for number in numbers]


def test_a_block_that_was_moved_is_not_shown(batches: Batches, redis: Redis, keys: Keys) -> None:
    rows = customers(2 * BLOCK_ROWS)
    opened(batches, "b1", rows)
    opened(batches, "b2", rows)
    blocks: Any = redis.lrange(keys.cells("b1"), 0, -1)

    redis.lset(keys.cells("b1"), 1, blocks[0])
    redis.lset(keys.cells("b2"), 0, blocks[0])

    assert [row.cells for row in read(batches)[-2:]] == [[], []]
    assert read(batches)[:BLOCK_ROWS] == rows[:BLOCK_ROWS]
    assert read(batches, "b2")[0].cells == []
    assert read(batches, "b2")[BLOCK_ROWS:] == rows[BLOCK_ROWS:]


def test_rows_whose_cells_are_lost_are_sent_and_that_is_reported(
    batches: Batches, ledger: Ledger, redis: Redis, keys: Keys, settings: Settings
) -> None:
    opened(batches, "b1", [REJECTED, *customers(3)])
    redis.delete(keys.cells("b1"))
    mending = Mending(redis, settings)

    assert mending.misfits() == ["batch b1"]
    [damage] = mending.mend()

    assert "the cells of some rows of batch b1 are lost" in damage
    assert mending.misfits() == []
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)
    batch = batches.get("b1")
    assert batch is not None
    assert (batch.is_over, batch.sent, batch.rejected) == (True, 3, 1)
    assert [row.code for row in read(batches)] == [REJECTED.code, "", "", ""]
    check_ledger(redis, keys)


def test_people_whose_rows_lie_in_one_block_are_forgotten_at_once(
    batches: Batches, ledger: Ledger, redis: Redis, settings: Settings
) -> None:
    run_batch(ledger, batches, "b1", customers(12), lambda n: DEAD if n % 2 else SENT)
    forgetting = Forgetting(redis, settings)

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda n: forgetting.forget(number(n), [f"b1-{n}"]), range(1, 12)))

    assert [each.blanked for each in done] == [1] * 11
    assert [row.cells for row in read(batches)] == [
        *([["", "", ""]] * 11),
        ["Customer 12", "852", number(12).phone_num],
    ]
    assert forgetting.find(number(3)) == []


def test_rows_of_an_older_release_are_read_found_sent_and_forgotten(
    batches: Batches, ledger: Ledger, redis: Redis, keys: Keys, settings: Settings
) -> None:
    old, new = [REJECTED, *customers(3)], customers(BLOCK_ROWS, first=4)
    batches.open("b1", "digest", HEADER)
    redis.rpush(keys.rows("b1"), *(row.encode() for row in old))
    redis.hset(keys.batch("b1"), mapping={"total": 4, "accepted": 3, "rejected": 1})

    batches.append("b1", 4, new, last=True)

    assert Mending(redis, settings).misfits() == []
    assert read(batches) == [*old, *new]
    finder = Finder(redis, settings)
    assert finder.in_batch("b1", "customer 2").job_ids[0] == "b1-3"
    assert finder.by_number(number(2).phone_num).job_ids == ["b1-3"]
    assert finder.by_number("99000000").job_ids == ["b1-1"]
    assert finder.in_batch("b1", "customer 6").job_ids[0] == "b1-7"
    while due := ledger.sweep():
        for _, job_id in due:
            end(ledger, job_id, SENT)
    assert Forgetting(redis, settings).forget(number(2), ["b1-3"]).blanked == 1
    assert read(batches)[2].cells == ["", "", ""]
    assert read(batches)[1::2] == [*old, *new][1::2]
    check_ledger(redis, keys)
