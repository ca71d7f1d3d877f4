"""Which ledger this is, and what this process and this machine remember of it.

An emptied, exchanged or older ledger looks healthy to a process that does not know it; what it has
forgotten would be sent twice. So each process remembers the ledger's id and its counter, a small
file remembers them for the next process, and the scripts refuse what contradicts that
(jobs/lua/shared/identity.lua, docs/decisions/0010), until a person accepts it.

Whoever can forge a record can also undo the mark in Redis that the ledger was upgraded, so that
numbers in the clear would be trusted. So the ids of upgraded ledgers are remembered, too; in the
place of one no other counts as one of an older release, unless a person accepted it. That
acceptance is sealed, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from config.settings import Settings
from jobs.actions import Action
from jobs.job import iso, iso_or_none
from jobs.keys import Keys
from jobs.phone import PhoneNumber
from jobs.scripts import LAPSE_S, READS, SEALED, LedgerPart, pairs
from jobs.vault import SealedError, Vault

_KEEP_EVERY_S = 1.0
_RECENT = 200 * LAPSE_S
"""Attempts remembered: those of a lapse at ten times the account's usual rate."""
UNSEALED = "unsealed"
_REASONS = {
    "empty": "it is empty, as if it was flushed or its server lost its data",
    "older": "it is an older copy",
    "foreign": "it is not the ledger that was here before",
    "damaged": "its key does not hold what it should",
    UNSEALED: "its numbers were sealed before and it says they are not: a backup of an older "
    "release, or somebody else changed it",
}
NEWER = "newer"
REMEDY = "put the right data back, or take what is there: sendcode ledger accept"


class LedgerRefusedError(Exception):
    """This is not the ledger that was here before: nothing was done. In one line: why, remedy."""


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a ledger holds about itself. Times are Unix milliseconds on Redis' clock."""

    now_ms: int = 0
    refused: str = ""
    """Why nothing may be sent: `empty`, `foreign`, `older`, `damaged`, `unsealed` or `newer`."""
    refused_ms: int | None = None
    known_ms: int | None = None
    """When the one that is remembered was alive last."""
    born_ms: int | None = None
    alive_ms: int | None = None
    accepted_ms: int | None = None
    is_disputed: bool = False
    """A worker remembers another ledger in this place, and sends nothing."""
    version: int = 1
    """Of its newest data."""
    file: str = ""
    """This machine's state file, where that is what the ledger contradicts."""

    @property
    def why(self) -> str:
        """Why it is refused, without a full stop."""
        refused = "the ledger is refused, and nothing is sent"
        if self.refused == NEWER:
            reads = f"this release of sendcode reads up to version {READS}"
            return f"{refused}: it has version {self.version}, and {reads}"
        lost = f"; the one known here was alive until {iso(self.known_ms)}" if self.known_ms else ""
        there = f", this one until {iso(self.alive_ms)}" if lost and self.alive_ms else ""
        return f"{refused}: {_REASONS[self.refused]}{lost}{there}"

    @property
    def remedy(self) -> str:
        if self.refused == NEWER:
            return "start the release that the other processes run (docs/upgrading.md)"
        if not self.file:
            return REMEDY
        return f"{REMEDY}; if this Redis is another one on purpose, remove {self.file}"

    def error(self) -> LedgerRefusedError:
        """Return the error with both, in one line."""
        return LedgerRefusedError(f"{self.why}: {self.remedy}")

    def as_dict(self) -> dict[str, Any]:
        return {
            "state": "refused" if self.refused else "known",
            "reason": self.refused or None,
            "refused_at": iso_or_none(self.refused_ms),
            "known_alive_at": iso_or_none(self.known_ms),
            "born_at": iso_or_none(self.born_ms),
            "alive_at": iso_or_none(self.alive_ms),
            "accepted_at": iso_or_none(self.accepted_ms),
            "disputed": self.is_disputed,
            "version": self.version,
        }


