"""The day of the person with the spreadsheet in a real browser, from signing in to the last row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import openpyxl
import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.ledger import Ledger
from producer.users import Users
from tests.browser import TOO_WIDE, check_page, chromium
from tests.commands import Command
from tests.console import PASSWORD, add_with_password
from tests.ended_jobs import PERMANENT, SENT, customers, end_batch, run_batch
from tests.files import MAGIC_BIND_UPPER, MAGIC_OK, customer
from tests.sandbox import Sandbox
from tests.waiting import PATIENCE_S, wait_until
from tests.web_server import WebServer
from tests.worker_process import WorkerProcess

pytestmark = pytest.mark.settings(sendcode_undo=600)

HEADER = ["name", "country_code", "phone_num", "city"]
ROWS = [
    *(customer(n, MAGIC_OK) for n in range(1, 9)),
    *(customer(n, MAGIC_BIND_UPPER) for n in range(9, 12)),
    ["Customer <b>12</b>", "852", "call me", "Hong Kong"],
    ["Customer 13", "852", "", "Hong Kong"],
]
_PATIENCE_MS = PATIENCE_S * 1000
NARROW = {"width": 320, "height": 640}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=_PATIENCE_MS)
    with chromium() as found:
        yield found


@pytest.fixture
def web(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def hosts() -> set[str]:
    """The hosts that any page asked for anything."""
    return set()


Visit = Callable[..., Page]


@pytest.fixture
def visit(
    browser: Browser, web: WebServer, redis: Redis, settings: Settings, hosts: set[str]
) -> Iterator[Visit]:
    """Open a page in a browser of its own, of an operator who is signed in but at /login."""
    contexts: list[BrowserContext] = []

    def open_page(path: str, *, name: str = "anna", **options: object) -> Page:
        context = browser.new_context(base_url=web.url, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(_PATIENCE_MS)
        context.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        users = Users(redis, settings)
        user = users.get(name) or add_with_password(users, name, "operator")
        if path != "/login":
            session = users.begin_session(user)
            context.add_cookies([{"name": "sendcode_session", "value": session, "url": web.url}])
        page = context.new_page()
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert hosts <= {urlsplit(web.url).netloc}


def write_xlsx(path: Path, rows: list[list[str]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def read_xlsx(path: Path) -> list[dict[str, str]]:
    header, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    return [{str(n): str(v or "") for n, v in zip(header, row, strict=True)} for row in rows]


def button(page: Page, text: str) -> None:
    page.locator("main button", has_text=text).first.click()


def upload(page: Page, file: Path) -> None:
    page.set_input_files("#file", file)
    page.locator("form:has(#file) button").click()


def go_on(page: Page, look: Callable[[Page], None] = lambda _: None) -> None:
    """From what was found in a file to the batch that it becomes; `look` at each page."""
    look(page)
    page.locator("main a.button").click()
    look(page)
    page.locator("form.terms button").click()
    look(page)
    page.locator("form[action$='/confirm'] button").click()
    expect(page.locator("#undo")).to_be_visible()
    look(page)


def wait_over(page: Page) -> None:
    """Wait until a batch's page shows, by itself, that all has ended."""
    expect(page.locator(".phase")).to_contain_text("Done")


def download(page: Page, which: str, path: Path) -> list[dict[str, str]]:
    with page.expect_download() as started:
        page.locator(f"a[href$='results?only={which}&form=xlsx']").first.click()
    started.value.save_as(path)
    return read_xlsx(path)


