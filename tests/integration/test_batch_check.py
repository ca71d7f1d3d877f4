"""`sendcode batch check`: what would happen, with nothing sent or changed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.batches import Batches
from jobs.ledger import Ledger
from tests.commands import Command, on_terminal
from tests.ended_jobs import SENT, customers, end, end_event, number
from tests.files import correct, customer, read_csv, write_csv
from tests.ledger_acts import number_key


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Lines 2 to 9: good, barred, good, no digits, double of line 2, barred, good, double too."""
    rows = [customer(n) for n in range(1, 9)]
    rows[1][1] = "86"
    rows[3][2] = "call me"
    rows[4][2] = rows[0][2]
    rows[5][1] = "+7"
    rows[7][2] = rows[0][2]
    return write_csv(tmp_path / "mixed.csv", rows)


def test_invalid_rows_are_counted_by_reason_with_their_lines(
    sendcode: Command, mixed: Path
) -> None:
    told = sendcode("batch", "check", mixed, "--json").json

    assert (told["rows"], told["valid"], told["invalid"]) == (8, 5, 3)
    reasons = told["invalid_by_reason"]
    assert [(each["code"], each["lines"], each["count"]) for each in reasons] == [
        ("barred_country_code", [3], 1),
        ("not_digits", [5], 1),
        ("barred_country_code", [7], 1),
    ]
    assert "country code 86 " in reasons[0]["message"]
    assert "country code 7 " in reasons[2]["message"]
    assert reasons[0]["remedy"] == "use a number of another country"


def test_numbers_that_stand_in_the_file_twice_are_named(sendcode: Command, mixed: Path) -> None:
    told = sendcode("batch", "check", mixed, "--json").json

    assert told["doubles"] == {
        "numbers": 1,
        "rows": 2,
        "examples": [{"count": 3, "lines": [2, 6, 9]}],
    }


def test_of_many_numbers_that_stand_there_twice_the_rest_is_counted(
    sendcode: Command, tmp_path: Path
) -> None:
    rows = [customer(n) for n in (1, 2, 3, 4, 5, 1, 2, 3, 4, 5)]

    told = sendcode("batch", "check", write_csv(tmp_path / "twice.csv", rows)).out

    assert "lines 2, 7; lines 3, 8; lines 4, 9; and 2 numbers more" in " ".join(told.split())


def test_the_same_number_written_in_two_ways_is_a_double(sendcode: Command, tmp_path: Path) -> None:
    file = write_csv(
        tmp_path / "two.csv", [["a", "852", "9900 0001", ""], ["b", "+852", "9900-0001", ""]]
    )

    assert sendcode("batch", "check", file, "--json").json["doubles"]["rows"] == 1


def test_the_verdict_comes_last_and_in_sight_on_a_small_terminal(
    settings: Settings, tmp_path: Path
) -> None:
    rows = [customer(n) for n in range(1, 40)]
    for n in range(30):
        rows[n][2] = ("9900 00{:02}", "(9900)00{:02}", "+852 9900 00{:02}")[n % 3].format(n)
    rows[35][1], rows[36][1], rows[37][2] = "86", "7", "call me"
    file = write_csv(tmp_path / "many.csv", rows)

    screen = on_terminal(settings, "batch", "check", file, cwd=tmp_path, columns=80)[1]

    lines = screen.splitlines()
    assert len([line for line in lines if "repaired" in line]) == 1
    (verdict,) = [n for n, line in enumerate(lines) if "36 of 39 rows can be sent, 3 can" in line]
    assert lines[-1].startswith("send the others: ")
    assert len(lines) - verdict <= 3


def test_nothing_is_written_anywhere(sendcode: Command, mixed: Path, redis: Redis) -> None:
    sendcode("batch", "check", mixed)

    assert redis.dbsize() == 0


def test_numbers_that_got_a_code_before_and_those_in_their_interval_are_told(
    sendcode: Command, ledger: Ledger, redis: Redis, tmp_path: Path
) -> None:
    end_event(ledger, 1, SENT)
    end_event(ledger, 2, SENT)
    redis.hset(number_key(ledger, number(2)), "until", 1)  # its interval is over
    rows = [["", "852", number(n).phone_num, ""] for n in (1, 2, 3)]
    file = write_csv(tmp_path / "again.csv", rows)

    told = sendcode("batch", "check", file, "--json").json

    assert told["sent_before"] == {"count": 2, "lines": [2, 3]}
    assert told["in_interval"] == {"count": 1, "lines": [2]}