def state_file(settings: Settings) -> Path | None:
    """Name the file for a Redis and prefix in the user's state folder; None without one."""
    try:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # a user without a home
        return None
    place = f"{settings.redis.place} {settings.sendcode_key_prefix}"
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    return folder / "sendcode" / f"ledger-{name}.json"


class Identity(LedgerPart):
    """What one process knows of its ledger, and by `file` the next one. Thread-safe."""

    def __init__(self, client: redis.Redis, settings: Settings, file: Path | None = None) -> None:
        super().__init__(client, settings)
        self._file = file
        self._lock = threading.Lock()
        self._upgraded = upgraded_ids(settings)
        self._remembered, upgraded = _read(file)
        self._upgraded |= upgraded
        self._since = "file"
        self._kept_at = 0.0
        self.process = ""
        """The name under which a worker counts its attempts."""
        self._attempts = 0
        self._recent: deque[tuple[int, PhoneNumber]] = deque(maxlen=_RECENT)
        self.refusal: LedgerState | None = None
        """Why this process sends nothing, as far as it has noticed."""
        self.unkept = ""
        """Why the state file could not be written, if it could not."""

    @property
    def is_outdated(self) -> bool:
        """Whether this process is of a release that cannot read the ledger any more."""
        return self.refusal is not None and self.refusal.refused == NEWER

    @property
    def known(self) -> str:
        """What the scripts compare the ledger with; "" if nothing is known of it yet."""
        if not self._remembered:
            return ""
        sealed = "*" if self._remembered.partition(" ")[0] in self._upgraded else ""
        return f"{self._remembered} {self.process or '-'} {self._attempts} {self._since}{sealed}"

    def work(self) -> None:
        """Count attempts from now on: this process is a worker."""
        self.process = secrets.token_hex(6)

    def remember(self, ledger: str) -> None:
        """Remember what a script replied about the ledger, here and every second on disk."""
        now = time.monotonic()
        with self._lock:
            self.refusal = None
            self._remembered, self._since = ledger, "here"
            if self._file is None or now < self._kept_at + _KEEP_EVERY_S:
                return
            self._kept_at = now
        self._keep(self._file, ledger)

    def attempted(self, number: int, phone: PhoneNumber) -> None:
        """Remember an attempt, the process' `number`-th."""
        with self._lock:
            self._attempts = max(self._attempts, number)
            self._recent.append((number, phone))

    def flag_forgotten(self, known: int) -> int:
        """Flag the attempts beyond the `known` ones that the ledger knows; return their number.

        It is another primary than before, which did not have them yet.
        """
        with self._lock:
            lost = [phone for number, phone in self._recent if number > known]
        vault, numbers = Vault(self.client, self.settings), []
        for phone in lost:
            index = vault.index(phone.country_code, phone.phone_num)
            numbers += [phone.country_code, f"{index}:"]
        self.run_script(
            "identify",
            numbers,
            known=self.known,
            verb="lost",
            process=self.process,
            attempts=self._attempts,
        )
        return len(lost)

    def ask(self) -> LedgerState:
        """Ask the ledger who it is; one that is not refused is remembered."""
        reply = self.run_script("identify", known=self.known, verb="ask")
        values = pairs(reply[1])
        # a user who may do too little makes half a ledger
        if not reply[0] and {"id", "counter", "at"} <= values.keys():
            if int(values.get("upgraded") or 1) >= SEALED:
                self._upgraded.add(values["id"])
            self.remember(f"{values['id']} {values['counter']} {values['at']}")
        return self._state(reply)

    def check(self) -> None:
        """Ask, before something is done that the next commands rely on.

        Raises:
            LedgerRefusedError: nothing may be sent.
        """
        state = self.ask()
        if state.refused:
            raise self.refuse(state)

    def refuse(self, state: LedgerState | None = None) -> LedgerRefusedError:
        """Note that the ledger is refused, and return the error that says why."""
        self.refusal = state or self.ask()
        if not self.refusal.refused:  # accepted just now
            return LedgerRefusedError("the ledger was refused until just now: try again")
        return self.refusal.error()

    def accept(self, flag_hours: float, reason: str = "") -> LedgerState:
        """Take the ledger as it is; return what it was until then."""
        about = f"flagged for {flag_hours:g} h"
        action = Action(what="ledger accept", about=about, reason=reason)
        ledger_id, vault = secrets.token_hex(8), Vault(self.client, self.settings)
        reply = self.run_script(
            "identify",
            known=self.known,
            verb="accept",
            action=action.encode(vault),
            id=ledger_id,
            approval=vault.seal(b"", approval_binding(ledger_id)),
            flag_ms=round(flag_hours * 3_600_000),
        )
        return self._state(reply)

    def _state(self, reply: Any) -> LedgerState:
        refused, values, now_ms = reply[0], pairs(reply[1]), int(reply[2])

        def number(name: str) -> int | None:
            return int(values[name]) if name in values else None

        from_file = refused == "foreign" and "refused" not in values and self._since == "file"
        own = self._remembered.split() if from_file else []
        return LedgerState(
            now_ms=now_ms,
            refused=refused,
            refused_ms=number("refused_at"),
            known_ms=int(own[2]) if own else number("known_at"),
            born_ms=number("born"),
            alive_ms=number("at"),
            accepted_ms=number("accepted"),
            is_disputed="claimed" in values,
            version=number("version") or 1,
            file=str(self._file) if from_file else "",
        )

    def _keep(self, file: Path, ledger: str) -> None:
        kept = {
            "redis": self.settings.redis.place,
            "prefix": self.settings.sendcode_key_prefix,
            "seen": ledger,
            "upgraded": sorted(self._upgraded | _read(file)[1]),
        }
        draft = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_text(json.dumps(kept), encoding="utf-8")
            draft.replace(file)
            self.unkept = ""
        except OSError as exc:
            self.unkept = f"{file} cannot be written ({(exc.strerror or 'failed').lower()})"
            with suppress(OSError):
                draft.unlink(missing_ok=True)


