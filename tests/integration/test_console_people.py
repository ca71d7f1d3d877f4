"""Users, tokens, one's own password; halt and resume; who did what; sign-in by a proxy."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator

import pytest
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.actions import Action, recent_actions
from jobs.batches import Batches
from jobs.keys import Keys
from producer.tokens import Tokens
from producer.users import IDLE_S, LIFE_S, LastAdminError, Role, Users
from tests.commands import Command
from tests.console import PASSWORD, Browser, add_with_password
from tests.web_server import WebServer

ANOTHER = "another-password"
HTML = "<b>&bold</b>"
SHOWN = "&lt;b&gt;&amp;bold&lt;/b&gt;"


@pytest.fixture
def web(settings: Settings) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        yield server


@pytest.fixture
def users(redis: Redis, settings: Settings) -> Users:
    return Users(redis, settings)


@pytest.fixture
def admin(web: WebServer, redis: Redis, settings: Settings) -> Browser:
    return Browser.of(web, redis, settings, "admin", "boss")


@pytest.fixture
def operator(web: WebServer, redis: Redis, settings: Settings) -> Browser:
    return Browser.of(web, redis, settings, "operator", "anna")


def last_action(redis: Redis, settings: Settings) -> Action:
    return recent_actions(redis, settings, 1)[0]


def test_an_operator_halts_for_a_reason_and_lets_it_go_on(
    operator: Browser, account: Account, redis: Redis, settings: Settings
) -> None:
    asked = operator.get("/settings/sending").text
    halted = operator.post("/settings/sending/halt", reason=f"{HTML} call +852 5555 1234")
    did = last_action(redis, settings)
    operator.post("/settings/sending/resume", reason="it is noon")
    undid = last_action(redis, settings)

    assert "Stop all sending?" in asked
    assert "All sending is stopped." in halted.text
    assert SHOWN in halted.text
    assert "5555 1234" not in halted.text
    assert account.state().state == "running"
    assert (did.what, did.by) == ("halt", "anna")
    assert (undid.what, undid.by, undid.reason) == ("resume", "anna", "it is noon")


def test_a_halt_without_a_reason_is_none(operator: Browser, account: Account) -> None:
    answer = operator.post("/settings/sending/halt", reason="  ")

    assert answer.status_code == 422
    assert "Say why" in answer.text
    assert account.state().state == "running"


def test_who_did_what_shows_submissions_and_any_text_as_text(
    operator: Browser, batches: Batches, account: Account
) -> None:
    batches.open("b1", "digest", ["phone"], by="anna")
    account.halt("person", "Halted", HTML, who="bob")

    page = operator.get("/actions").text

    assert "submitted a batch" in page
    assert 'href="/batches/b1"' in page
    assert SHOWN in page
    assert HTML not in page
    assert "bob" in page


def test_actions_come_page_by_page(operator: Browser, redis: Redis, keys: Keys) -> None:
    for n in range(120):
        redis.lpush(keys.actions, Action(at_ms=1, what=f"act {n}.", by="bob").encode())

    first, last = operator.get("/actions").text, operator.get("/actions?page=3").text

    assert "act 119." in first
    assert "act 69." not in first
    assert "Older" in first
    assert "act 0." in last
    assert "Older" not in last


def test_an_admin_adds_changes_and_removes_a_user(
    admin: Browser, web: WebServer, users: Users, redis: Redis, settings: Settings
) -> None:
    admin.post("/settings/users", name="carl@x.example", role="viewer", password=PASSWORD)
    carl = Browser(web)
    signed_in = carl.sign_in("carl@x.example")
    admin.post("/settings/users/carl@x.example/role", role="operator")
    promoted = carl.get("/settings/sending")
    changed = admin.post("/settings/users/carl@x.example/password", password=ANOTHER)
    signed_out = carl.get("/")
    again = carl.sign_in("carl@x.example", ANOTHER)
    admin.post("/settings/users/carl@x.example/remove")
    gone = carl.get("/")

    assert signed_in.url == web.url + "/"
    assert promoted.status_code == 200
    assert "signed out everywhere" in changed.text
    assert signed_out.url.endswith("/login")
    assert again.url == web.url + "/"
    assert gone.url.endswith("/login")
    assert users.get("carl@x.example") is None
    what = [(each.what, each.by) for each in recent_actions(redis, settings, 4)]
    assert what == [
        ("user remove", "boss"),
        ("user password", "boss"),
        ("user role", "boss"),
        ("user add", "boss"),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": HTML, "role": "viewer", "password": PASSWORD}, "A name has 1 to 64 letters"),
        ({"name": "x", "role": "king", "password": PASSWORD}, "There is no such role"),
        ({"name": "x", "role": "viewer", "password": "short"}, "A password has 10 to 200"),
        ({"name": "boss", "role": "viewer", "password": PASSWORD}, "a user of that name already"),
    ],
)
def test_a_user_that_will_not_do_is_refused_in_words(
    admin: Browser, users: Users, fields: dict[str, str], words: str
) -> None:
    answer = admin.post("/settings/users", **fields)

    assert answer.status_code == 422
    assert words in answer.text
    assert [each.name for each in users.all()] == ["boss"]


def test_no_admin_removes_or_changes_themselves(admin: Browser, users: Users) -> None:
    for act in ("role", "password", "remove"):
        answer = admin.post(f"/settings/users/boss/{act}", role="viewer", password=ANOTHER)
        assert answer.status_code == 403

    boss = users.get("boss")
    assert boss is not None
    assert boss.role is Role.ADMIN


def test_of_two_admins_who_demote_each_other_at_once_one_stays(
    sendcode: Command, users: Users
) -> None:
    for name in ("anna", "bob"):
        users.add(name, "admin", None)

    assert users.set_role("bob", "viewer")
    with pytest.raises(LastAdminError, match="anna is the only admin"):
        users.set_role("anna", "viewer")
    with pytest.raises(LastAdminError):
        users.remove("anna")
    removed = sendcode("user", "remove", "anna", "--yes")

    assert removed.exit_code == 1
    assert "add another one first" in removed.err
    assert users.remove("bob")
    assert [(user.name, user.role) for user in users.all()] == [("anna", "admin")]


def test_one_s_own_password_is_changed_and_other_sessions_end(web: WebServer, users: Users) -> None:
    add_with_password(users, "anna", "viewer")
    here, there = Browser(web), Browser(web)
    here.sign_in("anna")
    there.sign_in("anna")

    wrong = here.post("/settings/password", password=ANOTHER, new=ANOTHER)
    right = here.post("/settings/password", password=PASSWORD, new=ANOTHER)

    assert wrong.status_code == 422
    assert "That is not your password." in wrong.text
    assert "Your password is changed." in right.text
    assert here.get("/").url == web.url + "/"
    assert there.get("/").url.endswith("/login")


def test_a_token_is_shown_once_and_revoked(
    admin: Browser, web: WebServer, redis: Redis, settings: Settings
) -> None:
    made = admin.post("/settings/tokens", name="shop", scope=["read", "batch"])
    found = re.search(r"sct_[\w-]{43}", made.text)
    assert found is not None
    secret, token = found[0], Tokens(redis, settings).all()[0]
    before = web.call("GET", "/v1/status", token=secret)
    asked = admin.get(f"/settings/tokens/{token.id}")
    gone = admin.post(f"/settings/tokens/{token.id}/revoke")
    after = web.call("GET", "/v1/status", token=secret)

    assert (token.created_by, token.scopes) == ("boss", ("batch", "read"))
    assert "cannot be taken back" in asked.text
    assert "The token of shop is revoked." in gone.text
    assert secret not in asked.text + gone.text
    assert (before.status_code, after.status_code) == (200, 401)


def test_what_an_engineer_needs_is_linked_where_flower_may_be(operator: Browser) -> None:
    page = operator.get("/settings").text

    assert "sendcode flower" in page
    assert 'href="http://127.0.0.1:5555/"' in page


def test_a_session_ends_when_nobody_does_anything_and_at_last_in_any_case(
    web: WebServer, redis: Redis, keys: Keys, users: Users
) -> None:
    user = users.add("anna", "viewer", None)
    browser = Browser(web)
    browser.session.cookies.set("sendcode_session", users.begin_session(user))
    (key,) = redis.scan_iter(keys.session("*"))
    redis.expire(key, 100)

    browser.live("/")
    untouched = redis.ttl(key)
    browser.get("/")
    touched = redis.ttl(key)
    redis.hincrby(key, "began", -1000 * LIFE_S)
    over = browser.get("/")

    assert untouched <= 100
    assert IDLE_S - 100 < touched <= IDLE_S
    assert over.url.endswith("/login")


def test_a_part_that_lives_leads_to_the_sign_in_page_when_the_session_is_over(
    web: WebServer,
) -> None:
    answer = Browser(web).live("/")

    assert answer.headers["HX-Redirect"] == "/login"
    assert not answer.text


def test_a_session_s_cookie_is_for_no_script_and_no_other_site(
    web: WebServer, users: Users
) -> None:
    add_with_password(users, "anna", "viewer")
    browser = Browser(web)
    token = browser.get("/login").text.split('name="csrf" value="')[1].split('"')[0]

    answer = browser.session.post(
        web.url + "/login",
        data={"csrf": token, "name": "anna", "password": PASSWORD},
        allow_redirects=False,
        timeout=30,
    )

    (cookie,) = [
        each for each in answer.headers["Set-Cookie"].split(", ") if "sendcode_session" in each
    ]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie


class TestBehindAProxy:
    """With `SENDCODE_TRUSTED_PROXY`, and from elsewhere."""

    @pytest.fixture
    def trusting(self, settings: Settings) -> Iterator[WebServer]:
        change = {"sendcode_trusted_proxy": "10.0.0.0/8, 127.0.0.1"}
        with WebServer(settings.model_copy(update=change)) as server:
            yield server

    def test_whom_a_trusted_proxy_names_is_signed_in_with_their_role(
        self, trusting: WebServer, users: Users
    ) -> None:
        users.add("anna@x.example", "operator", None)
        browser = Browser(trusting)
        browser.session.headers["X-Forwarded-User"] = "anna@x.example"

        home = browser.get("/")
        halted = browser.post("/settings/sending/halt", reason="lunch")

        assert "anna@x.example" in home.text
        assert "Sign out" not in home.text
        assert "All sending is stopped." in halted.text

    def test_a_page_that_refreshes_itself_has_one_session(
        self, trusting: WebServer, users: Users, redis: Redis, keys: Keys
    ) -> None:
        users.add("anna", "operator", None)
        browser = Browser(trusting)
        browser.session.headers["X-Forwarded-User"] = "anna"

        for _ in range(3):
            browser.live("/")

        assert len(list(redis.scan_iter(keys.session("*")))) == 1

    def test_a_session_of_a_proxy_is_nothing_without_its_word(
        self, trusting: WebServer, users: Users
    ) -> None:
        users.add("anna", "operator", None)
        browser = Browser(trusting)
        browser.get("/", headers={"X-Forwarded-User": "anna"})

        assert browser.get("/").url.endswith("/login")

    def test_another_name_is_another_user_whatever_the_cookie_says(
        self, trusting: WebServer, users: Users
    ) -> None:
        users.add("anna", "operator", None)
        users.add("bob", "viewer", None)
        browser = Browser(trusting)
        browser.get("/", headers={"X-Forwarded-User": "anna"})

        answer = browser.get("/settings/sending", headers={"X-Forwarded-User": "bob"})

        assert answer.status_code == 403

    def test_a_name_that_was_not_added_is_refused(self, trusting: WebServer, users: Users) -> None:
        users.add("anna", "operator", None)

        answer = Browser(trusting).get("/", headers={"X-Forwarded-User": "mallory"})

        assert answer.status_code == 403
        assert "mallory is no user here" in answer.text

    def test_over_tls_the_cookie_is_for_tls_alone(self, trusting: WebServer) -> None:
        answer = Browser(trusting).get("/login", headers={"X-Forwarded-Proto": "https"})

        assert "; Secure" in answer.headers["Set-Cookie"]

    @pytest.mark.parametrize("trusted", ["", "10.0.0.0/8"])
    def test_others_are_not_believed(self, settings: Settings, users: Users, trusted: str) -> None:
        users.add("anna", "operator", None)
        change = {"sendcode_trusted_proxy": trusted}
        forged = {"X-Forwarded-User": "anna", "X-Forwarded-Proto": "https"}
        with WebServer(settings.model_copy(update=change)) as web:
            answer = Browser(web).get("/", headers=forged)

        assert answer.url.endswith("/login")
        assert "; Secure" not in answer.headers["Set-Cookie"]


def test_users_are_managed_on_the_command_line(
    sendcode: Command, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed(*words: str, line: str = PASSWORD) -> int:
        monkeypatch.setattr(sys, "stdin", io.StringIO(line + "\n"))
        return sendcode(*words).exit_code

    assert typed("user", "add", "anna", "--role", "admin") == 0
    assert typed("user", "add", "anna", "--role", "admin") == 1
    assert typed("user", "add", "bob", "--role", "king") == 2
    assert typed("user", "add", "bob", "--no-password") == 0
    assert typed("user", "add", "short", line="short") == 2
    assert typed("user", "password", "anna", line=ANOTHER) == 0
    assert typed("user", "password", "nobody") == 1
    assert users.authenticate("anna", ANOTHER) is not None
    assert users.authenticate("anna", PASSWORD) is None
    listed = sendcode("user", "list", "--json").json
    assert [(each["name"], each["role"], each["has_password"]) for each in listed] == [
        ("anna", "admin", True),
        ("bob", "viewer", False),
    ]
    assert sendcode("user", "remove", "bob").exit_code == 2
    assert sendcode("user", "remove", "bob", "--yes").exit_code == 0
    assert [each.name for each in users.all()] == ["anna"]


def test_no_password_or_session_is_in_the_ledger_as_it_is(
    redis: Redis, keys: Keys, users: Users
) -> None:
    secret = users.begin_session(users.add("anna", "viewer", PASSWORD))

    kept = str(redis.hgetall(keys.users)) + str(list(redis.scan_iter("*")))

    assert PASSWORD not in kept
    assert secret not in kept
    assert "scrypt$16384$8$5$" in kept


def test_the_settings_name_only_addresses_and_networks() -> None:
    with pytest.raises(ValueError, match="must be addresses or networks"):
        Settings(sendcode_trusted_proxy="proxy.example")
    assert len(Settings(sendcode_trusted_proxy="::1, 10.0.0.0/8").trusted_proxies) == 2
