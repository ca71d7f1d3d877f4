"""How quickly the console answers with a million rows, and what an upload of 100 MB takes.

Everything is measured from outside: a real `sendcode web`, asked by one person after another.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil
import requests

from benchmarks.report import Report, Table, Target
from benchmarks.world import World, announce, usage_of
from demo.world import Process, free_port, wait_until
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.phone import PhoneNumber
from jobs.rows import CHUNK_ROWS
from producer.users import Role, Users

ROWS, BATCHES, UPLOAD_BYTES = 1_000_000, 100, 100_000_000
ASKED = 100
"""Requests for each page."""
SMALLER = 2
"""So many times smaller is the upload that the other is compared with."""
TARGET_MS, TARGET_BYTES, TARGET_GROWTH = 100, 150_000, 1.25
PATIENCE_S = 300.0
MIB = 1 << 20
_LINE = b"Customer %09d,852,%08d,of whom nothing else is known but this remark\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=ROWS, help=f"of the batch (default: {ROWS})")
    parser.add_argument("--upload", type=int, default=UPLOAD_BYTES, help="bytes of the upload")


def measure(options: argparse.Namespace, command: str) -> Report:
    """Ask for the pages, then upload."""
    with World() as world:
        announce(f"{options.rows:,} rows in one of {BATCHES} batches")
        _fill(world, options.rows)
        port = free_port()
        users = Users(world.redis, world.settings)
        session = users.begin_session(users.add("bench", Role.OPERATOR, None, by="bench"))
        line = ("-c", "from producer.cli import main; main()", "web", "--port", str(port))
        with world.start("web", [sys.executable, *line], TMPDIR=str(world.folder)) as web:
            person = _Person(f"http://127.0.0.1:{port}", session)
            wait_until(person.is_served, "the console")
            announce(f"{ASKED} requests for each page")
            pages = [_ask(person, web, name, path) for name, path in _paths(options.rows)]
            uploads = []
            for size in (options.upload // SMALLER, options.upload):
                announce(f"an upload of {size / 1e6:g} MB")
                uploads.append(_upload(person, web, size))
    return _report(pages, options, uploads, command)


class _Person:
    """Somebody signed in."""

    def __init__(self, url: str, session: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.headers["Accept"] = "text/html"
        self.session.cookies.set("sendcode_session", session)

    def is_served(self) -> bool:
        try:
            return self.session.get(f"{self.url}/livez", timeout=1).ok
        except requests.ConnectionError:
            return False

    def get(self, path: str, **headers: str) -> requests.Response:
        answer = self.session.get(self.url + path, timeout=PATIENCE_S, headers=headers)
        answer.raise_for_status()
        return answer


def _paths(rows: int) -> list[tuple[str, str]]:
    return [
        ("home", "/"),
        ("all batches", "/batches"),
        ("the batch", "/batches/big"),
        ("its last rows", f"/batches/big?after={rows - 50}"),
        ("its failed rows", "/batches/big?only=failed"),
        ("its failed rows, from the middle", f"/batches/big?only=failed&after={rows // 2}"),
        ("its waiting rows", "/batches/big?only=waiting"),
        ("its live part", "live /batches/big"),
    ]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a page took: milliseconds, and bytes."""

    name: str
    median_ms: float
    p99_ms: float
    cpu_ms: float
    """Of the web process."""
    size: int


def _ask(person: _Person, web: Process, name: str, path: str) -> _Asked:
    headers = {"HX-Request": "true"} if path.startswith("live ") else {}
    took, size = [], 0
    cpu_s = usage_of(web).cpu_s
    for _ in range(ASKED):
        began = time.perf_counter()
        answer = person.get(path.removeprefix("live "), **headers)
        took.append(1000 * (time.perf_counter() - began))
        size = max(size, len(answer.content))
    cpu_ms = 1000 * (usage_of(web).cpu_s - cpu_s) / ASKED
    return _Asked(name, statistics.median(took), sorted(took)[int(0.99 * ASKED)], cpu_ms, size)


