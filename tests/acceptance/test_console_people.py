"""Home, sign-in, settings and who did what in a real browser, and with the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.scripts import time_ms
from producer.tokens import Tokens
from producer.users import Users
from tests.browser import check_page, chromium
from tests.console import PASSWORD, add_with_password
from tests.ended_jobs import PERMANENT, SENT, end_event
from tests.waiting import PATIENCE_S
from tests.web_server import WebServer

HTML = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_S * 1000)
    with chromium() as found:
        yield found


@pytest.fixture
def web(settings: Settings) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def users(redis: Redis, settings: Settings) -> Users:
    return Users(redis, settings)


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, web: WebServer, users: Users) -> Iterator[Open]:
    """Open a page in a window of its own, as an admin, or as nobody; it may ask no other host."""
    contexts: list[BrowserContext] = []
    hosts: set[str] = set()

    def opened(path: str, *, signed_in: bool = True, **how: object) -> Page:
        context = browser.new_context(base_url=web.url, **how)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(PATIENCE_S * 1000)
        context.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        if signed_in:
            user = users.get("boss") or users.add("boss", "admin", None, by="test")
            secret = users.begin_session(user)
            context.add_cookies([{"name": "sendcode_session", "value": secret, "url": web.url}])
        page = context.new_page()
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert hosts == {urlsplit(web.url).netloc}


def test_every_page_is_for_all_eyes_and_narrow_screens(
    open_page: Open,
    redis: Redis,
    settings: Settings,
    ledger: Ledger,
    account: Account,
    users: Users,
) -> None:
    end_event(ledger, 1, SENT)
    end_event(ledger, 2, PERMANENT)
    account.halt("person", "Halted", HTML, who="boss")
    users.add("carl@company.example", "viewer", None, by="boss")
    token, _ = Tokens(redis, settings).new("shop", ["send"], "boss")
    page = open_page("/")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))

    for path in (
        "/",
        "/actions",
        "/settings",
        "/settings/sending",
        "/settings/users/carl@company.example",
        f"/settings/tokens/{token.id}",
    ):
        page.goto(path)
        check(page)
    assert complaints == []
    page.goto("/nowhere")
    check(page)
    check(open_page("/login", signed_in=False))


def check(page: Page) -> None:
    """Look at a page in the dark and on a narrow screen; it runs nothing that it shows."""
    schemes: tuple[tuple[Literal["dark", "light"], int], ...] = (("dark", 1280), ("light", 320))
    for scheme, width in schemes:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        check_page(page)
    assert "owned" not in page.title()


def test_a_keyboard_suffices_to_sign_in_to_halt_and_to_go_on(
    open_page: Open, users: Users, account: Account
) -> None:
    add_with_password(users, "anna", "operator")
    page = open_page("/login", signed_in=False)

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.locator(selector).evaluate("each => each === document.activeElement"):
                return
        raise AssertionError(f"no way to {selector} by keyboard")

    tab_to("#name")
    page.keyboard.type("anna")
    tab_to("#password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_title("Nothing runs, 0 waiting · sendcode")
    tab_to("a[href='#main']")
    page.keyboard.press("Enter")
    tab_to("a[href='/settings/sending']")
    page.keyboard.press("Enter")
    tab_to("#reason")
    page.keyboard.type("lunch")
    page.keyboard.press("Enter")
    expect(page).to_have_title("Stopped, 0 waiting · sendcode")
    halted = account.state()
    tab_to("#resume")
    page.keyboard.press("Enter")
    tab_to("main button")
    page.keyboard.press("Enter")
    expect(page.locator(".said")).to_have_text("Sending goes on.")

    assert (halted.state, halted.message) == ("halted", "lunch")
    assert account.state().state == "running"


def test_home_follows_by_itself_and_so_does_the_tab(
    open_page: Open, redis: Redis, keys: Keys, account: Account
) -> None:
    redis.hset(keys.workers, "w1/1.abc", time_ms(redis.time()) + 3_600_000)
    page = open_page("/")
    expect(page).to_have_title("Nothing to send · sendcode")

    account.halt("person", "Halted", "noon", who="carl")

    expect(page).to_have_title("Stopped, 0 waiting · sendcode")
    expect(page.locator(".standing")).to_contain_text("by carl")
    expect(page.locator(".stale")).to_be_hidden()


def test_without_scripts_people_sign_in_halt_and_sign_out(
    open_page: Open, users: Users, account: Account
) -> None:
    add_with_password(users, "anna", "operator")
    page = open_page("/login", signed_in=False, java_script_enabled=False)

    page.fill("#name", "anna")
    page.fill("#password", PASSWORD)
    page.click("main button")
    page.click("a[href='/settings/sending']")
    page.fill("#reason", HTML)
    page.click("main button")
    halted = page.locator(".standing").inner_text()
    page.click(".who button")

    assert account.state().state == "halted"
    assert HTML in halted
    assert page.url.endswith("/login")


def test_a_page_whose_session_is_over_leads_to_the_sign_in_page(
    open_page: Open, users: Users
) -> None:
    page = open_page("/")
    users.add("another-boss", "admin", None, by="test")

    users.remove("boss", by="test")

    page.wait_for_url("**/login")