_ids_of_upgraded: dict[tuple[str, str], set[str]] = {}
"""By the ledger's place and prefix."""


def upgraded_ids(settings: Settings) -> set[str]:
    """Return the ids of the upgraded ledgers that this process knows of here; may be added to."""
    return _ids_of_upgraded.setdefault((settings.redis.place, settings.sendcode_key_prefix), set())


def is_upgraded(client: redis.Redis, settings: Settings) -> bool:
    """Return whether all numbers are sealed, whatever the ledger says by now: one round trip."""
    found: Any = client.hmget(
        Keys(settings.sendcode_key_prefix).ledger, "id", "upgraded", "approval"
    )
    ledger_id, upgraded, approval = (str(each or "") for each in found)
    known = upgraded_ids(settings)
    if int(upgraded or 1) >= SEALED:
        if ledger_id:
            known.add(ledger_id)
        return True
    if not known or ledger_id in known:
        return bool(known)
    try:
        Vault(client, settings).open(approval, approval_binding(ledger_id))
    except SealedError:
        return True
    return False


def approval_binding(ledger_id: str) -> str:
    """Return what a person's approval of a ledger, whatever its release, is bound to."""
    return f"ledger {ledger_id}"


def _read(file: Path | None) -> tuple[str, set[str]]:
    """Return what was kept, "" if nothing was that can be read; and ids of upgraded ledgers."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8")) if file else {"seen": ""}
        ledger, upgraded = kept["seen"], {str(each) for each in kept.get("upgraded", ())}
        _, counter, at = ledger.split() if ledger else ("", "0", "0")
        return (str(ledger), upgraded) if counter.isdecimal() and at.isdecimal() else ("", upgraded)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", set()
