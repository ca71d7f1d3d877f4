"""`sendcode batch submit`: one job per row, whatever happens on the way."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from config.settings import Settings
from jobs.batch import Batch, BatchRow
from jobs.batches import Batches
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from producer.importing import (
    ImportRefusedError,
    Submission,
    Terms,
    append_all,
    check_batch_id,
)
from producer.sheet import open_sheet
from tests.commands import Command, on_terminal
from tests.ended_jobs import SENT, end
from tests.files import HEADER, customer, write_csv
from tests.unit.odd_workbooks import workbook


@pytest.fixture
def sheet_file(tmp_path: Path) -> Path:
    """Ten customers, of whom the third and seventh cannot be sent to."""
    rows = [customer(n) for n in range(1, 11)]
    rows[2][1] = "86"
    rows[6][2] = "x"
    return write_csv(tmp_path / "customers.csv", rows)


@contextmanager
def read(
    batches: Batches,
    file: Path,
    batch_id: str | None = "b1",
    terms: Terms | None = None,
    **how: Any,
) -> Iterator[Submission]:
    """A file on its way to a batch: read, and not written yet."""
    client, settings = batches.client, batches.settings
    with (
        open_sheet(file, **how) as sheet,
        Submission(client, settings, sheet, terms or Terms(), batch_id) as submission,
    ):
        submission.read()
        yield submission


def cells_of(batches: Batches, batch_id: str) -> list[list[str]]:
    return [list(row.cells) for _, row, _ in batches.rows(batch_id)]


def test_every_row_of_the_file_becomes_a_row_of_the_batch_in_order(
    sendcode: Command, sheet_file: Path, batches: Batches
) -> None:
    ran = sendcode("batch", "submit", sheet_file, "--id", "b1", "--json")

    assert ran.exit_code == 0
    assert (ran.json["total"], ran.json["accepted"], ran.json["rejected"]) == (10, 8, 2)
    names = [cells[0] for cells in cells_of(batches, "b1")]
    assert names == [f"Customer {n}" for n in range(1, 11)]


def test_rejected_rows_are_told_with_line_reason_and_remedy(
    sendcode: Command, sheet_file: Path
) -> None:
    ran = sendcode("batch", "submit", sheet_file)

    assert "2 cannot" in ran.err
    assert "line 4" in ran.err
    assert "use a number of another country" in ran.err
    assert "line 8" in ran.err


def test_doubts_repairs_and_codes_sent_before_are_told_with_their_lines(
    sendcode: Command, ledger: Ledger, tmp_path: Path
) -> None:
    sendcode("batch", "submit", write_csv(tmp_path / "first.csv", [customer(1)]), "--id", "b1")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)
    rows = [customer(n) for n in range(1, 5)]
    rows[1][2] = "512345678"
    rows[2][2] = "9900 0003"

    ran = sendcode("batch", "submit", write_csv(tmp_path / "second.csv", rows), "--id", "b2")

    told = [line.strip() for line in ran.err.splitlines()]
    assert "second.csv: 4 rows, 4 can be sent" in told
    assert any(
        line.startswith("1 x doubtful, sent all the same: country code 852 has no numbers of 9 ")
        and "(line 3)" in line
        for line in told
    )
    assert any(line.startswith("1 x repaired: spaces") and "(line 4)" in line for line in told)
    assert (
        "1 x the number got a code before (line 2): it gets another one; "
        "--skip-sent leaves such rows out"
    ) in told
    assert any("sendcode batch cancel b2 stops it" in line for line in told)


@pytest.fixture
def sent_before(sendcode: Command, ledger: Ledger, tmp_path: Path) -> Path:
    """A file of three customers, of whom the first got a code by another batch."""
    sendcode("batch", "submit", write_csv(tmp_path / "first.csv", [customer(1)]), "--id", "b1")
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)
    return write_csv(tmp_path / "second.csv", [customer(n) for n in (1, 2, 3)])


def test_rows_whose_number_got_a_code_before_are_left_out_on_wish(
    sendcode: Command, sent_before: Path, tmp_path: Path
) -> None:
    checked = sendcode("batch", "check", sent_before, "--skip-sent", "--json").json
    told = sendcode("batch", "submit", sent_before, "--id", "b2", "--skip-sent", "--json").json
    rows = sendcode("batch", "results", "b2", "--json").json["rows"]
    sendcode("batch", "results", "b2", "-o", tmp_path / "results.csv")
    again = sendcode("batch", "submit", tmp_path / "results.csv", "--id", "b3", "--json")

    assert (checked["valid"], checked["sent_before"]["count"]) == (2, 0)
    assert [each["code"] for each in checked["invalid_by_reason"]] == ["sent_before"]
    assert told["accepted"] == 2
    assert (rows[0]["status"], rows[0]["code"]) == ("rejected", "sent_before")
    assert rows[0]["message"].startswith("its number got a code before; to send it another one")
    assert again.exit_code == 1


def test_check_names_the_option_that_leaves_them_out(sendcode: Command, sent_before: Path) -> None:
    ran = sendcode("batch", "check", sent_before)
    chosen = sendcode("batch", "check", sent_before, "--skip-sent")

    assert "--skip-sent leaves them out" in ran.out
    assert f"sendcode batch submit {sent_before} --skip-sent" in chosen.err


def test_an_import_that_skips_is_completed_as_it_was_begun_and_skips_none_of_its_own(
    sendcode: Command, sent_before: Path, batches: Batches, ledger: Ledger
) -> None:
    with read(batches, sent_before, "b2", Terms(skip_sent=True)) as submission:
        submission.open()
    batches.append(
        "b2",
        0,
        [
            BatchRow(2, customer(1), None, "x", "y"),
            BatchRow(3, customer(2), PhoneNumber("852", customer(2)[2])),
        ],
    )
    for _, job_id in ledger.sweep():
        end(ledger, job_id, SENT)

    told = sendcode("batch", "submit", sent_before, "--id", "b2", "--json").json

    assert (told["total"], told["accepted"]) == (3, 2)
    assert (told["file"]["valid"], told["file"]["sent_before"]["count"]) == (3, 0)


@pytest.mark.parametrize(
    ("answer", "options", "accepted"),
    [("n", [], 0), ("", [], 0), ("y", [], 3), (None, ["--yes"], 3), ("y", ["--skip-sent"], 2)],
)
def test_on_a_terminal_it_is_asked_once_before_anything_is_sent(
    settings: Settings,
    batches: Batches,
    sent_before: Path,
    answer: str | None,
    options: list[str],
    accepted: int,
) -> None:
    typed = f"{answer}\n" if answer is not None else ""
    words = ("batch", "submit", "second.csv", "--id", "b2", *options)
    exit_code, said = on_terminal(settings, *words, cwd=sent_before.parent, typed=typed)

    again = "; of these 1 row's number got a code before" if "--skip-sent" not in options else ""
    question = f"get a code as soon as a worker runs (none does now){again} [y/N]"
    assert (question in said) == (answer is not None)
    assert said.count("[y/N]") == (answer is not None)
    batch = batches.get("b2")
    assert (batch.accepted if batch else 0) == accepted
    assert exit_code == (0 if accepted else 1)


def test_rows_that_are_hidden_in_a_workbook_are_told(sendcode: Command, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (HEADER, customer(1), customer(2)):
        book.active.append(row)
    book.active.row_dimensions[3].hidden = True
    book.save(tmp_path / "customers.xlsx")

    ran = sendcode("batch", "submit", tmp_path / "customers.xlsx", "--dry-run")

    assert "1 x doubtful, sent all the same: the row is hidden" in ran.err
    assert "(row 3)" in ran.err


def test_a_workbook_saved_again_is_the_same_batch(sendcode: Command, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (HEADER, customer(1), customer(2)):
        book.active.append(row)
    book.save(tmp_path / "customers.xlsx")
    first = sendcode("batch", "submit", tmp_path / "customers.xlsx", "--json").json
    again = openpyxl.load_workbook(tmp_path / "customers.xlsx")
    again.properties.title = "seen by Ada"
    again.save(tmp_path / "customers.xlsx")

    second = sendcode("batch", "submit", tmp_path / "customers.xlsx", "--json").json

    assert second["batch_id"] == first["batch_id"]
    assert second["already_submitted"]


def test_no_full_number_is_ever_said(sendcode: Command, sheet_file: Path) -> None:
    ran = sendcode("batch", "submit", sheet_file, "--json")

    assert customer(1)[2] not in ran.out + ran.err


def test_a_batch_is_named_by_its_content(sendcode: Command, sheet_file: Path) -> None:
    first = sendcode("batch", "submit", sheet_file, "--json").json
    copy = sheet_file.with_name("copy.csv")
    copy.write_bytes(sheet_file.read_bytes())

    second = sendcode("batch", "submit", copy, "--json").json

    assert first["batch_id"] == second["batch_id"]
    assert len(first["batch_id"]) == 12
    assert second["already_submitted"]
    assert second["total"] == 10


def test_another_encoding_makes_no_other_batch_of_the_same_content(
    sendcode: Command, sheet_file: Path
) -> None:
    first = sendcode("batch", "submit", sheet_file, "--json").json

    second = sendcode("batch", "submit", sheet_file, "--encoding", "cp1252", "--json").json

    assert second["batch_id"] == first["batch_id"]
    assert second["already_submitted"]


def test_an_import_that_was_cut_off_is_completed_in_the_encoding_it_was_begun_in(
    sendcode: Command, sheet_file: Path, batches: Batches
) -> None:
    with read(batches, sheet_file, encoding="cp1252") as submission:
        submission.open()

    refused = sendcode("batch", "submit", sheet_file, "--id", "b1")
    taken = sendcode("batch", "submit", sheet_file, "--id", "b1", "--encoding", "cp1252")

    assert refused.exit_code == 2
    assert "was begun with --encoding cp1252; complete it like that" in refused.err
    assert taken.exit_code == 0


def test_an_import_that_was_cut_off_is_not_completed_in_an_encoding_named_later(
    sendcode: Command, sheet_file: Path, batches: Batches
) -> None:
    with read(batches, sheet_file) as submission:
        submission.open()

    refused = sendcode("batch", "submit", sheet_file, "--id", "b1", "--encoding", "cp1252")

    assert "was begun without --encoding; complete it like that" in refused.err
    assert sendcode("batch", "submit", sheet_file, "--id", "b1").exit_code == 0


def test_an_import_that_was_cut_off_is_completed_by_the_file_as_excel_saved_it(
    sendcode: Command, tmp_path: Path, batches: Batches
) -> None:
    file = tmp_path / "customers.csv"
    text = "name,country_code,phone_num\n\u5f20\u4f1f,852,51234567\nBen,852,51234568\n"
    file.write_bytes(text.encode("gb18030"))
    with read(batches, file, None) as submission:
        batch = submission.open()
    row = BatchRow(2, ["\u5f20\u4f1f", "852", "51234567"], PhoneNumber("852", "51234567"))
    batches.append(batch.batch_id, 0, [row])
    file.write_bytes(text.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig"))

    told = sendcode("batch", "submit", file, "--json").json

    assert told["batch_id"] == batch.batch_id
    assert told["total"] == 2
    assert [cells[0] for cells in cells_of(batches, batch.batch_id)] == ["\u5f20\u4f1f", "Ben"]


def test_an_id_that_belongs_to_another_content_is_refused_before_anything_is_written(
    sendcode: Command, sheet_file: Path, tmp_path: Path, batches: Batches
) -> None:
    sendcode("batch", "submit", sheet_file, "--id", "b1")
    other = write_csv(tmp_path / "other.csv", [customer(99)])

    ran = sendcode("batch", "submit", other, "--id", "b1")

    assert ran.exit_code == 2
    assert 'batch "b1" was made from other content' in ran.err
    assert "sendcode batch results b1 --only failed --output b1-failed.csv" in ran.err
    assert len(cells_of(batches, "b1")) == 10


@pytest.mark.parametrize("batch_id", ["", "a b", "a/b", "ä", "x" * 65, "ev", "a\n"])
def test_an_id_that_would_not_do_is_refused(batch_id: str) -> None:
    with pytest.raises(ImportRefusedError):
        check_batch_id(batch_id)


@pytest.mark.parametrize("batch_id", ["2026-11-23", "a", "A.b_c-1", "x" * 64])
def test_an_id_such_as_people_choose_is_taken(batch_id: str) -> None:
    check_batch_id(batch_id)


def test_a_dry_run_writes_nothing(sendcode: Command, sheet_file: Path, redis: Redis) -> None:
    ran = sendcode("batch", "submit", sheet_file, "--dry-run", "--json")

    assert ran.exit_code == 0
    assert ran.json["file"]["valid"] == 8
    assert redis.dbsize() == 0


def test_a_file_without_any_row_to_send_is_no_batch(
    sendcode: Command, tmp_path: Path, redis: Redis
) -> None:
    file = write_csv(tmp_path / "bad.csv", [["a", "86", "1", ""], ["b", "7", "2", ""]])

    ran = sendcode("batch", "submit", file)

    assert ran.exit_code == 1
    assert "no row can be sent" in ran.err
    assert redis.dbsize() == 0


def test_name_pace_and_expiry_are_kept(
    sendcode: Command, sheet_file: Path, batches: Batches
) -> None:
    sendcode(
        *("batch", "submit", sheet_file, "--id", "b1", "--name", "May", "--max-rate", "5"),
        *("--expires-in", "2h"),
    )

    batch = batches.get("b1")
    assert batch is not None
    assert (batch.name, batch.max_rate) == ("May", 5)
    assert batch.expires_ms is not None
    assert batch.expires_ms - batch.created_ms == pytest.approx(7_200_000, abs=60_000)


def test_a_batch_keeps_the_terms_of_its_first_submission_and_says_so(
    sendcode: Command, sheet_file: Path, batches: Batches
) -> None:
    sendcode("batch", "submit", sheet_file, "--id", "b1", "--max-rate", "5")

    same = sendcode("batch", "submit", sheet_file, "--id", "b1", "--max-rate", "5")
    other = sendcode("batch", "submit", sheet_file, "--id", "b1", "--max-rate", "7")

    assert "no effect" not in same.err
    assert "--max-rate: no effect" in other.err
    batch = batches.get("b1")
    assert batch is not None
    assert batch.max_rate == 5


@pytest.mark.parametrize("wrong", ["0", "-1", "soon", "5 weeks", "", "366d", "9" * 400])
def test_an_expiry_that_is_no_time_is_refused(
    sendcode: Command, sheet_file: Path, wrong: str
) -> None:
    ran = sendcode("batch", "submit", sheet_file, f"--expires-in={wrong}")

    assert ran.exit_code == 2
    assert "--expires-in" in ran.err


@pytest.mark.parametrize("wrong", ["0", "-1", "inf", "nan", "1e-300", "10001"])
@pytest.mark.parametrize("verb", ["submit", "check"])
def test_a_pace_that_makes_no_sense_is_refused(
    sendcode: Command, sheet_file: Path, redis: Redis, verb: str, wrong: str
) -> None:
    ran = sendcode("batch", verb, sheet_file, f"--max-rate={wrong}")

    assert ran.exit_code == 2
    assert "--max-rate: must be 0.001 to 10,000 jobs per second" in ran.err
    assert redis.dbsize() == 0


def test_a_cancelled_batch_is_not_begun_again(
    sendcode: Command, sheet_file: Path, batches: Batches
) -> None:
    sendcode("batch", "submit", sheet_file, "--id", "b1")
    batches.steer("b1", "cancel")

    ran = sendcode("batch", "submit", sheet_file, "--id", "b1")

    assert ran.exit_code == 2
    assert "was cancelled" in ran.err
    assert "batch results b1 --only cancelled --output b1-cancelled.csv" in ran.err
    assert "another --id" not in ran.err


def test_a_cancelled_batch_s_file_is_not_sent_anew_under_another_id(
    sendcode: Command, sheet_file: Path, batches: Batches, tmp_path: Path, ledger: Ledger
) -> None:
    sendcode("batch", "submit", sheet_file, "--id", "b1")
    end(ledger, ledger.sweep()[0][1], SENT)
    batches.steer("b1", "cancel")
    rest = tmp_path / "rest.csv"
    sendcode("batch", "results", "b1", "--only", "cancelled", "--output", rest)

    refused = sendcode("batch", "submit", sheet_file, "--id", "b2")
    taken = sendcode("batch", "submit", rest, "--id", "b2", "--json")

    assert refused.exit_code == 2
    assert "batch results b1 --only cancelled" in refused.err
    assert taken.json["accepted"] == 7


@pytest.mark.parametrize("options", [(), ("--id", "b2"), ("--dry-run",)])
def test_content_that_another_batch_has_is_refused_and_the_batch_named(
    sendcode: Command, sheet_file: Path, batches: Batches, options: tuple[str, ...]
) -> None:
    sendcode("batch", "submit", sheet_file, "--id", "b1")

    ran = sendcode("batch", "submit", sheet_file, *options)
    checked = sendcode("batch", "check", sheet_file)

    assert ran.exit_code == 2
    assert 'this content is batch "b1" already, which is running' in ran.err
    assert "sendcode batch status b1" in ran.err
    assert "--again" in ran.err
    assert 'submit would refuse it: this content is batch "b1" already' in checked.err
    assert [batch.batch_id for batch in batches.list()] == ["b1"]


def test_content_is_sent_once_more_where_a_person_says_so(
    sendcode: Command, sheet_file: Path
) -> None:
    sendcode("batch", "submit", sheet_file, "--id", "b1")

    again = [sendcode("batch", "submit", sheet_file, "--id", "b2", "--again") for _ in "12"]
    third = sendcode("batch", "submit", sheet_file, "--id", "b3")

    assert "8 jobs accepted" in again[0].out
    assert "nothing was added" in again[1].out
    assert third.exit_code == 2
    assert 'batch "b2" already' in third.err


def test_an_import_that_was_cut_off_is_not_begun_under_another_id(
    sendcode: Command, sheet_file: Path, batches: Batches
) -> None:
    with read(batches, sheet_file) as submission:
        submission.open()

    ran = sendcode("batch", "submit", sheet_file)

    assert ran.exit_code == 2
    assert "complete it with --id b1" in ran.err


def test_of_two_batches_opened_at_once_with_one_content_one_is_refused(
    sheet_file: Path, batches: Batches
) -> None:
    """All found no batch with it before."""
    all_read = Barrier(8)

    def opened(batch_id: str) -> bool:
        with read(batches, sheet_file, batch_id) as submission:
            all_read.wait(30)
            try:
                submission.open()
            except ImportRefusedError:
                return False
            return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(opened, [f"b{n}" for n in range(8)]))

    assert won.count(True) == 1
    assert len(batches.list()) == 1


def test_a_batch_whose_import_was_cut_off_says_how_to_complete_it(
    sendcode: Command, sheet_file: Path, batches: Batches
) -> None:
    with read(batches, sheet_file, terms=Terms("customers.csv")) as submission:
        submission.open()
    batches.append("b1", 0, [BatchRow(2, customer(1), None, "x", "y")])

    ran = sendcode("batch", "status", "b1")

    assert "b1 (customers.csv): importing" in ran.out
    assert "sendcode batch submit customers.csv --id b1" in ran.err
    assert sendcode("batch", "status", "b1", "--json").json["state"] == "importing"


class CutOffError(Exception):
    pass


class Brittle:
    """A ledger that is lost at a given call, before it or after it was done."""

    def __init__(self, batches: Batches, call: int, *, done: bool) -> None:
        self._batches = batches
        self._calls_left = call
        self._done = done

    def append(self, *args: Any, **kwargs: Any) -> int:
        self._calls_left -= 1
        if self._calls_left == 0 and not self._done:
            raise CutOffError
        have = self._batches.append(*args, **kwargs)
        if self._calls_left == 0:
            raise CutOffError
        return have


@pytest.mark.parametrize(
    ("call", "done"),
    # one that was done at an earlier call leaves what one leaves that is lost before the next
    [*((call, False) for call in range(1, 6)), (5, True)],
)
def test_an_import_cut_off_at_any_chunk_is_completed_by_the_next_run(
    call: int, done: bool, tmp_path: Path, batches: Batches
) -> None:
    rows = [customer(n) for n in range(1, 1_801)]  # four chunks, and the call that ends it
    file = write_csv(tmp_path / "customers.csv", rows)
    brittle: Any = Brittle(batches, call, done=done)
    with read(batches, file) as submission, pytest.raises(CutOffError):
        append_all(brittle, submission.open(), submission.spool)

    with read(batches, file) as again:
        assert again.batch is not None  # it goes on
        batch = again.write()

    assert (batch.total, batch.accepted, batch.imported) == (1_800, 1_800, True)
    assert cells_of(batches, "b1") == rows


@given(steps=st.lists(st.sampled_from("ab"), min_size=1, max_size=14))
def test_two_producers_of_the_same_file_make_one_batch(
    steps: list[str], batches: Batches, redis: Redis
) -> None:
    """Their chunks arrive in any order; one of them may never end."""
    redis.flushdb()
    rows = [BatchRow(n + 1, [str(n)], None, "x", "y").encode() for n in range(1, 61)]
    batches.open("b1", "digest", ["n"])
    at = {"a": 0, "b": 0}
    size = {"a": 7, "b": 10}
    for who in steps:
        first = at[who]
        if first >= len(rows):
            continue
        batches.append("b1", first, rows[first : first + size[who]])
        at[who] = first + size[who]

    batches.append("b1", have := look(batches).total, rows[have:], last=True)

    assert [row.cells for _, row, _ in batches.rows("b1")] == [[str(n)] for n in range(1, 61)]


def look(batches: Batches) -> Batch:
    batch = batches.get("b1")
    assert batch is not None
    return batch


def test_a_redis_that_takes_no_more_is_told_with_how_to_go_on(
    sendcode: Command, sheet_file: Path, redis: Redis, batches: Batches
) -> None:
    redis.config_set("maxmemory", 1)
    try:
        cut_off = sendcode("batch", "submit", sheet_file, "--id", "b1")
    finally:
        redis.config_set("maxmemory", 0)

    again = sendcode("batch", "submit", sheet_file, "--id", "b1")

    assert cut_off.exit_code == 1
    assert "is full" in cut_off.err
    assert "go on with the same command: sendcode batch submit" in cut_off.err
    assert again.exit_code == 0
    assert look(batches).total == 10


def test_the_command_that_goes_on_has_all_options_and_suits_a_shell(
    sendcode: Command, sheet_file: Path, redis: Redis
) -> None:
    folder = sheet_file.parent / "May's & others"
    folder.mkdir()
    file = sheet_file.rename(folder / sheet_file.name)
    words = (
        *("batch", "submit", str(file), "--id", "b1", "--name", "May $(customers)"),
        *("--max-rate", "0.1", "--expires-in", "2h", "--watch", "--encoding", "utf-8"),
    )
    redis.config_set("maxmemory", 1)
    try:
        cut_off = sendcode(*words)
    finally:
        redis.config_set("maxmemory", 0)

    _, _, told = cut_off.err.partition("with the same command: ")
    assert shlex.split(told.splitlines()[0]) == ["sendcode", *words]


def test_cells_of_any_kind_come_back_as_they_were(
    sendcode: Command, tmp_path: Path, batches: Batches
) -> None:
    odd = ['say "hi"', "852", "99000001", "two\nlines, a\ttab, \u2028, 香港 \U0001f4de \\n"]
    file = write_csv(tmp_path / "odd.csv", [odd, customer(2)])

    sendcode("batch", "submit", file, "--id", "b1")

    assert cells_of(batches, "b1") == [odd, customer(2)]


def test_standard_input_is_a_file_too(
    sendcode: Command, sheet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sheet_file.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        ran = sendcode("batch", "submit", "-", "--json")

    assert ran.exit_code == 0
    assert (ran.json["total"], ran.json["name"]) == (10, "standard input")


def test_a_small_workbook_that_would_fill_redis_is_refused_before_its_first_row_is_written(
    tmp_path: Path, sendcode: Command, redis: Redis
) -> None:
    rows = [["phone", "note"], *(["+85251234567", "x" * 32_000] for _ in range(1_100))]
    (tmp_path / "bomb.xlsx").write_bytes(workbook(*rows))

    ran = sendcode("batch", "submit", tmp_path / "bomb.xlsx")

    assert ran.exit_code == 2
    assert "bomb.xlsx: the input is, or becomes when it is read, larger than 32 MiB" in ran.err
    assert redis.dbsize() == 0
