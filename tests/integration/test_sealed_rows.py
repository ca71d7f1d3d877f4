"""Rows wait sealed: nothing of a customer lies open in Redis, and what was moved is not shown."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

from config.data_key import new_data_key
from config.settings import Settings
from jobs.batch import BLOCK_ROWS, BatchRow
from jobs.batches import Batches
from jobs.codes import OwnCode
from jobs.finding import Finder
from jobs.job import NO_NUMBER
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.mending import Mending
from jobs.removing import Forgetting
from jobs.rows import Rows
from jobs.upgrade import seal
from jobs.vault import UnknownKeyError
from producer.results import results
from tests.ended_jobs import DEAD, SENT, customers, end, number, run_batch
from tests.ledger_checks import all_of, check_ledger
from tests.sandbox import Sandbox
from tests.waiting import wait_until
from tests.worker_process import WorkerProcess

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
    assert number(1).phone_num not in text
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


def test_results_without_the_key_of_their_rows_are_refused_and_not_empty(
    batches: Batches, redis: Redis, settings: Settings
) -> None:
    opened(batches, "b1", [REJECTED, *customers(2)])
    others = {**settings.model_dump(), "sendcode_data_keys": new_data_key("k9")}
    without = Batches(redis, Settings(**others))
    opened_batch = without.get("b1")
    assert opened_batch is not None

    with pytest.raises(UnknownKeyError, match="k1"):
        list(results(without, opened_batch))
    assert [row.cells for row in without.rows_of(["b1-1", "b1-2"]).values()] == [[], []]


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
    redis.hdel(keys.ledger, "upgraded")

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


def test_that_rows_cannot_be_opened_is_logged_once_with_the_reason(
    batches: Batches, redis: Redis, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    opened(batches, "b1", customers(2 * BLOCK_ROWS))
    stranger = settings.model_copy(update={"sendcode_data_keys": SecretStr(new_data_key("k2"))})

    Rows(redis, stranger).at([("b1", n) for n in range(2, 2 * BLOCK_ROWS)])

    about = {"batch_id": "b1", "row": 2, "why": str(UnknownKeyError("k1"))}
    assert [each.__dict__["fields"] for each in caplog.records] == [about, about]


def moved(redis: Redis, keys: Keys, batch_id: str, *places: int) -> None:
    """Let heads of rows change their places in a batch."""
    heads: Any = [redis.lindex(keys.rows(batch_id), place) for place in places]
    for place, head in zip([*places[1:], places[0]], heads, strict=True):
        redis.lset(keys.rows(batch_id), place, head)


def test_a_number_that_was_moved_to_another_row_or_batch_is_sent_no_code(
    batches: Batches,
    redis: Redis,
    keys: Keys,
    start_worker: Callable[..., WorkerProcess],
    sandbox: Sandbox,
) -> None:
    opened(batches, "b1", customers(6))
    opened(batches, "b2", customers(2, first=7))
    moved(redis, keys, "b1", 1, 2)
    of_another: Any = redis.lindex(keys.rows("b2"), 1)
    redis.lset(keys.rows("b1"), 4, of_another)
    redis.lset(keys.rows("b1"), 5, "852\t51000099\t")

    start_worker()

    def is_over(batch_id: str) -> bool:
        batch = batches.get(batch_id)
        return batch is not None and batch.is_over

    wait_until(lambda: is_over("b1") and is_over("b2"), "the end of both batches")
    sent = {f"852{number(n).phone_num}" for n in (1, 4, 7, 8)}
    assert sandbox.stats()["accepted_per_number"] == dict.fromkeys(sent, 1)
    batch = batches.get("b1")
    assert batch is not None
    assert batch.by_code == {OwnCode.FORGED: 4}


def test_rows_of_an_older_release_are_sealed_in_parts_while_they_are_sent(
    batches: Batches, ledger: Ledger, redis: Redis, keys: Keys, settings: Settings
) -> None:
    forgotten = BatchRow(5, ["", ""], NO_NUMBER)
    old = [REJECTED, *customers(2 * BLOCK_ROWS), forgotten, *customers(9, first=500)]
    for batch_id in ("b1", "b2"):
        batches.open(batch_id, f"digest of {batch_id}", HEADER)
        redis.rpush(keys.rows(batch_id), *(row.encode() for row in old))
        redis.lset(keys.rows(batch_id), 2, f"-{old[2].encode()}")
        counts: dict[Any, Any] = {
            "total": len(old),
            "accepted": len(old) - 1,
            "rejected": 1,
            "imported": 1,
        }
        redis.hset(keys.batch(batch_id), mapping=counts | {"imported": 1})
    redis.hset(keys.batch("b1"), "cursor", 70)
    batches.steer("b2", "pause")

    def convert(begins: str = "") -> None:
        while not begins.startswith("jobs"):
            begins = seal(redis, settings, begins)
            ledger.sweep()

    convert()
    sealed = {key: redis.lrange(key("b1"), 0, -1) for key in (keys.rows, keys.cells)}
    convert()

    assert sealed == {key: redis.lrange(key("b1"), 0, -1) for key in (keys.rows, keys.cells)}
    text = "".join(str(redis.lrange(key(each), 0, -1)) for key in sealed for each in ("b1", "b2"))
    assert "Customer" not in text
    assert number(3).phone_num not in text
    assert [replace(row, is_cancelled=False) for row in read(batches, "b2")] == old
    assert [n for n, row in enumerate(read(batches), 1) if row.is_cancelled] == [3]
    assert Mending(redis, settings).misfits() == []
