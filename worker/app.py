"""The worker's Celery app: `celery -A worker worker` needs no further option."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any

import click
import redis
from celery import Celery, signals
from celery.apps import worker as celery_program
from celery.platforms import close_open_fds
from celery.utils.nodenames import node_format
from kombu import Queue

from config.celery import make_celery
from config.logging import fields, log_line, set_up_logging
from config.names import DEAD_LETTER_QUEUE
from config.redis import connect, error_code
from config.settings import (
    CREDENTIALS,
    Settings,
    SettingsError,
    load_settings,
    misspelt,
    unheeded,
)
from config.unavailable import RedisUnavailableError, will_not_pass
from jobs.durability import Level, judge, look
from jobs.keys import Keys
from jobs.trial import NEEDED, OF_FLOWER, look_at_rights
from worker import options
from worker.bootsteps import BackgroundStep
from worker.output import Output
from worker.panel import QueueDepths, set_up_panel
from worker.runtime import Runtime
from worker.tasks import register
from worker.transport import QUARANTINE_OPTION

log = logging.getLogger("sendcode.worker")

_STDERR = 2


def make_app() -> Celery:
    """Make the app from the settings; ends the process with status 2 if they are wrong.

    Flower has no signal like a worker's, and would try a wrong password for ever.
    """
    try:
        settings = load_settings(required=CREDENTIALS if _subcommand() == "worker" else ())
    except SettingsError as exc:
        wrong = (f"wrong setting: {line}" for line in str(exc).splitlines())
        raise SystemExit(_refused(*wrong)) from None
    if _subcommand() == "worker" and (fault := options.unseen()):
        raise SystemExit(_refused(fault))
    if _subcommand() == "flower":
        _log_in(settings, OF_FLOWER)
    app = build_app(settings)
    app.set_default()  # Flower asks the current app for a task's result
    if _subcommand() == "flower":
        from flower.views import BaseHandler  # noqa: PLC0415 (of Flower's process alone)

        depths = QueueDepths(settings)
        BaseHandler.get_broker = lambda _: depths
        _take_over_output(app.sendcode, None)
        # what its Broker page lists until it has looked at a worker; a worker itself must never
        # consume the dead letters
        app.conf.task_queues = [*app.conf.task_queues, Queue(DEAD_LETTER_QUEUE)]
    return app


def _subcommand() -> str | None:
    """Give the `worker` of `celery -A worker worker`."""
    context = click.get_current_context(silent=True)
    return context.invoked_subcommand if context is not None else None


def build_app(settings: Settings) -> Celery:
    """Make the app for given settings."""
    app = make_celery(
        settings,
        broker_transport="worker.transport:Transport",
        # Threads wait for slots and answers; they cost little, and never fork under a lock.
        worker_pool="worker.pool:ThreadPool",
        worker_consumer="worker.consumer:Consumer",
    )
    app.conf.broker_transport_options[QUARANTINE_OPTION] = Keys(
        settings.sendcode_key_prefix
    ).quarantine
    runtime = Runtime(settings, app)
    app.sendcode = runtime
    app.steps["worker"].add(BackgroundStep)
    register(app)
    set_up_panel()
    signals.setup_logging.connect(
        lambda loglevel, **_: set_up_logging(settings.sendcode_log_format, _level(loglevel)),
        weak=False,
    )
    signals.celeryd_init.connect(
        lambda instance, options, **_: _begin(instance, options, runtime), weak=False
    )
    signals.worker_ready.connect(lambda **_: _warn_about_settings(settings), weak=False)
    signals.worker_ready.connect(lambda **_: _warn_about(runtime.ledger.client), weak=False)
    signals.worker_shutting_down.connect(lambda **_: runtime.stop(), weak=False)
    return app


def _begin(worker: Any, told: Mapping[str, Any], runtime: Runtime) -> None:
    """Name it, take over its output and log in; end with status 2 if something is wrong."""
    settings = runtime.settings
    if fault := options.complaint(told.get("concurrency")):
        raise SystemExit(_refused(fault))
    worker.hostname = options.name_for(worker)
    is_tty = sys.stdout.isatty()
    _take_over_output(runtime, node_format(told.get("logfile"), worker.hostname))
    # Celery looks at what is a pipe by now, and would restart when the terminal is closed
    signals.celeryd_after_setup.connect(
        lambda instance, **_: setattr(instance, "_isatty", is_tty), weak=False
    )
    set_up_logging(settings.sendcode_log_format)  # Celery warns root of itself before it does
    if settings.sendcode_log_format == "json":
        worker.quiet = True  # no banner
        logging.captureWarnings(capture=True)
        celery_program.safe_say = _say_in_json
    _log_in(settings, NEEDED)


def _take_over_output(runtime: Runtime, path: str | None) -> None:
    text = "lines of this log were dropped, as nobody was reading it"

    def dropped(lines: int) -> str:
        form = runtime.settings.sendcode_log_format
        return log_line(form, log.name, logging.WARNING, text, lines=lines)

    try:
        runtime.output = Output(dropped, path)
    except OSError as exc:
        reason = (exc.strerror or "failed").lower()
        fault = f"--logfile: {path} cannot be written to ({reason})"
        raise SystemExit(_refused(fault)) from None
    celery_program._reload_current_worker = lambda: _restart(runtime)


def _level(asked: int) -> int:
    """Return the level to log at: Celery's own default would hide what became of jobs."""
    return asked if "loglevel" in options.given() else logging.INFO


