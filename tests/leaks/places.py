"""Where is searched for canaries, and how one is planted there, to see that it would be found."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import requests
from redis import Redis
from redis.exceptions import ResponseError

from config.celery import make_celery
from jobs.account import Account
from tests.commands import run
from tests.leaks.needles import ALL, NAME, STRANGER, forms
from tests.leaks.scene import Scene
from tests.leaks.story import BATCH
from tests.waiting import wait_until

SHOWN_JOBS = 40
"""Of each kind of page."""

Content = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class Place:
    """One place: `read` yields what is in it with where that is, `plant` puts a text there."""

    name: str
    read: Callable[[Scene], Content]
    plant: Callable[[Scene, str], object]
    kinds: frozenset[str] = ALL
    """What must not be there."""


def search(scene: Scene, place: Place) -> Counter[str]:
    """Count what is found in a place, as "number, hex: where"."""
    found: Counter[str] = Counter()
    for where, content in place.read(scene):
        for what, count in scene.needles.find(content, place.kinds).items():
            found[f"{what}: {where}"] += count
    return found


def _redis(scene: Scene) -> Content:
    """Read each key's name and content; the keys that are shown are those with a prefix."""
    client = Redis.from_url(scene.settings.redis_url)
    for key in client.scan_iter("*", count=1000):
        yield "name of a key", key
        yield _kind(key), b"\n".join(_flat(_content(client, key)))
    client.close()


def _kind(key: bytes) -> str:
    return b":".join(key.split(b":")[:2]).decode(errors="replace")


