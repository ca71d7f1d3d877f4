"""The console as a browser without JavaScript: a session, its pages and their forms."""

from __future__ import annotations

import json
import re
from typing import Any, Self

import requests
from redis import Redis

from config.settings import Settings
from producer.users import User, Users
from tests.waiting import PATIENCE_S
from tests.web_server import WebServer, direct_session

PASSWORD = "a-password-of-tests"
_CHEAP_HASH = "scrypt$2$1$1$c2VuZGNvZGU=$ZNkyaJ4pLp7FuhfZszkDK9mpVuOMN/S7Bk+M7KMuzqg="
"""Of PASSWORD, at the least cost that scrypt knows: a real one takes a fifth of a second."""


def add_with_password(users: Users, name: str, role: str) -> User:
    """Add a user who can sign in with PASSWORD, without the cost of hashing it."""
    users.add(name, role, None, by="test")
    values: Any = users.client.hget(users.keys.users, name)
    changed = json.dumps(json.loads(values) | {"hash": _CHEAP_HASH})
    users.client.hset(users.keys.users, name, changed)
    user = users.get(name)
    assert user is not None
    return user


class Browser:
    """Somebody at the console; `post` brings the form's token."""

    def __init__(self, web: WebServer, language: str = "en") -> None:
        self._url = web.url
        self._tokens: dict[str | None, str] = {}
        self.session = direct_session()
        self.session.headers.update({"Accept": "text/html", "Accept-Language": language})

    def sign_in(self, name: str, password: str = PASSWORD) -> requests.Response:
        """Fill in the sign-in page."""
        page = self.get("/login")
        return self._send("POST", "/login", csrf_of(page), name=name, password=password)

    @classmethod
    def of(
        cls, web: WebServer, redis: Redis, settings: Settings, role: str, name: str = ""
    ) -> Self:
        """Return a browser of a new user, signed in; without the cost of a password."""
        users = Users(redis, settings)
        user = users.add(name or f"{role}-of-tests", role, None, by="test")
        browser = cls(web)
        browser.session.cookies.set("sendcode_session", users.begin_session(user))
        return browser

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self._url + path, timeout=PATIENCE_S, **options)

    def live(self, path: str) -> requests.Response:
        """Ask for what htmx asks for."""
        return self.get(path, headers={"HX-Request": "true", "Accept": "*/*"})

    def post(self, path: str, **fields: Any) -> requests.Response:
        """Send a form, with the token of this session."""
        session = self.session.cookies.get("sendcode_session")
        token = self._tokens.get(session) or csrf_of(self.get("/"))
        self._tokens[session] = token
        return self._send("POST", path, token, **fields)

    def _send(self, method: str, path: str, token: str, **fields: Any) -> requests.Response:
        data = {"csrf": token, **fields}
        return self.session.request(method, self._url + path, data=data, timeout=PATIENCE_S)


def csrf_of(page: requests.Response) -> str:
    """Return the token of a page's forms."""
    found = re.search(r'name="csrf" value="([^"]*)"', page.text)
    return found[1] if found else ""
