"""What a worker does beside its jobs: sweep the ledger. And how such things are done over and over.

Every worker sweeps and none leads: the ledger's script gives each due job to one of them. The
leases have a thread of their own, so that a slow broker cannot let them run out.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

import redis
from kombu.exceptions import OperationalError

from config.logging import fields
from config.redis import error_code
from jobs.identity import Identity, LedgerRefusedError, LedgerState
from jobs.ledger import Ledger
from jobs.mending import Mending
from jobs.publish import Publisher
from worker.recorder import set_aside

log = logging.getLogger("sendcode.sweeper")


def sweep(ledger: Ledger, publisher: Publisher) -> int:
    """Publish what is due; give how many that were.

    A message that fails to be published is missed, and published again, by a later sweep.
    """
    identity = ledger.identity
    was_refused, was_unkept = identity.refusal, identity.unkept
    try:
        due = ledger.sweep()
    except LedgerRefusedError:
        _tell_of_refusal(identity, was_refused)
        return 0
    if was_refused:
        log.warning("the ledger is no longer refused: sending goes on")
    if due.forgotten:
        log.warning(
            "Redis has forgotten the last attempts (a failover?): their numbers are flagged",
            extra=fields(attempts=due.forgotten),
        )
    if identity.unkept and not was_unkept:
        log.warning(
            "state file not written: a restarted worker would not notice an emptied or older Redis",
            extra=fields(reason=identity.unkept),
        )
    for job_id in due.broken:
        if set_aside(ledger, job_id) is None:
            log.error("the sweep passes over a job", extra=fields(job_id=job_id))
    if due:
        publisher.publish(due, due.urgent)
    return len(due)


def _tell_of_refusal(identity: Identity, before: LedgerState | None) -> None:
    now = identity.refusal
    if now and now.refused and (before is None or before.refused != now.refused):
        log.error("nothing is sent", extra=fields(reason=now.why, remedy=now.remedy))


def mend(mending: Mending) -> None:
    """Mend a ledger of which keys were lost, set back or replaced; log what was done."""
    for done in mending.mend_what_does_not_fit():
        log.error("ledger mended", extra=fields(done=done))


class Periodic:
    """Runs `work` every `interval_s` seconds in a thread of its own, whatever happens in it."""

    def __init__(self, name: str, interval_s: float, work: Callable[[], object]) -> None:
        self._interval_s = interval_s
        self._work = work
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it; waits for what it is just doing, a few seconds at most."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            try:
                self._work()
                self._failing = False
            except (redis.RedisError, OperationalError, OSError) as exc:
                if not self._failing:
                    log.warning(
                        "Redis out of reach, trying on",
                        extra=fields(thread=self._thread.name, error=error_code(exc)),
                    )
                self._failing = True
            except Exception:
                log.exception("background work failed", extra=fields(thread=self._thread.name))
            # workers that started together drift apart
            if self._stop.wait(self._interval_s * random.uniform(0.8, 1.0)):  # noqa: S311 (jitter)
                return
