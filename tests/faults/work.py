"""The jobs of a run: files imported by processes that are killed on the way, and single events."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Self

import redis

from demo.world import environment_of
from jobs.job import State, batch_job_id
from jobs.keys import Keys
from jobs.phone import PhoneNumber
from producer import RedisUnavailableError, send_code
from tests.faults.audit import Asked
from tests.faults.world import World

ROWS = 2_000
"""Rows of one file: some chunks of an import, between which it can be killed."""
IMPORTER_KILLS = 3
"""Times that one import is killed at most."""
EVENT_SHARE = 0.2
BURST = 25
"""Events that come at once: every thread of a worker has one in hand."""
BACKLOG = 100
"""Jobs under way when the next file is imported: workers are never idle, never far behind."""
_SUBMIT = "from producer.cli import main; main()"


class Work:
    """All jobs of a run, submitted as they are worked off, by threads of their own.

    Attributes:
        ended: how many have ended, as of the last time that Redis said so.
        faults_done: the share of the faults that was injected; submitting keeps pace with it.
    """

    def __init__(self, world: World, total: int, pace: float, chance: random.Random) -> None:
        """Make it, for `total` jobs, `pace` of them in a second."""
        self.total = total
        self.asked: dict[str, Asked] = {}
        self.batch_ids: list[str] = []
        self.importers_killed = 0
        self._max_rate = pace * (1 - EVENT_SHARE)
        self._world = world
        self._keys = Keys(world.settings.sendcode_key_prefix)
        self._chance = chance
        self._events = self._events_left = round(total * EVENT_SHARE)
        self._rows_left = total - self._events
        self._import: threading.Thread | None = None
        self._over = False
        self.ended, self.faults_done = 0, 0.0
        self._thread = threading.Thread(target=self._run, name="work", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        if self._import is not None:
            self._import.join()

    @property
    def is_submitted(self) -> bool:
        return not self._rows_left and not self._events_left and not self._importing

    @property
    def _importing(self) -> bool:
        return self._import is not None and self._import.is_alive()

    def _run(self) -> None:
        while not self._over:
            self._count_ended()
            self._go_on()
            time.sleep(0.05)

    def _count_ended(self) -> None:
        with suppress(redis.RedisError):
            totals: Any = self._world.hasty_redis.hgetall(self._keys.totals)
            self.ended = sum(int(totals.get(str(state), 0)) for state in State if state.is_final)

    def _go_on(self) -> None:
        """Submit what is due by now."""
        share = self.ended / self.total
        if (
            self._rows_left
            and not self._importing
            and len(self.asked) - self.ended < BACKLOG
            and self.faults_done >= share
        ):
            self._import_next()
        if self._events_left and 1 - self._events_left / self._events <= share:
            for _ in range(min(BURST, self._events_left)):
                self._send_event()

    def _send_event(self) -> None:
        number = self._events - self._events_left
        phone = PhoneNumber("852", f"59{number:06d}")
        if self.batch_ids and number % 10 == 0:
            # the number of a row: its second code has to wait for its interval
            phone = self._chance.choice(list(self.asked.values())).phone
        try:
            record = send_code(
                "852", phone.phone_num, key=f"event {number}", settings=self._world.settings
            )
        except RedisUnavailableError:
            return  # the same key again, later
        self.asked[record.job_id] = Asked(record.job_id, record.phone)
        self._events_left -= 1

    def _import_next(self) -> None:
        count = min(ROWS, self._rows_left)
        batch_id = f"b{len(self.batch_ids):02d}"
        phones = [
            PhoneNumber("852", f"5{len(self.batch_ids)}{row:06d}") for row in range(1, count + 1)
        ]
        self.batch_ids.append(batch_id)
        self._rows_left -= count
        lines = [f"852,{phone.phone_num}\n" for phone in phones]
        file = self._world.folder / f"{batch_id}.csv"
        file.write_text("country_code,phone_num\n" + "".join(lines), encoding="utf-8")
        for row, phone in enumerate(phones, 1):
            job_id = batch_job_id(batch_id, row)
            self.asked[job_id] = Asked(job_id, phone)
        kills = sorted(
            self._chance.randrange(count) for _ in range(self._chance.randint(0, IMPORTER_KILLS))
        )
        self._import = threading.Thread(
            target=self._import_surely, args=(batch_id, kills), name="import", daemon=True
        )
        self._import.start()

    def _import_surely(self, batch_id: str, kills: list[int]) -> None:
        """Submit the file until that ends well; kill it when it has come so many rows far."""
        file = str(self._world.folder / f"{batch_id}.csv")
        options = ["--id", batch_id, "--max-rate", f"{self._max_rate:.1f}"]
        while not self._over:
            importer = subprocess.Popen(
                [sys.executable, "-c", _SUBMIT, "batch", "submit", file, *options],
                cwd=self._world.folder,
                env=environment_of(self._world.settings, XDG_STATE_HOME=self._world.state_home),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=(self._world.folder / "submit.log").open("ab"),
                start_new_session=True,
            )
            if kills and self._watch_rows(importer, batch_id, kills[0]):
                importer.kill()
                self.importers_killed += 1
                kills.pop(0)
            if importer.wait() == 0:
                return

    def _watch_rows(self, importer: subprocess.Popen[Any], batch_id: str, rows: int) -> bool:
        """Wait until the batch has so many rows; False if the import ended before that."""
        key = self._keys.rows(batch_id)
        while importer.poll() is None and not self._over:
            try:
                if self._world.hasty_redis.llen(key) >= rows:
                    return True
            except redis.RedisError:
                time.sleep(0.05)
        return False