def _content(client: Any, key: bytes) -> Any:
    readers: dict[bytes, Callable[[], Any]] = {
        b"string": lambda: client.get(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"hash": lambda: client.hgetall(key),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"none": lambda: None,  # it has just expired
    }
    return readers[client.type(key)]()


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from pair
    else:
        yield from value or ()


def _append_only_file(scene: Scene) -> Content:
    """Read what was appended, and the files again after they were rewritten."""
    yield from _files(scene.valkey.directory / "appendonlydir")
    with suppress(ResponseError):  # a worker has just begun it
        scene.client.bgrewriteaof()
    wait_until(lambda: not _is_writing(scene), "the rewritten file")
    yield from _files(scene.valkey.directory / "appendonlydir")


def _is_writing(scene: Scene) -> bool:
    info: Any = scene.client.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def _snapshot(scene: Scene) -> Content:
    wait_until(lambda: not _is_writing(scene), "room for a snapshot")
    scene.client.save()
    yield "dump.rdb", (scene.valkey.directory / "dump.rdb").read_bytes()


def _slowlog(scene: Scene) -> Content:
    """Read it as it comes: to parse its 100,000 strings takes longer than to search them."""
    end = secrets.token_hex(16)
    with socket.create_connection(("127.0.0.1", scene.valkey.port)) as server:
        server.sendall(f"AUTH {scene.valkey.password}\r\nSLOWLOG GET -1\r\nECHO {end}\r\n".encode())
        found = bytearray()
        while not found.endswith(f"{end}\r\n".encode()):
            part = server.recv(1 << 20)
            assert part, "the server ended"
            found += part
    yield "slowlog", bytes(found)


def _scripts(scene: Scene) -> Content:
    scene.overheard.catch_up(scene.client)
    yield "arguments of scripts", scene.overheard.scripts.getvalue()


def _messages(scene: Scene) -> Content:
    scene.overheard.catch_up(scene.client)
    yield "other commands", scene.overheard.rest.getvalue()


def _logs(scene: Scene) -> Content:
    for path in scene.logs:
        yield path.name, path.read_bytes()


def _heard(scene: Scene) -> Content:
    yield "logs and errors of a caller", scene.heard.getvalue().encode()


def _webhooks(scene: Scene) -> Content:
    for one in list(scene.receiver.received):
        yield "a webhook", json.dumps(one.headers).encode() + one.body


def _flower(scene: Scene) -> Content:
    pages = ["/", "/workers", "/tasks", "/broker", "/api/tasks", "/api/workers", "/metrics"]
    if scene.flower_url:
        known = scene.ask_flower("/api/tasks").json()
        pages += [f"/task/{job_id}" for job_id in islice(known, SHOWN_JOBS)]
        for path in pages:
            yield path, scene.ask_flower(path).content


def _api(scene: Scene) -> Content:
    ids = list(islice(scene.job_ids(), SHOWN_JOBS))
    places = ["/v1/status", "/v1/batches", f"/v1/batches/{BATCH}", "/metrics", "/openapi.json"]
    for path in [*places, *(f"/v1/codes/{job_id}" for job_id in ids)]:
        answer = scene.call("GET", path)
        yield path, str(answer.headers).encode() + answer.content


def _console(scene: Scene) -> Content:
    ids = list(islice(scene.job_ids(), SHOWN_JOBS))
    pages = ["/", "/batches", f"/batches/{BATCH}", "/dead", "/search", "/actions", "/settings"]
    for path in [*pages, *(f"/jobs/{job_id}" for job_id in ids)]:
        answer = scene.call("GET", path, by=scene.console)
        assert answer.ok, f"{path}: {answer.status_code}"
        yield path, answer.content


def _command_line(scene: Scene) -> Content:
    for words in (
        ("status", "--json"),
        ("dead", "list"),
        ("batch", "status", BATCH),
        ("actions",),
        ("doctor",),
    ):
        ran = run(scene.settings, *words, cwd=scene.files)
        yield f"sendcode {' '.join(words)}", (ran.out + ran.err).encode()


def _process_list(scene: Scene) -> Content:
    scene.processes.look()
    yield "process list", b"\n".join(scene.processes.seen)


def _left_files(scene: Scene) -> Content:
    """Read all files but those that are places of their own, or the customers' own."""
    own = {scene.valkey.directory, scene.customers}
    for path in scene.folder.rglob("*"):
        if path.is_file() and own.isdisjoint(path.parents) and path.suffix != ".log":
            with suppress(FileNotFoundError):  # it was renamed just now
                yield str(path.relative_to(scene.folder)), path.read_bytes()


def _files(folder: Path) -> Content:
    for path in sorted(folder.iterdir()):
        with suppress(FileNotFoundError):  # it was rewritten just now
            yield path.suffix, path.read_bytes()


def _plant_key(scene: Scene, text: str) -> None:
    scene.client.hset("planted", "field", text)
    scene.client.rpush("planted:list", text)


def _plant_halt(scene: Scene, text: str) -> None:
    account = Account(scene.client, scene.settings)
    account.resume("person")
    account.halt("person", "", text)


def _plant_process(scene: Scene, text: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()", text], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        wait_until(lambda: text.encode() in b"".join(scene.processes.seen), "it is listed")
        process.stdin.close()


def _plant_task(scene: Scene, text: str) -> None:
    app = make_celery(scene.settings)
    with app.events.default_dispatcher() as dispatcher:
        dispatcher.send("task-received", uuid="planted", name="send_code", args=text)
    app.close()
    if scene.flower_url:
        wait_until(lambda: "planted" in scene.ask_flower("/api/tasks").json(), "Flower's view")


def _plant_webhook(scene: Scene, text: str) -> None:
    requests.post(scene.receiver.url, data=text, timeout=60)


BUT_COMMANDS_OF_STRANGERS = ALL - {STRANGER}
"""A stranger's own command is written where Redis writes commands down; all else is ours."""
PEOPLE_S_PAGES = ALL - {NAME}
"""A customer's own columns are shown to whoever is signed in: names are there by design."""

PLACES = (
    Place("Redis: every key", _redis, _plant_key),
    Place("append-only file", _append_only_file, _plant_key, BUT_COMMANDS_OF_STRANGERS),
    Place("snapshot (RDB)", _snapshot, _plant_key),
    Place(
        "slowlog", _slowlog, lambda scene, text: scene.client.echo(text), BUT_COMMANDS_OF_STRANGERS
    ),
    Place(
        "arguments of scripts", _scripts, lambda scene, text: scene.client.eval("return 1", 0, text)
    ),
    Place(
        "messages, results, events",
        _messages,
        lambda scene, text: scene.client.publish("celeryev.planted", text),
        BUT_COMMANDS_OF_STRANGERS,
    ),
    Place("logs at DEBUG", _logs, lambda scene, text: (scene.folder / "w1.log").write_text(text)),
    Place("errors", _heard, lambda scene, text: print(ValueError(text), file=scene.heard)),
    Place("webhooks", _webhooks, _plant_webhook),
    Place("Flower", _flower, _plant_task),
    Place("HTTP API", _api, _plant_halt),
    Place("console", _console, _plant_halt, PEOPLE_S_PAGES),
    Place("command line", _command_line, _plant_halt),
    Place("process list", _process_list, _plant_process),
    Place("files left", _left_files, lambda scene, text: (scene.files / "core").write_text(text)),
)


def planted(number: int, text: str) -> str:
    """Return a text in one of the forms that can stand in any text, another for each number."""
    possible = [data.decode() for form, data in forms(text) if form not in {"UTF-16", "integer"}]
    return possible[number % len(possible)]
