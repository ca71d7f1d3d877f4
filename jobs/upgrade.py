"""How the ledger's data get from one version to the next, while workers of two releases send.

The ledger's `version` is that of the newest data in it. It is raised by whoever writes such data
first (`grow` in identity.lua), and by whoever runs the steps; a release that cannot read it takes
nothing more from then on, and finishes what it holds. Steps then convert what is older.

For whoever needs a step: first a release that can read the new data (`READS` in jobs/scripts.py),
then one that writes it (`WRITES`) and brings the step. So two releases in a row can work side by
side, and one can go back by one (docs/upgrading.md).
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import redis

from config.logging import fields
from config.settings import Settings
from jobs.identity import NEWER, REMEDY, UNSEALED, Identity, is_upgraded
from jobs.job import NO_NUMBER
from jobs.keys import Keys, old_digest
from jobs.records import Records
from jobs.rows import Rows
from jobs.scripts import SEALED, LedgerPart, Script, time_ms
from jobs.vault import SealedError

log = logging.getLogger("sendcode.upgrade")

Step: TypeAlias = Callable[[redis.Redis, Settings, str], str]
"""Converts a part of the data and returns where the next begins, "" if that was all.

It is given where its part begins, "" at first. A part takes a few seconds at most, and may be
converted twice: after a crash another worker begins it anew.
"""
_JOBS_AT_ONCE, _BLOCKS_AT_ONCE = 100, 100
"""Of a part. Each may take a few writes of 30 ms, where Redis is far or its disk is slow."""
_KEYS_AT_ONCE = 1_000
"""Of a part that only looks at keys, and deletes some."""
_OLD_DIGEST = re.compile(r"[0-9a-f]{40}")


def seal(client: redis.Redis, settings: Settings, begins: str) -> str:
    """Seal all that is of persons: first rows, so that no more jobs are made in the clear."""
    if not begins or begins.startswith("rows "):
        return _seal_rows(client, settings, begins) or "jobs 0"
    return _seal_jobs(client, settings, begins)


def _seal_rows(client: redis.Redis, settings: Settings, begins: str) -> str:
    """Seal the rows of all batches, in the order of their ids."""
    rows, (_, block, at) = Rows(client, settings), (begins or "rows 0 ").split(" ", 2)
    found: Any = client.zrange(rows.keys.batches, 0, -1)
    done = 0
    for batch_id in sorted(each for each in found if each >= at):
        number, is_more = int(block) if batch_id == at else 0, True
        while is_more:
            if done == _BLOCKS_AT_ONCE:
                return f"rows {number} {batch_id}"
            is_more = rows.seal_old(batch_id, number)
            number, done = number + 1, done + 1
    return ""


def _seal_jobs(client: redis.Redis, settings: Settings, begins: str) -> str:
    """Seal the numbers of jobs, and name what is kept of numbers by their index.

    What is kept under a number's old key though no job is left for it goes: nobody could find it
    any more. So do records that were set aside with a number in the clear.
    """
    records = Records(client, settings)
    phase, _, cursor = begins.partition(" ")
    pattern, count = f"{settings.sendcode_key_prefix}:*", _KEYS_AT_ONCE
    if phase == "jobs":
        pattern, count = records.keys.job("*"), _JOBS_AT_ONCE
    page: Any = client.scan(int(cursor), match=pattern, count=count)
    following, found = page
    if phase == "jobs":
        _seal_each(records, found)
    else:
        old = [key for key in found if _is_of_old_digest(records.keys, key)]
        old += _unreadable_in_the_clear(records, found)
        if old:
            client.delete(*old)
    if following:
        return f"{phase} {following}"
    return "numbers 0" if phase == "jobs" else ""


def _seal_each(records: Records, found: Sequence[str]) -> None:
    old: dict[str, Mapping[str, str]] = {}
    sealed: dict[str, Mapping[str, str]] = {}
    replies = records.ask_all((("HGETALL", key) for key in found), errors_too=True)
    for key, values in zip(found, replies, strict=True):
        # what is no record is left to whoever meets it
        if isinstance(values, dict) and "num" in values and "lane" in values:
            job_id = key.removeprefix(records.keys.job(""))
            (sealed if ":" in values["num"] else old)[job_id] = values
    old |= _of_old_numbers(records, sealed)
    for job_id, values in old.items():
        records.adopt(job_id, values)


def _of_old_numbers(
    records: Records, sealed: Mapping[str, Mapping[str, str]]
) -> dict[str, Mapping[str, str]]:
    """Return those sealed jobs of whose number something is kept under its old key."""
    keys, digests = records.keys, {}
    for job_id, values in sealed.items():
        with suppress(SealedError, ValueError):
            phone = records.number(job_id, values)
            digests[job_id] = old_digest(phone.country_code, phone.phone_num)
    kept = records.ask_all(
        ("EXISTS", keys.number(each), keys.asked(each)) for each in digests.values()
    )
    return {
        job_id: sealed[job_id] for job_id, is_kept in zip(digests, kept, strict=True) if is_kept
    }


def _unreadable_in_the_clear(records: Records, found: Sequence[str]) -> Iterator[str]:
    aside = [key for key in found if key.startswith(records.keys.unreadable(""))]
    numbers = records.ask_all((("HGET", key, "num") for key in aside), errors_too=True)
    for key, num in zip(aside, numbers, strict=True):
        if isinstance(num, str) and ":" not in num and num != NO_NUMBER.phone_num:
            yield key


def _is_of_old_digest(keys: Keys, key: str) -> bool:
    kinds = (keys.number(""), keys.asked(""), keys.quota("number:"), keys.quota("range:"))
    return key.startswith(kinds) and _OLD_DIGEST.fullmatch(key.rpartition(":")[2]) is not None


STEPS: Sequence[Step] = (seal,)
"""The first one leads from version 1 to version 2."""
LOCK_S = 30.0
"""A worker that has been silent for this long has died in a step."""
SETTLE_S = 60.0
"""More than workers of an older release take to finish what they hold."""


def refuse_newer(client: redis.Redis, settings: Settings) -> None:
    """Raise unless this release can read the ledger.

    Raises:
        LedgerRefusedError: it cannot.
    """
    state = Identity(client, settings).ask()
    if state.refused == NEWER:
        raise state.error()


class Upgrade(LedgerPart):
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
        super().__init__(client, settings)
        self._identity = identity
        self._steps = steps
        self._lock_ms, self._settle_ms = round(lock_s * 1000), round(settle_s * 1000)
        self._writes = 1 + len(steps)
        self._upgrade = Script(client, self.keys, "upgrade", writes=self._writes)

    def run(self) -> Iterator[int]:
        """Do what can be done now; yield each version that all data have reached.

        Nothing is done if the data are up to date, another process is upgrading them, or older
        workers may still hold jobs: call it again then. Nor if numbers were sealed before: those in
        the clear were then written by somebody else.
        """
        if not self._steps:
            return
        is_upgraded(self.client, self.settings)  # and remembered
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
            if upgraded < SEALED and is_upgraded(self.client, self.settings):
                self._refuse_unsealed()
                return
            done = upgraded + 1
            cursor = self._steps[upgraded - 1](self.client, self.settings, begins)

    def _refuse_unsealed(self) -> None:
        """Make every process refuse the ledger until a person accepts it."""
        now = time_ms(self.client.time())
        self.client.hset(self.keys.ledger, mapping={"refused": UNSEALED, "refused_at": now})
        log.error(
            "the ledger is not upgraded: its numbers were sealed before, and it says they are not",
            extra=fields(remedy=REMEDY),
        )
