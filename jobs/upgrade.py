"""How the ledger's data get from one version to the next, while workers of two releases send.

The ledger's `version` is that of the newest data in it. It is raised by whoever writes such data
first (`grow` in identity.lua), and by whoever runs the steps; a release that cannot read it takes
nothing more from then on, and finishes what it holds. Steps then convert what is older.

For whoever needs a step: first a release that can read the new data (`READS` in jobs/scripts.py),
then one that writes it (`WRITES`) and brings the step. So two releases in a row can work side by
side, and one can go back by one (docs/upgrading.md).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import redis

from config.redis import error_code
from config.settings import Settings
from jobs.identity import NEWER, Identity, LedgerState
from jobs.keys import Keys
from jobs.scripts import READS, Script

Step: TypeAlias = Callable[[redis.Redis, Keys, str], str]
"""Converts a part of the data and returns where the next begins, "" if that was all.

It is given where its part begins, "" at first. A part takes a few seconds at most, and may be
converted twice: after a crash another worker begins it anew.
"""
STEPS: Sequence[Step] = ()
"""The first one leads from version 1, which is all data up to now, to version 2."""
LOCK_S = 30.0
"""A worker that is silent for so long has died in a step."""
SETTLE_S = 60.0
"""More than workers of an older release take to finish what they hold."""


def refuse_newer(client: redis.Redis, settings: Settings) -> None:
    """Raise unless this release can read the ledger: one round trip.

    Raises:
        LedgerRefusedError: it cannot.
    """
    try:
        found = client.hget(Keys(settings.sendcode_key_prefix).ledger, "version")
    except redis.ResponseError as exc:
        if error_code(exc) != "WRONGTYPE":
            raise
        return  # what needs it reports that
    version = int(str(found or 1))
    if version > READS:
        raise LedgerState(refused=NEWER, version=version).error()


class Upgrade:
    """Runs the steps that the ledger lacks: by one process at a time, each part by part."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        identity: Identity,
        steps: Sequence[Step] = STEPS,
        *,
        lock_s: float = LOCK_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._client = client
        self._identity = identity
        self._keys = Keys(settings.sendcode_key_prefix)
        self._steps = steps
        self._lock_ms, self._settle_ms = round(lock_s * 1000), round(settle_s * 1000)
        self._writes = 1 + len(steps)
        self._upgrade = Script(client, self._keys, "upgrade", writes=self._writes)

    def run(self) -> Iterator[int]:
        """Do what is to be done now; yield each version that all data have reached by it.

        Nothing is, where the data are up to date, another process is at it, or older workers may
        still hold jobs: call it again.
        """
        if not self._steps:
            return
        token, done, cursor = secrets.token_hex(8), 0, ""
        while reply := self._upgrade(
            known=self._identity.known,
            token=token,
            lock_ms=self._lock_ms,
            settle_ms=self._settle_ms,
            done=done,
            cursor=cursor,
        ):
            upgraded, begins = int(reply[0]), reply[1]
            if done and upgraded >= done:
                yield done
            if upgraded >= self._writes:
                return
            done = upgraded + 1
            cursor = self._steps[upgraded - 1](self._client, self._keys, begins)
