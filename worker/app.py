"""The worker's Celery app: `celery -A worker worker` needs no further option."""

from __future__ import annotations

import sys

from celery import Celery, signals

from config.celery import make_celery
from config.logging import set_up_logging
from config.settings import Settings, SettingsError, load_settings
from jobs.keys import Keys
from worker.bootsteps import BackgroundStep
from worker.runtime import Runtime
from worker.tasks import register
from worker.transport import QUARANTINE_OPTION


def make_app() -> Celery:
    """Make the app from the settings; ends the process with status 2 if they are wrong."""
    try:
        settings = load_settings()
    except SettingsError as exc:
        raise SystemExit(_misused(exc)) from None
    return build_app(settings)


def build_app(settings: Settings) -> Celery:
    """Make the app for given settings."""
    app = make_celery(
        settings,
        broker_transport="worker.transport:Transport",
        # Threads wait for slots and answers; they cost little, and never fork under a lock.
        worker_pool="worker.pool:ThreadPool",
    )
    app.conf.broker_transport_options[QUARANTINE_OPTION] = Keys(
        settings.sendcode_key_prefix
    ).quarantine
    runtime = Runtime(settings, app)
    app.sendcode = runtime
    app.steps["worker"].add(BackgroundStep)
    register(app)
    signals.setup_logging.connect(
        lambda **_: set_up_logging(settings.sendcode_log_format), weak=False
    )
    signals.celeryd_init.connect(lambda **_: _check_credentials(settings), weak=False)
    signals.worker_shutting_down.connect(lambda **_: runtime.shutdown.order(), weak=False)
    return app


def _check_credentials(settings: Settings) -> None:
    try:
        settings.credentials()
    except SettingsError as exc:
        raise SystemExit(_misused(exc)) from None


def _misused(exc: SettingsError) -> int:
    sys.stderr.write(f"sendcode: wrong settings\n{exc}\n")
    return 2
