"""What the threads of one worker share, and what they do beside jobs: sweep, mend, keep leases.

Every worker sweeps and none leads: the ledger's script gives each due job to one of them. The
leases have a thread of their own, so that a slow broker cannot let them run out.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any

import redis
from celery import Celery, bootsteps
from kombu.exceptions import OperationalError

from config import BATCH_QUEUE, EVENT_QUEUE, QUEUES
from config.logging import fields, set_level
from config.redis import connect, error_code
from config.rereading import CHECK_EVERY_S
from config.settings import Settings
from jobs.account import OUTDATED, WEBHOOKS, Account
from jobs.api_connection import shake_hands
from jobs.identity import LedgerRefusedError, state_file
from jobs.ledger import Ledger
from jobs.mending import Mending
from jobs.publish import Publisher
from jobs.quotas import Quotas
from jobs.removing import ASK_EVERY_S, Rewriting
from jobs.upgrade import Upgrade
from jobs.vault import UnknownKeyError
from jobs.webhooks import Outbox
from worker.api import SendVerifyCodeClient
from worker.deadline import now_s
from worker.health import Health, notify_systemd, serve
from worker.limiter import Limiter
from worker.meter import Meter
from worker.output import Output
from worker.presence import (
    LAST_RESORT_S,
    Leases,
    Presence,
    Shutdown,
    end_by_force,
)
from worker.reach import Reach
from worker.reactions import CUT_OFF, STOOD_DOWN, Reactions
from worker.recorder import Recorder, set_aside
from worker.sender import Sender
from worker.signing import Credentials
from worker.transport import ThreadPool
from worker.webhooks import Deliverer

worker_log = logging.getLogger("sendcode.worker")
log = logging.getLogger("sendcode.sweeper")

_PATIENCE_S = 10.0
REACH_EVERY_S = 2.0
"""How often a worker that does not reach the API tries to connect."""


class Runtime:
    """What a worker's threads share, each made on first use: nothing connects before it works."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        self.settings = settings
        self.publisher = Publisher(app)
        self.reach = Reach(2 * settings.sendcode_http_timeout)
        self.leases = Leases()
        self.shutdown = Shutdown()
        self.output: Output | None = None
        self.has_level_of_its_own = False
        """Its log keeps the level that was typed when it was started."""
        self.takes_codes = True
        """It consumes events or batch jobs."""
        self.meter = Meter()

    def stop(self) -> None:
        """Order every thread to stop, and make sure that the process ends in time."""
        if self.shutdown.order():
            end_by_force(self.settings.sendcode_http_timeout + LAST_RESORT_S, self._log_forced_end)

    def _log_forced_end(self) -> None:
        worker_log.error(
            "stopped by force: Redis does not answer; other workers take over what was left"
        )
        if self.output:
            self.output.close()

    @cached_property
    def ledger(self) -> Ledger:
        ledger = Ledger(connect(self.settings), self.settings, state_file(self.settings))
        ledger.identity.work()
        return ledger

    @cached_property
    def presence(self) -> Presence:
        # no part is silent for longer than a call of the API, or Redis' own time-outs
        patience_s = _PATIENCE_S + 2 * self.settings.sendcode_http_timeout
        return Presence(self.ledger, self.leases, self.shutdown, patience_s)

    @cached_property
    def health(self) -> Health:
        return Health(self.ledger, self.presence, lambda: self.account.refused)

    @cached_property
    def account(self) -> Account:
        return Account(self.ledger.client, self.settings, self.presence.entry)

    @cached_property
    def client(self) -> SendVerifyCodeClient:
        settings = self.settings
        return SendVerifyCodeClient(
            settings.sendcode_endpoint,
            Credentials(*settings.credentials()),
            settings.sendcode_http_timeout,
            ca_bundle=settings.sendcode_ca_bundle,
            proxy=settings.proxy_url,
        )

    def follow_settings(self) -> None:
        """Take the credentials and the log's level that the settings' files have by now."""
        if not self.has_level_of_its_own:
            set_level(self.settings.now.sendcode_log_level)
        credentials = Credentials(*self.settings.credentials())
        if credentials.fingerprint == self.presence.fingerprint:
            return
        # until its next sign of life the ledger knows the worker by the old ones
        self.presence.fingerprint = credentials.fingerprint
        self.account.entry = self.presence.entry
        self.client.sign_with(credentials)

    @cached_property
    def sender(self) -> Sender:
        settings, redis = self.settings, self.ledger.client
        limiter = Limiter(redis, settings, self.shutdown.sleep)
        recorder = Recorder(self.ledger, self.shutdown, self.presence.name)
        reactions = Reactions(self.account, limiter, settings, self.reach)
        return Sender(
            self.ledger,
            limiter,
            self.client,
            recorder,
            reactions,
            self.leases,
            self.shutdown,
            self.meter,
            self.has_stood_down,
            Quotas(self.settings).allows_country,
        )

    @cached_property
    def mending(self) -> Mending:
        return Mending(self.ledger.client, self.settings)

    @cached_property
    def deliverer(self) -> Deliverer:
        outbox = Outbox(self.ledger.client, self.settings)
        private_too = self.settings.sendcode_webhook_private
        return Deliverer(outbox, self.publisher, private_too=private_too)

    def try_to_reach(self) -> None:
        """Find out whether the API can be reached again, where it could not; nothing is sent."""
        if self.reach.cut_off is None:
            return
        with suppress(OSError, UnicodeError):
            shake_hands(self.settings)
            self.reach.note_reached()

    def has_stood_down(self) -> bool:
        """Return whether to leave all work to other workers: this one's would be refused."""
        return bool(self.account.stood_down) or self.ledger.identity.is_outdated