def _fill(world: World, rows: int) -> None:
    batches = Batches(world.redis, world.settings)
    for n in range(BATCHES - 1):
        world.submit_batch(f"small-{n}", 10, first=n * 10)
        batches.steer(f"small-{n}", "pause")
    header = ["name", "country_code", "phone_num", "remark"]
    batches.open("big", "digest of big", header, name="A million customers")
    batches.steer("big", "pause")
    for first in range(0, rows, CHUNK_ROWS):
        last = min(rows, first + CHUNK_ROWS)
        chunk = [_row(n) for n in range(first, last)]
        batches.append("big", first, chunk, last=last == rows)


def _row(n: int) -> BatchRow:
    """Return a row; one of ten thousand cannot be sent."""
    number = f"{50_000_000 + n % 40_000_000:08d}"
    cells = (f"Customer {n}", "852", number, "of whom nothing else is known")
    if n % 10_000 == 7:
        return BatchRow(n + 2, cells, None, "not_digits", "no digits; write some")
    return BatchRow(n + 2, cells, PhoneNumber("852", number))


class _File:
    """A file of customers that is made while it is read."""

    def __init__(self, size: int) -> None:
        self._parts = self._lines(size)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and (part := next(self._parts, b"")):
            self._rest += part
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _lines(self, size: int) -> Iterator[bytes]:
        yield b"name,country_code,phone_num,remark\n"
        lines = size // len(_LINE % (0, 0))
        for first in range(0, lines, 1000):
            numbers = range(first, min(lines, first + 1000))
            yield b"".join(_LINE % (n, 50_000_000 + n % 40_000_000) for n in numbers)


def _upload(person: _Person, web: Process, size: int) -> tuple[int, int, float]:
    """Return the size, the server's most memory until the file was read, and the seconds."""
    page = person.get("/batches/new").text
    token = page.partition("/batches/new?csrf=")[2].partition('"')[0]
    peak = 0
    began = time.monotonic()
    border = "border-of-the-parts"
    head = (
        f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="big.csv"\r\n'
        "Content-Type: text/csv\r\n\r\n"
    ).encode()
    tail = f"\r\n--{border}--\r\n".encode()

    def body() -> Iterator[bytes]:
        nonlocal peak
        file = _File(size)
        yield head
        while part := file.read(1 << 16):
            yield part
            peak = max(peak, psutil.Process(web.pid).memory_info().rss)
        yield tail

    answer = person.session.post(
        f"{person.url}/batches/new?csrf={token}",
        data=body(),
        headers={"Content-Type": f"multipart/form-data; boundary={border}"},
        timeout=PATIENCE_S,
    )
    answer.raise_for_status()

    def is_read() -> bool:
        nonlocal peak
        peak = max(peak, psutil.Process(web.pid).memory_info().rss)
        return 'class="verdict"' in person.get(answer.url.removeprefix(person.url)).text

    wait_until(is_read, "the file is read", PATIENCE_S)
    return size, peak, time.monotonic() - began


def _report(
    pages: Sequence[_Asked],
    options: argparse.Namespace,
    uploads: Sequence[tuple[int, int, float]],
    command: str,
) -> Report:
    slowest, largest = max(page.p99_ms for page in pages), max(page.size for page in pages)
    growth = uploads[-1][1] / uploads[0][1]
    tables = (
        Table(
            f"Pages of the console with {options.rows:,} rows in one of {BATCHES} batches",
            ("page", "median ms", "p99 ms", "CPU ms", "kB"),
            [
                (each.name, each.median_ms, each.p99_ms, each.cpu_ms, each.size / 1000)
                for each in pages
            ],
            (
                f"of {ASKED} requests, one after another; client and server share the machine",
                "CPU: of the web process, for each request",
            ),
        ),
        Table(
            "Uploads, until their check is done",
            ("MB", "s", "most MiB"),
            [(f"{size / 1e6:g}", took_s, peak / MIB) for size, peak, took_s in uploads],
            ("resident memory of the web process",),
        ),
    )
    kilobytes = TARGET_BYTES / 1000
    targets = (
        Target(f"p99 under {TARGET_MS} ms", f"{slowest:.1f} ms", slowest < TARGET_MS),
        Target(
            f"a page under {kilobytes:.0f} kB", f"{largest / 1000:.0f} kB", largest < TARGET_BYTES
        ),
        Target(
            f"memory independent of the upload (within {TARGET_GROWTH - 1:.0%})",
            f"{growth:.2f} times that of one {SMALLER} times smaller",
            growth <= TARGET_GROWTH,
        ),
    )
    return Report("console", command, tables, targets)
