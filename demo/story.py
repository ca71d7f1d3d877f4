"""The demo from a file of customers to its report, in the order in which it happens.

The file has every kind of outcome that the API's stand-in knows, and rows that cannot be sent; what
happens to a number is in the stand-in's own table (`sandbox.numbers`). Nothing touches a real
account, Redis or number: the world is built anew each time.
"""

from __future__ import annotations

import csv
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Self

import requests

from config.flower import flower_environment
from demo.accounting import Report, make_report, whole_numbers
from demo.keeper import Keeper
from demo.receiver import Receiver
from demo.world import World, WorldError, free_port, wait_until
from jobs.batch import Batch
from jobs.batches import Batches
from jobs.job import JobRecord
from jobs.ledger import Ledger
from jobs.webhooks import Webhooks
from producer.cli.processes import flower_command, module_command, worker_command
from producer.importing import Submission, Terms
from producer.overview import read_overview
from producer.results import RESULT_COLUMNS, results
from producer.sheet import open_sheet
from producer.sheet.writing import written_sheet
from producer.tokens import Scope, Tokens
from producer.users import Role, Users
from sandbox.numbers import MAGIC_NUMBERS
from sandbox.signature import Credentials

RATE_LIMIT = 20
"""The API's own limit, which the demo shows to be kept."""
QUICK: Mapping[str, Any] = {
    "sendcode_rate_limit": RATE_LIMIT,
    # The API has 60, too long to wait in a demo. A probe must fit well inside.
    "sendcode_phone_interval": 9,
    "sendcode_http_timeout": 1,
    "sendcode_lease": 2,
    "sendcode_sweep_interval": 0.5,
    "sendcode_backoff": 0.3,
    "sendcode_frequency_wait": 3,
    "sendcode_canary_interval": 2,
    # With so short an interval, a busy machine may be too late for a proof; the default would then
    # send once more, and flag it. A demo should show no double at all.
    "sendcode_ambiguous": "hold",
    # the backend that gets the webhooks is on this machine
    "sendcode_webhook_private": True,
}
FAR = ("--latency-ms", "20", "--answer-ms", "20")
"""20 ms each way, as if the API were not on this machine."""
WORKERS = 2
START_S = 40.0
_CHECK_EVERY_S = 0.25
PATIENCE_S = 90.0
"""On top of twice the time that the rows take at the full rate."""
EVENT_PATIENCE_S = 15.0
WEBHOOK_PATIENCE_S = 60.0
"""From the end of the batch until all webhooks are here: they have a lower priority than codes."""


