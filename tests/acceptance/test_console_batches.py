"""A batch in a real browser: times, a big file, and markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect
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


@pytest.fixture
def open_page(
    browser: Browser, web: WebServer, redis: Redis, settings: Settings
) -> Iterator[Callable[..., Page]]:
    """Return what opens a window for one user; all are closed before the server ends."""
    users = Users(redis, settings)
    session = users.begin_session(users.add("ann", "operator", None, by="test"))
    with ExitStack() as windows:

        def opened(**how: Any) -> Page:
            context = browser.new_context(**how)
            windows.callback(context.close)
            context.set_default_timeout(_PATIENCE_MS)
            context.add_cookies([{"name": "sendcode_session", "value": session, "url": web.url}])
            return context.new_page()

        yield opened


def file_of(content: str, name: str) -> FilePayload:
    return FilePayload(name=name, mimeType="text/csv", buffer=content.encode())


def upload(page: Page, url: str, content: str, name: str = "july.csv") -> None:
    page.goto(f"{url}/batches/new")
    page.set_input_files("#file", file_of(content, name))
    page.click("text=Upload and check")


def test_a_time_in_a_batch_s_own_name_is_not_that_of_another_zone(
    open_page: Callable[..., Page], web: WebServer, acts: Acts, redis: Redis, keys: Keys
) -> None:
    acts.batch(1)
    page = open_page(timezone_id="Asia/Tokyo")
    page.goto(f"{web.url}/search")
    option = page.locator("option[value=b1]")
    made = option.get_attribute("data-shown")
    redis.hset(keys.batch("b1"), "name", f"List of {made}")

    page.reload()

    expect(option).to_have_text(re.compile(rf"^List of {made} · (?!{made})[-:\d ]+ \(1\)$"))


def test_times_are_shown_and_taken_in_the_browser_s_own_zone(
    open_page: Callable[..., Page], web: WebServer, account: Account
) -> None:
    page = open_page(timezone_id="Asia/Tokyo")
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
    open_page: Callable[..., Page], web: WebServer
) -> None:
    page = open_page()
    rows = "".join(f"Customer {n},852,{51_000_000 + n}\n" for n in range(5_000))

    upload(page, web.url, f"name,country_code,phone_num\n{rows}")

    expect(page.locator(".verdict")).to_contain_text("5,000 codes can be sent")
    page.click("text=Continue with 5,000 codes")
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Type the number of codes, 5000, to confirm").fill("5,000")
    page.get_by_role("button", name="Send 5,000 codes").click()
    expect(page.locator(".undo")).to_be_visible()


def test_markup_in_a_file_and_its_name_is_shown_as_text_and_runs_nowhere(
    open_page: Callable[..., Page], web: WebServer
) -> None:
    page = open_page()
    content = f'"{EVIL}",country_code,phone_num\n"{EVIL}",852,55501234\n"{EVIL}",852,"{EVIL}"\n'

    upload(page, web.url, content, f"{EVIL}.csv")

    expect(page.locator("h1")).to_have_text(f"{EVIL}.csv")
    page.click("text=Continue with 1 code")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Send 1 code").click()
    expect(page.locator("h1")).to_have_text(f"{EVIL}.csv")
    assert page.locator("main img").count() == 0
    assert "owned" not in page.title() or EVIL in page.title()
