"""The demo from a file of customers to its accounts, in the order in which it happens.

Nothing of it touches a real account, Redis or number: its world is made anew each time.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import redis

from config.redis import connect
from jobs.batch import Batch
from jobs.batches import Batches
from jobs.job import JobRecord
from jobs.ledger import Ledger
from producer.demo import standin
from producer.demo.accounting import Accounts, draw_up, whole_number
from producer.demo.customers import behaviours, event_numbers, make_customers, write_csv
from producer.demo.world import RATE_LIMIT, World
from producer.events import send_code
from producer.importing import (
    Spool,
    Terms,
    append_all,
    default_batch_id,
    open_batch,
)
from producer.results import RESULT_COLUMNS, results
from producer.sheet import SheetWriter, open_sheet, written_file

EVENTS = 5
LOOK_EVERY_S = 0.25
PATIENCE_S = 90.0
"""Beyond the time that the rows take at the full rate."""
EVENT_PATIENCE_S = 15.0


class NotFinishedError(Exception):
    """The batch did not come to its end in time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far the batch is."""

    batch: Batch
    requests: int
    """HTTP requests that reached the stand-in of the API."""
    events_sent: int


class Demo:
    """One run in a world that has been started. Call its methods in their order."""

    def __init__(self, world: World, rows: int) -> None:
        self._world = world
        self._rows = rows
        self.customers_file = world.directory / "customers.csv"
        self.results_file = world.directory / "results.csv"
        self._customers = make_customers(rows, behaviours(world.environment))
        self._client: redis.Redis = connect(world.settings)
        self._batches = Batches(self._client, world.settings)
        self._ledger = Ledger(self._client, world.settings)
        self._events: list[str] = []

    def close(self) -> None:
        self._client.close()

    def submit(self) -> Batch:
        """Write the file, and submit it as `sendcode batch submit` does."""
        write_csv(self.customers_file, self._customers)
        with open_sheet(self.customers_file) as sheet, Spool() as spool:
            spool.read(sheet)
            batch_id = default_batch_id(sheet.digest)
            batch, _ = open_batch(self._batches, sheet, batch_id, Terms(sheet.name))
            append_all(self._batches, batch, spool)
        self._batch_id = batch.batch_id
        return self._look()

    def follow(self) -> Iterator[Seen]:
        """Look at the batch until all of it has ended, and send events meanwhile.

        Raises:
            NotFinishedError: it takes far longer than it should.
            ChildEndedError: a process of the world has ended.
        """
        deadline = time.monotonic() + PATIENCE_S + 2 * self._rows / RATE_LIMIT
        numbers = iter(event_numbers(EVENTS))
        while True:
            batch = self._look()
            requests = standin.counts(self._world.sandbox_url)["requests"]
            yield Seen(batch, requests, len(self._events))
            if batch.is_over:
                return
            if time.monotonic() > deadline:
                raise NotFinishedError(f"{batch.unfinished} rows have not ended; see the logs")
            self._world.children.check()
            if batch.finished * (EVENTS + 1) >= batch.accepted * (len(self._events) + 1):
                self._send_event(next(numbers, None))
            time.sleep(LOOK_EVERY_S)

    def draw_up(self) -> Accounts:
        """Write the results, and compare what is believed with what was seen outside."""
        self._write_results()
        rows = list(self._batches.rows(self._batch_id))
        return draw_up(
            len(self._customers),
            [record for _, _, record in rows if record is not None],
            [self._ended(job_id) for job_id in self._events],
            sum(row.phone is None for _, row, _ in rows),
            standin.counts(self._world.sandbox_url),
            rate_limit=RATE_LIMIT,
            leaks=sorted(self._leaks()),
        )

    def _look(self) -> Batch:
        batch = self._batches.get(self._batch_id)
        if batch is None:
            raise NotFinishedError("the batch is gone")
        return batch

    def _send_event(self, number: tuple[str, str] | None) -> None:
        if number is not None:
            self._events.append(send_code(*number, settings=self._world.settings).job_id)

    def _ended(self, job_id: str) -> JobRecord:
        """Give an event's record once it has ended, or as it is when patience does."""
        deadline = time.monotonic() + EVENT_PATIENCE_S
        while True:
            record = self._ledger.job(job_id)
            if record is None:
                raise NotFinishedError(f"event {job_id} is gone")
            if record.state.is_final or time.monotonic() > deadline:
                return record
            time.sleep(LOOK_EVERY_S)

    def _write_results(self) -> None:
        batch = self._look()
        with written_file(self.results_file, sys.stdout.buffer) as stream:
            writer = SheetWriter(stream, batch.header, RESULT_COLUMNS)
            for row in results(self._batches, self._batch_id):
                writer.write(row.cells, row.ours())

    def _leaks(self) -> Iterator[str]:
        """Search logs and Flower for the customers' numbers; give the places that have one."""
        login = f"{self._world.flower_user}:{self._world.flower_password}".encode()
        authorization = f"Basic {base64.b64encode(login).decode()}"
        tasks = standin.page(self._world.flower_url, "/api/tasks", authorization)
        places = {"Flower": tasks} | {
            log.name: log.read_text(encoding="utf-8", errors="replace")
            for log in self._world.directory.glob("*.log")
        }
        numbers = [(each.country_code, each.phone_num) for each in self._customers]
        numbers += event_numbers(EVENTS)
        patterns = [
            whole_number(digits)
            for country_code, phone_num in numbers
            if phone_num.isdigit()
            for digits in (phone_num, country_code + phone_num)
        ]
        for place, text in places.items():
            if any(pattern.search(text) for pattern in patterns):
                yield place
