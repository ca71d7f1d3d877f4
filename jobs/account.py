"""Whether the account's sending goes on, and who halted it: the API's answers, or a person."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from typing import Any, Literal

import redis

from config.settings import Settings
from jobs.actions import Action, somebody
from jobs.codes import concerned_by
from jobs.job import State, iso_or_none
from jobs.scripts import LedgerPart
from jobs.vault import HALT, Vault, sealed_in

OUTAGE_MISSES = 40
OUTAGE_SECONDS = 2.0
"""An outage: so many calls in a row without an answer, or as many as the full rate makes in so
many seconds."""
OUTDATED, WEBHOOKS = "outdated", "webhooks"
"""Why a worker sends no codes: its release cannot read the ledger, or it takes webhooks alone."""
_IDLE = re.compile(r"/[0-9a-f]+\.([a-z]*[g-z][a-z]*)$")
_TEXTS = ("by", "code", "message", "worker", "job", "canary")


@dataclass(frozen=True, slots=True)
class AccountState:
    """`by` is `api` (a canary job tries from time to time) or `person`; the rest is why."""

    state: Literal["running", "halted"] = "running"
    by: str = ""
    code: str = ""
    message: str = ""
    worker: str = ""
    """The worker that got this answer from the API."""
    since_ms: int | None = None
    """When the trouble began; a halt that was lifted only for a moment keeps its time."""
    canary_s: float = 0.0
    """How often the canary tries, by this machine's settings."""
    job: str = ""
    """The job that it was answered about; empty in an outage."""
    canary: str = ""
    """The job that tried last whether the halt is over."""

    def as_dict(self) -> dict[str, Any]:
        texts = {name: getattr(self, name) or None for name in _TEXTS}
        return {"state": self.state, **texts, "since": iso_or_none(self.since_ms)}


Refused = Literal["halted now", "halted", "stood down", "outdated", "suspect", "alone"]
"""Whom it concerns that the account may not send: all (then the sending is halted), this worker
(`stood down`; `outdated` if it has replaced the credentials since), or perhaps (`suspect`) or
surely (`alone`) the one job that was answered so while others were sent."""


def sends_nothing(entry: str) -> str:
    """Return why a worker sends no codes (`OUTDATED`, `WEBHOOKS`), by its entry; "" if it does."""
    found = _IDLE.search(entry)
    return found[1] if found else ""


class Account(LedgerPart):
    """Halts and resumes all sending. Jobs are kept meanwhile, and none loses an attempt."""

    def __init__(self, client: redis.Redis, settings: Settings, worker: str = "") -> None:
        """Bind it to a client; `worker` is this worker's entry in the ledger (`Presence.entry`)."""
        super().__init__(client, settings)
        self.entry = worker
        self._worker = worker.partition("/")[0]
        self.stood_down = ""
        """What the API refuses of this worker alone, or what keeps it from reaching the API, while
        it takes no work for that."""
        self.refused = ""
        """What the API refuses of this worker, if perhaps of all others, too."""
        self._lock = threading.Lock()
        self._is_announced = False
        self._outage = max(OUTAGE_MISSES, round(OUTAGE_SECONDS * settings.sendcode_rate_limit))
        self._canary_s = settings.sendcode_canary_interval

    def state(self) -> AccountState:
        values: Any = self.client.hgetall(self.keys.account)
        if values.get("state") != "halted":
            return AccountState()
        texts = {name: values.get(name, "") for name in _TEXTS}
        if texts["by"] == "person" and sealed_in(texts["message"]):
            vault = Vault(self.client, self.settings)
            texts["message"] = vault.open_text(texts["message"], HALT)
        since_ms = int(values.get("since", 0)) or None
        return AccountState("halted", since_ms=since_ms, canary_s=self._canary_s, **texts)

    def halt(
        self, by: Literal["api", "person"], code: str, message: str, *, who: str | None = None
    ) -> bool:
        """Halt all sending. Return True if this call did it, False if it was halted like that.

        `who`: the person, if it is not the one whose process this is.
        """
        action = self._action(by, who, what="halt", reason=message)
        if by == "person":
            message = Vault(self.client, self.settings).seal_text(message, HALT)
        about = {"code": code, "message": message, "worker": self._worker}
        return bool(self.run_script("halt", verb="halt", by=by, action=action, **about))

    def refuse(
        self, job_id: str, tries: int, code: str, message: str, fingerprint: str = ""
    ) -> Refused:
        """Note that the API answered a job's `tries`-th call that the account may not send.

        `fingerprint`: of the credentials of that call, which the worker may have replaced since.
        """
        process, _, _ = self.entry.rpartition(".")
        entry = f"{process}.{fingerprint}" if process and fingerprint else self.entry
        refused: Refused = self.run_script(
            "refuse",
            id=job_id,
            tries=tries,
            code=code,
            message=message,
            worker=self._worker,
            concerns=concerned_by(code),
            entry=entry,
        )
        if refused == "stood down":
            if entry != self.entry:
                return "outdated"
            self.stood_down = self.refused = self.stood_down or code
        return refused

    def stand(
        self, cut_off: tuple[str, str] | None = None
    ) -> Literal["working", "stood down", "halted", "halted now"]:
        """Return whether this worker may take work; note it in `refused` and `stood_down`.

        `cut_off`: code and message of what keeps it from reaching the API, while others do.

        Where no other is left to go on it may: all sending is halted then, and canaries try.
        """
        found = ""
        if cut_off:
            code, message = cut_off
            found = json.dumps({"code": code, "message": message, "worker": self._worker})
        standing, *why = self.run_script("stand", entry=self.entry, cut_off=found)
        self.refused = json.loads(why[0])["code"] if why else ""
        self.stood_down = self.refused if standing == "stood down" else ""
        if not self.stood_down:
            self._is_announced = False
        return standing  # type: ignore[no-any-return]  # of the script

    def announce(self) -> bool:
        """Return True to the first who asks since this worker stood down."""
        with self._lock:
            is_first, self._is_announced = not self._is_announced, True
            return is_first

    def record_miss(self, code: str, message: str) -> Literal["going on", "halted", "halted now"]:
        """Count a call that got no usable answer; enough of them in a row halt the sending.

        Return "halted now" to the one call that halted it.
        """
        sending: Literal["going on", "halted", "halted now"] = self.run_script(
            "miss",
            code=code,
            message=message,
            outage=self._outage,
            worker=self._worker,
        )
        return sending

    def codes_sent(self) -> int:
        """Return how many codes were sent so far, by all workers."""
        totals: Any = self.client.hmget(self.keys.totals, State.SENT, State.SENT_INFERRED)
        return sum(int(each or 0) for each in totals)

    def clear_misses(self) -> None:
        """Forget the misses: the API answers, if only by a refusal. A code sent ends them, too."""
        self.client.delete(self.keys.misses)

    def resume(
        self,
        by: Literal["api", "person"],
        left_ms: int = 0,
        *,
        reason: str = "",
        who: str | None = None,
    ) -> bool:
        """Resume sending. Return whether it was halted; an API success undoes no person's halt.

        `left_ms`: when the request left whose answer it is, on Redis' clock, if not the canary's.
        It proves nothing about a halt that began later.
        """
        action = self._action(by, who, what="resume", reason=reason)
        return bool(self.run_script("halt", verb="resume", by=by, action=action, left_ms=left_ms))

    def _action(self, by: str, who: str | None, *, what: str, reason: str) -> str:
        if by == "api":
            return ""
        vault = Vault(self.client, self.settings)
        return Action(what=what, reason=reason, by=who or somebody()).encode(vault)
