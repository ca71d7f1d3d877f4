"""The worker's Celery app, and how a worker starts: `celery -A worker worker` needs no more.

Each of Celery's options is honoured or refused. What is wrong ends the process with status 2.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Collection, Mapping
from typing import Any

import click
import redis
from celery import Celery, signals
from celery.apps import worker as celery_program
from celery.utils.nodenames import node_format
from click.core import ParameterSource

from config.address import is_loopback
from config.celery import make_celery
from config.flower import LOOPBACK, NO_AUTH, FlowerLoginError, flower_environment
from config.logging import fields, log_line, set_up_logging
from config.redis import connect, error_code
from config.rereading import CHECK_EVERY_S, read_again_on_hangup
from config.settings import (
    CREDENTIALS,
    DATA_KEYS,
    Settings,
    SettingsError,
    exposed,
    ignored_settings,
    load_settings,
    misspelt,
    settings_file,
)
from config.tracing import set_up_tracing
from config.unavailable import RedisUnavailableError, will_not_pass
from jobs.identity import LedgerRefusedError
from jobs.server import NEEDED, OF_FLOWER, Level, check_rights, judge, judge_access, read_server
from jobs.upgrade import refuse_newer
from jobs.vault import IndexLockedError, Vault
from worker.background import BackgroundStep, Runtime
from worker.health import notify_systemd
from worker.output import Output
from worker.tasks import answer_remote_control, register, set_up_flower

log = logging.getLogger("sendcode.worker")

_STDERR = 2

MOST_THREADS = 1_000
"""As for SENDCODE_CONCURRENCY."""
_NO_CHILDREN = "a worker has threads and no child processes"
_ONE_BROKER = "set SENDCODE_REDIS_URL: it is the broker of producers and Flower, too"
_NO_BEAT = "sendcode schedules nothing through Celery"
REFUSED_OPTIONS = {
    "pool": "a worker runs in sendcode's own pool of threads alone; leave it out",
    "autoscale": "threads are cheap and wait most of the time: use --concurrency",
    "optimization": _NO_CHILDREN,
    "pool_start_method": _NO_CHILDREN,
    "max_tasks_per_child": _NO_CHILDREN,
    "max_memory_per_child": _NO_CHILDREN,
    "time_limit": "set SENDCODE_HTTP_TIMEOUT, the time limit of a call",
    "soft_time_limit": "set SENDCODE_HTTP_TIMEOUT, the time limit of a call",
    "purge": "jobs would only be published again: use sendcode batch cancel, or sendcode halt",
    "beat": _NO_BEAT,
    "schedule_filename": _NO_BEAT,
    "scheduler": _NO_BEAT,
    "broker": _ONE_BROKER,
    "result_backend": _ONE_BROKER,
    "config": "the settings are SENDCODE_… variables",
    "loader": "the settings are SENDCODE_… variables",
}
"""What to do instead, by Celery's own names for its options; Celery accepts them silently."""


def make_app() -> Celery:
    """Return the app for the settings; ends the process with status 2 if they are wrong."""
    context = click.get_current_context(silent=True)
    subcommand = context.invoked_subcommand if context is not None else None
    try:
        required = (*CREDENTIALS, DATA_KEYS) if subcommand == "worker" else ()
        settings = load_settings(required=required)
    except SettingsError as exc:
        raise _refused(*(f"wrong setting: {line}" for line in str(exc).splitlines())) from None
    if subcommand == "worker" and (fault := _lost_output()):
        raise _refused(fault)
    if subcommand == "flower":
        # it has no start signal as a worker has, and would try a wrong password for ever
        _log_in(settings, OF_FLOWER)
        _close_flower(settings)
    app = build_app(settings)
    app.set_default()  # Flower asks the current app for a task's result
    if subcommand == "flower":
        _take_over_output(app.sendcode, None)
        if not sys.stdin.isatty():
            read_again_on_hangup(settings)
        set_up_flower(app, settings)
    return app


def build_app(settings: Settings) -> Celery:
    """Return the app for given settings."""
    app = make_celery(
        settings,
        broker_transport="worker.transport:Transport",
        # Threads wait for slots and answers; they cost little, and never fork under a lock.
        worker_pool="worker.transport:ThreadPool",
        worker_consumer="worker.transport:Consumer",
    )
    runtime = app.sendcode = Runtime(settings, app)
    app.steps["worker"].add(BackgroundStep)
    register(app)
    answer_remote_control()
    signals.setup_logging.connect(
        lambda loglevel, **_: _set_up_logging(runtime, loglevel),
        weak=False,
    )
    signals.celeryd_init.connect(
        lambda instance, options, **_: _begin(instance, options, runtime), weak=False
    )
    signals.worker_ready.connect(lambda **_: _begin_work(runtime), weak=False)
    signals.worker_shutting_down.connect(lambda **_: _end_work(runtime), weak=False)
    return app


