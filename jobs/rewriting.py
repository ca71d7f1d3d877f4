"""Has Redis rewrite its append-only file now and then, so that what has expired leaves the disk.

By its own rule (`auto-aof-rewrite-min-size`) a server never rewrites a file of less than 64 MB, or
one that hardly grows: numbers would stay in it, and in each backup of it, beyond their retention.
"""

from __future__ import annotations

import logging

import redis

from config.logging import fields
from config.redis import error_code
from config.settings import Settings
from jobs.scripts import LedgerPart

EVERY_S = 6 * 3_600.0
"""Seconds between two times, whatever the number of workers."""
ASK_EVERY_S = 60.0

log = logging.getLogger("sendcode.rewriting")


class Rewriting(LedgerPart):
    """Rewrites the append-only file when it is time, if no other worker just did."""

    def __init__(self, client: redis.Redis, settings: Settings, every_s: float = EVERY_S) -> None:
        super().__init__(client, settings)
        self._every_ms = round(every_s * 1000)

    def rewrite_if_due(self) -> bool:
        """Return whether Redis does it now; where it refuses, it is asked again the next time."""
        (is_due,) = self.run_script("rewrite", every_ms=self._every_ms)
        if not is_due:
            return False
        try:
            self.client.bgrewriteaof()
        except redis.ResponseError as exc:  # not allowed here, or under way already
            log.info("append-only file not rewritten", extra=fields(error=error_code(exc)))
            return False
        log.info("append-only file is rewritten")
        return True
