"""A batch in a real browser: from the file to its customers, with JavaScript and without."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    FilePayload,
    Page,
    expect,
)
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.batches import Batches
from jobs.keys import Keys
from jobs.ledger import Ledger
from producer.users import Users
from tests.browser import chromium
from tests.ledger_acts import Acts
from tests.waiting import PATIENCE_S
from tests.web_server import WebServer

ROWS = "name,country_code,phone_num\nAn,852,55501234\nBo,852,call me\nCy,852,55501235\n"
_PATIENCE_MS = PATIENCE_S * 1000
EVIL = "<img src=x onerror=document.title='owned'>"

expect.set_options(timeout=_PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def web(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def acts(redis: Redis, settings: Settings, keys: Keys) -> Acts:
    return Acts(Ledger(redis, settings), Batches(redis, settings), redis, keys)


class Visit:
    """Somebody signed in, in a window of their own; what it asks other hosts for is noted."""

    def __init__(self, browser: Browser, web: WebServer, session: str, **how: Any) -> None:
        self.context: BrowserContext = browser.new_context(**how)
        self.context.set_default_timeout(_PATIENCE_MS)
        self.context.add_cookies([{"name": "sendcode_session", "value": session, "url": web.url}])
        self.page: Page = self.context.new_page()
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        own = web.url
        self.page.on(
            "request",
            lambda asked: None if asked.url.startswith(own) else self.elsewhere.append(asked.url),
        )
        self.page.on("console", lambda message: self.complaints.append(message.text))

    def check(self) -> None:
        """Let axe-core look at the page, and its width be that of the window."""
        violations = Axe().run(self.page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []
        too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not self.page.evaluate(too_wide)


@pytest.fixture
def open_visit(
    browser: Browser, web: WebServer, redis: Redis, settings: Settings
) -> Iterator[Callable[..., Visit]]:
    """Return what opens a window for one user; all are closed before the server ends."""
    users = Users(redis, settings)
    session = users.begin_session(users.add("ann", "operator", None, by="test"))
    with ExitStack() as windows:

        def opened(**how: Any) -> Visit:
            visit = Visit(browser, web, session, **how)
            windows.callback(visit.context.close)
            return visit

        yield opened


def file_of(content: str, name: str) -> FilePayload:
    return FilePayload(name=name, mimeType="text/csv", buffer=content.encode())


def upload(page: Page, url: str, content: str, name: str = "july.csv") -> None:
    page.goto(f"{url}/batches/new")
    page.set_input_files("#file", file_of(content, name))
    page.click("text=Upload and check")


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without"])
def test_a_person_takes_a_file_through_all_pages_corrects_it_undoes_it_and_sends_it(
    open_visit: Callable[..., Visit], web: WebServer, acts: Acts, javascript: bool
) -> None:
    visit = open_visit(
        java_script_enabled=javascript,
        viewport={"width": 320 if javascript else 1280, "height": 800},
        color_scheme="dark" if javascript else "light",
    )
    page = visit.page
    check = visit.check if javascript else lambda: None  # axe-core is JavaScript itself
    page.goto(f"{web.url}/batches/new")
    check()
    upload(page, web.url, ROWS)
    expect(page.locator(".verdict")).to_contain_text("2 codes can be sent, of 3 rows.")
    check()

    page.get_by_label("phone_num, row 3").fill("55501236")
    page.click("text=Save and check again")
    expect(page.locator(".verdict")).to_contain_text("3 codes can be sent, of 3 rows.")
    page.click("text=Continue with 3 codes")
    page.get_by_label("Name of the batch").fill("July customers")
    check()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".verdict")).to_contain_text("Send 3 codes")
    check()
    page.get_by_role("button", name="Send 3 codes").click()
    expect(page.locator(".undo")).to_contain_text("No code has left yet.")
    check()

    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".said")).to_contain_text("Undone: no code was sent.")
    assert acts.sweep() == []
    page.click("text=Continue with 3 codes")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Send 3 codes").click()
    page.get_by_role("button", name="Start now").click()
    expect(page.locator(".said")).to_contain_text("The batch goes on.")

    for job_id in acts.sweep():
        acts.finish(job_id, acts.begun(job_id))
    if not javascript:
        page.reload()
    expect(page.get_by_text("3 of 3 done")).to_be_visible()  # with JavaScript: by itself
    check()
    page.goto(f"{web.url}/batches")
    expect(page.get_by_role("link", name="July customers").first).to_be_visible()
    check()

    assert visit.elsewhere == []
    assert visit.complaints == []


def test_a_time_in_a_batch_s_own_name_is_not_that_of_another_zone(
    open_visit: Callable[..., Visit], web: WebServer, acts: Acts, redis: Redis, keys: Keys
) -> None:
    acts.batch(1)
    page = open_visit(timezone_id="Asia/Tokyo").page
    page.goto(f"{web.url}/search")
    option = page.locator("option[value=b1]")
    made = option.get_attribute("data-shown")
    redis.hset(keys.batch("b1"), "name", f"List of {made}")

    page.reload()

    expect(option).to_have_text(re.compile(rf"^List of {made} · (?!{made})[-:\d ]+ \(1\)$"))


def test_times_are_shown_and_taken_in_the_browser_s_own_zone(
    open_visit: Callable[..., Visit], web: WebServer, account: Account
) -> None:
    page = open_visit(timezone_id="Asia/Tokyo").page
    in_two_days = datetime.now(UTC) + timedelta(days=2)
    day, day_before = (f"{in_two_days - timedelta(days=n):%Y-%m-%d}" for n in (0, 1))
    upload(page, web.url, ROWS)
    page.click("main a.button")
    terms = page.url

    page.fill("#starts_at", f"{day}T10:00")
    page.fill("#expires_at", f"{day_before}T10:00")
    page.click("form.terms button")
    expect(page.locator("#expires_at-wrong")).to_be_visible()
    expect(page.locator("#starts_at")).to_have_value(f"{day}T10:00")
    page.fill("#expires_at", "")
    page.click("form.terms button")

    expect(page.locator(f"time[datetime='{day}T01:00Z']")).to_have_text(f"{day} 10:00")
    expect(page.locator("footer")).to_have_text("Times are those of your browser, Asia/Tokyo.")
    page.goto(terms)
    expect(page.locator("#starts_at")).to_have_value(f"{day}T10:00")
    expect(page.locator("#starts_at-hint")).to_contain_text("your browser (Asia/Tokyo)")

    page.goto(web.url)
    account.halt("person", "Halted", "noon", who="carl")
    expect(page.locator(".standing")).to_contain_text("by carl")  # it follows by itself
    at, shown = page.locator(".standing time").evaluate("each => [each.dateTime, each.textContent]")
    in_tokyo = datetime.fromisoformat(at) + timedelta(hours=9)
    assert shown in {f"{in_tokyo:%H:%M:%S}", f"{in_tokyo:%Y-%m-%d %H:%M}"}


def test_a_big_file_shows_how_far_it_is_and_then_what_is_in_it(
    open_visit: Callable[..., Visit], web: WebServer
) -> None:
    visit = open_visit()
    rows = "".join(f"Customer {n},852,{51_000_000 + n}\n" for n in range(20_000))

    upload(visit.page, web.url, f"name,country_code,phone_num\n{rows}")

    expect(visit.page.locator(".verdict")).to_contain_text("20,000 codes can be sent")
    visit.page.click("text=Continue with 20,000 codes")
    visit.page.get_by_role("button", name="Continue").click()
    visit.page.get_by_label("Type the number of codes, 20000, to confirm").fill("20,000")
    visit.page.get_by_role("button", name="Send 20,000 codes").click()
    expect(visit.page.locator(".undo")).to_be_visible()


def test_two_browsers_and_an_order_from_elsewhere_see_one_truth(
    open_visit: Callable[..., Visit], web: WebServer, acts: Acts
) -> None:
    acts.batch(100)
    first, second = (open_visit() for _ in range(2))
    for visit in (first, second):
        visit.page.goto(f"{web.url}/batches/b1")

    first.page.get_by_role("button", name="Pause").click()
    expect(second.page.locator(".phase")).to_contain_text("Paused")
    acts.batches.steer("b1", "resume", "somebody at a terminal")

    for visit in (first, second):
        expect(visit.page.locator(".phase")).to_contain_text("Sending")


def test_markup_in_a_file_and_its_name_is_shown_as_text_and_runs_nowhere(
    open_visit: Callable[..., Visit], web: WebServer
) -> None:
    visit = open_visit()
    content = f'"{EVIL}",country_code,phone_num\n"{EVIL}",852,55501234\n"{EVIL}",852,"{EVIL}"\n'

    upload(visit.page, web.url, content, f"{EVIL}.csv")

    expect(visit.page.locator("h1")).to_have_text(f"{EVIL}.csv")
    visit.page.click("text=Continue with 1 code")
    visit.page.get_by_role("button", name="Continue").click()
    visit.page.get_by_role("button", name="Send 1 code").click()
    expect(visit.page.locator("h1")).to_have_text(f"{EVIL}.csv")
    assert visit.page.locator("main img").count() == 0
    assert "owned" not in visit.page.title() or EVIL in visit.page.title()


def test_the_pages_of_a_batch_are_complete_in_chinese(
    open_visit: Callable[..., Visit], web: WebServer
) -> None:
    visit = open_visit(locale="zh-CN")
    visit.page.goto(f"{web.url}/batches/new")
    visit.page.set_input_files("#file", file_of(ROWS, "七月.csv"))
    visit.page.get_by_role("button", name="上传并检查").click()

    expect(visit.page.locator(".verdict")).to_contain_text("可发送 2 条验证码")
    expect(visit.page.locator(".cells")).to_contain_text("包含数字以外的字符")
    visit.check()
