"""What operators do, under a running batch: roll out, empty queues, put a backup back.

Each scenario gives in words what was seen; it raises AssertionError if a promise was broken.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable

from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.identity import Identity
from jobs.job import batch_job_id
from jobs.keys import Keys
from jobs.phone import PhoneNumber
from tests.faults.scenarios import Scenario, Stage, stage
from tests.faults.workers import Worker
from tests.waiting import wait_until

ROLLS = 20
FLUSHES = 20
EVENTS = 5
"""Between two acts, beside the batch."""
PATIENCE_S = 300.0
HOUR_MS = 3_600_000


def submit_batch(here: Stage, rows: int) -> Batches:
    """Submit a batch whose numbers are asked for like the events of the stage."""
    batches = Batches(here.world.redis, here.world.settings)
    phones = {batch_job_id("b1", n): f"51{n:06d}" for n in range(1, rows + 1)}
    batches.open("b1", "digest", ["country_code", "phone_num"])
    batches.append(
        "b1",
        0,
        [BatchRow(2, ["852", each], PhoneNumber("852", each)) for each in phones.values()],
        last=True,
    )
    here.asked |= phones
    return batches


def wait_over(batches: Batches) -> None:
    wait_until(
        lambda: (batch := batches.get("b1")) and batch.is_over, "the batch's end", PATIENCE_S
    )


def rolled(times: int = ROLLS) -> str:
    """Stop all workers one after the other (SIGTERM), again and again: nothing lost or doubled."""
    with stage("w1", "w2", sendcode_rate_limit=30, exit_codes=frozenset({0})) as here:
        batches = submit_batch(here, 100 * times)
        longest_s = 0.0
        for _ in range(times):
            for worker in here.workers.workers.values():
                here.send(EVENTS)
                starts, began = worker.starts, time.monotonic()
                worker.signal(signal.SIGTERM)
                wait_until(_started_again(worker, starts), "a worker anew", PATIENCE_S)
                longest_s = max(longest_s, time.monotonic() - began)
        wait_over(batches)
        here.check_each_sent_once()
        return (
            f"{here.workers.stopped} stops under {len(here.asked)} jobs: all sent once, none lost, "
            f"all workers ended with 0; the longest stop and start took {longest_s:.1f} s"
        )


def _started_again(worker: Worker, starts: int) -> Callable[[], bool]:
    return lambda: worker.starts > starts and worker.is_ready


def queues_emptied(times: int = FLUSHES) -> str:
    """Empty Celery's queues in mid-batch, again and again: the ledger publishes what is missing."""
    with stage("w1", "w2", sendcode_rate_limit=50) as here:
        settings = here.world.settings
        keys = Keys(settings.sendcode_key_prefix)
        batches = submit_batch(here, 60 * times)
        messages = 0
        for _ in range(times):
            sent = here.world.sandbox.stats(numbers=False)["accepted"]
            here.send(EVENTS)
            for queue in (keys.event_queue, keys.batch_queue):
                messages += here.world.redis.llen(queue)
                here.world.redis.delete(queue)
            wait_until(
                lambda sent=sent: here.world.sandbox.stats(numbers=False)["accepted"] > sent + 30,  # type: ignore[misc]
                "sending goes on",
                PATIENCE_S,
            )
        wait_over(batches)
        here.check_each_sent_once()
        return f"{times} times, {messages} messages gone, {len(here.asked)} jobs: all sent once"


def older_copy() -> str:
    """Put a copy of an hour before back: nothing is sent till a person accepts it, then flagged."""
    with stage("w1", "w2", sendcode_rate_limit=50) as here:
        world, rows = here.world, 600
        batches = submit_batch(here, rows)

        def accepted() -> int:
            return int(world.sandbox.stats(numbers=False)["accepted"])

        wait_until(lambda: accepted() >= rows // 3, "a third of the batch", PATIENCE_S)
        folder = world.valkey.directory / "appendonlydir"
        backup = shutil.copytree(folder, world.folder / "backup")
        at_copy = accepted()
        wait_until(lambda: accepted() >= 2 * rows // 3, "two thirds of it", PATIENCE_S)
        world.valkey.kill()
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)
        workers = here.workers.workers.values()
        for worker in workers:  # a copy of seconds is taken for the ledger itself, once one asks
            worker.signal(signal.SIGSTOP)
        world.valkey.start()
        identity = Identity(world.redis, world.settings)
        world.redis.hincrby(Keys("sendcode").ledger, "at", -HOUR_MS)  # as if it had been an hour
        for worker in workers:
            worker.signal(signal.SIGCONT)
        wait_until(lambda: identity.ask().refused, "the refusal", PATIENCE_S)
        at_refusal = accepted()
        identity.accept(24, "the faults' own")
        wait_over(batches)
        counts = world.sandbox.stats()["accepted_per_number"]
        doubled = {number for number, count in counts.items() if count > 1}
        flagged = {
            record.phone.e164.lstrip("+")
            for _, _, record in batches.rows("b1")
            if record and record.possible_duplicate
        }
        assert len(counts) == rows, f"{rows - len(counts)} were lost"
        assert doubled <= flagged, f"doubled and not flagged: {doubled - flagged}"
        return (
            f"copied at {at_copy} of {rows}, put back at {at_refusal}: refused by itself; "
            f"accepted, {len(doubled)} were sent twice, all of them flagged, as were "
            f"{len(flagged)} in all; 0 lost"
        )


OPERATIONS: dict[str, Scenario] = {
    f"all workers stopped in turn, {ROLLS} times": rolled,
    f"queues emptied, {FLUSHES} times": queues_emptied,
    "an older copy put back": older_copy,
}