def test_the_day_with_a_batch_needs_the_browser_alone(
    visit: Visit, sandbox: Sandbox, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    page = visit("/login", color_scheme="dark", viewport=NARROW)
    sign_in(page)
    choose_a_wrong_file_and_the_right_one(page, tmp_path)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    correct_a_cell(page)

    def name_and_check(page: Page) -> None:
        check_page(page)
        if (name := page.get_by_label("Name of the batch")).is_visible():
            name.fill("July customers")

    go_on(page, name_and_check)
    page.click("#undo")
    expect(page.locator(".said")).to_contain_text("Undone: no code was sent.")
    expect(page.locator(".verdict")).to_contain_text("12 codes can be sent, of 13 rows")
    go_on(page)
    batch_url, batch_id = page.url, page.url.rpartition("/")[2]
    assert sandbox.stats()["requests"] == 0

    page.click("#now")
    expect(page.locator(".said")).to_contain_text("The batch goes on.")
    page.click("#pause")
    expect(page.locator(".phase")).to_contain_text("Paused")
    page.click("#resume")
    start_worker()
    wait_over(page)
    check_page(page)
    assert complaints == []
    results = download(page, "", tmp_path / "results.xlsx")
    assert [row["status"] for row in results] == ["sent"] * 8 + ["dead"] * 3 + ["sent", "rejected"]
    assert results[11]["name"] == "Customer <b>12</b>"

    deal_with_failures(page, batch_id)
    page.goto(batch_url)
    bring_corrections_back(page, tmp_path)
    page.goto(batch_url)
    expect(page.locator("main")).to_contain_text("13 customers: 13 done, 0 open")
    page.goto("/batches")
    expect(page.get_by_role("link", name="July customers").first).to_be_visible()
    check_page(page)
    find_a_customer(page, batch_id)
    page.goto("/actions")
    expect(page.locator("main")).to_contain_text("anna")
    codes = sandbox.stats()["accepted_per_number"]
    assert len(codes) == 13
    assert set(codes.values()) == {1}


def sign_in(page: Page) -> None:
    page.fill("#name", "anna")
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    expect(page.locator(".who")).to_contain_text("anna")


def choose_a_wrong_file_and_the_right_one(page: Page, folder: Path) -> None:
    page.goto("/batches/new")
    (folder / "letter.pdf").write_bytes(b"%PDF-1.7\n")
    upload(page, folder / "letter.pdf")
    expect(page.locator(".problem")).to_be_visible()
    page.goto("/batches/new")
    check_page(page)
    upload(page, write_xlsx(folder / "may.xlsx", [HEADER, *ROWS]))
    expect(page.locator(".verdict")).to_contain_text("11 codes can be sent, of 13 rows")
    expect(page.locator("table.cells")).to_contain_text("Customer <b>12</b>")


def correct_a_cell(page: Page) -> None:
    page.fill("input[name='cell-13-2']", f"{MAGIC_OK}0012")
    page.click("#save")
    expect(page.locator(".verdict")).to_contain_text("12 codes can be sent, of 13 rows")


def deal_with_failures(page: Page, batch_id: str) -> None:
    """What would only be refused again is left alone; one customer's number is corrected."""
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto("/dead")
    check_page(page)
    page.check(f"input[value='{batch_id}-9']")
    button(page, "Try again")
    expect(page.locator(".lead")).to_have_text("0 customers would be tried again.")
    expect(page.locator(".reasons")).to_contain_text("it would only be refused again")
    check_page(page)
    page.goto(f"/jobs/{batch_id}-9")
    check_page(page)
    page.fill("#number", f"{MAGIC_OK}0109")
    button(page, "Correct")
    expect(page.locator("main")).to_contain_text("The new number is +852 9900 0109.")
    button(page, "Send to the corrected number")
    page.locator("main a", has_text="Watch the code").click()
    expect(page.locator(".lead")).to_contain_text("The code was sent.")


def bring_corrections_back(page: Page, folder: Path) -> None:
    """The others are corrected in the file of what failed, which comes back."""
    failed = download(page, "failed", folder / "failed.xlsx")
    assert [row["name"] for row in failed] == ["Customer 10", "Customer 11", "Customer 13"]
    corrected = [row | {"phone_num": f"{MAGIC_OK}02{n:02d}"} for n, row in enumerate(failed)]
    rows = [list(row.values()) for row in corrected]
    upload(page, write_xlsx(folder / "corrected.xlsx", [list(failed[0]), *rows]))
    expect(page.locator(".verdict")).to_contain_text("3 codes can be sent, of 3 rows")
    go_on(page)
    page.click("#now")
    wait_over(page)


def find_a_customer(page: Page, batch_id: str) -> None:
    page.goto("/search")
    page.fill("#text", f"+852 {MAGIC_OK} 0012")
    button(page, "Find")
    expect(page.locator("main table")).to_contain_text("Customer <b>12</b>")
    assert f"{MAGIC_OK}0012" not in page.content()
    check_page(page)
    page.locator("main table a").first.click()
    ticket = page.locator("textarea.ticket").input_value()
    assert f"Job: {batch_id}-12" in ticket
    assert "Number: +852 ******12" in ticket


def test_the_day_goes_without_javascript(
    visit: Visit, ledger: Ledger, batches: Batches, tmp_path: Path
) -> None:
    page = visit("/batches/new", java_script_enabled=False)

    def reload_until(words: str) -> None:
        def shows() -> bool:
            with suppress(Error):  # while a file is checked, the page reloads itself as well
                page.reload()
                return words in page.locator("main").inner_text()
            return False

        wait_until(shows, words)

    upload(page, write_xlsx(tmp_path / "june.xlsx", [HEADER, *ROWS]))
    reload_until("11 codes can be sent")
    page.fill("input[name='cell-13-2']", f"{MAGIC_OK}0012")
    page.click("#save")
    reload_until("12 codes can be sent")
    send_all(page, reload_until)
    page.click("#undo")
    expect(page.locator(".said")).to_contain_text("Undone: no code was sent.")
    reload_until("12 codes can be sent")
    assert ledger.sweep() == []
    send_all(page, reload_until)
    page.click("#now")
    expect(page.locator(".said")).to_contain_text("The batch goes on.")
    batch_id = page.url.rpartition("/")[2]
    end_batch(ledger, batches, batch_id, lambda row: PERMANENT if 9 <= row <= 11 else SENT)
    reload_until("Done")
    page.locator("main a[href^='/dead?batch=']").click()
    page.check("input[name=scope][value=all]")
    page.fill("#why", "they have accounts")
    button(page, "Leave as they are")
    reload_until("3 customers would be left as they are, without another code.")
    button(page, "Leave 3 as they are")
    reload_until("3 customers were left as they are.")
    page.goto("/search")
    page.fill("#text", f"{batch_id}-10")
    button(page, "Find")
    page.locator("main table a").first.click()
    assert "It was left as it is, without a code." in page.locator("main").inner_text()


def send_all(page: Page, reload_until: Callable[[str], None]) -> None:
    """From what was found in a file to the batch, without JavaScript."""
    page.locator("main a.button").click()
    page.locator("form.terms button").click()
    reload_until("Send 12 codes")
    page.locator("form[action$='/confirm'] button").click()
    reload_until("No code has left yet.")


def test_the_pages_are_chinese_dark_and_narrow_where_the_browser_is(
    visit: Visit, ledger: Ledger, batches: Batches, tmp_path: Path
) -> None:
    run_batch(ledger, batches, "b1", customers(2), lambda _: PERMANENT)
    page = visit("/", locale="zh-CN", color_scheme="dark", viewport=NARROW)

    for path, title in (
        ("/batches", "批次"),
        ("/batches/b1", ""),
        ("/dead", "失败记录"),
        ("/search", "查找客户"),
        ("/jobs/b1-1", ""),
    ):
        page.goto(path)
        assert page.locator("html").get_attribute("lang") == "zh-Hans"
        assert title in page.title()
        check_no_english(page)
        assert not page.evaluate(TOO_WIDE), path
        if path in {"/dead", "/jobs/b1-1"}:
            check_page(page)
    page.goto("/batches/new")
    upload(page, write_xlsx(tmp_path / "七月.xlsx", [HEADER, *ROWS]))
    expect(page.locator(".verdict")).to_contain_text("可发送 11 条验证码")
    expect(page.locator(".cells")).to_contain_text("包含数字以外的字符")
    check_no_english(page)
    check_page(page)
    go_on(page)
    check_no_english(page)


_OURS = re.compile(r"\b(?:the|with|sent|customer could|file|was|waits|rows?)\b")


def check_no_english(page: Page) -> None:
    """Look for words that only our English texts would have here."""
    words = re.sub(
        r"customers?\s*[\d<]|\w+\.xlsx|Customer \S+", "", page.locator("main").inner_text()
    )
    assert not _OURS.findall(words), words


def test_two_browsers_and_a_command_line_steer_one_batch(
    visit: Visit, batches: Batches, sendcode: Command
) -> None:
    # no worker: nothing ends it meanwhile
    batches.open("b1", "digest", ["name", "country_code", "phone_num"])
    batches.append("b1", 0, customers(5), last=True)
    anna, bob = visit("/batches/b1"), visit("/batches/b1", name="bob")
    # each looks every two seconds
    assert anna.locator("[hx-trigger='every 2s']").count() == 1

    def both_show(words: str) -> None:
        for page in (anna, bob):
            expect(page.locator(".phase")).to_contain_text(words)

    anna.click("#pause")
    both_show("Paused")
    assert sendcode("batch", "resume", "b1").exit_code == 0
    both_show("Sending")
    bob.evaluate("f = document.querySelector('#pause').form; f.requestSubmit(); f.requestSubmit()")
    both_show("Paused")
    assert sendcode("batch", "status", "b1", "--json").json["state"] == "paused"
    anna.click("#resume")
    both_show("Sending")
    anna.go_back()  # the form is not sent again
    both_show("Sending")
