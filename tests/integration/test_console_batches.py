"""A batch in the browser, without JavaScript: from the file to what became of its customers."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import openpyxl
import pytest
import requests
from redis import Redis

from config.settings import Settings
from jobs.actions import recent_actions
from jobs.batch import BatchState
from jobs.batches import Batches
from jobs.job import State
from jobs.mending import Mending
from producer.importing import Submission, Terms
from producer.sheet import open_sheet
from tests.console import Browser, csrf_of
from tests.ledger_acts import Acts
from tests.waiting import wait_until
from tests.web_server import WebServer

ROWS = "name,country_code,phone_num\nAn,852,51001234\nBo,852,call me\nCy,852,51001235\n"


@pytest.fixture
def web(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def browser(web: WebServer, redis: Redis, settings: Settings) -> Browser:
    return Browser.of(web, redis, settings, "operator", "ann")


def upload(
    browser: Browser, web: WebServer, content: str | bytes = ROWS, name: str = "july.csv"
) -> requests.Response:
    """Send a file, and wait for the page that shows what is in it."""
    token = csrf_of(browser.get("/batches/new"))
    answer = browser.session.post(
        f"{web.url}/batches/new?csrf={token}", files={"file": (name, content)}, timeout=30
    )
    return settled(browser, web, answer)


def settled(browser: Browser, web: WebServer, page: requests.Response) -> requests.Response:
    """Load a page again, as long as it only shows how far something is."""
    path = page.url.removeprefix(web.url)
    shown = [page]

    def is_there() -> bool:
        shown.append(browser.get(path))
        return "hx-trigger" not in shown[-1].text

    wait_until(is_there)
    return shown[-1]


def text_of(page: requests.Response) -> str:
    """Return a page's words, without its markup."""
    body = page.text.partition("<main")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def check_of(page: requests.Response) -> str:
    found = re.search(r"/batches/new/([0-9a-f]{12})", page.url)
    assert found is not None, page.url
    return f"/batches/new/{found[1]}"


def version_of(page: requests.Response) -> str:
    """Return what a form says of the page that it stands on."""
    found = re.search(r'name="version" value="([^"]*)"', page.text)
    return found[1] if found else ""


def send(browser: Browser, check: str, **fields: object) -> requests.Response:
    """Send the form that confirms what its page shows."""
    version = wait_until(lambda: version_of(browser.get(f"{check}/confirm")))
    return browser.post(f"{check}/confirm", version=version, **fields)


def correct(browser: Browser, check: str, **cells: str) -> requests.Response:
    """Send the form of cells, as its page shows it."""
    return browser.post(f"{check}/cells", version=version_of(browser.get(check)), **cells)


def confirm(browser: Browser, check: str, codes: int) -> requests.Response:
    shown = [send(browser, check, codes=codes)]
    batch = f"/batches/{check.rpartition('/')[2]}"

    def is_there() -> bool:
        if not shown[-1].url.endswith(batch):
            shown.append(browser.get(check))
        return shown[-1].url.endswith(batch)

    wait_until(is_there)
    return shown[-1]


def test_a_file_with_errors_is_corrected_in_place_confirmed_and_becomes_a_batch(
    browser: Browser, web: WebServer, batches: Batches, redis: Redis, settings: Settings
) -> None:
    page = upload(browser, web)
    check = check_of(page)

    assert "2 codes can be sent, of 3 rows. 1 row cannot." in text_of(page)
    assert 'name="cell-3-2" value="call me"' in page.text
    assert "51001234" not in page.text
    assert "+852 ******34" in page.text

    cells = {"cell-3-1": "852", "was-3-1": "852", "cell-3-2": "51001236"}
    page = correct(browser, check, **cells)
    page = settled(browser, web, page)
    assert "3 codes can be sent, of 3 rows." in text_of(page)
    assert "You corrected 1 row here." in text_of(page)

    page = browser.post(f"{check}/terms", name="July customers", max_rate="5")
    page = settled(browser, web, page)
    assert page.url.endswith(f"{check}/confirm")
    assert "Send 3 codes" in text_of(page)
    assert "5 per second at most" in text_of(page)

    page = confirm(browser, check, 3)

    (batch,) = batches.list()
    assert (batch.name, batch.by, batch.accepted, batch.max_rate) == ("July customers", "ann", 3, 5)
    assert "Starts in" in text_of(page)
    assert "July customers" in text_of(page)
    (action,) = recent_actions(redis, settings, 1)
    assert (action.what, action.jobs, action.by) == ("batch submit", 3, "ann")


