"""What holds for every page of the console: who may see it, its forms' token, its headers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests
from fastapi.routing import APIRoute
from pydantic import SecretStr
from redis import Redis

from config.settings import Settings
from producer.users import Users
from producer.web.app import make_app
from producer.web.console import ROUTERS
from tests.console import PASSWORD, Browser, add_with_password, csrf_of
from tests.waiting import wait_until
from tests.web_server import WebServer

OPEN = {"/login", "/static/{name}"}
"""What everybody may ask for."""


@pytest.fixture
def web(settings: Settings) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def users(redis: Redis, settings: Settings) -> Users:
    return Users(redis, settings)


def routes() -> list[tuple[str, str]]:
    """Return every method and path of the console."""
    return [
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


def filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "nothing", path)


def test_a_user_signs_in_and_out(web: WebServer, users: Users) -> None:
    users.add("anna", "viewer", PASSWORD)
    browser = Browser(web)

    home = browser.sign_in("anna")
    signed_out = browser.post("/logout")

    assert (home.status_code, home.url) == (200, web.url + "/")
    assert "anna" in home.text
    assert "You are signed out." in signed_out.text
    assert browser.get("/").url.endswith("/login")


def test_a_wrong_name_or_password_lets_nobody_in(web: WebServer, users: Users) -> None:
    add_with_password(users, "anna", "viewer")
    users.add("by-proxy", "admin", None)
    browser = Browser(web)

    wrong = [("anna", "wrong"), ("nobody", PASSWORD), ("by-proxy", PASSWORD), ("", "")]
    for name, password in wrong:
        answer = browser.sign_in(name, password)

        assert answer.status_code == 401, name
        assert "Name or password is wrong." in answer.text
        assert browser.get("/").url.endswith("/login")


def test_a_wrong_password_that_is_answered_late_is_no_fault_of_redis(
    settings: Settings, users: Users
) -> None:
    add_with_password(users, "anna", "viewer")
    with WebServer(settings, answer_s=0.5, guess_delay_s=0.8) as web:
        browser = Browser(web)
        for _ in range(4):  # until the delay is longer than Redis may take
            browser.sign_in("anna", "wrong")

        wait_until(lambda: browser.sign_in("anna", "wrong").status_code == 401)


def test_without_any_user_the_sign_in_page_says_how_to_add_one(
    web: WebServer, users: Users
) -> None:
    before = Browser(web).get("/login").text
    users.add("anna", "admin", None)
    after = Browser(web).get("/login").text

    assert "sendcode user add NAME --role admin" in before
    assert "sendcode user add" not in after


def test_without_a_session_there_is_nothing_but_the_sign_in_page(web: WebServer) -> None:
    closed = [(method, path) for method, path in routes() if path not in OPEN]
    assert ("GET", "/") in closed

    for method, path in closed:
        answer = requests.request(method, web.url + filled(path), timeout=30, allow_redirects=False)

        assert answer.status_code == 303, (method, path)
        assert answer.headers["Location"].startswith("/login"), (method, path)


_OF_ANYBODY = {"/logout", "/settings/password", "/search", "/batches/{batch_id}"}
"""Forms that change oneself alone, or nothing: what is searched for is in no address."""


def test_a_viewer_changes_nothing_and_an_operator_no_user(
    web: WebServer, redis: Redis, settings: Settings
) -> None:
    viewer = Browser.of(web, redis, settings, "viewer")
    operator = Browser.of(web, redis, settings, "operator")
    token_of_viewer, token_of_operator = csrf_of(viewer.get("/")), csrf_of(operator.get("/"))
    changing = [each for each in routes() if each[0] != "GET" and each[1] not in OPEN]
    assert len(changing) > 10

    for method, path in changing:
        of_admins = path.startswith(("/settings/users", "/settings/tokens"))
        if path not in _OF_ANYBODY:
            assert viewer._send(method, filled(path), token_of_viewer).status_code == 403, path
        if of_admins:
            assert operator._send(method, filled(path), token_of_operator).status_code == 403, path
    for page in ("/settings/users/boss", "/settings/tokens/12345678"):
        assert operator.get(page).status_code == 403
    shown = operator.get("/settings").text
    assert "/settings/users" not in shown
    assert "/settings/tokens" not in shown
    assert "/settings/sending" not in viewer.get("/").text + viewer.get("/settings").text


def test_a_form_without_its_token_changes_nothing(
    web: WebServer, redis: Redis, settings: Settings
) -> None:
    browser = Browser.of(web, redis, settings, "admin")
    other = Browser.of(web, redis, settings, "admin", "other")
    tokens = ["", "x", csrf_of(other.get("/"))]

    for method, path in routes():
        if method == "GET" or path == "/login":
            continue
        for token in tokens:
            answer = browser._send(method, filled(path), token)
            assert answer.status_code == 403, (method, path)
    assert browser.get("/").url == web.url + "/"


def test_a_page_that_was_asked_for_is_shown_after_signing_in(web: WebServer) -> None:
    browser = Browser(web)

    page = browser.get("/?page=2")

    assert page.url == web.url + "/login?next=/%3Fpage%3D2"
    assert 'name="next" value="/?page=2"' in page.text


@pytest.mark.parametrize(
    "next_page", ["//evil.example", "https://evil.example", "/\\evil.example", "//["]
)
def test_signing_in_never_leads_to_another_host(web: WebServer, next_page: str) -> None:
    page = Browser(web).get("/login", params={"next": next_page})

    assert 'name="next" value="/"' in page.text


def test_a_problem_is_a_page_for_people_and_a_document_for_programs(
    web: WebServer, redis: Redis, settings: Settings
) -> None:
    browser = Browser.of(web, redis, settings, "viewer")

    page, document = browser.get("/nowhere"), requests.get(web.url + "/nowhere", timeout=30)

    assert (page.status_code, document.status_code) == (404, 404)
    assert "There is no such page" in page.text
    assert document.json()["code"] == "not_found"


def test_a_form_that_is_too_long_is_refused_on_a_page(web: WebServer) -> None:
    browser = Browser(web)

    answer = browser._send("POST", "/login", "", name="x" * 300_000)

    assert answer.status_code == 413
    assert "That is too much at once" in answer.text


def test_without_redis_a_page_says_so(settings: Settings) -> None:
    gone = {"sendcode_redis_url": SecretStr("redis://127.0.0.1:9/0")}
    with WebServer(settings.model_copy(update=gone)) as web:
        answer = Browser(web).get("/login")

    assert answer.status_code == 503
    assert "Nothing is lost" in answer.text


def test_a_page_speaks_the_browser_s_language(web: WebServer) -> None:
    assert '<html lang="zh-Hans">' in Browser(web, "zh-CN,zh;q=0.9").get("/login").text
    assert '<html lang="en">' in Browser(web, "fr").get("/login").text


def test_no_page_has_inline_scripts_or_styles_and_static_files_are_kept(
    web: WebServer, redis: Redis, settings: Settings
) -> None:
    browser = Browser.of(web, redis, settings, "admin")
    page = browser.get("/")

    for element in re.findall(r"<(?:script|link)[^>]*>", page.text):
        address = re.search(r'(?:src|href)="([^"]+)"', element)
        assert address is not None
        assert address[1].startswith("/static/")
        kept = browser.get(address[1])
        assert kept.status_code == 200
        assert "immutable" in kept.headers["Cache-Control"]
    assert "style=" not in page.text
    assert "<style" not in page.text
    assert not re.search(r"\son\w+=", page.text)
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


def test_no_page_is_in_the_description_of_the_api() -> None:
    paths = make_app(Settings()).openapi()["paths"]

    assert not [path for path in paths if not path.startswith("/v1/")]
