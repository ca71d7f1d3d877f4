"""Settings that change without a restart: their files are looked at again while a process runs.

A file may be replaced, renamed over, or be a link that another version is put behind (Kubernetes).
What it holds is taken when it has stayed the same for a look; what cannot be used changes nothing.
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

LOOK_EVERY_S = 1.0
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
"""What a running process follows; of Redis' URL the login alone."""

_Mark = tuple[int, int, int, int] | None


class Rereading:
    """The settings as their files have them now. Thread-safe; whoever asks looks."""

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with what was read from `files`; `read` reads the same again."""
        self._latest = self._started = settings
        self._read = read
        self._clock = clock
        self._taken = self._seen = {file: _mark(file) for file in settings.files}
        """Each file's mark when it was read last, and at the last look."""
        self._next_look_s = clock() + LOOK_EVERY_S
        self._is_asked = False
        self._faults: list[str] = []
        self._lock = threading.Lock()

    def ask(self) -> None:
        """Read at the next look whatever the files look like. A signal handler may call it."""
        self._is_asked = True

    def latest(self) -> Settings:
        """Return the settings as they are now; look at their files, once a second at most."""
        if self._clock() >= self._next_look_s and self._lock.acquire(blocking=False):
            try:
                self._look()
                self._next_look_s = self._clock() + LOOK_EVERY_S
            finally:
                self._lock.release()
        return self._latest

    def _look(self) -> None:
        marks = {file: _mark(file) for file in self._taken}
        has_settled, self._seen = marks == self._seen, marks
        if not self._is_asked and (marks == self._taken or not has_settled):
            return
        self._is_asked = False
        try:
            faults = [f"{file}: gone" for file in marks if self._taken[file] and not marks[file]]
            settings = self._read()
            faults += _lost(self._latest, settings)
        except SendcodeError as exc:
            faults = str(exc).splitlines()
        if not faults:
            self._take(settings, marks)
        elif faults != self._faults:
            log.warning(
                "settings not read again: what was read before stays in force",
                extra=fields(faults="; ".join(faults)),
            )
        self._faults = faults

    def _take(self, settings: Settings, marks: dict[str, _Mark]) -> None:
        """Take what was read; the files had these marks before, and may have changed meanwhile."""
        before, self._latest = self._latest, settings
        self._taken = self._seen = {
            file: marks[file] if file in marks else _mark(file) for file in settings.files
        }
        fields_of_both = type(settings).model_fields
        changed = [n for n in fields_of_both if getattr(before, n) != getattr(settings, n)]
        if taken := [name for name in changed if _is_followed(name, self._started, settings)]:
            log.warning("settings read again", extra=fields(changed=_variables(taken)))
        if late := [name for name in changed if name not in taken]:
            log.warning(
                "settings have changed that are followed after a restart",
                extra=fields(changed=_variables(late)),
            )


def read_again_on_hangup(settings: Settings) -> None:
    """Have SIGHUP read the settings again, in a process that no terminal's end is to end."""
    signal.signal(signal.SIGHUP, lambda *_: settings.read_again())


def _lost(before: Settings, now: Settings) -> list[str]:
    """Return the secrets that were there and are not: their file is just being written."""
    lost = [
        name
        for name in FOLLOWED
        if getattr(before, name) is not None and getattr(now, name) is None
    ]
    if before.tencentcloud_secret_id != now.tencentcloud_secret_id:
        lost = [name for name in lost if name != "tencentcloud_token"]  # lasting ones have none
    if before.redis.password and not now.redis.password:
        lost.append("sendcode_redis_url")
    return [f"{name.upper()}: its secret is missing" for name in lost]


def _is_followed(name: str, started: Settings, now: Settings) -> bool:
    return name in FOLLOWED and (
        name != "sendcode_redis_url" or now.redis.is_place_of(started.redis)
    )


def _variables(names: Sequence[str]) -> str:
    return ", ".join(name.upper() for name in names)


def _mark(file: str) -> _Mark:
    """Return what changes with a file's content, of the one that a link leads to."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