class BackgroundStep(bootsteps.StartStopStep):
    """Starts and stops the threads with the worker; `app.sendcode` has what they need."""

    requires = frozenset({"celery.worker.components:Pool"})

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._threads: list[Periodic] = []
        self._close_probes: Callable[[], None] = lambda: None
        # Workers need nothing of each other: the ledger is all that they share. Without these two a
        # start is a second quicker, and a lost broker can break less.
        parent.options.update(without_mingle=True, without_gossip=True)
        _consume_in_order(parent.app)
        if not issubclass(parent.pool_cls, ThreadPool):
            worker_log.error("a worker runs only in sendcode's own pool; leave out --pool")
            raise SystemExit(2)

    def start(self, parent: Any) -> None:
        runtime = parent.app.sendcode
        settings = runtime.settings
        presence = runtime.presence
        presence.name = parent.hostname
        runtime.takes_codes = not {EVENT_QUEUE, BATCH_QUEUE}.isdisjoint(
            parent.app.amqp.queues.consume_from
        )
        presence.fingerprint = runtime.client.fingerprint
        # made here, before any thread can ask for them
        _ = runtime.sender, runtime.deliverer, runtime.mending

        rewriting = Rewriting(runtime.ledger.client, settings)
        upgrade = Upgrade(runtime.ledger.client, settings, runtime.ledger.identity)

        def sweep_and_show() -> None:
            sweep(runtime.ledger, runtime.publisher, parent.concurrency)
            presence.note_progress("sweeper")

        def notify_watchdog() -> None:
            if not runtime.health.why_dead():
                notify_systemd("WATCHDOG=1")

        note_round = runtime.health.note_round
        self._threads = [
            Periodic("sweeper", settings.sendcode_sweep_interval, sweep_and_show, note_round),
            Periodic("lifeline", 1.0, presence.lifeline.keep),
            Periodic(
                "leases", min(settings.sendcode_lease / 4, 1.0), lambda: beat(runtime), note_round
            ),
            # apart from what may wait for Redis
            Periodic("watchdog", 1.0, notify_watchdog),
            Periodic(
                "mending",
                settings.sendcode_sweep_interval,
                lambda: upgrade_and_mend(upgrade, runtime.mending),
            ),
            Periodic("settings", CHECK_EVERY_S, runtime.follow_settings),
            Periodic("reach", REACH_EVERY_S, runtime.try_to_reach),
            Periodic("rewriting", ASK_EVERY_S, rewriting.rewrite_if_due),
        ]
        self._open_probes(runtime, parent.concurrency)
        presence.lifeline.keep()  # the first beat finds it open
        for thread in self._threads:
            thread.start()

    def _open_probes(self, runtime: Runtime, threads: int) -> None:
        runtime.meter.count_threads(lambda: len(runtime.leases), threads)
        runtime.meter.show_ready(lambda: not runtime.health.why_not_ready())
        if not (address := runtime.settings.metrics_address):
            return
        try:
            _, self._close_probes = serve(*address, runtime.health, runtime.meter)
        except OSError as exc:
            worker_log.error(
                "SENDCODE_METRICS_PORT: cannot listen there; give each worker of a machine its own",
                extra=fields(port=address[1], reason=(exc.strerror or "failed").lower()),
            )
            raise SystemExit(2) from exc

    def stop(self, parent: Any) -> None:
        # also where no signal came: remote control's shutdown, or an error that ends the worker
        parent.app.sendcode.stop()
        for thread in self._threads:
            thread.stop()
        self._threads = []
        self._close_probes()
        try:
            parent.app.sendcode.presence.sign_off()
        except redis.RedisError:
            worker_log.debug("worker not signed off")


