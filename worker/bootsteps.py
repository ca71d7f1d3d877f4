"""What Celery starts and stops with a worker, beside its consumer and pool."""

from __future__ import annotations

import logging
from typing import Any

import redis
from celery import bootsteps

from config.logging import fields
from config.names import EVENT_QUEUE, QUEUES
from jobs.mending import Mending
from worker.pool import ThreadPool
from worker.presence import forget_the_gone
from worker.reactions import STOOD_DOWN
from worker.runtime import Runtime
from worker.sweeper import Periodic, mend, sweep

log = logging.getLogger("sendcode.worker")


def _in_order(app: Any) -> None:
    """Consume events first, in whatever order `--queues` names them."""
    chosen = app.amqp.queues.consume_from
    app.amqp.queues.select([name for name in QUEUES if name in chosen])
    if EVENT_QUEUE not in chosen:
        log.warning(
            "this worker takes no events; recovered jobs come as events, so another worker must",
            extra=fields(queues=",".join(chosen)),
        )


def beat(runtime: Runtime) -> None:
    """Give a sign of life, and see whether this worker may take work."""
    runtime.presence.beat()
    account = runtime.account
    before = account.stood_down
    standing = account.stand()
    told = fields(code=account.stood_down or before)
    if standing == "halted now":
        log.error("account halted: no worker is left that the API does not refuse", extra=told)
    elif account.stood_down and not before:
        log.error(STOOD_DOWN, extra=told)
    elif before and not account.stood_down:
        log.warning("this worker takes work again", extra=told)


class BackgroundStep(bootsteps.StartStopStep):
    """Starts and stops the threads with the worker; `app.sendcode` has what they need."""

    requires = frozenset({"celery.worker.components:Pool"})

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._threads: list[Periodic] = []
        # Workers need nothing of each other: the ledger is all that they share. Without these two a
        # start is a second quicker, and a lost broker has less to trip over.
        parent.options.update(without_mingle=True, without_gossip=True)
        _in_order(parent.app)
        if not issubclass(parent.pool_cls, ThreadPool):
            log.error("only the pool of sendcode's own works rightly; leave out --pool")
            raise SystemExit(2)

    def start(self, parent: Any) -> None:
        runtime = parent.app.sendcode
        settings = runtime.settings
        presence = runtime.presence
        presence.name, presence.fingerprint = parent.hostname, runtime.credentials.fingerprint
        _ = runtime.sender  # made here, before any thread can ask for it

        def sweeps() -> None:
            sweep(runtime.ledger, runtime.publisher)
            presence.moves("sweeper")

        mending = Mending(runtime.ledger.client, settings)
        self._threads = [
            Periodic("sweeper", settings.sendcode_sweep_interval, sweeps),
            Periodic("leases", min(settings.sendcode_lease / 4, 1.0), lambda: beat(runtime)),
            Periodic("mending", settings.sendcode_sweep_interval, lambda: mend(mending)),
        ]
        for thread in self._threads:
            thread.start()
        try:
            forget_the_gone(runtime.ledger)
        except redis.RedisError:
            log.debug("old workers not forgotten")

    def stop(self, parent: Any) -> None:
        # also where no signal came: remote control's shutdown, or an error that ends the worker
        parent.app.sendcode.stop()
        for thread in self._threads:
            thread.stop()
        self._threads = []
        try:
            parent.app.sendcode.presence.sign_off()
        except redis.RedisError:
            log.debug("worker not signed off")
