"""Rows that a person looks at before a file is sent: corrected, left out, taken away as a file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import requests
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from producer.results import results
from tests.console import Browser
from tests.integration.test_console_batches import (
    check_of,
    confirm,
    settled,
    text_of,
    upload,
    version_of,
)
from tests.web_server import WebServer

HEADER = "name,country_code,phone_num\n"
MESSY = HEADER + (
    "An,852,51001234\n"  # line 2
    "Bo,852,51234\n"  # doubtful
    "Cy,852,51001235\n"
    "Di,852,51235\n"  # doubtful
    "Ed,852,51001235\n"  # Cy's number
    "Flo,852,512345\n"  # with another doubt
    "Gus,852,51001235\n"  # Cy's number
    "Hal,852,call me\n"
)


@pytest.fixture
def web(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def browser(web: WebServer, redis: Redis, settings: Settings) -> Browser:
    return Browser.of(web, redis, settings, "operator", "ann")


def press(browser: Browser, web: WebServer, check: str, *fields: tuple[str, str]) -> str:
    """Send the form of rows with these fields, and return the words of the page that follows."""
    page = browser.get(check)
    data = [("csrf", csrf(page)), ("version", version_of(page)), *fields]
    answer = browser.session.post(f"{web.url}{check}/cells", data=data, timeout=30)
    return text_of(settled(browser, web, answer))


def csrf(page: requests.Response) -> str:
    found = re.search(r'name="csrf" value="([^"]*)"', page.text)
    assert found is not None
    return found[1]


def button(page: requests.Response, words: str) -> tuple[str, str]:
    """Return name and value of the button with these words."""
    for attributes, text in re.findall(r"<button([^>]*)>([^<]*)</button>", page.text):
        if unescape(text) == words:
            found = dict(re.findall(r'(\w+)="([^"]*)"', attributes))
            return found["name"], unescape(found["value"])
    raise AssertionError(f"no button {words}")


def test_a_doubtful_row_is_corrected_where_it_stands(browser: Browser, web: WebServer) -> None:
    page = upload(browser, web, MESSY)
    assert 'name="cell-3-2" value="51234"' in page.text

    words = press(browser, web, check_of(page), ("cell-3-2", "51001236"), ("was-3-2", "51234"))

    assert "You corrected 1 row here." in words
    assert 'name="cell-3-2"' not in browser.get(check_of(page)).text


def test_a_ticked_row_is_left_out_and_an_unticked_one_is_sent_after_all(
    browser: Browser, web: WebServer
) -> None:
    check = check_of(upload(browser, web, MESSY))
    out = [("shown", "3"), ("shown", "5"), ("out", "3"), ("out", "5")]

    words = press(browser, web, check, *out)
    assert "5 codes can be sent, of 8 rows. 1 row cannot. You left out 2 rows." in words
    page = browser.get(check)
    assert page.text.count('name="was-out"') == 2
    assert "1 row, for Excel" in words
    assert len(browser.get(f"{check}/invalid?form=plain").text.splitlines()) == 2  # the header, Hal

    unticked = [("shown", "3"), ("shown", "5"), ("was-out", "3"), ("was-out", "5"), ("out", "5")]
    assert "You left out 1 row." in press(browser, web, check, *unticked)


def test_the_way_to_another_page_of_rows_saves_what_was_typed_and_passes_no_row_by(
    browser: Browser, web: WebServer
) -> None:
    rows = "".join(f"Customer {n},852,call me\n" for n in range(120))
    page = upload(browser, web, HEADER + rows)
    check = check_of(page)
    assert 'name="cell-51-2"' in page.text
    assert 'name="cell-52-2"' not in page.text

    words = press(
        browser, web, check, ("cell-3-2", "51001236"), ("was-3-2", "call me"), next_of(page)
    )

    assert "You corrected 1 row here." in words
    moved = browser.get(f"{check}?line=52").text
    assert "Page 1 of 3" in moved  # the row is on it now
    assert re.search(r'name="cell-52-1"[^>]* autofocus', moved)
    untouched = press(browser, web, check, next_of(page))
    assert "Page 2 of 3" in untouched


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("name,country_code,phone_num\n", ("An,853,66001234", "Bo,,51001234", "Cy,,51001235")),
        ("name,phone_num\n", ("An,+85366001234", "Bo,51001234", "Cy,51001235")),
    ],
)
def test_rows_without_a_country_code_get_one_for_all(
    browser: Browser, web: WebServer, header: str, rows: tuple[str, ...]
) -> None:
    page = upload(browser, web, header + "\n".join(rows) + "\n")
    check = check_of(page)
    assert "Give all of them one country code below" in text_of(page)

    none = browser.post(f"{check}/cells", version=version_of(page), country_code="999")
    assert "There is no such country code." in none.text
    assert "1 code can be sent, of 3 rows." in text_of(none)
    words = press(browser, web, check, ("country_code", "+852"))

    assert "3 codes can be sent, of 3 rows." in words
    assert "You corrected 2 rows here." in words
    assert "+852 ******34" in words


def next_of(page: requests.Response) -> tuple[str, str]:
    return button(page, "Save, and next")


def test_all_rows_with_one_doubt_are_left_out_and_taken_in_again_at_once(
    browser: Browser, web: WebServer
) -> None:
    page = upload(browser, web, MESSY)
    check = check_of(page)

    words = press(browser, web, check, button(page, "Leave out these 2 rows"))
    assert "You left out 2 rows." in words
    assert "has no numbers of 6 digits that begin like this one" in words

    words = press(browser, web, check, button(browser.get(check), "Send all 2 after all"))
    assert "You left out" not in words


def test_of_the_rows_with_one_number_only_the_first_is_sent(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    page = upload(browser, web, MESSY)
    check = check_of(page)
    first = "Send only the first of each: leave out 2 rows"

    words = press(browser, web, check, button(page, first))
    assert "5 codes can be sent, of 8 rows." in words
    confirm(browser, check, 5)

    (batch,) = batches.list()
    assert (batch.accepted, batch.rejected) == (5, 3)
    found = {row.cells[0]: (row.status, row.code) for row in results(batches, batch)}
    assert found["Cy"] == ("queued", "")
    assert found["Ed"] == found["Gus"] == ("rejected", "left_out")


def test_more_numbers_that_stand_twice_than_are_shown_are_counted(
    browser: Browser, web: WebServer
) -> None:
    twice = "".join(f"Customer {n},852,{51000000 + n // 2}\n" for n in range(8))

    words = text_of(upload(browser, web, HEADER + twice))

    assert "lines 2, 3; lines 4, 5; lines 6, 7; and 1 more number" in words


def test_doubtful_rows_are_taken_with_their_reasons_and_come_back_as_corrections(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    check = check_of(upload(browser, web, MESSY))

    taken = browser.get(f"{check}/doubtful?form=plain")
    press(browser, web, check, ("shown", "3"), ("out", "3"))
    without = browser.get(f"{check}/doubtful?form=plain").text
    rows = list(csv.DictReader(io.StringIO(taken.text)))
    confirm(browser, check, 6)
    bo = "\n".join((taken.text.splitlines()[0], taken.text.splitlines()[1]))
    again = check_of(upload(browser, web, bo.replace("51234", "51001239"), "bo.csv"))
    confirm(browser, again, 1)

    assert [row["name"] for row in rows] == ["Bo", "Cy", "Di", "Ed", "Flo", "Gus"]
    assert "Bo," not in without
    assert "Cy," in without
    assert [(row["Line of your file"], row["status"]) for row in rows][1] == ("4", "doubtful")
    assert taken.headers["Content-Disposition"].endswith('"july-doubtful.csv"')
    for row in rows:
        row["reason"] = row["reason"].removeprefix("It will be sent; look at it: ")
    assert rows[0]["reason"].startswith("country code 852 has no numbers of 5 digits")
    assert rows[1]["reason"].startswith("the number stands in the file more than once")
    batch = batches.get(again.rpartition("/")[2])
    assert batch is not None
    assert batch.corrects == check.rpartition("/")[2]


def test_the_confirmation_names_the_doubtful_rows_that_go_along(
    browser: Browser, web: WebServer
) -> None:
    page = upload(browser, web, MESSY)
    check = check_of(page)
    press(browser, web, check, ("shown", "3"), ("out", "3"))

    page = browser.get(f"{check}/confirm")

    assert "Of these, doubtful 2, look at them again" in text_of(page)
    assert "Of these, to a number once more 2, look at them again" in text_of(page)
    assert f'href="{check}#look"' in page.text


def test_what_is_left_out_stays_so_after_an_undo_and_is_another_content(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    check = check_of(upload(browser, web, MESSY))
    press(browser, web, check, ("shown", "3"), ("out", "3"))
    first = confirm(browser, check, 6).url.rpartition("/")[2]

    page = settled(browser, web, browser.post(f"/batches/{first}/undo"))

    assert "You left out 1 row." in text_of(page)
    other = check_of(upload(browser, web, MESSY, "again.csv"))
    confirm(browser, other, 7)
    assert batches.get(other.rpartition("/")[2]) is not None


def test_rows_that_were_not_shown_cannot_be_left_out(browser: Browser, web: WebServer) -> None:
    check = check_of(upload(browser, web, MESSY))
    page = browser.get(check)

    for field in ({"out": "2"}, {"out": "99"}, {"leave": "anything"}):
        answer = browser.post(f"{check}/cells", version=version_of(page), **field)
        assert answer.status_code == 422
    assert "7 codes can be sent, of 8 rows." in text_of(browser.get(check))


def test_a_row_that_cannot_be_sent_is_left_out_for_good_and_is_open_no_more(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    check = check_of(upload(browser, web, MESSY))

    left = press(browser, web, check, ("shown", "9"), ("out", "9"))
    page = confirm(browser, check, 7)
    path = page.url.removeprefix(web.url)
    taken = browser.get(f"{path}/results?only=failed&form=plain").text

    assert "You left out 1 row." in left
    batch = batches.get(path.rpartition("/")[2])
    assert batch is not None
    assert (batch.rejected, batches.family(batch).customers) == (1, 7)
    assert "Hal" not in taken


def test_what_many_rows_have_in_common_is_said_once_above_them(
    browser: Browser, web: WebServer
) -> None:
    same = "".join(f"Customer {n},852,call me {n}\n" for n in range(30))

    page = upload(browser, web, HEADER + same)

    table = page.text[page.text.index('class="cells"') :]
    assert table.count("holds something other than digits") == 1
    assert table.count('aria-describedby="why-1"') == 60


def test_rows_left_out_are_called_so_on_the_batch_s_page_in_its_reasons_and_on_their_own(
    browser: Browser, web: WebServer
) -> None:
    check = check_of(upload(browser, web, MESSY))
    press(browser, web, check, ("shown", "3"), ("out", "3"))
    page = confirm(browser, check, 6)
    batch = page.url.removeprefix(web.url)

    words = text_of(page)
    assert "Left out before sending 2" in words
    assert "Could not be sent" not in words.partition("Customers")[0]
    shown = browser.get(f"{batch}?only=left_out")
    found = re.findall(r'href="(/jobs/[^"]+)"', shown.text)
    bo, hal = (text_of(browser.get(path)) for path in found)

    assert "Bo It was left out before sending" in bo
    assert "A person left this row out before sending" in bo
    assert "phone_num ******34" in bo
    assert "Hal It was left out before sending" in hal
    assert "The phone number holds something other than digits" in hal
    assert "upload that file on the page of its batch: july.csv" in hal
    taken = browser.get(f"{batch}/results?form=plain")
    told = {
        row["name"]: row["What became of it"] for row in csv.DictReader(io.StringIO(taken.text))
    }
    assert told["Bo"].startswith("Left out before sending: a person left this row out")
    assert told["Hal"].startswith("Left out before sending: the phone number holds something")


def test_rows_left_out_are_called_so_in_chinese_too(browser: Browser, web: WebServer) -> None:
    batch = confirm(browser, check_of(upload(browser, web, MESSY)), 7).url
    browser.session.headers["Accept-Language"] = "zh-CN"

    words = text_of(browser.get(f"{batch.removeprefix(web.url)}?only=left_out"))

    assert "发送前已排除 1" in words
    assert "包含数字以外的字符" in words


def test_notes_on_how_a_file_was_read_are_in_the_browser_s_language(
    browser: Browser, web: WebServer
) -> None:
    content = "List of May;;\n\n姓名;Dial Code;Mobile\n张伟;852;51001234\n李娜;852;51001235\n"
    english = text_of(upload(browser, web, content.encode("gb18030"), "may.csv"))
    browser.session.headers["Accept-Language"] = "zh-CN"

    chinese = text_of(upload(browser, web, content.encode("gb18030"), "may.csv"))

    assert 'Column "Mobile" is read as the phone number.' in english
    for note in (
        "按 GB18030 (Chinese) 读取",
        "单元格以“;”分隔。",
        "“Mobile”列读作电话号码。",
        "“Dial Code”列读作国家/地区代码。",
        "列名在第 3 行",
    ):
        assert note in chinese
    assert "is read as" not in chinese


def test_who_took_a_pdf_is_told_to_save_the_list_itself(browser: Browser, web: WebServer) -> None:
    words = text_of(upload(browser, web, b"%PDF-1.7\n%\xe2\xe3", "list.pdf"))

    assert "This is a PDF." in words
    assert "Open the list in the program that it comes from" in words


def test_a_chinese_check_names_the_same_codes_and_digits(browser: Browser, web: WebServer) -> None:
    browser.session.headers["Accept-Language"] = "zh"

    words = text_of(upload(browser, web, HEADER + "An,852,51234\nBo,853,66123\nCy,852,51001235\n"))

    assert "国家/地区代码 852 没有以此开头的 5 位号码" in words
    assert re.search("国家/地区代码 853 [^。]{0,30}5 位", words)
