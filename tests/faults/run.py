"""The random run: thousands of jobs, hundreds of faults, one reckoning."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import redis
from kombu.exceptions import OperationalError

from config.celery import make_celery
from jobs.batches import Batches
from jobs.job import Lane, SendCodeJob, batch_job_id
from jobs.ledger import Ledger
from jobs.outcome import FINAL
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from tests.faults import doomed, injector
from tests.faults.audit import Asked, Findings, leftovers, records
from tests.faults.importer import number_of
from tests.faults.injector import Injector, plan
from tests.faults.recovery import Recoveries
from tests.faults.result import Result
from tests.faults.workers import crew
from tests.faults.world import World
from tests.worker_process import TOP, environment_of

ROWS = 500
"""Rows of one batch."""
WORKERS = 5
"""One of them reaches Redis and the API through the proxies."""
EVENT_SHARE = 0.2
BURST = 25
"""Events that come at once: every thread of a worker has one in hand."""
BACKLOG = 100
"""Jobs under way when the next batch is imported: workers are never idle, never far behind."""
KILLS_PER_S = 1.15
"""Jobs are fed at the pace at which so many kills a second would keep up with them."""
LEAD = 0.05
"""How far the faults are ahead of the jobs."""
STUCK_S = 60.0
"""Without any job's end for so long, the rest counts as lost."""
API_FAULTS = {
    "hang-up-before": 0.01,
    "hang-up-after": 0.01,
    "silence-after": 0.005,
    "internal-error-after": 0.01,
    "InternalError": 0.01,
    "ServiceUnavailable": 0.01,
    "bad-gateway-after": 0.005,
}
"""What the API does to every number now and then, on top of everything else."""


def run(*, jobs: int, kills: int, seed: int) -> Result:
    """Send `jobs` jobs while `kills` workers are killed, and everything else goes wrong too."""
    chance = random.Random(seed)
    options = [f"--fault={name}={share}" for name, share in API_FAULTS.items()]
    with World(sandbox_options=("--seed", str(seed), *options)) as world:
        recoveries = Recoveries()
        names = {f"w{number}": world.settings for number in range(1, WORKERS)}
        names[f"w{WORKERS}"] = world.detour
        with crew(names, world.folder, recoveries.listen) as workers:
            workers.wait_ready()
            faults = plan(kills, doomed.POINTS, chance, plain=False)
            inject = Injector(world, workers, recoveries, faults, chance)
            pace = jobs / max(kills, 10) * KILLS_PER_S
            work = Work(world, jobs, pace, chance)
            started = time.monotonic()
            drive(work, inject)
            seconds = time.monotonic() - started
            inject.stop()
            workers.keep_running = False
            exit_codes = workers.stop()
        result = reckon(world, work, recoveries)
        result.faults = inject.done
        result.faults[injector.IMPORTER] = work.importers_killed
        result.deaths = workers.deaths
        result.seconds, result.exit_codes = seconds, exit_codes
        return result


def drive(work: Work, inject: Injector) -> None:
    """Let work and faults go on, each pacing the other, until both are over."""
    last, last_at = 0, time.monotonic()
    try:
        while True:
            ended = work.count_ended()
            if ended != last or not inject.is_over:
                last, last_at = ended, time.monotonic()
            inject.turn(ended / work.total + LEAD)
            work.go_on(ended, inject.progress)
            if work.is_submitted and inject.is_over and ended >= work.total:
                return
            if time.monotonic() - last_at > STUCK_S:
                return
            time.sleep(0.02)
    finally:
        work.close()


def reckon(world: World, work: Work, recoveries: Recoveries) -> Result:
    """Compare the ledger with the sandbox's counts."""
    ledger, batches = Ledger(world.redis, world.settings), Batches(world.redis, world.settings)
    findings = Findings()
    stats = world.sandbox.stats()
    found = records(work.asked, work.batch_ids, batches, ledger)
    findings.add(found, stats["accepted_per_number"])
    unix_minus_monotonic = time.time() - time.monotonic()
    recoveries.settle(
        {job_id: at - unix_minus_monotonic for job_id, at in findings.finished.items()}
    )
    return Result(
        Counter(),
        findings,
        recoveries,
        0.0,
        Counter(),
        leftovers=leftovers(ledger),
        above_limit=stats["over_limit"],
        api=Counter(stats["codes"]),
    )


