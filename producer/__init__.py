"""The ways in: a Python call, the command line, batches; and the view from outside.

For a backend: `from producer import send_code`. Every error that it raises on purpose is a
`SendcodeError`, except `TypeError` or `ValueError` for an argument that makes no sense.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from config import SendcodeError

if TYPE_CHECKING:
    from config.settings import SettingsError, load_settings
    from config.unavailable import RedisUnavailableError
    from jobs.job import JobRecord, State
    from jobs.phone import PhoneError
    from jobs.quotas import NumberNotAllowedError, QuotaExceededError
    from producer.events import KeyReusedError, send_code

__all__ = [
    "JobRecord",
    "KeyReusedError",
    "NumberNotAllowedError",
    "PhoneError",
    "QuotaExceededError",
    "RedisUnavailableError",
    "SendcodeError",
    "SettingsError",
    "State",
    "load_settings",
    "send_code",
]

_HOMES = {
    "JobRecord": "jobs.job",
    "KeyReusedError": "producer.events",
    "NumberNotAllowedError": "jobs.quotas",
    "PhoneError": "jobs.phone",
    "QuotaExceededError": "jobs.quotas",
    "RedisUnavailableError": "config.unavailable",
    "SettingsError": "config.settings",
    "State": "jobs.job",
    "load_settings": "config.settings",
    "send_code": "producer.events",
}

if not TYPE_CHECKING:  # a type checker knows these names, and that there are no others

    def __getattr__(name: str) -> object:
        """Load a name when it is first asked for: the command line needs none for --help."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
