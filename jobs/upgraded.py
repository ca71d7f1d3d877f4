"""Whether all numbers of a ledger are sealed, so that none in the clear is believed.

Whoever forges a record can take back in Redis that the ledger is upgraded. So each process
remembers the ids of upgraded ledgers, its state file does (jobs/identity.py), and where one was, no
other is taken for one of an older release, unless a person accepted it: that is sealed, too.
"""

from __future__ import annotations

from typing import Any

import redis

from config.settings import Settings
from jobs.keys import Keys
from jobs.scripts import SEALED
from jobs.vault import SealedError, Vault

_remembered: dict[tuple[str, str], set[str]] = {}
"""Ids of upgraded ledgers, by the ledger's place and prefix."""


def upgraded_ids(settings: Settings) -> set[str]:
    """Return the ids of the upgraded ledgers that this process knows of here; may be added to."""
    place = (settings.redis.place, settings.sendcode_key_prefix)
    return _remembered.setdefault(place, set())


class Upgraded:
    """Knows whether the ledger is upgraded, whatever it says itself by now. Thread-safe."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._key = Keys(settings.sendcode_key_prefix).ledger
        self._vault = Vault(client, settings)
        self._ids = upgraded_ids(settings)

    def ask(self) -> bool:
        """Return whether all numbers are sealed: one round trip."""
        found: Any = self._client.hmget(self._key, "id", "upgraded", "approval")
        ledger_id, upgraded, approval = (str(each or "") for each in found)
        if int(upgraded or 1) >= SEALED:
            if ledger_id:
                self._ids.add(ledger_id)
            return True
        if not self._ids or ledger_id in self._ids:
            return bool(self._ids)
        return not self._is_approved(ledger_id, approval)

    def approve(self, ledger_id: str) -> str:
        """Return what lets a person's ledger be of an older release."""
        return self._vault.seal(b"", ledger_binding(ledger_id))

    def _is_approved(self, ledger_id: str, approval: str) -> bool:
        try:
            self._vault.open(approval, ledger_binding(ledger_id))
        except SealedError:
            return False
        return True


def ledger_binding(ledger_id: str) -> str:
    """Return what a person's approval of a ledger is bound to."""
    return f"ledger {ledger_id}"
