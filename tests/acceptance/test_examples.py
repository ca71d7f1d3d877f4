"""Every example under examples/ runs: it asks for a code, and learns what became of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from redis import Redis

from config.settings import Settings
from demo.world import free_port
from producer.tokens import Tokens
from sendcode_client.testing import FakeSendcode
from tests.waiting import PATIENCE_S, wait_until
from tests.web_server import WebServer
from tests.worker_process import TOP

EXAMPLES = TOP / "examples"
CLIENT = TOP / "clients" / "python"
PHONE = "+852 5550 1234"

SERVERS = {
    # as examples/README.md says; the folder that it is started in, and its command
    "django": ("django", [sys.executable, "manage.py", "runserver", "--noreload", "{port}"]),
    "flask": (".", [sys.executable, "-m", "flask", "--app", "flask_signup", "run", "-p", "{port}"]),
    "fastapi": (".", [sys.executable, "-m", "uvicorn", "fastapi_signup:app", "--port", "{port}"]),
    "node": ("node", ["node", "signup.mjs"]),
    "go": ("go", ["./signup"]),
    "php": ("php", ["php", "-S", "127.0.0.1:{port}", "signup.php"]),
}
FIRST = {
    "django": [sys.executable, "manage.py", "migrate", "--run-syncdb", "-v", "0"],
    "go": ["go", "build", "signup.go"],
}


@contextmanager
def running(name: str, fake: FakeSendcode, tmp_path: Path, port: int) -> Iterator[str]:
    """Run an example, from a copy far from our own packages."""
    folder, command = SERVERS[name]
    place = tmp_path / "examples"
    shutil.copytree(EXAMPLES, place)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CLIENT),
        "SENDCODE_URL": fake.url,
        "SENDCODE_TOKEN": fake.token,
        "SENDCODE_WEBHOOK_SECRET": fake.webhook_secret,
        "DATABASE": str(tmp_path / "db.sqlite3"),
        "HOME": str(tmp_path),  # for what Go compiles
        "PORT": str(port),
    }
    words = [word.format(port=port) for word in command]
    if name in FIRST:
        subprocess.run(FIRST[name], cwd=place / folder, env=environment, check=True)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=place / folder, env=environment, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                return requests.get(f"{url}/nothing", timeout=PATIENCE_S).status_code == 404
            except requests.ConnectionError:
                return False

        wait_until(answers, f"the {name} example")
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("name", SERVERS)
def test_an_example_asks_for_a_code_and_learns_what_became_of_it(name: str, tmp_path: Path) -> None:
    if name in {"node", "go", "php"} and shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: its example is not tried")
    port = free_port()
    with (
        FakeSendcode(
            sends_at_once=False, webhook=f"http://127.0.0.1:{port}/webhooks/sendcode"
        ) as fake,
        running(name, fake, tmp_path, port) as url,
    ):
        sign_up = {"user": "81723", "phone": PHONE}
        answers = [
            requests.post(f"{url}/signup", json=sign_up, timeout=PATIENCE_S) for _ in range(2)
        ]

        assert [answer.status_code for answer in answers] == [202, 202], answers[0].text
        (code,) = fake.codes
        assert (code.key, code.number) == ("signup-81723", "85255501234")

        def state() -> object:
            return requests.get(f"{url}/codes/81723", timeout=PATIENCE_S).json()["state"]

        assert state() == "on its way"
        forged = requests.post(f"{url}/webhooks/sendcode", json={"data": {}}, timeout=PATIENCE_S)
        assert forged.status_code == 400
        fake.end("signup-81723", "dead", "InvalidParameterValue.UnSupportArea")
        assert state() == "dead"


def test_the_shell_script_asks_the_real_server(settings: Settings, redis: Redis) -> None:
    _, token = Tokens(redis, settings).new("shell", ["send"])
    with WebServer(settings) as server:
        ran = subprocess.run(
            [EXAMPLES / "curl.sh", "81723", PHONE],
            env=os.environ | {"SENDCODE_URL": server.url, "SENDCODE_TOKEN": token, "WAIT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert ran.returncode == 0, ran.stderr
    assert '"state":"queued"' in ran.stdout