class Demo:
    """One run, in its own world; call its methods in their order."""

    def __init__(self, folder: Path, rows: int, keeper: Keeper) -> None:
        self.world = World(
            QUICK,
            sandbox_options=FAR,
            credentials=Credentials("AKIDEXAMPLE", secrets.token_hex(16)),
            folder=folder,
            keeper=keeper,
        )
        self.web_url = f"http://127.0.0.1:{free_port()}"
        self._flower_port = free_port()
        self.flower_url = f"http://127.0.0.1:{self._flower_port}"
        self.user = "demo"
        """User and password of the console and of Flower, for this run only."""
        self.password = secrets.token_hex(6)
        self._rows = rows
        self.customers_file = folder / "customers.csv"
        self.results_file = folder / "results.csv"
        self._customers = make_customers(rows)
        self.events: list[str] = []
        """The job ids of the events sent so far."""
        self._receiver = Receiver()

    def __enter__(self) -> Self:
        """Start the servers, the workers, HTTP API and console, and Flower.

        Raises:
            WorldError: a part was not ready in time.
        """
        with ExitStack() as stack:
            world = stack.enter_context(self.world)
            stack.enter_context(self._receiver)
            for number in range(1, WORKERS + 1):
                world.start(f"worker-{number}", worker_command(f"demo-{number}"))
            login = flower_environment({}, self.user, self.password)
            port = self.web_url.rpartition(":")[2]
            world.start("web", [*module_command("producer.cli"), "web", "--port", port])
            world.start("flower", flower_command("127.0.0.1", self._flower_port), **login)
            self._batches = Batches(world.redis, world.settings)
            self._ledger = Ledger(world.redis, world.settings)
            _, self._token = Tokens(world.redis, world.settings).new("demo", [Scope.SEND])
            _, secret = Webhooks(world.redis, world.settings).set("demo", self._receiver.url)
            self._receiver.set_secret(secret)
            self._wait_for(
                lambda: read_overview(world.redis, world.settings).alive == WORKERS, "the workers"
            )
            Users(world.redis, world.settings).add(self.user, Role.ADMIN, self.password)
            self._wait_for(
                lambda: _answers(f"{self.web_url}/livez"), "the HTTP API and the console"
            )
            self._wait_for(lambda: _answers(f"{self.flower_url}/healthcheck"), "Flower")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wait_for(self, is_there: Callable[[], bool], what: str) -> None:
        def is_ready() -> bool:
            self.world.check()
            return is_there()

        wait_until(is_ready, f"{what}; see the logs in {self.world.folder}", START_S)

    def submit(self) -> Batch:
        """Write the file, and submit it as `sendcode batch submit` does."""
        write_csv(self.customers_file, self._customers)
        client, settings = self.world.redis, self.world.settings
        with (
            open_sheet(self.customers_file) as sheet,
            Submission(client, settings, sheet, Terms(sheet.name)) as submission,
        ):
            submission.read()
            batch = submission.write()
        self._batch_id = batch.batch_id
        return batch

    def follow(self) -> Iterator[Batch]:
        """Yield the batch again and again until all of it has ended; send events meanwhile.

        Raises:
            WorldError: it takes far longer than it should, or a process of the world has ended.
        """
        deadline = time.monotonic() + PATIENCE_S + 2 * self._rows / RATE_LIMIT
        while True:
            batch = self._batch()
            yield batch
            if batch.is_over:
                return
            if time.monotonic() > deadline:
                raise WorldError(f"{batch.unfinished} rows have not ended; see the logs")
            self.world.check()
            sent, parts = len(self.events), len(EVENT_NUMBERS) + 1
            if sent < len(EVENT_NUMBERS) and batch.finished * parts >= batch.accepted * (sent + 1):
                self._send_event(*EVENT_NUMBERS[sent])
            time.sleep(_CHECK_EVERY_S)

    def _send_event(self, country_code: str, phone_num: str) -> None:
        """Request one code over HTTP, as a backend in any language would.

        A machine that is too busy answers 503 and has accepted nothing: the request is repeated.
        """
        deadline = time.monotonic() + EVENT_PATIENCE_S
        while True:
            answer = requests.post(
                f"{self.web_url}/v1/codes",
                headers={
                    "Authorization": f"Bearer {self._token}",
                    "Idempotency-Key": f"signup-{len(self.events) + 1}",
                },
                json={"country_code": country_code, "phone_num": phone_num},
                timeout=EVENT_PATIENCE_S,
            )
            is_busy = answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            if not is_busy or time.monotonic() > deadline:
                break
            time.sleep(_CHECK_EVERY_S)
        if answer.status_code != HTTPStatus.ACCEPTED:
            raise WorldError(f"the HTTP API answered an event with {answer.status_code}")
        self.events.append(answer.json()["job_id"])

    def report(self) -> Report:
        """Write the results, and compare the ledger with what the stand-in counted."""
        self._write_results()
        rows = list(self._batches.rows(self._batch_id))
        states = self._receiver.reported_states
        with suppress(WorldError):  # a webhook that is missing by then is a broken promise
            wait_until(lambda: states.keys() >= set(self.events), "webhooks", WEBHOOK_PATIENCE_S)
        return make_report(
            len(self._customers),
            [record for _, _, record in rows if record is not None],
            [self._event(job_id) for job_id in self.events],
            sum(row.phone is None for _, row, _ in rows),
            self.world.sandbox.stats(),
            rate_limit=RATE_LIMIT,
            reported_states=states,
            leaks=sorted(self._leaks()),
        )

    def _batch(self) -> Batch:
        batch = self._batches.get(self._batch_id)
        if batch is None:
            raise WorldError("the batch is gone")
        return batch

    def _event(self, job_id: str) -> JobRecord:
        record = self._ledger.job(job_id)
        if record is None:
            raise WorldError(f"event {job_id} is gone")
        return record

    def _write_results(self) -> None:
        header = self._batch().header
        with written_sheet(self.results_file, header, RESULT_COLUMNS) as writer:
            for row in results(self._batches, self._batch()):
                writer.write(row.cells, row.ours)

    def _leaks(self) -> Iterator[str]:
        """Search logs, Flower and webhooks for full numbers; yield the places that have one."""
        login = (self.user, self.password)
        tasks = requests.get(f"{self.flower_url}/api/tasks", auth=login, timeout=5)
        tasks.raise_for_status()
        places = {"Flower": tasks.text, "webhooks": "\n".join(self._receiver.bodies)} | {
            log.name: log.read_text(encoding="utf-8", errors="replace")
            for log in self.world.folder.glob("*.log")
        }
        numbers = [(each.country_code, each.phone_num) for each in self._customers]
        numbers += EVENT_NUMBERS
        wanted = {
            digits
            for country_code, phone_num in numbers
            if phone_num.isdigit()
            for digits in (phone_num, country_code.removeprefix("+") + phone_num)
        }
        for place, text in places.items():
            if not wanted.isdisjoint(whole_numbers(text)):
                yield place


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


