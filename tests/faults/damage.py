"""Under load, each key of the ledger in turn is deleted, set back to an older copy, or replaced.

Each time sending goes on within seconds, or halts and says why; docs/faults.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from redis import Redis, ResponseError

from config.settings import Settings
from demo.accounting import most_allowed
from jobs.batch import BatchRow
from jobs.batches import Batches, BatchGoneError
from jobs.job import Lane, State, batch_job_id
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.mending import Mending
from jobs.phone import PhoneNumber
from jobs.rows import CHUNK_ROWS
from producer import send_code
from producer.overview import read_overview
from sandbox.client import SandboxClient
from tests.ledger_acts import number_key
from tests.waiting import wait_until

DAMAGES = ("deleted", "set back", "of another type")
GOES_ON_S = 15.0
"""So soon all goes on again, on a machine with nothing else to do."""
ROWS = 25
LOAD = "load"
STRINGS = {"doctor", "content", "attempts", "asked"}
UNNAMED = {
    "ledger",
    "job",
    "number",
    "asked",
    "bound",
    "quota",
    "decision",
    "session",
    "outbox",
    "undelivered",
    "ends",
    "corrected",
}
"""The ledger is refused, a job is a dead letter, the others are met by whoever uses them next."""
UNUSED = {
    *("asked", "bound", "quota", "decision", "session", "outbox", "undelivered"),
    *("ends", "corrected"),
}
"""Nobody here uses them again; of `ends` another one, from the next ten minutes on."""
ASIDE = {
    *("quarantine", "doctor", "actions", "quotas", "spending", "refused", "vault_unknown"),
    *("tokens", "tokens_used", "users", "webhooks", "delivering", "webhook_queue"),
}
"""No code here depends on these, or on one another: a short run damages them together."""
_SPARE = "test:older copy of "

Target = Callable[["Damaging", str], str]
"""Names a key, with a batch that is just being sent."""


def _plain(name: str) -> Target:
    return lambda here, _: str(getattr(here.keys, name))


def _of_batch(name: str) -> Target:
    return lambda here, batch_id: str(getattr(here.keys, name)(batch_id))


def _due(lane: str) -> Target:
    return lambda here, _: here.keys.due(lane)


TARGETS: dict[str, Target] = {
    **{
        name: _plain(name)
        for name in (
            *("held", "watermark", "sweeps", "damage", "batches", "running", "dead_codes"),
            *(
                "dead_unknown",
                "totals",
                "account",
                "misses",
                "pace",
                "pace_ring",
                "workers",
                "connections",
                "refused",
            ),
            *("quarantine", "doctor", "ledger", "actions", "dead"),
            *("event_queue", "batch_queue", "webhook_queue"),
            *("quotas", "spending", "tokens", "tokens_used", "users", "webhooks", "delivering"),
            *("vault", "vault_unknown"),
        )
    },
    **{name: _of_batch(name) for name in ("batch", "rows", "cells", "counts", "open", "stopped")},
    **{f"due:{lane}": _due(lane) for lane in (*Lane, "aside")},
    "content": lambda here, batch_id: here.keys.content(f"digest of {batch_id}"),
    "job": lambda here, batch_id: here.keys.job(here.open_job(batch_id)),
    "number": lambda here, batch_id: number_key(here.ledger, here.phones(batch_id)[-1]),
    "asked": lambda here, _: here.any_key(here.keys.asked("*")),
    "quota": lambda here, _: here.any_key(here.keys.quota("*")),
    "decision": lambda here, _: here.keys.decision("1"),
    "sent": lambda here, _: here.any_key(here.keys.sent("*")),
    "session": lambda here, _: here.any_key(here.keys.session("*")),
    "outbox": lambda here, _: here.keys.outbox("shop"),
    "undelivered": lambda here, _: here.keys.undelivered("shop"),
    "attempts": lambda here, _: here.any_key(here.keys.attempts("*")),
    "ends": lambda here, _: here.any_key(here.keys.ends("*")),
    "corrected": _of_batch("corrected"),
    "bound": lambda here, _: here.any_key(here.keys.bound("*")),
}
"""By their names in jobs/keys.py; `unreadable` is only ever written, `ended` is a channel."""


@dataclass
class Damaging:
    """A ledger with workers, that is damaged again and again while it is at work."""

    redis: Redis
    settings: Settings
    sandbox: SandboxClient
    goes_on_s: float = GOES_ON_S
    keys: Keys = field(init=False)
    batches: Batches = field(init=False)
    mending: Mending = field(init=False)
    ledger: Ledger = field(init=False)
    _serial: Any = field(default_factory=count)
    _victims: dict[str, int] = field(default_factory=dict)
    """Batch id to the serial of its first number."""

    def __post_init__(self) -> None:
        self.keys = Keys(self.settings.sendcode_key_prefix)
        self.batches = Batches(self.redis, self.settings)
        self.mending = Mending(self.redis, self.settings)
        self.ledger = Ledger(self.redis, self.settings)

    def phones(self, batch_id: str) -> list[PhoneNumber]:
        first = self._victims[batch_id]
        return [PhoneNumber("852", f"5{first + n:07d}") for n in range(ROWS)]

    def open_job(self, batch_id: str) -> str:
        found: Any = self.redis.srandmember(self.keys.open(batch_id))
        return found or batch_job_id(batch_id, 1)

    def any_key(self, pattern: str) -> str:
        return str(next(iter(self.redis.scan_iter(pattern)), pattern))

    def add_load(self, chunks: int = 20, rate: float = 20) -> None:
        """Let a batch be sent all the while, slowly."""
        self.batches.open(LOAD, "digest of the load", ["phone"], max_rate=rate)
        for first in range(0, chunks * CHUNK_ROWS, CHUNK_ROWS):
            phones = (PhoneNumber("852", f"6{first + n:07d}") for n in range(CHUNK_ROWS))
            rows = [BatchRow(2, [], phone) for phone in phones]
            self.batches.append(LOAD, first, rows, last=first + CHUNK_ROWS == chunks * CHUNK_ROWS)

    def damage_each(self, damage: str) -> None:
        """Damage one key after the other; each time wait until all goes on."""
        for name in TARGETS:
            self.damage(name, damage)

    def damage(self, name: str, damage: str) -> None:
        """Damage one key; wait until all goes on."""
        self.damage_at_once({name: damage})

    def damage_at_once(self, damages: Mapping[str, str]) -> None:
        """Damage keys that have nothing to do with each other; wait until all goes on."""
        victim = self._new_victim()
        self._wait_sent(victim, 3)
        keys = {name: TARGETS[name](self, victim) for name in damages}
        for name, key in keys.items():
            if not self.redis.copy(key, _SPARE + name, replace=True):
                self.redis.delete(_SPARE + name)
        self._wait_sent(victim, 12)
        send_code("852", f"7{next(self._serial):07d}", settings=self.settings)

        for name, damage in damages.items():
            self._spoil(name, keys[name], damage)

        what = ", ".join(f"{name} {damage}" for name, damage in damages.items())
        # set back by a moment it is a failover's
        if damages.get("ledger", "set back") != "set back":
            wait_until(
                lambda: self._overview().ledger.refused, f"{what}: the refusal", self.goes_on_s
            )
            self.redis.rename(_SPARE + "ledger", keys["ledger"])
        before = self.sandbox.stats(numbers=False)["accepted"]
        wait_until(
            lambda: self.sandbox.stats(numbers=False)["accepted"] > before + 5,
            f"{what}: sending goes on",
            self.goes_on_s,
        )
        wait_until(lambda: self._is_over(victim), f"{what}: the end of {victim}", self.goes_on_s)
        for name, key in keys.items():
            if damages[name] == "of another type" and name not in UNNAMED:
                wait_until(partial(self._is_named, key), f"{what}: {key} is named", self.goes_on_s)
            if name in UNUSED:
                self.redis.delete(key)
        stats = self.sandbox.stats(numbers=False)
        most = most_allowed(stats, self.settings.sendcode_rate_limit)
        assert stats["most_in_any_second"] <= most, f"{what}: {stats}"
        try:
            wait_until(lambda: not self.mending.misfits(), f"{what}: all fits", self.goes_on_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {self.mending.misfits()}") from exc

    def check(self) -> None:
        """Hold what was sent against what the ledger says, once all has ended."""
        self.batches.steer(LOAD, "cancel")
        wait_until(lambda: not self._overview().in_work, "nothing is in work", self.goes_on_s)
        self.mending.mend()  # what `sendcode doctor --repair` does
        accepted = self.sandbox.stats()["accepted_per_number"]
        for batch_id in self._victims:
            for row, phone in enumerate(self.phones(batch_id), 1):
                record = self.ledger.job(batch_job_id(batch_id, row))
                codes = accepted.get(phone.country_code + phone.phone_num, 0)
                if record is None:  # it was deleted when it had ended
                    assert codes == 1, f"{batch_id}-{row} is lost"
                    continue
                assert record.state.is_sent or record.state is State.UNKNOWN, record
                assert codes == 1 or record.possible_duplicate or record.state is State.UNKNOWN, (
                    f"{codes} codes: {record}"
                )
        assert self.mending.misfits() == []

    def _new_victim(self) -> str:
        batch_id = f"v{len(self._victims)}"
        self._victims[batch_id] = len(self._victims) * ROWS
        self.batches.open(batch_id, f"digest of {batch_id}", ["phone"])
        self.batches.append(batch_id, 0, self._rows(batch_id), last=True)
        return batch_id

    def _rows(self, batch_id: str) -> list[BatchRow]:
        return [BatchRow(line, [], phone) for line, phone in enumerate(self.phones(batch_id), 2)]

    def _wait_sent(self, batch_id: str, rows: int) -> None:
        def sent() -> bool:
            batch = self.batches.get(batch_id)
            return batch is not None and batch.finished >= rows

        wait_until(sent, f"{rows} rows of {batch_id}", self.goes_on_s)

    def _is_over(self, batch_id: str) -> bool:
        """Whether a batch is over; does what `status` says that a person should do about it."""
        batch = self.batches.get(batch_id)
        if batch is None:
            return False
        if batch.rows_lost:
            assert f"rows of batch {batch_id} are lost" in self._told()
            with suppress(BatchGoneError):  # a worker is just mending it: submitted again soon
                self.batches.append(
                    batch_id, batch.total, self._rows(batch_id)[batch.total :], last=True
                )
        elif batch.state == "paused":
            assert f"batch {batch_id} was lost" in self._told()
            self.batches.steer(batch_id, "resume")
        return batch.is_over

    def _told(self) -> str:
        return "\n".join(each.what for each in self._overview().damage)

    def _is_named(self, key: str) -> bool:
        """Whether `status` names what was of another type."""
        try:
            seen = self._overview()
        except ResponseError:  # `status` names it in a line of its own, until a worker has seen it
            return False
        return any(key in each.what for each in seen.damage)

    def _overview(self) -> Any:
        return read_overview(self.redis, self.settings)

    def _spoil(self, name: str, key: str, damage: str) -> None:
        # a key set back was never away: a worker would call the ledger empty
        if damage == "set back" and self.redis.copy(_SPARE + name, key, replace=True):
            return
        is_string = name in STRINGS
        with self.redis.pipeline() as at_once:  # a worker may write the key anew in between
            at_once.delete(key)
            if damage == "of another type" and is_string:
                at_once.rpush(key, "no such thing")
            elif damage == "of another type":
                at_once.set(key, "no such thing")
            at_once.execute()