def test_codes_sent_before_count_into_a_number_s_use(
    sendcode: Command, ledger: Ledger, redis: Redis, tmp_path: Path
) -> None:
    end_event(ledger, 1, SENT)
    redis.hset(number_key(ledger, number(1)), "codes", 4)
    rows = [["", "852", number(n).phone_num, ""] for n in (2, 1, 1)]
    file = write_csv(tmp_path / "often.csv", rows)

    usual = sendcode("batch", "check", file, "--json").json
    generous = sendcode("batch", "check", file, "--most-per-number", "6", "--json").json

    assert usual["used_too_often"] == {"limit": 5, "count": 1, "lines": [3]}
    assert generous["used_too_often"] == {"limit": 6, "count": 0, "lines": []}


@pytest.mark.settings(
    sendcode_rate_limit=20,
    sendcode_phone_interval=60,
)
def test_the_time_is_that_of_the_rate_and_of_the_work_that_waits(
    sendcode: Command, batches: Batches, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "sixty.csv", [customer(n) for n in range(60)])
    assert sendcode("batch", "check", file, "--json").json["eta_seconds"] == 3
    # a big batch takes turns with the new one, a small one ends before; a paused one does not count
    for batch_id, rows, first in (("big", 500, 1), ("small", 40, 600), ("paused", 300, 700)):
        batches.open(batch_id, f"digest of {batch_id}", ["n"])
        batches.append(batch_id, 0, customers(rows, first), last=True)
    batches.steer("paused", "pause")

    told = sendcode("batch", "check", file, "--json").json

    assert told["waiting_before"] == 540
    assert told["eta_seconds"] == (60 + 60 + 40) / 20


@pytest.mark.settings(
    sendcode_rate_limit=20,
    sendcode_phone_interval=60,
)
def test_a_gentler_pace_takes_longer(sendcode: Command, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "sixty.csv", [customer(n) for n in range(60)])

    told = sendcode("batch", "check", file, "--max-rate", "2", "--json").json

    assert told["eta_seconds"] == 30


