"""What the threads of one worker process share, put together in one place."""

from __future__ import annotations

import logging
from functools import cached_property

from celery import Celery

from config.redis import connect
from config.settings import Settings
from jobs.account import Account
from jobs.identity import state_file
from jobs.ledger import Ledger
from jobs.publish import Publisher
from worker.api import SendVerifyCodeClient
from worker.limiter import Limiter
from worker.output import Output
from worker.presence import Leases, Presence
from worker.reactions import Reactions
from worker.recorder import Recorder
from worker.retry import RetryPolicy
from worker.sender import Sender
from worker.shutdown import LAST_RESORT_S, Shutdown, end_by_force
from worker.signing import Credentials

log = logging.getLogger("sendcode.worker")

_PATIENCE_S = 10.0


class Runtime:
    """Made on first use: nothing connects before a worker works."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        self.settings = settings
        self._app = app
        self.leases = Leases()
        self.shutdown = Shutdown()
        self.output: Output | None = None

    def stop(self) -> None:
        """Order every thread to stop, and make sure that the process ends in time."""
        if self.shutdown.order():
            end_by_force(self.settings.sendcode_http_timeout + LAST_RESORT_S, self._last_words)

    def _last_words(self) -> None:
        log.error("stopped by force: Redis does not answer; other workers take over what was left")
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
    def account(self) -> Account:
        return Account(self.ledger.client, self.settings, self.presence.entry)

    @cached_property
    def credentials(self) -> Credentials:
        return Credentials(*self.settings.credentials())

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self._app)

    @cached_property
    def sender(self) -> Sender:
        settings, redis = self.settings, self.ledger.client
        limiter = Limiter(redis, settings, self.shutdown.nap)
        recorder = Recorder(self.ledger, self.shutdown)
        client = SendVerifyCodeClient(
            settings.sendcode_endpoint,
            self.credentials,
            settings.sendcode_http_timeout,
            ca_bundle=settings.sendcode_ca_bundle,
            proxy=settings.proxy_url,
        )
        reactions = Reactions(self.account, limiter, RetryPolicy.of(settings))
        return Sender(
            self.ledger,
            limiter,
            client,
            recorder,
            reactions,
            self.leases,
            self.shutdown,
            self.has_stood_down,
        )

    def has_stood_down(self) -> bool:
        """Return whether to leave all work to other workers: this one's would be refused."""
        return bool(self.account.stood_down) or self.ledger.identity.is_outdated