def _consume_in_order(app: Any) -> None:
    """Consume events first, in whatever order `--queues` names them."""
    chosen = app.amqp.queues.consume_from
    app.amqp.queues.select([name for name in QUEUES if name in chosen])
    if EVENT_QUEUE not in chosen:
        worker_log.warning(
            "this worker takes no events; recovered jobs come as events, so another worker must",
            extra=fields(queues=",".join(chosen)),
        )


class Periodic:
    """Runs `work` every `interval_s` seconds in a thread of its own, whatever happens in it.

    `note_round` is called with its name before each time.
    """

    def __init__(
        self,
        name: str,
        interval_s: float,
        work: Callable[[], object],
        note_round: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._interval_s = interval_s
        self._work = work
        self._note_round = note_round
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; wait a few seconds for what it is just doing."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            self._note_round(self._thread.name)
            began = time.monotonic()
            try:
                self._work()
                self._failing = False
            except (redis.RedisError, OperationalError, OSError) as exc:
                if not self._failing:
                    log.warning(
                        "Redis out of reach, still trying",
                        extra=fields(thread=self._thread.name, error=error_code(exc)),
                    )
                self._failing = True
            except Exception:
                log.exception("background work failed", extra=fields(thread=self._thread.name))
            # workers that started together drift apart
            interval_s = self._interval_s * random.uniform(0.8, 1.0)  # noqa: S311 (jitter)
            if self._stop.wait(pause_s(interval_s, time.monotonic() - began)):
                return


def pause_s(interval_s: float, took_s: float) -> float:
    """Return the rest of an interval after a round in it, half at least: Redis gets a pause.

    So a worker whose Redis is far away gives as many signs of life as one nearby; if they came
    much farther apart, it would be taken for dead (beat.lua).
    """
    return max(interval_s - took_s, interval_s / 2)


def sweep(ledger: Ledger, publisher: Publisher, threads: int = 0) -> int:
    """Publish what is due, and return how many messages that were.

    `threads` are those of this worker.

    A message that fails to be published is missed, and published again, by a later sweep.
    """
    identity = ledger.identity
    was_refused, was_unkept = identity.refusal, identity.unkept
    was_bound = ledger.is_bound_by_others
    try:
        due = ledger.sweep(threads)
    except LedgerRefusedError:
        due = None
    if due is None:
        now = identity.refusal
        if now and now.refused and (was_refused is None or was_refused.refused != now.refused):
            log.error("nothing is sent", extra=fields(reason=now.why, remedy=now.remedy))
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
    if ledger.is_bound_by_others and not was_bound:
        log.warning(
            "bounds on spending for batches are stricter than this worker's: another worker is set "
            "to them, or was a minute ago",
            extra=fields(settings="SENDCODE_BUDGET,SENDCODE_LIMIT_COUNTRY"),
        )
    for job_id in due.broken:
        if set_aside(ledger, job_id) is None:
            log.error("the sweep skips a job", extra=fields(job_id=job_id))
    if due:
        publisher.publish(due, due.urgent)
    if due.outcomes:
        publisher.publish_outcomes(due.outcomes)
    return len(due)


def upgrade_and_mend(upgrade: Upgrade, mending: Mending) -> None:
    """Upgrade and mend what is due; an upgrade that fails does not prevent mending."""
    try:
        for version in upgrade.run():
            log.warning("ledger upgraded", extra=fields(version=version))
    except UnknownKeyError as exc:
        log.warning(
            "ledger not upgraded: this worker lacks a data key; another one that has it goes on",
            extra=fields(data_key=exc.key_id),
        )
    finally:
        for done in mending.mend_what_does_not_fit():
            log.error("ledger mended", extra=fields(done=done))


def beat(runtime: Runtime) -> None:
    """Write a sign of life, and learn whether this worker may take work."""
    account, presence = runtime.account, runtime.presence
    is_outdated = runtime.ledger.identity.is_outdated
    presence.idle = OUTDATED if is_outdated else "" if runtime.takes_codes else WEBHOOKS
    account.entry = presence.entry
    asked = now_s()
    presence.beat()
    runtime.meter.redis.observe(now_s() - asked)
    before = account.stood_down
    cut_off = runtime.reach.cut_off
    standing = account.stand(cut_off)
    code = fields(code=account.stood_down or before)
    if standing == "halted now":
        worker_log.error(
            "account halted: no worker is left that the API does not refuse", extra=code
        )
    elif account.stood_down and account.announce():
        worker_log.error(CUT_OFF if cut_off else STOOD_DOWN, extra=code)
    elif before and not account.stood_down:
        worker_log.warning("this worker takes work again", extra=code)
