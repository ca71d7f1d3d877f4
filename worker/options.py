"""What stands on a worker's command line: each of Celery's options is honoured or refused.

Celery takes all of them silently, also those that have no effect on a worker like this one.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

MOST_THREADS = 1_000
"""As for SENDCODE_CONCURRENCY."""
_NO_CHILDREN = "a worker has threads and no child processes"
_ONE_BROKER = "set SENDCODE_REDIS_URL: it is the broker of producers and Flower, too"
_NO_BEAT = "sendcode schedules nothing through Celery"
REFUSED = {
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
"""Options by Celery's own names for them, and what to do instead."""


def given() -> dict[str, str]:
    """Return the options that were typed: Celery's name for each, and its own long form."""
    context = click.get_current_context(silent=True)
    return {
        parameter.name: next(text for text in parameter.opts if text.startswith("--"))
        for level in _levels(context)
        for parameter in level.command.params
        if parameter.name
        and level.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def _levels(context: click.Context | None) -> Iterator[click.Context]:
    """Celery's own command line, then that of its worker."""
    while context is not None:
        yield context
        context = context.parent


def complaint(concurrency: object) -> str:
    """Return what is wrong with the options, one line, or nothing."""
    for name, option in given().items():
        if name in REFUSED:
            return f"{option}: {REFUSED[name]}"
    is_number = isinstance(concurrency, int) and 1 <= concurrency <= MOST_THREADS
    if concurrency is not None and not is_number:
        return f"--concurrency: must be a number of threads, 1 to {MOST_THREADS:,}"
    return ""


def unseen(arguments: list[str] = sys.argv) -> str:
    """Return why the output of a worker that is to detach itself would be lost, or nothing."""
    is_detached = not {"-D", "--detach"}.isdisjoint(arguments)
    has_file = any(each.startswith(("-f", "--logfile")) for each in arguments)
    return "--detach: nobody would see its log; add --logfile" if is_detached > has_file else ""


def name_for(worker: Any) -> str:
    """Return a worker's name: the one that it was given, or one of its own on this host."""
    if "hostname" in given():
        return str(worker.hostname)
    return f"worker-{secrets.token_hex(2)}@{worker.hostname.partition('@')[2]}"