def _begin(worker: Any, options: Mapping[str, Any], runtime: Runtime) -> None:
    """Name the worker, take over its output and log in."""
    settings = runtime.settings
    if fault := _wrong_option(options.get("concurrency")):
        raise _refused(fault)
    if "hostname" not in _given_options():
        host = worker.hostname.partition("@")[2]
        worker.hostname = f"worker-{secrets.token_hex(2)}@{host}"
    is_tty = sys.stdout.isatty()
    _take_over_output(runtime, node_format(options.get("logfile"), worker.hostname))
    # else Celery would find a pipe by now, and restart when the terminal is closed
    signals.celeryd_after_setup.connect(
        lambda instance, **_: setattr(instance, "_isatty", is_tty), weak=False
    )
    set_up_logging(settings.sendcode_log_format)  # Celery warns of running as root before it does
    if settings.sendcode_log_format == "json":
        worker.quiet = True  # no banner
        logging.captureWarnings(capture=True)
        celery_program.safe_say = _write_as_json
    # replaces Celery's own answer to SIGHUP, which is a restart; a closed terminal ends a worker
    celery_program.install_worker_restart_handler = lambda _: read_again_on_hangup(settings)
    signals.celeryd_after_setup.connect(lambda **_: _log_settings(settings), weak=False)
    _log_in(settings, NEEDED)
    set_up_tracing("sendcode-worker")


def _log_settings(settings: Settings) -> None:
    """Log where the worker works, at the level that was asked for, which is known by now."""
    log.info(
        "settings read",
        extra=fields(
            endpoint=settings.sendcode_endpoint,
            redis=settings.redis.place,
            file=settings_file() or "none",
        ),
    )


def _given_options() -> dict[str, str]:
    """Return the options that were typed: Celery's name for each, and its own long form."""
    given: dict[str, str] = {}
    context = click.get_current_context(silent=True)
    while context is not None:  # Celery's worker command, then Celery's own command line
        for parameter in context.command.params:
            name = parameter.name
            if name and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                given[name] = next(text for text in parameter.opts if text.startswith("--"))
        context = context.parent
    return given


def _wrong_option(concurrency: object) -> str:
    """Return what is wrong with the options, one line, or nothing."""
    for name, option in _given_options().items():
        if name in REFUSED_OPTIONS:
            return f"{option}: {REFUSED_OPTIONS[name]}"
    is_number = isinstance(concurrency, int) and 1 <= concurrency <= MOST_THREADS
    if concurrency is not None and not is_number:
        return f"--concurrency: must be a number of threads, 1 to {MOST_THREADS:,}"
    return ""


def _lost_output(arguments: list[str] = sys.argv) -> str:
    """Return why the output of a worker that is to detach itself would be lost, or nothing."""
    is_detached = not {"-D", "--detach"}.isdisjoint(arguments)
    has_file = any(each.startswith(("-f", "--logfile")) for each in arguments)
    return "--detach: nobody would see its log; add --logfile" if is_detached > has_file else ""


def _take_over_output(runtime: Runtime, path: str | None) -> None:
    """Have all that this process writes go through an `Output`; `path` is its log file."""
    text = "lines of this log were dropped, as nobody was reading it"

    def dropped(lines: int) -> str:
        form = runtime.settings.sendcode_log_format
        return log_line(form, log.name, logging.WARNING, text, lines=lines)

    try:
        runtime.output = Output(dropped, path)
    except OSError as exc:
        reason = (exc.strerror or "failed").lower()
        raise _refused(f"--logfile: {path} cannot be written to ({reason})") from None


def _set_up_logging(runtime: Runtime, asked: int) -> None:
    """Log at the level that was typed, else at the settings', which Celery's default is not."""
    settings = runtime.settings
    runtime.has_level_of_its_own = "loglevel" in _given_options()
    level = asked if runtime.has_level_of_its_own else settings.sendcode_log_level
    set_up_logging(settings.sendcode_log_format, level)


def _write_as_json(text: str, _stream: Any = None) -> None:
    """Write what Celery's signal handlers say; in one of them a logger might wait for itself."""
    os.write(_STDERR, f"{log_line('json', 'celery.worker', logging.INFO, text)}\n".encode())