def _restart(runtime: Runtime) -> None:
    """Become the same program anew (SIGHUP); Celery's own way loses Python's options, and `-m`."""
    if runtime.output:
        runtime.output.close(for_another=True)
    close_open_fds([sys.__stdin__, sys.__stdout__, sys.__stderr__])
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 (no shell is wanted)


def _say_in_json(text: str, _stream: Any = None) -> None:
    """Say what Celery's signal handlers do; in one of them a logger might wait for itself."""
    os.write(_STDERR, f"{log_line('json', 'celery.worker', logging.INFO, text)}\n".encode())


def _log_in(settings: Settings, areas: Collection[str]) -> None:
    """End at once if Redis refuses the login or what is needed; one that is away is waited for."""
    client = connect(settings, retries=0)
    faults = []
    try:
        for finding in look_at_rights(client, settings, areas):
            if finding.level is Level.FAIL:
                faults.append(f"{finding.text}: {finding.remedy}")
    except redis.RedisError as exc:
        faults.append(str(RedisUnavailableError.from_redis(exc, settings)))
        if not will_not_pass(exc):
            log.warning("waiting: %s", faults.pop())  # whole: Flower shows no fields
    finally:
        client.close()
    if faults:
        raise SystemExit(_refused(*faults))


def _warn_about_settings(settings: Settings) -> None:
    """Name the variables that somebody set and that change nothing."""
    for name, remedy in misspelt().items():
        log.warning("no setting, so it changes nothing", extra=fields(name=name, remedy=remedy))
    for names, remedy in unheeded(settings).items():
        log.warning("set, but not followed", extra=fields(names=names, remedy=remedy))


def _warn_about(server: redis.Redis) -> None:
    """Say what the doctor would say about a server that can forget, evict, or is too old."""
    try:
        findings = judge(look(server))
    except redis.RedisError as exc:
        log.warning("Redis not looked at", extra=fields(error=error_code(exc)))
        return
    for finding in findings:
        if finding.level is not Level.OK:
            log.warning(
                "Redis is not as it must be",
                extra=fields(check=finding.name, finding=finding.text, remedy=finding.remedy),
            )


def _refused(*faults: str) -> int:
    sys.stderr.writelines(f"sendcode: {each}\n" for each in faults)
    return 2
