"""A customer is found by number, by a name that others know, and by text of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.client import Monitor

from config.settings import Settings
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.finding import ROWS_AT_ONCE, Finder
from jobs.job import SendCodeJob
from jobs.keys import Keys
from jobs.ledger import Ledger
from producer.search import Found, Place, digits_of, search
from tests.ended_jobs import DEAD, PERMANENT, SENT, customers, end, end_event, number, run_batch
from tests.waiting import PATIENCE_S

Search = Callable[..., Found]


@pytest.fixture
def find(redis: Redis, settings: Settings) -> Search:
    return lambda text, *more: search(redis, settings, text, *more, seconds=PATIENCE_S)


def ids(found: Found) -> list[str]:
    return sorted(hit.job_id for hit in found.hits)


def _until(monitor: Monitor, last: str) -> Iterator[dict[str, Any]]:
    """Yield all that clients tell Redis before one of them says so."""
    while last not in (heard := monitor.next_command())["command"]:
        yield heard


def waiting(batches: Batches, batch_id: str, rows: list[BatchRow]) -> None:
    batches.open(batch_id, f"digest of {batch_id}", ["name", "country_code", "phone_num"])
    batches.append(batch_id, 0, rows, last=True)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("+852 5100-0001", "85251000001"),
        ("00852 51000001", "85251000001"),
        ("(0)51 00 00 01", "051000001"),
        ("51000001", "51000001"),
        ("12345", ""),
        ("b1-12", ""),
        ("0d1f7c3a-1234-4321-9876-0123456789ab", ""),
        ("", ""),
    ],
)
def test_what_looks_like_a_number_is_one(text: str, digits: str) -> None:
    assert digits_of(text) == digits


@pytest.mark.parametrize("text", ["+852 51000002", "51000002", "0085251000002"])
def test_a_number_finds_rows_and_events_whatever_became_of_them(
    text: str, find: Search, ledger: Ledger, batches: Batches
) -> None:
    run_batch(ledger, batches, "b1", customers(3), lambda _: SENT)
    waiting(batches, "b2", customers(3))
    event = SendCodeJob.for_event(number(2), key="order 7")
    ledger.submit(event)

    found = find(text)

    assert ids(found) == sorted(["b1-2", "b2-2", event.job_id])
    assert found.trace.is_complete
    assert found.history is not None
    assert found.history.codes == 1


def test_a_rejected_row_is_found_by_its_number(find: Search, batches: Batches) -> None:
    rejected = BatchRow(2, ["Mr. Wrong", "999", "99000000"], None, "unknown_country_code", "none")
    waiting(batches, "b1", [rejected, *customers(1)])

    [hit] = find("99000000").hits

    assert (hit.job_id, hit.story) == ("b1-1", None)
    assert hit.row is not None
    assert hit.row.code == "unknown_country_code"


def test_a_corrected_number_is_found(find: Search, ledger: Ledger, dead: DeadLetters) -> None:
    record = end_event(ledger, ending=PERMANENT)
    letter = dead.find(record.job_id)
    assert letter is not None
    _, new_id = dead.replace(Decision("replace", "a test's"), letter, number(77))
    ledger.sweep()
    end(ledger, new_id, SENT)

    assert ids(find(number(77).e164)) == [new_id]


def test_a_job_s_id_leads_to_it(find: Search, batches: Batches) -> None:
    waiting(batches, "b1", customers(3))

    assert ids(find(" b1-2 ")) == ["b1-2"]


def test_names_that_others_know_lead_to_jobs(
    find: Search, ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    run_batch(ledger, batches, "b1", customers(2), lambda n: DEAD if n == 1 else SENT)
    job = SendCodeJob.for_event(number(9), key="order 7", reference="ticket 4711")
    ledger.submit(job)
    letter = dead.find("b1-1")
    assert letter is not None
    _, corrected = dead.replace(Decision("replace", "a test's"), letter, number(77))

    assert ids(find("order 7")) == [job.job_id]
    assert ids(find("ticket 4711")) == [job.job_id]
    assert ids(find("req-1")) == ["b1-1"]  # RequestIds of DEAD and SENT
    assert ids(find("req-2")) == ["b1-2"]
    assert ids(find("ticket")) == []
    ledger.sweep()
    end(ledger, corrected, PERMANENT)
    assert ids(find("req-3")) == [corrected]


def test_a_request_id_of_an_earlier_attempt_leads_to_its_job(
    find: Search, ledger: Ledger, dead: DeadLetters
) -> None:
    record = end_event(ledger, ending=DEAD)
    letter = dead.find(record.job_id)
    assert letter is not None
    dead.requeue(Decision("requeue", "a test's"), [letter])
    ledger.sweep()
    assert end(ledger, record.job_id, SENT).request_id == "req-2"

    assert ids(find("req-1")) == [record.job_id]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("customer 3", ["b1-3"]),
        ("CUSTOMER", [f"b1-{n}" for n in range(1, 6)]),
        ('quo"ted', ["b1-6"]),
        ("王小明", ["b1-6"]),
        ("51000003", ["b1-3"]),
        ("+852 5100 0003", ["b1-3"]),
        ("nobody", []),
        ('","', []),
    ],
)
def test_text_of_any_column_finds_rows_of_a_batch(
    text: str, rows: list[str], find: Search, batches: Batches
) -> None:
    odd = BatchRow(7, ['王小明 quo"ted', "852", "51000099"], number(99))
    waiting(batches, "b1", [*customers(5), odd])
    waiting(batches, "b2", customers(5))

    assert ids(find(text, "b1")) == rows


def test_text_finds_rows_of_all_batches_the_newest_first(
    find: Search, ledger: Ledger, batches: Batches
) -> None:
    run_batch(ledger, batches, "b1", customers(3), lambda _: SENT)
    waiting(batches, "b2", customers(3))

    found = find("customer 2")

    assert [hit.job_id for hit in found.hits] == ["b2-2", "b1-2"]
    assert found.trace.is_complete
    assert found.goes_on is None


def test_digits_that_are_nobody_s_number_are_looked_for_as_text(
    find: Search, ledger: Ledger, batches: Batches
) -> None:
    waiting(batches, "b1", [BatchRow(2, ["4711-0815", "852", "51000001"], number(1))])
    event = SendCodeJob.for_event(number(2), key="order 7", reference="20261126")
    ledger.submit(event)

    assert ids(find("4711-0815")) == ["b1-1"]
    assert ids(find("20261126")) == [event.job_id]


def test_a_search_through_all_batches_goes_on_where_its_time_was_over(
    batches: Batches, redis: Redis, settings: Settings
) -> None:
    for batch_id in ("b1", "b2", "b3"):
        waiting(batches, batch_id, customers(3))
    found: list[str] = []
    places: list[Place] = []
    since = None

    for _ in range(5):
        part = search(redis, settings, "customer 3", "", since, seconds=0)
        found += [hit.job_id for hit in part.hits]
        since = part.goes_on
        if since is None:
            break
        places.append(since)

    assert found == ["b3-3", "b2-3", "b1-3"]
    assert part.trace.is_complete
    assert len({(place.batch_id, place.row) for place in places}) == len(places) > 1
    gone = search(redis, settings, "customer 3", "", Place("gone", 0))
    assert (gone.hits, gone.trace.is_complete) == ([], False)


def test_a_search_for_a_number_goes_on_where_its_time_was_over(
    ledger: Ledger, batches: Batches, redis: Redis, settings: Settings
) -> None:
    run_batch(ledger, batches, "b1", customers(3), lambda _: SENT)
    for batch_id in ("b2", "b3", "b4"):
        waiting(batches, batch_id, customers(3))

    first = search(redis, settings, "51000002", seconds=0)
    found, since = [hit.job_id for hit in first.hits], first.goes_on
    while since is not None and len(found) < 12:
        part = search(redis, settings, "51000002", "", since, seconds=0)
        found += [hit.job_id for hit in part.hits]
        since = part.goes_on

    assert first.goes_on is not None
    assert {*found} == {"b1-2", "b2-2", "b3-2", "b4-2"}


def test_a_search_that_runs_out_of_time_says_so_and_goes_on_from_there(
    batches: Batches, redis: Redis, settings: Settings
) -> None:
    count = 2 * ROWS_AT_ONCE + 10
    rows = [BatchRow(n, [f"Row {n:05d}"], number(n % 9_000)) for n in range(1, count + 1)]
    batches.open("b1", "digest", ["name"])
    for begin in range(0, count, 500):
        batches.append("b1", begin, rows[begin : begin + 500], last=begin + 500 >= count)
    hurried = Finder(redis, settings, seconds=0)
    wanted = f"row {count:05d}"

    first = hurried.in_batch("b1", wanted)
    second = hurried.in_batch("b1", wanted, first=first.next_row)
    third = hurried.in_batch("b1", wanted, first=second.next_row)

    assert (first.is_complete, first.looked, first.job_ids) == (False, ROWS_AT_ONCE, [])
    assert (third.is_complete, third.job_ids) == (True, [f"b1-{count}"])
    by_number = hurried.by_number("99999999")
    assert (by_number.is_complete, by_number.looked) == (False, ROWS_AT_ONCE)


def test_more_than_enough_is_cut_and_continued(
    batches: Batches, redis: Redis, settings: Settings
) -> None:
    waiting(batches, "b1", customers(30))
    finder = Finder(redis, settings, most=20)

    first = finder.in_batch("b1", "customer")
    rest = finder.in_batch("b1", "customer", first=first.next_row)

    assert first.job_ids == [f"b1-{n}" for n in range(1, 21)]
    assert not first.is_complete
    assert rest.job_ids == [f"b1-{n}" for n in range(21, 31)]
    assert rest.is_complete


def test_a_search_leaves_nothing_behind(
    find: Search, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    end_event(ledger)
    before = {key: redis.dump(key) for key in redis.scan_iter() if key != keys.sweeps}

    find("+852 5199 9999")
    find("some name")

    assert {key: redis.dump(key) for key in redis.scan_iter() if key != keys.sweeps} == before


@pytest.mark.parametrize("text", ["+852 5199 9999", "51999999", "Mr. Unheard-of"])
def test_what_is_searched_for_is_told_redis_in_no_command(
    text: str, find: Search, ledger: Ledger, batches: Batches, redis: Redis
) -> None:
    run_batch(ledger, batches, "b1", customers(2), lambda _: DEAD)
    end_event(ledger, ending=PERMANENT)
    with redis.monitor() as monitor:
        assert find(text).hits == []
        redis.echo("the search is over")
        told = [str(each["command"]) for each in _until(monitor, "the search is over")]

    assert any("EVALSHA" in command for command in told)
    assert not [command for command in told if text in command]


@pytest.mark.parametrize("text", ["", " ", "x"])
def test_too_little_is_not_searched_for(text: str, find: Search) -> None:
    assert find(text).hits == []


def test_a_search_ends_in_time_however_many_other_keys_there_are(
    batches: Batches, redis: Redis, settings: Settings
) -> None:
    redis.mset({f"other:{n}": "" for n in range(10_000)})
    hurried = Finder(redis, settings, seconds=0)

    by_name = hurried.by_name("ticket 4711")
    by_number = hurried.by_number("99999999")
    waiting(batches, "b1", customers(1))
    in_batch_first = hurried.by_number(number(1).e164[1:])

    redis.delete(*(f"other:{n}" for n in range(10_000)))
    assert not by_name.is_complete
    assert not by_number.is_complete
    assert in_batch_first.job_ids == ["b1-1"]
    assert not in_batch_first.is_complete


def test_damaged_records_do_not_break_a_search(
    find: Search, ledger: Ledger, batches: Batches, redis: Redis, keys: Keys
) -> None:
    run_batch(ledger, batches, "b1", customers(4), lambda _: DEAD)
    redis.hdel(keys.job("b1-1"), "cc")
    redis.delete(keys.job("b1-2"))
    redis.set(keys.job("b1-2"), "no hash", ex=100)
    redis.hset(keys.job("b1-4"), "replaced_by", "b1-4")
    redis.lset(keys.rows("b1"), 0, "no row")
    redis.hset(keys.job("b1-3"), "told", "9" * 40)

    assert ids(find(number(3).e164)) == ["b1-3"]
    assert ids(find("some name")) == []
    batch = batches.get("b1")
    assert batch is not None
    assert batches.in_state(batch, 1, 10, {"unknown"}, set(), 10)[0] == [2]
    redis.delete(keys.job("b1-1"))
    redis.hdel(keys.job("b1-4"), "replaced_by")
