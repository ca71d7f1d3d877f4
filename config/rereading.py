"""Settings that change without a restart: their files are checked again while a process runs.

A file may be replaced, renamed over, or be a link that is pointed at another version (Kubernetes).
New content is used once two checks have found it unchanged; unusable content changes nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from config import SendcodeError
from config.logging import fields

if TYPE_CHECKING:
    from config.settings import Settings

log = logging.getLogger("sendcode.settings")

CHECK_EVERY_S = 1.0
FOLLOWED = frozenset(
    {
        "tencentcloud_secret_id",
        "tencentcloud_secret_key",
        "tencentcloud_token",
        "sendcode_data_keys",
        "sendcode_redis_url",
        "sendcode_flower_user",
        "sendcode_flower_password",
        "sendcode_log_level",
    }
)
"""The settings that a running process follows; of the Redis URL, only the login."""

_Mark = tuple[int, int, int, int] | None


class Rereading:
    """The settings as their files have them now. Thread-safe; calls of `latest` check them."""

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with the settings that were read; `read` reads the same files again."""
        self._latest = self._started = settings
        self._read = read
        self._clock = clock
        self._used = self._checked = {file: _mark(file) for file in settings.files}
        """Each file's mark when its content was last used, and at the last check."""
        self._next_check_s = clock() + CHECK_EVERY_S
        self._is_requested = False
        self._faults: list[str] = []
        self._lock = threading.Lock()

    def request(self) -> None:
        """Read the files at the next check even if unchanged. A signal handler may call it."""
        self._is_requested = True

    def latest(self) -> Settings:
        """Return the settings as they are now; check their files, once a second at most."""
        if self._clock() >= self._next_check_s and self._lock.acquire(blocking=False):
            try:
                self._check_files()
                self._next_check_s = self._clock() + CHECK_EVERY_S
            finally:
                self._lock.release()
        return self._latest

    def _check_files(self) -> None:
        marks = {file: _mark(file) for file in self._used}
        has_settled, self._checked = marks == self._checked, marks
        if not self._is_requested and (marks == self._used or not has_settled):
            return
        self._is_requested = False
        try:
            faults = [f"{file}: gone" for file in marks if self._used[file] and not marks[file]]
            settings = self._read()
            faults += _lost(self._latest, settings)
        except SendcodeError as exc:
            faults = str(exc).splitlines()
        if not faults:
            self._use(settings, marks)
        elif faults != self._faults:
            log.warning(
                "settings not read again: what was read before stays in force",
                extra=fields(faults="; ".join(faults)),
            )
        self._faults = faults

    def _use(self, settings: Settings, marks: dict[str, _Mark]) -> None:
        """Use new settings; `marks` are from before the reading, as files may change meanwhile."""
        before, self._latest = self._latest, settings
        self._used = self._checked = {
            file: marks[file] if file in marks else _mark(file) for file in settings.files
        }
        fields_of_both = type(settings).model_fields
        changed = [n for n in fields_of_both if getattr(before, n) != getattr(settings, n)]
        if used := [name for name in changed if _is_followed(name, self._started, settings)]:
            log.warning("settings read again", extra=fields(changed=_variables(used)))
        if late := [name for name in changed if name not in used]:
            log.warning(
                "settings have changed that need a restart",
                extra=fields(changed=_variables(late)),
            )


def read_again_on_hangup(settings: Settings) -> None:
    """Read the settings again at SIGHUP, which then does not end the process."""
    signal.signal(signal.SIGHUP, lambda *_: settings.read_again())


def _lost(before: Settings, now: Settings) -> list[str]:
    """Return the secrets that are gone; most likely their file is just being written."""
    lost = [
        name
        for name in FOLLOWED
        if getattr(before, name) is not None and getattr(now, name) is None
    ]
    if before.tencentcloud_secret_id != now.tencentcloud_secret_id:
        lost = [name for name in lost if name != "tencentcloud_token"]  # permanent keys have none
    if before.redis.password and not now.redis.password:
        lost.append("sendcode_redis_url")
    return [f"{name.upper()}: its secret is missing" for name in lost]


def _is_followed(name: str, started: Settings, now: Settings) -> bool:
    return name in FOLLOWED and (
        name != "sendcode_redis_url" or now.redis.is_same_place(started.redis)
    )


def _variables(names: Sequence[str]) -> str:
    return ", ".join(name.upper() for name in names)


def _mark(file: str) -> _Mark:
    """Return what changes when a file's content does, or when a link points at another file."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
