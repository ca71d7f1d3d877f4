"""`sendcode batch results`, and results that come back corrected."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import Ending, Ledger
from producer.results import RESULT_COLUMNS, statuses_of
from tests.commands import Command
from tests.ended_jobs import BIND_UPPER, PERMANENT, SENT, UNKNOWN, customers, end, number
from tests.files import HEADER, correct, customer, read_csv, write_csv

PROVED = Ending(State.SENT_INFERRED, "FailedOperation.SendVerifyCodeLimit60", "", "req-5")


@pytest.fixture
def ended(sendcode: Command, ledger: Ledger, tmp_path: Path) -> Path:
    """A batch b1 of which row 1 was sent, 2 is dead, 3 was rejected, 4 is unknown, 5 was proved."""
    rows = [customer(n) for n in range(1, 6)]
    rows[2][1] = "86"
    file = write_csv(tmp_path / "customers.csv", rows)
    sendcode("batch", "submit", file, "--id", "b1")
    endings = {"b1-1": SENT, "b1-2": PERMANENT, "b1-4": UNKNOWN, "b1-5": PROVED}
    for _, job_id in ledger.sweep():
        end(ledger, job_id, endings[job_id])
    return file


def results(sendcode: Command, folder: Path, *options: str) -> list[dict[str, str]]:
    output = folder / "results.csv"
    ran = sendcode("batch", "results", "b1", "--output", output, "--overwrite", *options)
    assert ran.exit_code == 0
    return read_csv(output)


@pytest.mark.usefixtures("ended")
def test_the_customer_s_columns_stand_in_their_order_before_ours(
    sendcode: Command, tmp_path: Path
) -> None:
    found = results(sendcode, tmp_path)

    assert list(found[0]) == ["name", "country_code", "phone_num", "city", *RESULT_COLUMNS]
    assert [record["name"] for record in found] == [f"Customer {n}" for n in range(1, 6)]
    assert [record["phone_num"] for record in found] == [customer(n)[2] for n in range(1, 6)]


@pytest.mark.usefixtures("ended")
def test_each_row_says_what_became_of_it_and_what_to_do(sendcode: Command, tmp_path: Path) -> None:
    sent, dead, rejected, unknown, proved = results(sendcode, tmp_path)

    assert [each["status"] for each in (sent, dead, rejected, unknown, proved)] == [
        "sent",
        "dead",
        "rejected",
        "unknown",
        "sent_inferred",
    ]
    assert sent["message"] == "The code was sent"
    assert dead["message"] == (
        "This number already has the most accounts allowed: ask the customer for another number"
    )
    assert (dead["code"], dead["attempts"]) == (BIND_UPPER, "1")
    assert dead["request_id"] == PERMANENT.request_id
    assert dead["finished_at"].endswith("Z")
    assert "use a number of another country" in rejected["message"]
    assert "check with the customer whether a code has come" in unknown["message"]


@pytest.mark.usefixtures("ended")
def test_who_took_full_numbers_is_noted(sendcode: Command, tmp_path: Path) -> None:
    results(sendcode, tmp_path)
    sendcode("dead", "export", "--batch", "b1", "--output", tmp_path / "dead.csv")

    export, download, *_ = sendcode("actions", "--json").json
    assert (export["what"], export["about"]) == ("dead export", "batch b1")
    assert (download["what"], download["about"]) == ("batch download", "b1")
    assert export["by"] == download["by"]
    assert "@" in export["by"]


@pytest.mark.usefixtures("ended")
def test_full_numbers_can_be_taken_while_redis_is_full(
    sendcode: Command, tmp_path: Path, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    noted = sendcode("actions", "--json").json
    redis.config_set("maxmemory", 1)
    try:
        found = results(sendcode, tmp_path)
        exported = sendcode("dead", "export", "--output", tmp_path / "dead.csv")
    finally:
        redis.config_set("maxmemory", 0)

    assert len(found) == 5
    assert exported.exit_code == 0
    assert len(read_csv(tmp_path / "dead.csv")) == 2
    assert caplog.messages.count("not noted who took full numbers: Redis refused it") == 2
    assert sendcode("actions", "--json").json == noted


@pytest.mark.usefixtures("batches")
def test_rows_that_wait_are_in_the_results_too(sendcode: Command, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "customers.csv", [customer(1), customer(2)])
    sendcode("batch", "submit", file, "--id", "b1")

    found = results(sendcode, tmp_path)

    assert [(each["status"], each["attempts"]) for each in found] == [("queued", "")] * 2
    assert found[0]["message"] == "Waiting to be sent"


@pytest.mark.usefixtures("ended")
def test_only_the_failed_ones_can_be_had(sendcode: Command, tmp_path: Path) -> None:
    assert [each["name"] for each in results(sendcode, tmp_path, "--only", "failed")] == [
        "Customer 2",
        "Customer 3",
    ]
    assert [each["name"] for each in results(sendcode, tmp_path, "--only", "sent")] == [
        "Customer 1",
        "Customer 5",
    ]
    assert [each["name"] for each in results(sendcode, tmp_path, "--only", "unknown")] == [
        "Customer 4"
    ]


@pytest.mark.usefixtures("ended")
def test_results_in_any_form_say_the_same_and_come_back_as_the_same(
    sendcode: Command, tmp_path: Path
) -> None:
    named = sendcode("batch", "results", "b1", "--output", tmp_path / "results.xlsx")
    asked = sendcode("batch", "results", "b1", "-o", tmp_path / "r", "--format", "xlsx")
    plain = sendcode("batch", "results", "b1", "--format", "plain")
    results(sendcode, tmp_path)

    assert (named.exit_code, asked.exit_code, plain.exit_code) == (0, 0, 0)
    assert '="' not in plain.out
    told = [
        sendcode("batch", "check", tmp_path / file, "--json").json
        for file in ("results.xlsx", "r", "results.csv")
    ]
    assert len({each["batch_id"] for each in told}) == 1
    assert told[0]["rows"] == 5
    assert told[0]["invalid"] == told[2]["invalid"] > 1


def test_a_form_that_there_is_not_is_refused_with_those_there_are(sendcode: Command) -> None:
    ran = sendcode("dead", "export", "--format", "ods")

    assert ran.exit_code == 2
    assert "csv, plain, xlsx" in ran.err


def test_columns_that_a_person_named_are_sent_to_and_named_again_for_the_corrected_rows(
    sendcode: Command, batches: Batches, tmp_path: Path
) -> None:
    file = write_csv(
        tmp_path / "customers.csv",
        [["+85251234567", "+85261234567"], ["51234568", "+85261234568"]],
        ("Phone", "Mobile"),
    )
    columns = ("--phone-column", "Phone")

    checked = sendcode("batch", "check", file, *columns, "--json").json
    found = sendcode("batch", "check", file, "--json").json
    sendcode("batch", "submit", file, "--id", "b1", *columns, "--yes")
    taken = sendcode("batch", "results", "b1", "--only", "failed", "-o", tmp_path / "failed.csv")

    assert (checked["valid"], found["valid"]) == (1, 2)
    sent_to = [row.phone.e164 for _, row, _ in batches.rows("b1") if row.phone is not None]
    assert sent_to == ["+85251234567"]
    assert "failed.csv --phone-column Phone" in taken.err


@pytest.mark.usefixtures("ended")
def test_an_unknown_group_is_refused_with_those_there_are(sendcode: Command) -> None:
    ran = sendcode("batch", "results", "b1", "--only", "bad")

    assert ran.exit_code == 2
    assert "failed" in ran.err
    assert "sent_inferred" in ran.err


def test_every_state_can_be_asked_for() -> None:
    assert all(state in statuses_of(state) for state in State)


def test_zeros_in_front_and_long_numbers_are_safe_from_excel(
    sendcode: Command, tmp_path: Path
) -> None:
    row = ["0042", "852", "99000001", "12345678901234567890"]
    file = write_csv(tmp_path / "ids.csv", [row])
    sendcode("batch", "submit", file, "--id", "b1")

    ran = sendcode("batch", "results", "b1")

    cells = next(csv.reader([ran.out.splitlines()[1]]))
    assert cells[0] == '="0042"'
    assert cells[3] == '="12345678901234567890"'


@pytest.mark.parametrize("attack", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\uff1d1"])
def test_no_cell_is_a_formula(sendcode: Command, tmp_path: Path, attack: str) -> None:
    file = write_csv(tmp_path / "evil.csv", [[attack, "852", "99000001", ""]])
    sendcode("batch", "submit", file, "--id", "b1")

    ran = sendcode("batch", "results", "b1", "-o", tmp_path / "out.csv")

    assert ran.exit_code == 0
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as stream:
        cells = list(csv.reader(stream))[1]
    assert cells[0].startswith("'")


@pytest.mark.usefixtures("ended")
def test_json_holds_the_same_rows(sendcode: Command) -> None:
    told = sendcode("batch", "results", "b1", "--json").json

    assert told["batch_id"] == "b1"
    assert [row["status"] for row in told["rows"]] == [
        "sent",
        "dead",
        "rejected",
        "unknown",
        "sent_inferred",
    ]
    assert told["rows"][1]["cells"] == customer(2)


@pytest.mark.usefixtures("ended")
def test_with_a_file_json_tells_what_was_written(sendcode: Command, tmp_path: Path) -> None:
    ran = sendcode("batch", "results", "b1", "-o", tmp_path / "out.csv", "--json")

    assert ran.json["rows"] == 5
    assert ran.json["counts"]["dead"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("batch", "results", "b1"),
        ("batch", "check", "customers.csv"),
        ("dead", "export"),
    ],
)
@pytest.mark.usefixtures("ended")
def test_a_file_that_is_there_is_not_overwritten_unasked(
    sendcode: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("mine.csv"), [customer(1)])
    mine = Path("mine.csv").read_bytes()

    refused = sendcode(*words, "--output", "mine.csv")
    kept = Path("mine.csv").read_bytes()
    wished = sendcode(*words, "--output", "mine.csv", "--overwrite")

    assert refused.exit_code == 2
    expected = "mine.csv: the file exists already; name another one, or let it be replaced"
    assert f"{expected} (--overwrite)" in refused.err
    assert kept == mine
    assert wished.exit_code == 0
    assert Path("mine.csv").read_bytes() != mine


@pytest.mark.usefixtures("ledger")
def test_whoever_asks_for_the_failed_rows_of_a_cancelled_batch_is_told_how_to_take_them(
    sendcode: Command, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "customers.csv", [customer(1), customer(2)])
    sendcode("batch", "submit", file, "--id", "b1")
    sendcode("batch", "cancel", "b1", "--yes")

    ran = sendcode("batch", "results", "b1", "--only", "failed", "-o", tmp_path / "failed.csv")

    assert "2 rows were cancelled, not failed; take them: " in ran.err
    assert "results b1 --only cancelled --output b1-cancelled.csv" in ran.err


@pytest.mark.parametrize(
    ("own", "options", "written"),
    [
        (",", (), ","),
        (";", (), ";"),
        ("\t", (), ","),
        ("|", (), ","),
        (",", ("--separator", "semicolon"), ";"),
        (";", ("--separator", "comma"), ","),
        (",", ("--separator", "tab"), "\t"),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_results_have_a_separator_that_excel_parts_into_columns_or_the_one_wished_for(
    sendcode: Command, tmp_path: Path, own: str, options: tuple[str, ...], written: str
) -> None:
    file, out, invalid = (tmp_path / name for name in ("own.csv", "out.csv", "invalid.csv"))
    barred = ["b", "86", "99000002", ""]
    file.write_text("\n".join(own.join(each) for each in (HEADER, customer(1), barred)))
    sendcode("batch", "submit", file, "--id", "b1")

    sendcode("batch", "results", "b1", "-o", out, *options)
    sendcode("batch", "check", file, "-o", invalid, *options)

    for each in (out, invalid):
        head = each.read_text("utf-8-sig").splitlines()[0]
        assert head.split(written)[: len(HEADER)] == list(HEADER)


@pytest.mark.usefixtures("ended")
def test_dead_letters_are_exported_with_the_separator_wished_for(sendcode: Command) -> None:
    ran = sendcode("dead", "export", "--separator", "semicolon")

    assert ran.out.splitlines()[0].count(";") > 3


@pytest.mark.usefixtures("ended")
def test_a_separator_that_there_is_not_is_refused(sendcode: Command) -> None:
    ran = sendcode("batch", "results", "b1", "--separator", ";")

    assert ran.exit_code == 2
    assert "--separator: must be one of comma, semicolon, tab" in ran.err


@pytest.mark.usefixtures("ended")
def test_a_place_that_cannot_be_written_is_one_clear_line(
    sendcode: Command, tmp_path: Path
) -> None:
    ran = sendcode("batch", "results", "b1", "-o", tmp_path / "nowhere" / "out.csv")

    assert ran.exit_code == 2
    assert "cannot be written" in ran.err


@pytest.mark.usefixtures("ended")
def test_a_forgotten_job_is_not_shown_as_waiting(
    sendcode: Command, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    redis.delete(keys.job("b1-1"))

    assert results(sendcode, tmp_path)[0]["status"] == "forgotten"


@pytest.mark.usefixtures("ended")
def test_a_row_sent_to_a_corrected_number_says_so(
    sendcode: Command, ledger: Ledger, redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    dead = DeadLetters(redis, settings)
    letter = dead.find("b1-2")
    assert letter is not None
    _, new_id = dead.replace(Decision("replace", "one"), letter, number(88))
    ledger.sweep()
    end(ledger, new_id, SENT)

    found = results(sendcode, tmp_path)[1]

    assert found["status"] == "sent"
    assert found["message"] == "The code was sent, to the corrected number +852 ******88"


# results that come back


CORRECTIONS = {"Customer 2": {"phone_num": "99000022"}, "Customer 3": {"country_code": "852"}}


@pytest.mark.parametrize("options", [(), ("--only", "failed")])
@pytest.mark.usefixtures("ended")
def test_failed_rows_corrected_and_submitted_are_the_only_ones_sent(
    sendcode: Command, tmp_path: Path, ledger: Ledger, options: tuple[str, ...]
) -> None:
    results(sendcode, tmp_path, *options)
    correct(tmp_path / "results.csv", CORRECTIONS)

    told = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2", "--json").json

    assert told["accepted"] == 2
    published = {job_id for _, job_id in ledger.sweep()}
    rows = ("b2-2", "b2-3") if not options else ("b2-1", "b2-2")
    assert published == set(rows)
    kept_back = told["file"]["invalid_by_reason"]
    assert {each["code"] for each in kept_back} == (
        {"already_sent", "perhaps_sent"} if not options else set()
    )


@pytest.mark.usefixtures("ended")
def test_failed_rows_corrected_in_two_goes_are_sent_once_each(
    sendcode: Command, tmp_path: Path, ledger: Ledger
) -> None:
    file = tmp_path / "results.csv"
    results(sendcode, tmp_path, "--only", "failed")
    correct(file, {"Customer 3": {"country_code": "852"}})
    first = sendcode("batch", "submit", file, "--json").json
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)
    correct(file, {"Customer 2": {"phone_num": "99000022"}})

    second = sendcode("batch", "submit", file, "--json").json

    assert (first["accepted"], second["accepted"]) == (1, 1)
    assert [each["code"] for each in second["file"]["invalid_by_reason"]] == ["sent_since"]


@pytest.mark.usefixtures("ledger")
def test_rows_under_way_in_another_batch_are_kept_back(sendcode: Command, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "customers.csv", [customer(1), customer(2)])
    sendcode("batch", "submit", file, "--id", "b1")
    results(sendcode, tmp_path)

    ran = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2")

    assert ran.exit_code == 1
    assert "on its way in another batch" in ran.err
    assert "if that column is your own, rename it" in ran.err


@pytest.mark.usefixtures("ended")
def test_a_cleared_status_sends_a_row_again(sendcode: Command, tmp_path: Path) -> None:
    results(sendcode, tmp_path, "--only", "sent")
    correct(tmp_path / "results.csv", {"Customer 1": {"status": ""}})

    told = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2", "--json").json

    assert told["accepted"] == 1


@pytest.mark.usefixtures("ended")
def test_a_failed_row_that_was_requeued_and_sent_since_is_kept_back(
    sendcode: Command, ledger: Ledger, tmp_path: Path
) -> None:
    results(sendcode, tmp_path, "--only", "failed")
    sendcode("dead", "requeue", "b1-2", "--force")
    ledger.sweep()
    end(ledger, "b1-2", SENT)

    ran = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2")
    checked = sendcode("batch", "check", tmp_path / "results.csv", "--json").json

    assert ran.exit_code == 1
    assert "a code went to this number after" in ran.err
    assert {"sent_since", "barred_country_code"} == {
        each["code"] for each in checked["invalid_by_reason"]
    }


@pytest.mark.parametrize("gone", ["request_id", "code"])
@pytest.mark.usefixtures("ended")
def test_results_with_a_column_deleted_keep_back_as_much(
    sendcode: Command, tmp_path: Path, gone: str
) -> None:
    records = results(sendcode, tmp_path)
    header = [name for name in records[0] if name != gone]
    file = write_csv(
        tmp_path / "less.csv", [[each[name] for name in header] for each in records], header
    )

    ran = sendcode("batch", "submit", file, "--dry-run")

    assert ran.exit_code == 1
    assert "no row can be sent" in ran.err


@pytest.mark.usefixtures("ended")
def test_a_number_that_was_refused_for_good_is_kept_back_until_it_is_corrected(
    sendcode: Command, tmp_path: Path
) -> None:
    results(sendcode, tmp_path, "--only", "failed")

    ran = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2")
    checked = sendcode("batch", "check", tmp_path / "results.csv", "--json").json
    correct(tmp_path / "results.csv", {"Customer 2": {"phone_num": "99000022"}})
    corrected = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2", "--json").json

    assert ran.exit_code == 1
    assert "was refused for good, and its number is the same (line 2): correct" in ran.err
    assert "refused_for_good" in {each["code"] for each in checked["invalid_by_reason"]}
    assert corrected["accepted"] == 1


@pytest.mark.usefixtures("ended")
def test_a_number_that_was_kept_back_as_refused_needs_its_correction_in_the_next_results_too(
    sendcode: Command, ledger: Ledger, tmp_path: Path
) -> None:
    results(sendcode, tmp_path, "--only", "failed")
    correct(tmp_path / "results.csv", {"Customer 3": {"country_code": "852"}})
    sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)
    (tmp_path / "results.csv").unlink()
    sendcode("batch", "results", "b2", "--only", "failed", "--output", tmp_path / "results.csv")

    again = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b3")
    correct(tmp_path / "results.csv", CORRECTIONS)
    corrected = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b3", "--json").json

    assert [each["name"] for each in read_csv(tmp_path / "results.csv")] == ["Customer 2"]
    assert again.exit_code == 1
    assert corrected["accepted"] == 1


@pytest.mark.usefixtures("ended")
def test_a_number_refused_for_good_is_sent_to_again_where_a_person_clears_its_status(
    sendcode: Command, tmp_path: Path
) -> None:
    results(sendcode, tmp_path, "--only", "dead")
    correct(tmp_path / "results.csv", {"Customer 2": {"status": ""}})

    told = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2", "--json").json

    assert told["accepted"] == 1


@pytest.mark.usefixtures("ended")
def test_a_dead_letter_whose_number_got_its_code_since_is_not_requeued(
    sendcode: Command, ledger: Ledger, tmp_path: Path
) -> None:
    results(sendcode, tmp_path, "--only", "failed")
    correct(tmp_path / "results.csv", {"Customer 2": {"status": ""}})
    sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)

    refused = sendcode("dead", "requeue", "b1-2", "--force")
    wished = sendcode("dead", "requeue", "b1-2", "--force", "--may-send-twice")

    assert refused.exit_code == 1
    assert "another job has sent a code to its number since" in refused.err
    assert wished.exit_code == 0


@pytest.mark.usefixtures("ended")
def test_what_was_sent_stays_kept_back_through_any_number_of_results_files(
    sendcode: Command, tmp_path: Path
) -> None:
    results(sendcode, tmp_path)
    correct(tmp_path / "results.csv", CORRECTIONS)
    sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2")
    sendcode("batch", "results", "b2", "-o", tmp_path / "second.csv")

    told = sendcode("batch", "submit", tmp_path / "second.csv", "--id", "b3", "--json")

    assert told.exit_code == 1
    assert "no row can be sent" in told.err


@pytest.mark.usefixtures("ended")
def test_results_of_a_corrected_results_file_have_our_columns_once(
    sendcode: Command, tmp_path: Path
) -> None:
    results(sendcode, tmp_path)
    correct(tmp_path / "results.csv", CORRECTIONS)
    sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2")

    sendcode("batch", "results", "b2", "-o", tmp_path / "second.csv")

    found = read_csv(tmp_path / "second.csv")
    assert list(found[0]) == ["name", "country_code", "phone_num", "city", *RESULT_COLUMNS]
    assert [each["status"] for each in found] == [
        "rejected",
        "queued",
        "queued",
        "rejected",
        "rejected",
    ]


@pytest.mark.usefixtures("ended")
def test_what_was_only_kept_back_is_no_failed_row(sendcode: Command, tmp_path: Path) -> None:
    results(sendcode, tmp_path)
    correct(tmp_path / "results.csv", CORRECTIONS)
    sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b2")

    sendcode("batch", "results", "b2", "--only", "failed", "-o", tmp_path / "failed.csv")

    assert read_csv(tmp_path / "failed.csv") == []


def test_a_customer_s_own_column_status_is_theirs(sendcode: Command, tmp_path: Path) -> None:
    header = ("name", "country_code", "phone_num", "status")
    file = write_csv(tmp_path / "own.csv", [["a", "852", "99000001", "VIP"]], header)

    told = sendcode("batch", "submit", file, "--json").json

    assert told["accepted"] == 1


def test_a_million_cells_are_never_held_at_once(batches: Batches) -> None:
    """Rows are read chunk by chunk: the first is there before the last was looked at."""
    batches.open("b1", "digest", ["n"])
    batches.append("b1", 0, customers(500))
    rows: Any = batches.rows("b1")
    first = next(rows)
    batches.append("b1", 500, [BatchRow(502, ["late"], None, "x", "y")], last=True)

    *_, last = rows

    assert first[0] == 1
    assert list(last[1].cells) == ["late"]