def test_a_form_that_is_sent_twice_or_again_later_makes_one_batch(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    check = check_of(upload(browser, web))
    confirm(browser, check, 2)

    again = [browser.post(f"{check}/confirm", codes=2) for _ in range(3)]
    more = [browser.post(f"{check}/terms", name="other"), browser.get(f"{check}/confirm")]

    (batch,) = batches.list()
    for page in (*again, *more):
        assert page.url.endswith(f"/batches/{batch.batch_id}")
    assert batch.accepted == 2


def test_an_undo_sends_nothing_and_leads_back_to_the_file_for_another_try(
    browser: Browser, web: WebServer, batches: Batches, acts: Acts, settings: Settings
) -> None:
    check = check_of(upload(browser, web))
    first = confirm(browser, check, 2).url.rpartition("/")[2]

    page = browser.post(f"/batches/{first}/undo")

    assert "Undone: no code was sent." in text_of(page)
    assert page.url.endswith(check)
    undone = batches.get(first)
    assert undone is not None
    assert (undone.state, undone.fed) == (BatchState.CANCELLED, 0)
    assert acts.sweep() == []
    assert Mending(batches.client, settings).misfits() == []  # else workers would mend it

    settled(browser, web, page)
    page = browser.get(f"{check}/confirm")
    assert "Send 2 codes" in text_of(page)
    assert "cancelled" not in text_of(page)
    send(browser, check, codes=2)
    again = wait_until(lambda: batches.get(f"{first}.1"))
    assert again is not None
    assert again.accepted == 2

    page = browser.get(f"/batches/{first}")
    words = text_of(page)
    assert "Undone before the first code left" in words
    assert "<progress" not in page.text
    assert f"The same file was sent afterwards: july.csv ({first}.1)" in words
    every = browser.get("/batches")
    assert text_of(every).count("Undone before the first code left") == 1
    assert every.text.count("<progress") == 1


def test_a_search_finds_the_rows_of_an_undone_batch_only_where_nothing_else_fits(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    first = confirm(browser, check_of(upload(browser, web)), 2).url.rpartition("/")[2]
    page = settled(browser, web, browser.post(f"/batches/{first}/undo"))

    alone = browser.post("/search", text="An")
    send(browser, check_of(page), codes=2)
    wait_until(lambda: batches.row(f"{first}.1-1"))
    both = browser.post("/search", text="An")
    in_it = browser.post("/search", text="An", batch=first)

    for page in (alone, in_it):
        assert f"/jobs/{first}-1" in page.text
        assert "Undone before the first code left." in text_of(page)
    assert f"/jobs/{first}-1" not in both.text
    assert f"/jobs/{first}.1-1" in both.text
    (option,) = re.findall(rf'<option value="{first}".*?</option>', both.text, re.DOTALL)
    assert option.endswith(" · undone before the first code left</option>")
    story = text_of(browser.get(f"/jobs/{first}-1"))
    assert "Undone before the first code left." in story
    assert "cancelled" not in story.lower()
    rows = text_of(browser.get(f"/batches/{first}"))
    assert rows.count("Undone before the first code left An 852") == 1


def test_an_undo_while_a_big_file_is_handed_over_leaves_nothing_to_be_sent(
    browser: Browser, web: WebServer, batches: Batches, acts: Acts
) -> None:
    rows = "".join(f"Customer {n},852,{55_000_000 + n}\n" for n in range(20_000))
    check = check_of(upload(browser, web, f"name,country_code,phone_num\n{rows}"))
    batch_id = check.rpartition("/")[2]
    send(browser, check, typed="20000")
    wait_until(lambda: batches.get(batch_id))

    page = browser.post(f"{check}/undo")

    assert page.url.endswith(check)
    assert "20,000 codes can be sent" in text_of(settled(browser, web, page))
    (batch,) = batches.list()
    assert (batch.batch_id, batch.state, batch.fed) == (batch_id, BatchState.CANCELLED, 0)
    assert acts.sweep() == []


def test_an_undo_that_comes_too_late_says_so_and_changes_nothing(
    browser: Browser, acts: Acts, batches: Batches
) -> None:
    acts.batch(3)
    assert acts.sweep()

    page = browser.post("/batches/b1/undo")

    assert "Too late to undo" in text_of(page)
    batch = batches.get("b1")
    assert batch is not None
    assert batch.state is BatchState.RUNNING


@pytest.mark.settings(sendcode_confirm_above=1)
def test_above_a_number_of_codes_it_has_to_be_typed(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    check = check_of(upload(browser, web))

    page = send(browser, check, typed="3")

    assert page.status_code == 422
    assert "That is not the number of codes." in text_of(page)
    assert batches.list() == []
    send(browser, check, typed="2")
    assert wait_until(batches.list)


def test_what_was_read_again_since_is_not_confirmed_by_an_older_page(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    check = check_of(upload(browser, web))
    version = version_of(browser.get(f"{check}/confirm"))
    settled(browser, web, correct(browser, check, **{"cell-3-2": "51001236"}))

    page = browser.post(f"{check}/confirm", codes=2, version=version)

    assert "Send 3 codes" in text_of(page)
    assert "Something was changed meanwhile." in text_of(page)
    assert batches.list() == []


def test_other_terms_are_not_confirmed_by_an_older_page(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    check = check_of(upload(browser, web))
    version = version_of(browser.get(f"{check}/confirm"))
    browser.post(f"{check}/terms", name="July", max_rate="5")

    page = browser.post(f"{check}/confirm", codes=2, version=version)

    assert "5 per second at most" in text_of(page)
    assert "Something was changed meanwhile." in text_of(page)
    assert batches.list() == []


def test_after_an_undo_an_older_page_confirms_nothing(
    browser: Browser, web: WebServer, batches: Batches
) -> None:
    check = check_of(upload(browser, web))
    version = version_of(browser.get(f"{check}/confirm"))
    first = confirm(browser, check, 2).url.rpartition("/")[2]
    settled(browser, web, browser.post(f"/batches/{first}/undo"))

    page = browser.post(f"{check}/confirm", codes=2, version=version)

    assert "Something was changed meanwhile." in text_of(page)
    assert [batch.batch_id for batch in batches.list()] == [first]


def test_cells_that_are_not_offered_are_refused(browser: Browser, web: WebServer) -> None:
    check = check_of(upload(browser, web))

    for cell in ("cell-5-2000000000", "cell-3-0", "cell-2-2", f"cell-3-{'9' * 9}"):
        assert correct(browser, check, **{cell: "51001236"}).status_code == 422
    page = correct(browser, check, **{f"cell-3-{'9' * 5_000}": "1"})

    assert "2 codes can be sent, of 3 rows." in text_of(settled(browser, web, page))


def test_corrections_of_an_older_page_are_not_mixed_with_newer_ones(
    browser: Browser, web: WebServer
) -> None:
    check = check_of(upload(browser, web))
    version = version_of(browser.get(check))
    settled(browser, web, correct(browser, check, **{"cell-3-2": "51001236"}))

    page = browser.post(f"{check}/cells", version=version, **{"cell-3-2": "51001235"})

    assert "Something was changed meanwhile." in page.text
    assert "3 codes can be sent, of 3 rows." in text_of(settled(browser, web, page))


def test_a_file_whose_submission_was_cut_off_completes_that_batch(
    browser: Browser,
    web: WebServer,
    batches: Batches,
    redis: Redis,
    settings: Settings,
    tmp_path: Path,
) -> None:
    file = tmp_path / "july.csv"
    file.write_text(ROWS)
    with (
        open_sheet(file) as sheet,
        Submission(redis, settings, sheet, Terms("July"), "lost") as cut_off,
    ):
        cut_off.read()
        cut_off.open()
        (chunk,) = cut_off.spool.chunks(0)
        batches.append("lost", 0, chunk[:1])

    page = upload(browser, web)
    assert "1 row of it was submitted." in text_of(page)
    assert "cell-3-2" not in page.text
    check = check_of(page)
    assert browser.get(f"{check}/terms").url.endswith("/confirm")
    shown = [send(browser, check)]

    def is_there() -> bool:
        shown.append(browser.get(check))
        return shown[-1].url.endswith("/batches/lost")

    wait_until(is_there)
    (batch,) = batches.list()
    assert (batch.batch_id, batch.imported) == ("lost", True)
    assert (batch.accepted, batch.rejected) == (2, 1)


def test_a_closed_browser_finds_its_file_again_and_nobody_else_does(
    browser: Browser, web: WebServer, redis: Redis, settings: Settings
) -> None:
    check = check_of(upload(browser, web))
    other = Browser.of(web, redis, settings, "admin", "ben")

    assert check in browser.get("/batches/new").text
    assert check not in other.get("/batches/new").text
    for answer in (other.get(check), other.post(f"{check}/forget"), other.get(f"{check}/terms")):
        assert answer.status_code == 404
    assert browser.get(check).status_code == 200


def test_a_file_is_forgotten_when_its_owner_says_so(
    browser: Browser, web: WebServer, tmp_path: Path
) -> None:
    check = check_of(upload(browser, web))

    page = browser.post(f"{check}/forget")

    assert "july.csv is forgotten." in text_of(page)
    assert browser.get(check).status_code == 404
    (folder,) = tmp_path.glob("sendcode/checks-*")
    assert list(folder.iterdir()) == []


def test_markup_in_cells_and_names_is_shown_as_text(browser: Browser, web: WebServer) -> None:
    evil = "<img src=x onerror=alert(1)>"
    content = f"name,country_code,phone_num\n{evil},852,51001234\n{evil},852,{evil}\n"

    page = upload(browser, web, content, f"{evil}.csv")
    check = check_of(page)
    settled(browser, web, browser.post(f"{check}/terms", name=evil))
    shown = confirm(browser, check, 1)

    for each in (page, browser.get(f"{check}"), browser.get("/batches"), shown):
        assert "&lt;img src=x" in each.text
        assert "<img" not in each.text


def test_the_country_may_come_from_a_column_that_seems_to_say_it(
    browser: Browser, web: WebServer
) -> None:
    page = upload(browser, web, "Client,Region,Mobile\nAn,Hong Kong,51001234\n")
    assert "The column “Region” seems to say the country." in text_of(page)

    page = browser.post(f"{check_of(page)}/choices", country_column="Region")

    assert "1 code can be sent, of 1 rows." in text_of(settled(browser, web, page))


def test_corrections_are_read_as_their_batch_was_and_named_after_it(
    browser: Browser, web: WebServer
) -> None:
    rows = "An,Hong Kong,51001234\nBo,Hong Kong,call me\n"
    check = check_of(upload(browser, web, f"Client,Region,Mobile\n{rows}"))
    settled(browser, web, browser.post(f"{check}/choices", country_column="Region"))
    settled(browser, web, browser.post(f"{check}/terms", name="Partners"))
    taken = browser.get(f"{check}/invalid?form=plain").text
    confirm(browser, check, 1)

    page = upload(browser, web, taken.replace("call me", "51001235"), "corrected.csv")

    assert "1 code can be sent, of 1 rows." in text_of(page)
    parent = f"/batches/{check.rpartition('/')[2]}"
    assert f'<a href="{parent}">Partners</a>' in page.text
    assert 'value="Partners, corrected"' in browser.get(f"{check_of(page)}/terms").text
    # what a person chooses then stands
    page = settled(browser, web, browser.post(f"{check_of(page)}/choices", country_column=""))
    assert "0 codes can be sent, of 1 rows." in text_of(page)


def test_a_file_without_a_column_of_numbers_lets_one_be_chosen(
    browser: Browser, web: WebServer
) -> None:
    page = upload(browser, web, "Who,Where\nAn,+85251001234\n")
    assert "This file cannot be read yet." in text_of(page)
    assert '<option value="Where">' in page.text

    page = browser.post(f"{check_of(page)}/choices", phone_column="Where")

    assert "1 code can be sent" in text_of(settled(browser, web, page))


def test_rows_that_cannot_be_sent_are_taken_to_be_corrected_and_come_back_as_corrections(
    browser: Browser, web: WebServer, batches: Batches, redis: Redis, settings: Settings
) -> None:
    check = check_of(upload(browser, web))

    taken = browser.get(f"{check}/invalid?form=plain")
    (noted,) = recent_actions(redis, settings, 1)
    told = text_of(browser.get("/actions"))
    confirm(browser, check, 2)
    corrected = taken.text.replace("call me", "51001236")
    again = check_of(upload(browser, web, corrected, "corrected.csv"))
    confirm(browser, again, 1)

    assert taken.headers["Content-Disposition"].endswith('"july-invalid.csv"')
    assert len(taken.text.splitlines()) == 2
    assert (noted.what, noted.about, noted.by) == ("check download", "july-invalid", "ann")
    assert "took rows of a checked file with full numbers july-invalid" in told
    batch = batches.get(again.rpartition("/")[2])
    assert batch is not None
    assert batch.corrects == check.rpartition("/")[2]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("max_rate", "fast", "Write a number, such as 5"),
        ("starts_at", "2020-01-01T10:00", "This time is past"),
        ("expires_at", "soon", "This time is past, or is not a valid time."),
    ],
)
def test_terms_that_make_no_sense_are_asked_for_again(
    browser: Browser, web: WebServer, field: str, value: str, told: str
) -> None:
    check = check_of(upload(browser, web))

    page = browser.post(f"{check}/terms", name="July", **{field: value})

    assert page.status_code == 422
    assert told in text_of(page)
    assert 'value="July"' in page.text


def test_customers_who_got_a_code_are_left_out_if_that_is_wanted(
    browser: Browser, web: WebServer, acts: Acts
) -> None:
    content = "name,country_code,phone_num\nAn,852,50000000\nBo,852,50000001\n"
    (job_id,) = acts.batch(1)
    acts.sweep()
    acts.finish(job_id, acts.begun(job_id))
    page = upload(browser, web, content)
    assert "The number got a code before" in text_of(page)
    check = check_of(page)
    tick = r'name="skip_sent" value="1" checked'
    assert re.search(tick, browser.get(f"{check}/terms").text)  # to send twice is the exception

    twice = text_of(settled(browser, web, browser.post(f"{check}/terms", name="all of them")))
    assert "1 of these customers already got a code" in twice
    assert "Should this customer really get a second one? No: leave them out" in twice
    assert "Send 2 codes, 1 of them second ones" in twice
    assert not re.search(tick, browser.get(f"{check}/terms").text)  # it was decided

    page = browser.post(f"{check_of(page)}/terms", skip_sent="1")

    page = settled(browser, web, page)
    assert "Send 1 code" in text_of(page)
    assert "Of these, second codes" not in text_of(page)


def test_a_batch_is_paused_resumed_and_cancelled_after_a_question(
    browser: Browser, acts: Acts, batches: Batches, redis: Redis, settings: Settings
) -> None:
    acts.batch(100)

    assert "The batch is paused." in text_of(browser.post("/batches/b1/pause"))
    assert "The batch goes on." in text_of(browser.post("/batches/b1/resume"))
    asked = browser.get("/batches/b1/cancel")
    assert "100 customers would get no code any more." in text_of(asked)
    assert "The batch is cancelled" in text_of(browser.post("/batches/b1/cancel"))
    assert "has ended already" in text_of(browser.post("/batches/b1/pause"))

    batch = batches.get("b1")
    assert batch is not None
    assert batch.state is BatchState.CANCELLED
    assert {each.by for each in recent_actions(redis, settings, 3)} == {"ann"}


def test_each_order_keeps_its_place_so_that_a_double_click_does_one_thing(
    browser: Browser, acts: Acts
) -> None:
    acts.batch(100)

    def buttons(page: requests.Response) -> list[tuple[str, bool]]:
        found = re.findall(r'<button id="(pause|resume|now)"([^>]*)>', page.text)
        return [(name, "disabled" in rest) for name, rest in found]

    running = buttons(browser.get("/batches/b1"))
    paused = buttons(browser.post("/batches/b1/pause"))

    assert running == [("pause", False), ("resume", True)]
    assert paused == [("pause", True), ("resume", False)]
    assert buttons(browser.post("/batches/b1/pause")) == paused
    assert buttons(browser.post("/batches/b1/resume")) == running


def test_rows_are_shown_by_outcome_masked_and_page_by_page(browser: Browser, acts: Acts) -> None:
    ids = acts.batch(120)
    acts.sweep()
    acts.finish(ids[0], acts.begun(ids[0]))
    acts.finish(ids[1], acts.begun(ids[1]), State.DEAD, "FailedOperation.BindUpperLimit")

    every = browser.get("/batches/b1")
    failed = browser.get("/batches/b1?only=failed")
    last = browser.get("/batches/b1?after=100")

    assert every.text.count('href="/jobs/b1-') == 50
    assert 'href="/batches/b1?after=50#rows"' in every.text
    assert "50000001" not in every.text
    assert re.findall(r'href="/jobs/(b1-\d+)"', failed.text) == ["b1-2"]
    assert last.text.count('href="/jobs/b1-') == 20
    assert "Looked at 120 of 120 rows" in text_of(last)


def test_a_search_finds_rows_by_the_customer_s_own_columns(
    browser: Browser, web: WebServer
) -> None:
    content = "name,country_code,phone_num\n" + "".join(
        f"Customer {n},852,{55500000 + n}\n" for n in range(1, 80)
    )
    check = check_of(upload(browser, web, content))
    batch = confirm(browser, check, 79).url

    page = browser.post(batch[batch.index("/batches") :], text="customer 71")

    assert "Customer 71" in text_of(page)
    assert "Customer 72" not in text_of(page)


def test_corrections_come_back_in_and_are_counted_together(
    browser: Browser, web: WebServer, acts: Acts
) -> None:
    check = check_of(upload(browser, web))
    batch_id = confirm(browser, check, 2).url.rpartition("/")[2]
    browser.post(f"/batches/{batch_id}/resume")
    for job_id in wait_until(acts.sweep):
        acts.finish(job_id, acts.begun(job_id))

    failed = browser.get(f"/batches/{batch_id}/results?only=failed&form=xlsx")
    book = openpyxl.load_workbook(io.BytesIO(failed.content))
    sheet = book.active
    assert sheet["A2"].value == "Bo"
    sheet["C2"].value = "51001236"
    corrected = io.BytesIO()
    book.save(corrected)
    check = check_of(upload(browser, web, corrected.getvalue(), "corrected.xlsx"))
    page = confirm(browser, check, 1)

    assert "3 customers: 2 done, 1 open" in text_of(page)
    together = browser.get(f"/batches/{batch_id}")
    assert "3 customers: 2 done, 1 open" in text_of(together)
    assert page.url.rpartition("/")[2] in together.text


def test_a_row_that_was_left_out_and_corrected_is_shown_as_corrected_until_that_is_undone(
    browser: Browser, web: WebServer, acts: Acts
) -> None:
    batch_id = confirm(browser, check_of(upload(browser, web)), 2).url.rpartition("/")[2]
    browser.post(f"/batches/{batch_id}/resume")
    for job_id in wait_until(acts.sweep):
        acts.finish(job_id, acts.begun(job_id))
    batch = f"/batches/{batch_id}"
    failed = browser.get(f"{batch}/results?only=failed&form=plain").text
    before = browser.get(batch)

    file = failed.replace("call me", "51001236")
    page = confirm(browser, check_of(upload(browser, web, file, "corrected.csv")), 1)
    correction = page.url.rpartition("/")[2]
    after = browser.get(batch)
    corrected = browser.get(f"{batch}?only=corrected")
    left_out = browser.get(f"{batch}?only=left_out")
    row = browser.get(f"/jobs/{batch_id}-2")
    failed_now = browser.get(f"{batch}/results?only=failed&form=plain").text
    browser.post(f"/batches/{correction}/undo")
    undone = browser.get(batch)

    def figures(page: requests.Response) -> dict[str, str]:
        return dict(re.findall(r"<dt>([^<]+)</dt><dd>(\d+)</dd>", page.text))

    assert figures(before) == {"Sent": "2", "Left out before sending": "1"}
    assert figures(after) == {"Sent": "2", "Corrected by a file": "1"}
    assert "Why some got no code" not in text_of(after)
    assert "Corrected by a file What became of it then, step by step Bo" in text_of(corrected)
    assert f'href="/jobs/{correction}-1"' in corrected.text
    assert "Bo" not in text_of(left_out)
    assert "The customer was corrected by a file: corrected.csv " in text_of(row)
    assert f'href="/jobs/{correction}-1"' in row.text
    assert [len(each.splitlines()) for each in (failed, failed_now)] == [2, 1]
    assert figures(undone) == figures(before)
    assert f"/jobs/{correction}-1" not in browser.get(f"/jobs/{batch_id}-2").text


def test_results_are_taken_with_full_numbers_by_who_may_send(
    browser: Browser, web: WebServer, redis: Redis, settings: Settings, acts: Acts
) -> None:
    acts.batch(3)
    viewer = Browser.of(web, redis, settings, "viewer")

    taken = browser.get("/batches/b1/results?form=plain")

    assert "50000001" in taken.text
    assert taken.headers["Content-Disposition"] == 'attachment; filename="b1-results.csv"'
    assert viewer.get("/batches/b1/results").status_code == 403
    assert viewer.get("/batches/b1").status_code == 200
    assert "/results" not in viewer.get("/batches/b1").text


def test_what_is_asked_for_live_is_a_part_of_the_page(browser: Browser, acts: Acts) -> None:
    acts.batch(3)

    part = browser.live("/batches/b1")

    assert "<html" not in part.text
    assert "0 of 3 done" in text_of(part) or "0 of 3 done" in part.text
    assert 'id="pause"' in part.text


def test_an_undo_by_somebody_else_leads_to_the_batch(
    browser: Browser, web: WebServer, redis: Redis, settings: Settings
) -> None:
    check = check_of(upload(browser, web))
    first = confirm(browser, check, 2).url.rpartition("/")[2]
    other = Browser.of(web, redis, settings, "operator", "ben")

    page = other.post(f"/batches/{first}/undo")

    assert page.url.endswith(f"/batches/{first}")
    assert "Undone: no code of this batch was sent." in text_of(page)


def test_a_forgotten_file_leads_to_the_last_batch_that_was_made_of_it(
    browser: Browser, web: WebServer, tmp_path: Path
) -> None:
    check = check_of(upload(browser, web))
    first = confirm(browser, check, 2).url.rpartition("/")[2]
    browser.post(f"/batches/{first}/undo")
    send(browser, check)
    wait_until(lambda: browser.get(check).url.endswith(f"/batches/{first}.1"))
    (folder,) = tmp_path.glob(f"sendcode/checks-*/{first}")
    shutil.rmtree(folder)

    assert browser.get(check).url.endswith(f"/batches/{first}.1")


def test_a_number_that_was_searched_for_and_one_in_a_file_s_name_are_not_on_the_page(
    browser: Browser, web: WebServer
) -> None:
    page = upload(browser, web, name="for 51001234.csv")
    check = check_of(page)
    batch = confirm(browser, check, 2).url
    other = upload(browser, web, f"{ROWS}Di,852,51001239\n", name="of 51001234.csv")
    forgotten = browser.post(f"{check_of(other)}/forget")

    found = browser.post(batch[batch.index("/batches") :], text="51001234")
    by_name = browser.post(batch[batch.index("/batches") :], text="An")

    assert "of ******34.csv is forgotten." in text_of(forgotten)
    assert "An" in text_of(found)
    assert 'value="An"' in by_name.text
    for each in (page, other, forgotten, found, browser.get("/batches"), browser.get("/")):
        assert "51001234" not in each.text


def test_a_place_that_no_list_has_is_refused(browser: Browser, acts: Acts) -> None:
    acts.batch(3)

    for place in ("9" * 5_000, str(10**30), "-1"):
        assert browser.get(f"/batches/b1?after={place}").status_code == 422
    for place in ("9" * 1_000, str(10**30)):
        assert browser.post("/batches/b1", text="x", after=place).status_code == 422
        assert browser.post("/search", text="xyz", batch="b1", first=place).status_code == 422
        for path in ("/batches", "/dead"):
            assert browser.get(f"{path}?page={place}").status_code == 422


def test_the_list_shows_every_batch_with_its_state(browser: Browser, acts: Acts) -> None:
    acts.batch(3, "b1", name="July")
    acts.batch(2, "b2", first=10, name="August")

    page = browser.get("/batches")

    assert page.text.index("August") < page.text.index("July")
    assert "0 of 3 done" in text_of(page)
    assert browser.get("/batches/b3").status_code == 404


def test_what_renews_itself_in_a_page_is_as_in_the_page(browser: Browser, acts: Acts) -> None:
    acts.batch(3, "b1", name="July")

    for path in ("/", "/batches", "/batches/b1"):
        part, whole = browser.live(path), browser.get(path)

        assert (part.status_code, whole.status_code) == (200, 200)
        assert "of 3 done" in part.text
        assert ("<footer" in part.text, "<footer" in whole.text) == (False, True)


@pytest.mark.parametrize("path", ["/batches?page=2", "/search"])
def test_a_page_reads_no_more_batches_than_it_shows(
    path: str, browser: Browser, batches: Batches, redis: Redis
) -> None:
    kept = 600 if path == "/search" else 130
    for n in range(kept):
        batches.open(f"b{n:03d}", f"digest {n}", ["name"])
    browser.get(path)
    before = hashes_read(redis)

    page = browser.get(path)

    shown = 500 if path == "/search" else 50
    assert page.text.count(">b") >= shown
    assert hashes_read(redis) - before < 2 * shown + 30


def hashes_read(redis: Redis) -> int:
    return int(redis.info("commandstats")["cmdstat_hgetall"]["calls"])
