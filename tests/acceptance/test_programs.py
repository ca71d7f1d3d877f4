"""`sendcode worker` and `sendcode sandbox` as processes: they become the program itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis, RedisError
from redis.exceptions import NoPermissionError
from ruamel.yaml import YAML

from config import EVENT_QUEUE
from config.settings import Settings
from demo.world import _binary, environment_of, free_port
from jobs.keys import Keys
from producer import send_code
from producer.cli.processes import worker_command
from tests.commands import SENDCODE
from tests.forked import begin
from tests.waiting import PATIENCE_S, wait_until
from tests.worker_process import TOP


@contextmanager
def running(
    settings: Settings, folder: Path, *words: str, command: Sequence[str] = SENDCODE
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command; what it says goes to a file."""
    said = folder / "said"
    with said.open("wb") as file, open(os.devnull, "rb") as nothing:
        files = nothing.fileno(), file.fileno(), file.fileno()
        process = begin([*command, *words], folder, environment_of(settings), files)
    try:
        yield process, said
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


def ready(said: Path) -> bool:
    return " ready." in said.read_text()


@pytest.mark.usefixtures("sandbox")
def test_a_worker_has_the_name_threads_and_queues_that_were_asked_for_and_warns_of_its_redis(
    settings: Settings, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    # nor does it take what lies in the current folder for ours
    (tmp_path / "config.py").write_text("raise SystemExit('the wrong config')\n")
    options = ("--name", "only-events", "--concurrency", "3", "--queues", EVENT_QUEUE)
    with running(settings, tmp_path, "worker", *options) as (process, said):
        wait_until(lambda: ready(said) or process.poll() is not None, "the worker")
        assert process.poll() is None, said.read_text()
        wait_until(lambda: redis.hlen(keys.workers), "its sign of life")
        wait_until(lambda: "Redis is not as it must be" in said.read_text(), "the warning")

        record = send_code("852", "99000001", wait=PATIENCE_S, settings=settings)
        process.terminate()

        assert process.wait(PATIENCE_S) == 0
    assert record.state == "sent"
    assert "only-events@" in said.read_text()
    assert "concurrency: 3 " in said.read_text()
    assert "send-code.batch" not in said.read_text()
    assert redis.hlen(keys.workers) == 0
    warnings = [line for line in said.read_text().splitlines() if "not as it must be" in line]
    assert len(warnings) == 1  # the tests' server runs with fsync="no" and is well otherwise
    assert "check=appendfsync" in warnings[0]
    assert "set appendfsync always" in warnings[0]


@pytest.mark.usefixtures("sandbox")
def test_workers_of_one_machine_have_names_of_their_own(
    settings: Settings, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    with (
        running(settings, tmp_path / "a", command=worker_command()),
        running(settings, tmp_path / "b", command=worker_command()) as (second, said),
    ):
        wait_until(lambda: redis.hlen(keys.workers) == 2, "both")
        wait_until(lambda: ready(said), "the second")
        second.terminate()
        second.wait(PATIENCE_S)

        (left,) = redis.hkeys(keys.workers)
    assert str(left).split("/")[0] not in said.read_text()
    assert "same name" not in said.read_text()


def test_the_sandbox_is_the_sandbox_with_all_its_options(
    settings: Settings, tmp_path: Path
) -> None:
    with running(settings, tmp_path, "sandbox", "--port", "0", "--rate-limit", "7") as (
        process,
        said,
    ):
        wait_until(lambda: said.read_text().endswith("\n"), "its address")
        told = json.loads(said.read_text())
        process.terminate()

        assert process.wait(PATIENCE_S) == 0
    assert told["url"].startswith("http://127.0.0.1:")
    assert told["pid"] == process.pid


@pytest.mark.parametrize("password", ["a b", 'q"\\x', "%41#?/@:;'$HOME`x`", "\u00e9"])
def test_redis_in_a_container_has_the_password_of_the_url(password: str, tmp_path: Path) -> None:
    redis = YAML(typ="safe").load(TOP / "docker-compose.yml")["services"]["redis"]
    port = free_port()
    (tmp_path / "redis_url").write_text(f"redis://:{quote(password, safe='')}@redis:6379/0\n")
    talk = (
        f"import socket, sys; s = socket.create_connection(('127.0.0.1', {port})); s.settimeout(9);"
        "s.sendall(sys.stdin.buffer.read()); s.shutdown(1); print(s.makefile().read())"
    )
    programs = {
        "docker-entrypoint.sh": f'shift; exec {_binary()} "$@" --port {port} --bind 127.0.0.1',
        "valkey-cli": f'exec {sys.executable} -c "{talk}"',
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    def run(script: str) -> subprocess.Popen[bytes]:
        for container, here in (("$$", "$"), ("/run/secrets", tmp_path), ("/data", tmp_path)):
            script = script.replace(container, str(here))
        path = f"{tmp_path}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["/bin/sh", "-euc", script], env={"PATH": path}, stdout=subprocess.DEVNULL
        )

    def is_up() -> bool:
        with Redis(port=port, password=password) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False

    server = run(redis["command"][0])
    try:
        wait_until(is_up, "a login with the password")
        assert run(redis["healthcheck"]["test"][1]).wait(PATIENCE_S) == 0
        with Redis(port=port, password=password) as client:
            for forbidden in (client.flushall, client.flushdb):
                with pytest.raises(NoPermissionError):
                    forbidden()
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
