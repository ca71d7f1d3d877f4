"""`sendcode batch status, list, pause, resume, cancel` and `sendcode job show`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from redis import Redis

from jobs.account import Account
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.job import SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ending, Ledger, Pause, Tried
from tests.commands import Command
from tests.ended_jobs import (
    BIND_UPPER,
    PERMANENT,
    SENT,
    UNKNOWN,
    customers,
    end,
    end_event,
    number,
    run_batch,
)
from tests.files import customer, read_csv, write_csv
from tests.ledger_acts import IN_DOUBT, UNSENT


@pytest.fixture
def batch(ledger: Ledger, batches: Batches) -> str:
    """A finished batch of three jobs: sent, dead, sent."""
    run_batch(ledger, batches, "b1", customers(3), lambda row: PERMANENT if row == 2 else SENT)
    return "b1"


@pytest.fixture
def waiting(batches: Batches) -> str:
    batches.open("w1", "digest", ["name", "country_code", "phone_num"])
    batches.append("w1", 0, customers(50), last=True)
    return "w1"


def test_status_has_the_fields_of_the_contract(sendcode: Command, batch: str) -> None:
    told = sendcode("batch", "status", batch, "--json").json

    assert told["batch_id"] == "b1"
    assert told["state"] == "done"
    assert (told["total"], told["accepted"], told["rejected"]) == (3, 3, 0)
    assert told["counts"] == {"sent": 2, "dead": 1}
    assert told["by_code"] == {BIND_UPPER: 1}
    assert told["rate"] >= 0
    assert told["eta_seconds"] == 0


def test_status_says_in_words_what_failed_and_what_comes_next(
    sendcode: Command, batch: str
) -> None:
    ran = sendcode("batch", "status", batch)

    assert "3 of 3 (100%)" in ran.out
    assert "Ask the customer for another number" in ran.out
    assert "sendcode dead list --batch b1" in ran.err
    assert "sendcode batch results b1" in ran.err


def test_status_says_what_holds_a_batch_up(
    sendcode: Command, waiting: str, account: Account
) -> None:
    assert "no worker is running" in sendcode("batch", "status", waiting).err
    account.halt("api", "AuthFailure.SecretIdNotFound", "no such id")
    assert "the secret id does not exist" in sendcode("batch", "status", waiting).err
    account.halt("person", "Halted", "for the night")
    assert "for the night" in sendcode("batch", "status", waiting).err


def test_status_without_an_id_lists_all_batches(sendcode: Command, waiting: str) -> None:
    assert sendcode("batch", "status").out == sendcode("batch", "list").out
    told = sendcode("batch", "status", "--json").json
    assert [each["batch_id"] for each in told["batches"]] == [waiting]
    assert sendcode("batch", "status", "--watch").exit_code == 2


def test_nobody_can_tell_how_long_it_takes_while_nothing_moves(
    sendcode: Command, waiting: str, ledger: Ledger, account: Account, redis: Redis, keys: Keys
) -> None:
    for _, job_id in ledger.sweep()[:5]:
        end(ledger, job_id, SENT)
    redis.hincrby(keys.batch(waiting), "pace_from", -1_000)

    def eta() -> float | None:
        seconds: float | None = sendcode("batch", "status", waiting, "--json").json["eta_seconds"]
        return seconds

    assert eta()
    assert " left" in sendcode("batch", "status", waiting).out
    account.halt("person", "Halted", "for the night")
    assert eta() is None
    assert " left" not in sendcode("batch", "status", waiting).out
    account.resume("person")
    assert eta()
    for name in ("pace_at", "pace_from"):  # all workers ended 20 s ago
        redis.hincrby(keys.batch(waiting), name, -20_000)
    assert eta() is None


def test_a_cancelled_batch_says_how_many_were_sent_not_that_all_is_done(
    sendcode: Command, waiting: str, ledger: Ledger
) -> None:
    for _, job_id in list(ledger.sweep())[:3]:
        end(ledger, job_id, SENT)
    sendcode("batch", "cancel", waiting, "--yes")

    shown = sendcode("batch", "status", waiting, "--watch")

    assert "progress   3 of 50 sent, 47 cancelled" in shown.out
    assert "100%" not in shown.out + shown.err
    assert " 3 " in sendcode("batch", "list").out


@pytest.fixture
def sent_twice(ledger: Ledger, batches: Batches, dead: DeadLetters) -> str:
    """A finished batch of two jobs, both sent; the first was perhaps sent before."""
    run_batch(ledger, batches, "b1", customers(2), lambda row: UNKNOWN if row == 1 else SENT)
    dead.requeue(Decision("requeue", "b1-1"), dead.window(0))
    end(ledger, ledger.sweep()[0][1], SENT)
    return "b1"


def test_status_says_how_many_were_perhaps_sent_twice_and_how_to_find_them(
    sendcode: Command, sent_twice: str, tmp_path: Path
) -> None:
    told = sendcode("batch", "status", sent_twice, "--json").json
    shown = sendcode("batch", "status", sent_twice)
    sendcode("batch", "results", sent_twice, "--output", tmp_path / "results.csv")

    assert (told["counts"], told["possible_duplicate"]) == ({"sent": 2}, 1)
    assert "1   of all these, sent perhaps twice" in shown.out
    assert '"perhaps twice" in the column message' in shown.err
    rows = read_csv(tmp_path / "results.csv")
    assert ["perhaps twice" in row["message"] for row in rows] == [True, False]


def test_watching_a_batch_that_is_over_ends_at_once(sendcode: Command, batch: str) -> None:
    ran = sendcode("batch", "status", batch, "--watch", "--json")

    assert ran.exit_code == 0
    assert ran.json["state"] == "done"
    assert "batch b1: 3 of 3 (100%), 1 failed, done" in ran.err


@pytest.mark.parametrize(
    "words", [("status",), ("pause",), ("resume",), ("cancel", "--yes"), ("results",)]
)
def test_a_batch_that_does_not_exist_is_one_clear_line(
    sendcode: Command, words: tuple[str, ...]
) -> None:
    ran = sendcode("batch", *words, "nix")

    assert ran.exit_code == 1
    assert ran.err == ('sendcode: there is no batch "nix"; sendcode batch list shows them all\n')


@pytest.mark.usefixtures("batch")
def test_a_job_s_id_in_a_batch_s_place_is_recognised(sendcode: Command) -> None:
    assert "sendcode job show b1-2" in sendcode("batch", "status", "b1-2").err
    assert "sendcode batch status b1" in sendcode("job", "show", "b1").err


@pytest.mark.usefixtures("batch", "waiting")
def test_the_list_shows_the_newest_batch_first(sendcode: Command) -> None:
    told = sendcode("batch", "list", "--json").json

    assert [each["batch_id"] for each in told["batches"]] == ["w1", "b1"]
    assert "w1" in sendcode("batch", "list").out


def test_the_list_shows_no_rate_of_what_stands_still(
    sendcode: Command, waiting: str, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    for _, job_id in ledger.sweep()[:2]:
        end(ledger, job_id, SENT)
    seconds, _ = redis.time()
    ago = (int(seconds) - 300) * 1000
    redis.hset(keys.batch(waiting), mapping={"pace": 9, "pace_at": ago, "pace_from": ago - 60_000})

    assert "/s" not in sendcode("batch", "list").out


def test_without_a_batch_the_list_says_how_to_make_one(sendcode: Command) -> None:
    ran = sendcode("batch", "list")

    assert ran.exit_code == 0
    assert "sendcode batch submit FILE" in ran.err


def test_a_paused_batch_feeds_nothing_until_it_is_resumed(
    sendcode: Command, waiting: str, ledger: Ledger
) -> None:
    paused = sendcode("batch", "pause", waiting)
    assert "batch w1 is paused, 50 jobs wait" in paused.out
    assert ledger.sweep() == []

    resumed = sendcode("batch", "resume", waiting)

    assert "batch w1 is running" in resumed.out
    assert ledger.sweep()


def test_pausing_twice_is_no_fault(sendcode: Command, waiting: str) -> None:
    sendcode("batch", "pause", waiting)

    ran = sendcode("batch", "pause", waiting, "--json")

    assert ran.exit_code == 0
    assert (ran.json["changed"], ran.json["state"]) == (False, "paused")


def test_a_cancelled_batch_sends_nothing_more_and_says_how_much(
    sendcode: Command, waiting: str, ledger: Ledger
) -> None:
    ledger.sweep()

    ran = sendcode("batch", "cancel", waiting, "--yes")

    assert "batch w1 is cancelled: 50 jobs are not sent any more" in ran.out
    assert ledger.sweep() == []
    assert sendcode("batch", "status", waiting, "--json").json["counts"] == {"cancelled": 50}


def test_a_cancel_counts_what_is_in_work_by_itself(
    sendcode: Command, waiting: str, ledger: Ledger
) -> None:
    job_id = ledger.sweep()[0][1]
    ledger.claim(job_id, "token")

    ran = sendcode("batch", "cancel", waiting, "--yes")

    assert (
        "cancelled: 49 jobs are not sent any more; 1 more is in work, and not sent eit" in ran.out
    )


def test_off_a_terminal_a_cancel_wants_to_be_told_yes(
    sendcode: Command, waiting: str, batches: Batches
) -> None:
    ran = sendcode("batch", "cancel", waiting)

    assert ran.exit_code == 2
    assert "There is no terminal to ask at: --yes confirms it" in ran.err
    assert (batch := batches.get(waiting))
    assert batch.state == "running"


@pytest.mark.parametrize("order", ["pause", "resume", "cancel"])
def test_a_batch_that_is_over_cannot_be_steered(sendcode: Command, batch: str, order: str) -> None:
    ran = sendcode("batch", order, batch)

    assert ran.exit_code == 1
    assert f"batch b1 is done: nothing to {order}" in ran.err


def test_steering_is_recorded(sendcode: Command, waiting: str, redis: Redis, keys: Keys) -> None:
    sendcode("batch", "pause", waiting)
    sendcode("batch", "resume", waiting)

    assert redis.llen(keys.actions) == 3  # and its submission


# one job's story


@pytest.mark.usefixtures("batch")
def test_a_job_s_story_has_each_attempt_with_its_request_id(sendcode: Command) -> None:
    ran = sendcode("job", "show", "b1-2")

    assert "job b1-2: dead" in ran.out
    assert "attempt: FailedOperation.PhoneBindUpper (5 ms)" in ran.out
    assert f"RequestId {PERMANENT.request_id}" in ran.out
    assert "b1, line 3 of its file" in ran.out
    assert "ask the customer for another number" in ran.out


@pytest.mark.usefixtures("batch")
def test_a_story_shows_no_full_number(sendcode: Command) -> None:
    told = sendcode("job", "show", "b1-2").out + sendcode("job", "show", "b1-2", "--json").out

    assert number(2).phone_num not in told
    assert number(2).masked in told


@pytest.mark.usefixtures("batch")
def test_a_story_as_json_has_what_a_job_has_and_its_entries(sendcode: Command) -> None:
    told = sendcode("job", "show", "b1-2", "--json").json

    assert (told["job_id"], told["state"], told["code"]) == ("b1-2", "dead", BIND_UPPER)
    assert told["line"] == 3
    assert told["story"][0]["what"] == "attempt"
    assert told["story"][0]["request_id"] == PERMANENT.request_id
    assert told["meaning"] == "This number already has the most accounts allowed"


def park(ledger: Ledger, wait_ms: int) -> str:
    """An event that was not answered once, and is laid aside."""
    job_id = ledger.submit(SendCodeJob.for_event(number(1))).record.job_id
    assert ledger.claim(job_id, "t").verdict == "granted"
    assert ledger.begin(job_id, "t", 1, 3000, Tried()).kind == "first"
    ledger.park(job_id, "t", Pause(wait_ms, "Network.Connect", "OSError"), Tried(UNSENT))
    return job_id


@pytest.mark.parametrize(
    ("wait_ms", "is_halted", "told"),
    [
        (60_000, False, "it is tried again by itself at 20"),
        (60_000, True, "it waits until sending goes on (sendcode status)"),
        (-1_000, False, "it waits for its turn (sendcode status)"),
    ],
)
def test_a_parked_job_names_no_time_at_which_it_will_not_be_tried(
    wait_ms: int,
    is_halted: bool,
    told: str,
    sendcode: Command,
    ledger: Ledger,
    account: Account,
) -> None:
    job_id = park(ledger, wait_ms)
    if is_halted:
        account.halt("api", "AuthFailure.SecretIdNotFound", "no such id")

    assert told in sendcode("job", "show", job_id).out
    assert told in sendcode("job", "show", job_id, "--json").json["in_words"]


@pytest.mark.parametrize(("by", "is_tried_on"), [("api", True), ("person", False)])
def test_a_parked_job_in_doubt_is_tried_on_unless_a_person_halted_all(
    by: Literal["api", "person"],
    is_tried_on: bool,
    sendcode: Command,
    ledger: Ledger,
    account: Account,
) -> None:
    job_id = ledger.submit(SendCodeJob.for_event(number(1))).record.job_id
    ledger.claim(job_id, "t")
    ledger.begin(job_id, "t", 1, 3000, Tried())
    ledger.park(job_id, "t", Pause(60_000, "Network.Lost", "RemoteDisconnected"), Tried(IN_DOUBT))
    account.halt(by, "AuthFailure.SecretIdNotFound", "no such id")

    assert ("tried again by itself" in sendcode("job", "show", job_id).out) == is_tried_on


@pytest.mark.parametrize(
    ("code", "label"), [("Network.Lost", "detail        "), (BIND_UPPER, "API's message ")]
)
def test_what_the_api_did_not_say_is_not_called_its_message(
    code: str, label: str, sendcode: Command, ledger: Ledger
) -> None:
    record = end_event(ledger, 1, Ending(State.DEAD, code, "some words"))

    assert f"{label}some words" in sendcode("job", "show", record.job_id).out
    assert f"{label}some words" in sendcode("dead", "show", record.job_id).out


def test_an_event_s_story_is_shown_too(sendcode: Command, ledger: Ledger) -> None:
    record = end_event(ledger, 1, SENT)

    ran = sendcode("job", "show", record.job_id)

    assert "The code was sent" in ran.out
    assert "single code" in ran.out


@pytest.mark.usefixtures("waiting")
def test_a_row_that_was_not_fed_yet_has_a_story(sendcode: Command) -> None:
    told = sendcode("job", "show", "w1-49", "--json").json

    assert (told["state"], told["line"], told["story"]) == ("queued", 50, [])


def test_a_row_of_a_cancelled_batch_says_so(
    sendcode: Command, waiting: str, batches: Batches
) -> None:
    batches.steer(waiting, "cancel")

    assert "it was cancelled" in sendcode("job", "show", "w1-49").out


def test_a_rejected_row_says_why_it_never_became_a_job(sendcode: Command, tmp_path: Path) -> None:
    rows = [customer(1), customer(2)]
    rows[1][1] = "86"
    sendcode("batch", "submit", write_csv(tmp_path / "two.csv", rows), "--id", "b1")

    ran = sendcode("job", "show", "b1-2")

    assert ran.exit_code == 1
    assert "never became a job" in ran.err
    assert "use a number of another country" in ran.err


@pytest.mark.usefixtures("batch")
def test_a_forgotten_job_says_so(sendcode: Command, redis: Redis, keys: Keys) -> None:
    redis.delete(keys.job("b1-1"))

    ran = sendcode("job", "show", "b1-1")

    assert ran.exit_code == 1
    assert "no longer kept" in ran.err


@pytest.mark.parametrize("job_id", ["b1-99", "b1-2.r1", "b1-0", "nix", "ev-00", "b1-²", "-", ".r1"])
@pytest.mark.usefixtures("batch")
def test_a_job_that_does_not_exist_is_one_clear_line(sendcode: Command, job_id: str) -> None:
    ran = sendcode("job", "show", "--", job_id)

    assert ran.exit_code == 1
    assert "there is no job" in ran.err


def test_jobs_of_a_batch_that_goes_on_can_be_ended(
    sendcode: Command, waiting: str, ledger: Ledger
) -> None:
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)

    told = sendcode("batch", "status", waiting, "--json").json

    assert told["finished"] == 50
    assert told["state"] == "done"
