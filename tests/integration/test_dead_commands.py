"""`sendcode dead`: looking at dead letters, and dealing with one or many of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from config.settings import Settings
from jobs.actions import recent_actions
from jobs.batches import Batches
from jobs.deadletters import WINDOW, DeadLetters, Decision
from jobs.keys import Keys
from jobs.ledger import Ledger
from producer.deadletters import Choice, Handling, requeue
from producer.deadletters import letters as letters_of
from tests.commands import Command
from tests.ended_jobs import (
    BIND_UPPER,
    BUSY,
    DEAD,
    PERMANENT,
    SENT,
    UNKNOWN,
    customers,
    end,
    end_event,
    number,
    run_batch,
)
from tests.files import read_csv


@pytest.fixture
def letters(ledger: Ledger, batches: Batches) -> None:
    """Of batch b1 rows 1 to 3 busy, 4 and 5 permanent, 6 unknown, 7 sent; of b2 row 1 busy."""
    endings = {4: PERMANENT, 5: PERMANENT, 6: UNKNOWN, 7: SENT}
    run_batch(ledger, batches, "b1", customers(7), lambda row: endings.get(row, DEAD))
    run_batch(ledger, batches, "b2", customers(1, first=50))


def states(ledger: Ledger, batch_id: str, rows: range) -> list[str]:
    records = [ledger.job(f"{batch_id}-{row}") for row in rows]
    return [str(record.state) for record in records if record is not None]


pytestmark = pytest.mark.usefixtures("letters")


def test_the_list_groups_by_code_with_count_meaning_and_remedy(sendcode: Command) -> None:
    told = sendcode("dead", "list", "--json").json

    assert told["total"] == 7
    assert [(each["code"], each["count"]) for each in told["codes"]] == [
        (BUSY, 4),
        (BIND_UPPER, 2),
        ("InternalError", 1),
    ]
    assert told["codes"][1]["permanent"]
    assert [each["perhaps_sent"] for each in told["codes"]] == [0, 0, 1]
    assert told["codes"][1]["remedy"] == "Ask the customer for another number"
    shown = sendcode("dead", "list")
    assert "Ask the customer for another number" in shown.out
    assert "1 (1 perhaps sent)" in shown.out
    assert f"requeue --code {BUSY}" in shown.err
    assert "requeue --code InternalError" not in shown.err


def test_one_batch_s_dead_letters_are_listed_one_by_one(sendcode: Command) -> None:
    told = sendcode("dead", "list", "--batch", "b1", "--json").json

    assert told["total"] == 6
    assert [job["job_id"] for job in told["jobs"]] == [f"b1-{row}" for row in range(1, 7)]
    assert told["codes"][-1]["perhaps_sent"] == 1


def test_the_list_says_on_which_line_of_its_file_a_row_stands(
    sendcode: Command, ledger: Ledger, batches: Batches
) -> None:
    rows = [replace(row, line=line) for row, line in zip(customers(2), (2, 17), strict=True)]
    run_batch(ledger, batches, "b3", rows)
    sendcode("dead", "requeue", "b3-1", "--phone", f"+852{number(8).phone_num}")
    heir = end(ledger, ledger.sweep()[0][1], DEAD)
    event = end_event(ledger, 9)

    told = sendcode("dead", "list", "--code", BUSY, "--json").json["jobs"]
    shown = sendcode("dead", "list", "--batch", "b3").out

    lines = {job["job_id"]: job["line"] for job in told}
    assert heir.job_id == "b3-1.r1"
    assert (lines["b3-1.r1"], lines["b3-2"], lines[event.job_id]) == (2, 17, None)
    assert re.search(r"b3-2 +17 +dead", shown)


def test_filters_are_joined(sendcode: Command) -> None:
    told = sendcode("dead", "list", "--batch", "b2", "--code", BUSY, "--json").json

    assert [job["job_id"] for job in told["jobs"]] == ["b2-1"]


def test_show_tells_the_story_and_what_to_type(sendcode: Command) -> None:
    busy, permanent, unknown = (
        sendcode("dead", "show", job_id) for job_id in ("b1-1", "b1-4", "b1-6")
    )

    assert "attempt: OperationDenied.ServiceBusy" in busy.out
    assert "sendcode dead requeue b1-1\n" in busy.err
    assert "sendcode dead requeue b1-4 --phone" in permanent.err
    assert "sendcode dead requeue b1-6 --may-send-twice" in unknown.err


def test_show_of_what_is_no_dead_letter_points_to_the_job(sendcode: Command) -> None:
    ran = sendcode("dead", "show", "b1-7")

    assert ran.exit_code == 1
    assert "sendcode job show b1-7" in ran.err


def test_single_jobs_are_requeued_by_their_ids(sendcode: Command, ledger: Ledger) -> None:
    ran = sendcode("dead", "requeue", "b1-1", "b2-1")

    assert ran.exit_code == 0
    assert "2 requeued" in ran.out
    assert {job_id for _, job_id in ledger.sweep()} == {"b1-1", "b2-1"}


def test_all_of_a_code_are_requeued(sendcode: Command, ledger: Ledger, dead: DeadLetters) -> None:
    told = sendcode("dead", "requeue", "--code", BUSY, "--json").json

    assert (told["done"], told["by_code"]) == (4, {BUSY: 4})
    assert states(ledger, "b1", range(1, 8)) == [
        *["parked"] * 3,
        "dead",
        "dead",
        "unknown",
        "sent",
    ]
    assert dead.by_code() == {BIND_UPPER: 2, "InternalError": 1}


def test_an_unchanged_permanent_failure_is_refused_unless_forced(
    sendcode: Command, ledger: Ledger
) -> None:
    refused = sendcode("dead", "requeue", "b1-4")
    assert refused.exit_code == 1
    assert "would only be refused again" in refused.err
    assert "--phone" in refused.err

    forced = sendcode("dead", "requeue", "b1-4", "--force")

    assert forced.exit_code == 0
    assert states(ledger, "b1", range(4, 5)) == ["parked"]


def test_what_was_perhaps_sent_is_sent_again_only_on_express_wish(
    sendcode: Command, ledger: Ledger
) -> None:
    refused = sendcode("dead", "requeue", "b1-6", "--force")
    assert refused.exit_code == 1
    assert "ask the customer whether a code has come" in refused.err

    wished = sendcode("dead", "requeue", "b1-6", "--may-send-twice")

    assert wished.exit_code == 0
    record = ledger.job("b1-6")
    assert record is not None
    assert record.possible_duplicate


def test_a_whole_batch_is_requeued_as_far_as_that_makes_sense(
    sendcode: Command, ledger: Ledger
) -> None:
    told = sendcode("dead", "requeue", "--batch", "b1", "--json").json

    assert told["done"] == 3
    assert sorted(each["count"] for each in told["refused"]) == [1, 2]
    assert states(ledger, "b2", range(1, 2)) == ["dead"]


def test_a_dry_run_changes_nothing_and_says_what_would_be(
    sendcode: Command, redis: Redis, dead: DeadLetters
) -> None:
    before = redis.dbsize(), dead.count(), dead.by_code()

    requeued = sendcode("dead", "requeue", "--all", "--dry-run", "--json").json
    dropped = sendcode("dead", "drop", "--all", "--reason", "x", "--dry-run", "--json").json

    assert (requeued["dry_run"], requeued["done"]) == (True, 4)
    assert (dropped["dry_run"], dropped["done"]) == (True, 7)
    assert (redis.dbsize(), dead.count(), dead.by_code()) == before


def test_a_limit_is_kept_and_the_oldest_go_first(
    sendcode: Command, ledger: Ledger, dead: DeadLetters
) -> None:
    sendcode("dead", "requeue", "--all", "--limit", "2")

    assert states(ledger, "b1", range(1, 4)) == ["parked", "parked", "dead"]
    assert dead.count() == 5


def test_named_jobs_beyond_the_limit_are_told(sendcode: Command, ledger: Ledger) -> None:
    ran = sendcode("dead", "requeue", "b1-1", "b1-2", "b1-3", "--limit", "2")

    assert states(ledger, "b1", range(1, 4)) == ["parked", "parked", "dead"]
    assert "1 left alone: --limit was reached before its turn" in ran.err
    assert "(b1-3)" in ran.err


@pytest.mark.parametrize("taken", [range(1, 4), range(1, 231), range(150, 230)])
def test_no_letter_is_skipped_while_a_colleague_works_on_the_list(
    taken: range, ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    dead.drop(Decision("drop", "all"), dead.window(0))
    run_batch(ledger, batches, "many", customers(WINDOW + 50, first=100))
    others = [letter for letter in dead.window(0, WINDOW + 50) if int(letter.job_id[5:]) in taken]

    found = []
    for letter in letters_of(dead, Choice()):
        found.append(letter.job_id)
        if len(found) == 10:
            dead.drop(Decision("drop", "a colleague's"), others)

    left = [f"many-{row}" for row in range(1, WINDOW + 51) if row not in taken]
    assert set(left) <= set(found)
    assert len(found) == len(set(found))
    report = requeue(dead, Choice(code=BUSY), Handling())
    assert report.done == len(left)


@pytest.mark.settings(sendcode_rate_limit=20)
def test_many_become_due_one_after_another_at_half_of_the_rate(
    sendcode: Command, ledger: Ledger
) -> None:
    told = sendcode("dead", "requeue", "--code", BUSY, "--json").json

    assert told["last_due_in_seconds"] == 0.3
    assert dues(ledger) == [0, 100, 200, 300]


@pytest.mark.settings(sendcode_rate_limit=20)
def test_a_batch_s_own_pace_is_kept_when_its_jobs_are_requeued(
    sendcode: Command, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.batch("b1"), "max_rate", 2)

    sendcode("dead", "requeue", "--batch", "b1")

    assert dues(ledger)[:3] == [0, 500, 1_000]


def test_a_pace_is_kept(sendcode: Command, ledger: Ledger) -> None:
    sendcode("dead", "requeue", "--code", BUSY, "--pace", "0.5")

    assert dues(ledger) == [0, 2_000, 4_000, 6_000]


def dues(ledger: Ledger) -> list[int]:
    records = [ledger.job(job_id) for job_id in ("b1-1", "b1-2", "b1-3", "b2-1")]
    due = [record.due_ms or 0 for record in records if record is not None]
    return [at - due[0] for at in due]


@pytest.mark.usefixtures("ledger")
def test_a_corrected_number_makes_a_linked_new_job(sendcode: Command, batches: Batches) -> None:
    ran = sendcode(
        *("dead", "requeue", "b1-4", "--phone", "+852 5100 7777", "--reason", "the customer rang"),
        "--json",
    )

    assert ran.json["new_job_id"] == "b1-4.r1"
    story = sendcode("job", "show", "b1-4.r1", "--json").json
    assert (story["replaces"], story["state"]) == ("b1-4", "parked")
    assert story["phone"] == "+852 ******77"
    old = sendcode("job", "show", "b1-4", "--json").json
    assert old["replaced_by"] == "b1-4.r1"
    assert "the customer rang" in old["story"][-1]["note"]
    batch = batches.get("b1")
    assert batch is not None
    assert batch.counts == {"dead": 4, "parked": 1, "unknown": 1, "sent": 1}


def test_a_corrected_number_may_come_in_two_parts(sendcode: Command, ledger: Ledger) -> None:
    sendcode("dead", "requeue", "b1-4", "--country-code", "852", "--phone", "51007777")

    record = ledger.job("b1-4.r1")
    assert record is not None
    assert record.phone.phone_num == "51007777"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--phone", "51007777"), "the country code is missing"),
        (("--phone", "+8613800000000"), "the API sends no codes"),
        (("--country-code", "852"), "needs --phone"),
        (("b1-5", "--phone", "+85251007777"), "name the one job"),
        (("--code", BUSY), "name single jobs, or"),
        (("--pace", "0"), "--pace: must be"),
        (("--pace", "inf"), "--pace: must be"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    sendcode: Command, words: tuple[str, ...], said: str, dead: DeadLetters
) -> None:
    ran = sendcode("dead", "requeue", "b1-4", *words)

    assert ran.exit_code == 2
    assert said in ran.err
    assert dead.count() == 7


def test_the_number_it_has_already_is_no_correction(sendcode: Command) -> None:
    ran = sendcode("dead", "requeue", "b1-4", "--phone", number(4).e164)

    assert ran.exit_code == 1
    assert "the number it has already" in ran.err
    assert number(4).phone_num not in ran.err


def test_one_must_say_which(sendcode: Command, dead: DeadLetters) -> None:
    for verb in (("requeue",), ("drop", "--reason", "x")):
        ran = sendcode("dead", *verb)
        assert ran.exit_code == 2
        assert "--all" in ran.err
    assert dead.count() == 7


def test_drop_needs_a_reason(sendcode: Command, dead: DeadLetters) -> None:
    assert sendcode("dead", "drop", "b1-1").exit_code == 2
    assert sendcode("dead", "drop", "b1-1", "--reason", " ").exit_code == 2
    assert dead.count() == 7


def test_what_is_dropped_leaves_the_list_and_keeps_its_reason(
    sendcode: Command, dead: DeadLetters
) -> None:
    ran = sendcode("dead", "drop", "--code", BIND_UPPER, "--reason", "customers have left")

    assert "2 dropped" in ran.out
    assert dead.count() == 5
    story = sendcode("job", "show", "b1-4", "--json").json
    assert story["state"] == "dead"
    assert "customers have left" in story["story"][-1]["note"]
    assert "dropped" in sendcode("job", "show", "b1-4").out


@pytest.mark.parametrize(
    "words",
    [("requeue", "b1-1"), ("drop", "b1-1"), ("requeue", "b1-1", "--phone", "+85251007777")],
    ids=" ".join,
)
def test_a_number_in_a_reason_is_kept_masked(
    sendcode: Command, redis: Redis, settings: Settings, words: tuple[str, ...]
) -> None:
    ran = sendcode("dead", *words, "--reason", "tell +852 9900-7002 first")

    assert '"tell ******02 first"' in ran.err
    assert "tell ******02 first" in sendcode("job", "show", "b1-1").out
    assert recent_actions(redis, settings, 1)[0].reason == "tell ******02 first"


def test_every_decision_is_recorded_with_time_choice_and_reason(
    sendcode: Command, redis: Redis, settings: Settings
) -> None:
    sendcode("dead", "requeue", "--code", BUSY, "--reason", "service is back")
    sendcode("dead", "drop", "b1-4", "--reason", "left")
    sendcode("dead", "requeue", "b1-5", "--phone", "+85251007777")

    actions = recent_actions(redis, settings, 100)
    told = [(each.what, each.about, each.jobs, each.reason) for each in actions]
    assert told == [
        ("dead replace", "job b1-5", 1, ""),
        ("dead drop", "job b1-4", 1, "left"),
        ("dead requeue", f"code {BUSY}", 4, "service is back"),
        ("batch submit", "b2", None, ""),
        ("batch submit", "b1", None, ""),
    ]
    assert all(each.at_ms > 1_600_000_000_000 for each in actions)


def test_an_export_has_full_numbers_and_can_be_submitted(sendcode: Command, tmp_path: Path) -> None:
    output = tmp_path / "dead.csv"

    ran = sendcode("dead", "export", "--batch", "b1", "--output", output)

    assert "6 dead letters written" in ran.err
    found = read_csv(output)
    assert [record["job_id"] for record in found] == [f"b1-{row}" for row in range(1, 7)]
    assert found[3]["phone_num"] == number(4).phone_num
    assert "another number" in found[3]["message"]
    told = sendcode("batch", "submit", output, "--json").json
    # the unknown one is kept back until somebody has asked the customer, and the two that were
    # refused for good until their numbers are corrected
    assert (told["accepted"], told["rejected"]) == (3, 3)


CHOOSING = [("list",), ("export",), ("requeue",), ("drop", "--reason", "x")]


@pytest.mark.parametrize("verb", CHOOSING, ids=lambda words: words[0])
def test_a_batch_that_does_not_exist_is_told_as_such(
    sendcode: Command, verb: tuple[str, ...]
) -> None:
    ran = sendcode("dead", *verb, "--batch", "b11")

    assert ran.exit_code == 1
    assert ran.out == ""
    assert 'there is no batch "b11"' in ran.err


@pytest.mark.parametrize("verb", CHOOSING, ids=lambda words: words[0])
def test_a_code_that_no_dead_letter_has_is_told_with_those_there_are(
    sendcode: Command, verb: tuple[str, ...], dead: DeadLetters
) -> None:
    ran = sendcode("dead", *verb, "--code", "BindUpper")

    assert ran.exit_code == 0
    assert 'no dead letter has the code "BindUpper"; there are: ' in ran.err
    assert BIND_UPPER in ran.err
    assert dead.count() == 7


def test_show_of_a_job_that_does_not_exist_points_nowhere(sendcode: Command) -> None:
    ran = sendcode("dead", "show", "b11-1")

    assert ran.exit_code == 1
    assert 'there is no job "b11-1"' in ran.err
    assert "job show" not in ran.err


def test_without_dead_letters_the_list_says_so(sendcode: Command) -> None:
    sendcode("dead", "drop", "--all", "--reason", "x")

    assert "no dead letters" in sendcode("dead", "list").out
    assert sendcode("dead", "list", "--json").json == {"total": 0, "codes": [], "jobs": []}


@pytest.mark.usefixtures("sendcode")
def test_what_dies_while_a_bulk_runs_is_not_part_of_it(ledger: Ledger, dead: DeadLetters) -> None:
    total = dead.count()

    def one_more_dies(looked: int) -> None:
        if looked == total:
            end_event(ledger, 900)

    report = requeue(dead, Choice(code=BUSY), Handling(), one_more_dies)

    assert report.done == 4
    assert dead.by_code()[BUSY] == 1