def test_invalid_rows_go_to_a_file_with_a_reason_each(
    sendcode: Command, mixed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "invalid.csv"

    ran = sendcode("batch", "check", mixed, "--output", output)

    assert ran.exit_code == 0
    found = read_csv(output)
    assert [record["name"] for record in found] == ["Customer 2", "Customer 4", "Customer 6"]
    ours = ["status", "code", "finished_at", "job_id", "reason"]
    assert list(found[0]) == ["name", "country_code", "phone_num", "city", *ours]
    assert "use a number of another country" in found[0]["reason"]
    assert output.read_bytes().startswith(b"\xef\xbb\xbf")


def test_the_file_of_invalid_rows_can_be_corrected_and_submitted(
    sendcode: Command, mixed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "invalid.csv"
    sendcode("batch", "check", mixed, "--output", output)
    text = output.read_text("utf-8-sig").replace("+7", "852").replace("86,", "852,")
    output.write_text(text.replace("call me", "99000044"), "utf-8")

    told = sendcode("batch", "submit", output, "--json").json

    assert (told["accepted"], told["rejected"]) == (3, 0)


def test_the_file_of_invalid_rows_corrected_in_two_goes_sends_each_row_once(
    sendcode: Command, mixed: Path, tmp_path: Path, ledger: Ledger
) -> None:
    output = tmp_path / "invalid.csv"
    sendcode("batch", "check", mixed, "--output", output)
    correct(output, {"Customer 2": {"country_code": "852"}})
    sendcode("batch", "submit", output)
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)
    correct(
        output, {"Customer 4": {"phone_num": "99000044"}, "Customer 6": {"country_code": "852"}}
    )

    told = sendcode("batch", "submit", output, "--json").json

    assert told["accepted"] == 2
    assert [each["code"] for each in told["file"]["invalid_by_reason"]] == ["sent_since"]


def test_the_invalid_rows_of_a_results_file_keep_their_status(
    sendcode: Command, mixed: Path, tmp_path: Path
) -> None:
    sendcode("batch", "submit", mixed, "--id", "b1")
    sendcode("batch", "results", "b1", "--output", tmp_path / "results.csv")

    sendcode("batch", "check", tmp_path / "results.csv", "--output", tmp_path / "invalid.csv")
    again = sendcode("batch", "submit", tmp_path / "invalid.csv")

    found = read_csv(tmp_path / "invalid.csv")
    assert list(found[0])[-2:] == ["job_id", "reason"]
    assert {each["status"] for each in found} == {"queued", "rejected"}
    assert again.exit_code == 1


@pytest.mark.parametrize("spelling", ["mixed.csv", "../{folder}/mixed.csv", "link.csv"])
def test_the_file_itself_is_never_overwritten(
    sendcode: Command, mixed: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    monkeypatch.chdir(mixed.parent)
    Path("link.csv").symlink_to(mixed)
    before = mixed.read_bytes()

    ran = sendcode("batch", "check", mixed, "-o", spelling.format(folder=mixed.parent.name))

    assert ran.exit_code == 2
    assert "--output" in ran.err
    assert "is the file that is checked" in ran.err
    assert mixed.read_bytes() == before


def test_the_next_commands_read_the_file_in_the_same_way(
    sendcode: Command, mixed: Path, tmp_path: Path
) -> None:
    file = mixed.rename(tmp_path / "May & June.csv")
    options = ["--id", "may", "--max-rate", "1", "--encoding", "cp1252"]

    said = sendcode("batch", "check", file, *options).err

    _, _, check = said.partition("to correct them: ")
    _, _, submit = said.partition("send the others: ")
    same = [str(file), *options]
    assert shlex.split(check.splitlines()[0]) == [
        *("sendcode", "batch", "check", *same, "--output", "invalid.csv")
    ]
    assert shlex.split(submit.splitlines()[0]) == ["sendcode", "batch", "submit", *same]


def test_a_file_of_no_invalid_rows_is_not_passed_over_in_silence(
    sendcode: Command, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "good.csv", [customer(1)])

    ran = sendcode("batch", "check", file, "--output", tmp_path / "invalid.csv")

    assert "no row is invalid" in ran.err
    assert read_csv(tmp_path / "invalid.csv") == []


@pytest.mark.parametrize("verb", ["check", "submit"])
def test_a_file_of_nothing_but_the_columns_names_fails_with_a_remedy(
    sendcode: Command, tmp_path: Path, verb: str
) -> None:
    ran = sendcode("batch", verb, write_csv(tmp_path / "none.csv", []))

    assert ran.exit_code == 1
    assert "none.csv: no row can be sent: there is none below the names of the columns" in ran.err


def test_a_file_that_was_submitted_before_is_recognised(sendcode: Command, mixed: Path) -> None:
    batch_id = sendcode("batch", "submit", mixed, "--json").json["batch_id"]

    ran = sendcode("batch", "check", mixed)

    assert f"it was submitted before: batch {batch_id} is running" in ran.err


def test_what_comes_next_is_said_as_it_is(sendcode: Command, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "one.csv", [customer(1)])

    before = sendcode("batch", "check", file)
    submitted = sendcode("batch", "submit", file)
    after = sendcode("batch", "check", file)

    assert f"send it: sendcode batch submit {file}" in before.err
    assert ": 1 job accepted" in submitted.out
    assert "submitted again, it would add nothing\n" in after.err
    assert "sendcode batch submit" not in after.err


def test_what_submit_would_refuse_is_told(sendcode: Command, mixed: Path, batches: Batches) -> None:
    batches.open("b1", "another digest", ["n"])

    told = sendcode("batch", "check", mixed, "--id", "b1", "--json").json

    assert "other content" in told["refused"]


def test_a_halted_account_and_missing_workers_are_told(
    sendcode: Command, mixed: Path, account: Account
) -> None:
    account.halt("person", "Halted", "night")

    ran = sendcode("batch", "check", mixed)

    assert "all sending is halted" in ran.err
    assert "no worker is running" in ran.err


def test_without_redis_only_the_file_is_checked(
    sendcode: Command, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDCODE_REDIS_URL", "redis://127.0.0.1:9/0")

    ran = sendcode("batch", "check", mixed, "--json")

    assert ran.exit_code == 0
    assert ran.json["valid"] == 5
    assert ran.json["sent_before"] is None
    assert ran.json["eta_seconds"] is None
    assert "cannot be reached" in ran.err


def test_no_full_number_is_ever_said(sendcode: Command, mixed: Path) -> None:
    ran = sendcode("batch", "check", mixed)
    told = sendcode("batch", "check", mixed, "--json")

    assert customer(1)[2] not in ran.out + ran.err + told.out + told.err


@pytest.mark.parametrize("wrong", ["--max-rate=0", "--most-per-number=0", "--id=a b"])
def test_options_that_make_no_sense_are_refused(sendcode: Command, mixed: Path, wrong: str) -> None:
    assert sendcode("batch", "check", mixed, wrong).exit_code == 2