def _log_in(settings: Settings, areas: Collection[str]) -> None:
    """Exit at once if Redis refuses the login or a right, or the ledger cannot be read.

    A Redis that cannot be reached is waited for.
    """
    client = connect(settings, retries=0)
    faults = []
    try:
        for finding in check_rights(client, settings, areas):
            if finding.level is Level.FAIL:
                faults.append(f"{finding.text}: {finding.remedy}")
        if areas is NEEDED and not faults:
            refuse_newer(client, settings)
            Vault(client, settings).check()
    except (LedgerRefusedError, IndexLockedError) as exc:
        faults.append(str(exc))
    except redis.RedisError as exc:
        faults.append(str(RedisUnavailableError.from_redis(exc, settings)))
        if not will_not_pass(exc):
            log.warning("waiting: %s", faults.pop())  # whole: Flower shows no fields
    finally:
        client.close()
    if faults:
        raise _refused(*faults)


def _close_flower(settings: Settings) -> None:
    """Have Flower admit only the login of the settings; without one, only this machine."""
    from flower.app import Flower  # noqa: PLC0415 (of Flower's process alone)

    secret = None if NO_AUTH in os.environ else settings.sendcode_flower_password
    password = secret.get_secret_value() if secret else None
    own = {} if password else {k: v for k, v in os.environ.items() if k == "FLOWER_BASIC_AUTH"}
    try:
        environment = flower_environment(os.environ, settings.sendcode_flower_user, password)
    except FlowerLoginError as exc:
        raise _refused(str(exc)) from None
    os.environ.update({"FLOWER_ADDRESS": LOOPBACK} | environment | own)
    listen = Flower.start_http_server

    def listen_if_closed(flower: Any) -> Any:
        """Refuse to listen if the options, wherever they were set, leave it open to others."""
        options = flower.options
        is_closed = options.basic_auth or options.auth or options.unix_socket
        if not is_closed and not is_loopback(options.address):
            raise _refused(
                f"Flower on {options.address or 'all addresses'} without a login: set "
                "SENDCODE_FLOWER_PASSWORD, or leave out --address"
            )
        if password:
            _follow_login(flower, settings)
        return listen(flower)

    Flower.start_http_server = listen_if_closed


def _follow_login(flower: Any, settings: Settings) -> None:
    """Admit the login that the settings' files name by now."""
    admitted = os.environ["FLOWER_BASIC_AUTH"]

    def follow() -> None:
        nonlocal admitted
        flower.io_loop.call_later(CHECK_EVERY_S, follow)
        now = settings.now
        secret = now.sendcode_flower_password
        try:
            password = secret.get_secret_value() if secret else None
            found = flower_environment({}, now.sendcode_flower_user, password)
        except FlowerLoginError as exc:
            log.warning("login not changed: %s", exc)
            return
        if flower.options.basic_auth == [
            admitted
        ]:  # it is ours, and not of an option that was typed
            admitted = found["FLOWER_BASIC_AUTH"]
            flower.options.basic_auth = [admitted]

    follow()


def _begin_work(runtime: Runtime) -> None:
    """Report that messages are taken from now on."""
    runtime.health.is_ready = True
    notify_systemd("READY=1", "STATUS=taking messages")
    _warn(runtime.settings, runtime.ledger.client)


def _end_work(runtime: Runtime) -> None:
    runtime.health.is_ready = False
    notify_systemd("STOPPING=1", "STATUS=finishing what is in work")
    runtime.stop()


def _warn(settings: Settings, server: redis.Redis) -> None:
    """Log the variables that change nothing, and a server that may lose data or is too old."""
    for name, remedy in misspelt().items():
        log.warning("no setting, so it changes nothing", extra=fields(name=name, remedy=remedy))
    for names, remedy in ignored_settings(settings).items():
        log.warning("set, but not followed", extra=fields(names=names, remedy=remedy))
    for file, remedy in exposed().items():
        log.warning("secrets that others can read", extra=fields(file=file, remedy=remedy))
    try:
        findings = [*judge(read_server(server)), *judge_access(settings)]
    except redis.RedisError as exc:
        log.warning("Redis not checked", extra=fields(error=error_code(exc)))
        return
    for finding in findings:
        if finding.level is not Level.OK:
            log.warning(
                "Redis is not as it must be",
                extra=fields(check=finding.name, finding=finding.text, remedy=finding.remedy),
            )


def _refused(*faults: str) -> SystemExit:
    """Print the faults, and return the exit to raise."""
    sys.stderr.writelines(f"sendcode: {each}\n" for each in faults)
    return SystemExit(2)