HEADER = ("customer", "country_code", "phone_num", "what the stand-in does")
_ORDINARY = "9900"
EVENT_NUMBERS = [("852", f"{_ORDINARY}{9_000 + n}") for n in range(5)]
"""Ordinary numbers that no customer has."""
_ACCOUNT_WIDE = range(9971, 9990)
"""Left out: their answers halt the whole account, and one would do so again and again."""
_SLOWEST = ("9906", "9905", "9903", "9921", "9922", "9902", "9904")
"""These wait for their number's interval, or longer; they come first, so that all end early."""
_NOTES = {row.prefix: row.note for row in MAGIC_NUMBERS}
_COUNTRY_CODES = ("852", "65")
_INVALID = (
    ("86", "13000000000", "is not asked: the country is barred"),
    ("+7", "9000000000", "is not asked: the country is barred"),
    ("380", "500000000", "is not asked: the country is barred"),
    ("999", "99000000", "is not asked: no such country"),
    ("852", "9900-ABCD", "is not asked: letters"),
    ("852", "", "is not asked: no number"),
    ("", "99000000", "is not asked: no country"),
    ("852", "9" * 33, "is not asked: too many digits"),
)


class Customer(NamedTuple):
    """One row of the file."""

    name: str
    country_code: str
    phone_num: str
    behaviour: str


def make_customers(rows: int) -> list[Customer]:
    """Return `rows` customers: first the slow ones, then one of each kind among ordinary ones.

    Always the same ones, in the same order.
    """
    slow = [_number_with(prefix) for prefix in _SLOWEST][:rows]
    others = [
        _number_with(prefix)
        for prefix in _NOTES
        if prefix not in {_ORDINARY, *_SLOWEST} and int(prefix) not in _ACCOUNT_WIDE
    ]
    mixed = [*others, *_INVALID][: rows - len(slow)]
    mixed += [
        (_COUNTRY_CODES[n % 2], f"{_ORDINARY}{n:04d}", _NOTES[_ORDINARY])
        for n in range(rows - len(slow) - len(mixed))
    ]
    random.Random(1).shuffle(mixed)  # noqa: S311 (no secret)
    return [
        Customer(f"Customer {n:03d}", *number) for n, number in enumerate(slow + mixed, start=1)
    ]


def write_csv(path: Path, customers: list[Customer]) -> None:
    """Write the file as a spreadsheet program would."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([HEADER, *customers])


def _number_with(prefix: str) -> tuple[str, str, str]:
    return _COUNTRY_CODES[0], f"{prefix}0001", _NOTES[prefix]