class Work:
    """The jobs of a run: batches imported by processes that are killed, and single events."""

    def __init__(self, world: World, total: int, pace: float, chance: random.Random) -> None:
        """Make it, for `total` jobs, `pace` of them in a second."""
        self.total = total
        self._max_rate = pace * (1 - EVENT_SHARE)
        self.asked: dict[str, Asked] = {}
        self.batch_ids: list[str] = []
        self.importers_killed = 0
        self._world = world
        self._chance = chance
        self._events_left = round(total * EVENT_SHARE)
        self._events = self._events_left
        self._rows_left = total - self._events_left
        self._import: threading.Thread | None = None
        self._ledger = Ledger(world.redis, world.settings)
        self._app = make_celery(world.settings)
        self._publisher = Publisher(self._app)
        self._over = False
        self._ended, self._look_at = 0, 0.0

    @property
    def is_submitted(self) -> bool:
        return not self._rows_left and not self._events_left and not self._importing

    @property
    def _importing(self) -> bool:
        return self._import is not None and self._import.is_alive()

    def count_ended(self) -> int:
        """Give how many jobs have ended, as of the last time that Redis said so."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + 0.1
            with suppress(redis.RedisError):
                totals: Any = self._world.redis.hgetall(self._ledger.keys.totals)
                self._ended = sum(int(totals.get(str(state), 0)) for state in FINAL)
        return self._ended

    def go_on(self, ended: int, faults_done: float) -> None:
        """Submit what is due by now."""
        share = len(self.asked) / self.total
        if (
            self._rows_left
            and not self._importing
            and len(self.asked) - ended < BACKLOG
            and faults_done >= share - LEAD
        ):
            self._import_next()
        event_share = 1 - self._events_left / self._events if self._events else 1.0
        if self._events_left and event_share <= ended / self.total:
            for _ in range(min(BURST, self._events_left)):
                self._submit_event()

    def close(self) -> None:
        """End what is under way."""
        self._over = True
        if self._import is not None:
            self._import.join()
        self._app.pool.force_close_all()
        self._app.close()

    def _submit_event(self) -> None:
        number = self._events - self._events_left
        phone = PhoneNumber("852", f"599{number:05d}")
        if self.batch_ids and self._chance.random() < 0.1:
            # the number of a row: its second code has to wait for its interval
            phone = self._chance.choice(list(self.asked.values())).phone
        job = SendCodeJob.for_event(phone, key=f"event {number}")
        try:
            self._ledger.submit(job)
            # from here on the ledger has it, published or not
            self.asked[job.job_id] = Asked(job.job_id, phone)
            self._events_left -= 1
            self._publisher.publish([(Lane.EVENT, job.job_id)])
        except (redis.RedisError, OperationalError, OSError):
            return

    def _import_next(self) -> None:
        count = min(ROWS, self._rows_left)
        batch_id = f"b{len(self.batch_ids):02d}"
        prefix = f"5{len(self.batch_ids):02d}"
        self.batch_ids.append(batch_id)
        self._rows_left -= count
        for row in range(1, count + 1):
            job_id = batch_job_id(batch_id, row)
            self.asked[job_id] = Asked(job_id, number_of(prefix, row))
        kill_at = self._chance.randrange(count) if self._chance.random() < 0.7 else None
        arguments = [batch_id, prefix, str(count), str(self._max_rate)]
        self._import = threading.Thread(
            target=self._import_surely, args=(arguments, kill_at), name="import", daemon=True
        )
        self._import.start()

    def _import_surely(self, arguments: list[str], kill_at: int | None) -> None:
        """Run the importer until it ends well; kill its first run when it has come that far."""
        while not self._over:
            importer = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.importer", *arguments],
                cwd=TOP,
                env=environment_of(self._world.settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if kill_at is not None and self._watch_rows(importer, arguments[0], kill_at):
                importer.kill()
                self.importers_killed += 1
                kill_at = None
            if importer.wait() == 0:
                return

    def _watch_rows(self, importer: subprocess.Popen[Any], batch_id: str, rows: int) -> bool:
        """Wait until the batch has so many rows; False if the import ended before that."""
        key = self._ledger.keys.rows(batch_id)
        while importer.poll() is None and not self._over:
            try:
                if self._world.redis.llen(key) >= rows:
                    return True
            except redis.RedisError:
                time.sleep(0.05)
        return False
