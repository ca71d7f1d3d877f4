"""A batch's results as the console gives them: for people, and fit to come back corrected."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import openpyxl
import pytest
import requests
from redis import Redis

from config.settings import Settings
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision
from jobs.ledger import Ledger
from producer.importing import Submission, Terms
from producer.results import RESULT_COLUMNS
from producer.sheet import open_sheet
from producer.tokens import Tokens
from tests.console import Browser
from tests.ended_jobs import PERMANENT, SENT, UNKNOWN, customers, end, number, run_batch
from tests.web_server import WebServer


@pytest.fixture
def web(settings: Settings) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def anna(web: WebServer, redis: Redis, settings: Settings) -> Browser:
    return Browser.of(web, redis, settings, "operator", "anna")


def test_the_results_for_excel_say_in_words_to_which_number_when_and_why(
    anna: Browser, ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    batches.open("b1", "digest", ["name", "country_code", "phone_num"], name="July/1.xlsx")
    rejected = BatchRow(5, ["Di", "999", "99000000"], None, "unknown_country_code", "none")
    batches.append("b1", 0, [*customers(3), rejected], last=True)
    for _, job_id in ledger.sweep():
        end(ledger, job_id, PERMANENT if job_id != "b1-1" else SENT)
    letter = dead.find("b1-2")
    assert letter is not None
    dead.replace(Decision("replace", "a test's"), letter, number(77))
    ledger.sweep()
    end(ledger, "b1-2.r1", SENT)
    dead.drop(Decision("drop", "all", "told by phone"), dead.window(0))

    taken = anna.get("/batches/b1/results?form=xlsx")
    book = openpyxl.load_workbook(io.BytesIO(taken.content))
    rows = [[cell.value for cell in row] for row in book.active.iter_rows()]

    assert taken.headers["Content-Disposition"] == 'attachment; filename="July 1-results.xlsx"'
    assert book.sheetnames == ["July 1-results"]
    zone = datetime.now().astimezone().utcoffset() or timedelta()
    own = ["What became of it", "Code sent to", f"Ended ({timezone(zone)})", "Left because"]
    assert rows[0] == ["name", "country_code", "phone_num", *own, *RESULT_COLUMNS]
    told = [row[3:7] for row in rows[1:]]
    assert [each[0] for each in told] == [
        "The code was sent.",
        "The code was sent. It went to the corrected number +852 ******77.",
        "Left, with a reason",
        "Left out before sending: none",
    ]
    assert [each[1] for each in told] == [number(1).e164, number(77).e164, number(3).e164, None]
    assert [isinstance(each[2], datetime) for each in told] == [True, True, True, False]
    assert [each[3] for each in told] == [None, None, "told by phone", None]
    ends = [datetime.fromisoformat(str(row[12])) for row in rows[1:4]]
    for each, end_at in zip(told[:3], ends, strict=True):
        assert isinstance(each[2], datetime)
        assert abs(each[2].replace(tzinfo=timezone(zone)) - end_at) < timedelta(seconds=1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_results_that_come_back_send_nothing_twice_and_get_no_columns_twice(
    language: str,
    anna: Browser,
    web: WebServer,
    ledger: Ledger,
    batches: Batches,
    redis: Redis,
    settings: Settings,
    tmp_path: Path,
) -> None:
    run_batch(ledger, batches, "b1", customers(3), lambda row: SENT if row == 1 else PERMANENT)
    anna.session.headers["Accept-Language"] = language
    file = tmp_path / "corrected.xlsx"
    book = openpyxl.load_workbook(io.BytesIO(anna.get("/batches/b1/results?form=xlsx").content))
    book.active["C3"] = number(77).phone_num
    book.save(file)

    with (
        open_sheet(file) as sheet,
        Submission(redis, settings, sheet, Terms("again"), "b2") as submission,
    ):
        submission.read()
        submission.open()
        submission.write()
    again = batches.get("b2")
    page = anna.get("/batches/b2").text
    story = anna.get("/jobs/b2-3").text
    taken = anna.get("/batches/b2/results?form=plain").text.splitlines()
    _, token = Tokens(redis, settings).new("shop", ["batch"], by="test")
    by_http = requests.get(
        f"{web.url}/v1/batches/b2/results?format=plain",
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    ).text.splitlines()

    assert again is not None
    assert (again.accepted, again.rejected, again.corrects) == (1, 2, "b1")
    headings = re.findall(r'<th scope="col">([^<]*)</th>', page.partition('id="rows"')[2])
    assert headings[2:] == ["name", "country_code", "phone_num"]
    assert "<dt>phone_num</dt>" in story
    assert "finished_at" not in story
    assert len(taken[0].split(",")) == 3 + 4 + len(RESULT_COLUMNS)
    assert by_http[0].split(",") == ["name", "country_code", "phone_num", *RESULT_COLUMNS]


def test_those_who_perhaps_got_a_code_are_taken_without_those_that_were_left(
    anna: Browser, ledger: Ledger, batches: Batches, dead: DeadLetters
) -> None:
    run_batch(ledger, batches, "b1", customers(3), lambda n: SENT if n == 1 else UNKNOWN)
    letter = dead.find("b1-3")
    assert letter is not None
    dead.drop(Decision("drop", "b1-3", "told by phone"), [letter])

    taken = anna.get("/batches/b1/results?only=unknown&form=plain")

    assert [line.partition(",")[0] for line in taken.text.splitlines()] == ["name", "Customer 2"]
    assert "took a file with full numbers" in anna.get("/actions").text
    assert "only=unknown&amp;form=xlsx" in anna.get("/batches/b1").text
