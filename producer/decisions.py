"""What a person is about to do with dead letters, in three steps: preview, confirm, do.

Each decision is a hash in the ledger for a day, so that any browser finds it again, and a long one
can be continued after a stop or the end of its process. It covers only what had failed when the
preview began: a job that it tried again and that failed anew is not tried twice, however often the
form is sent.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import redis
from pydantic import TypeAdapter

from config.logging import fields
from config.settings import Settings
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision, Verb
from jobs.phone import PhoneNumber
from jobs.scripts import LedgerPart, time_ms
from jobs.vault import Vault, text_binding
from producer.deadletters import (
    Choice,
    Handling,
    Progress,
    Report,
    Why,
    drop,
    half_rate,
    replace_number,
    requeue,
)
from producer.second_codes import Memory

log = logging.getLogger("sendcode.decisions")

KEPT_S = 86_400
MOST_NUMBERS = 1_000
"""Corrected numbers that wait for a confirmation."""
NUMBER_KEPT_S = 3_600
SILENT_MS = 15_000
"""A process at work on a decision says so with each window; after that long it is gone."""

_HOUR_MS = 3_600_000
AGES = {
    "hour": (_HOUR_MS, None),
    "day": (24 * _HOUR_MS, None),
    "week": (7 * 24 * _HOUR_MS, None),
    "older": (None, 24 * _HOUR_MS),
    "oldest": (None, 7 * 24 * _HOUR_MS),
}
"""How long ago it failed: at most, at least."""
MAY_BE_OVERRIDDEN = frozenset(
    {Why.PERHAPS_SENT, Why.SENT_SINCE, Why.SENT_BEFORE, Why.WAITS_ELSEWHERE}
)
"""Reasons that a person who knows that no code has come may override."""


class Step(StrEnum):
    """How far a decision is."""

    LOOKING = "looking"
    """Finding out what it would do."""
    READY = "ready"
    """That is known, and a person may confirm it."""
    DOING = "doing"
    STOPPED = "stopped"
    """By a person, or because its process ended: it may be continued."""
    DONE = "done"


class NoSuchDecisionError(Exception):
    """There is no decision with that token, or it is too old."""


class NumberForgottenError(Exception):
    """A corrected number is kept in its process alone, which was restarted since."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is decided."""

    verb: Verb
    choice: Choice
    reason: str = ""
    may_send_twice: bool = False
    new_number: str = ""
    """Masked: the corrected one, for `replace`."""


_PLAN = TypeAdapter(Plan)


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan, and how far it is."""

    token: str
    plan: Plan
    step: Step
    run: int
    """How often it was started; a confirmation names this, so repeating it starts nothing."""
    looked: int
    """Dead letters gone through, of `total`."""
    total: int
    would: Report
    """What it would do, as the preview found."""
    report: Report
    """What it has done."""


class _Stopped(Exception):  # noqa: N818 (no error)
    pass


class Decisions(LedgerPart):
    """The decisions of one process, in threads of their own; those of others can be read."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, settings)
        self._now = now
        self._vault = Vault(client, settings)
        self._numbers: OrderedDict[str, tuple[PhoneNumber, float, str]] = OrderedDict()
        """The corrected numbers, the oldest first, each with the time until which it is kept, and
        who typed it."""
        self._at_work: dict[str, threading.Thread] = {}
        self._is_closing = threading.Event()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Stop all that are at work here: they can be continued."""
        self._is_closing.set()
        with self._lock:
            at_work = list(self._at_work.values())
        for thread in at_work:
            thread.join()

    def propose(self, plan: Plan, phone: PhoneNumber | None = None, by: str = "") -> str:
        """Begin to preview a plan; return the decision's token.

        `phone`: the corrected number, for `replace`; `by`: who typed it.
        """
        token = secrets.token_hex(8)
        dead = DeadLetters(self.client, self.settings)
        until_ms = plan.choice.until_ms
        now_ms = dead.now_ms()
        choice = replace(
            plan.choice, until_ms=now_ms if until_ms is None else min(now_ms, until_ms)
        )
        plan = replace(plan, choice=choice, new_number=phone.masked if phone else "")
        if phone is not None:
            with self._lock:
                self._numbers[token] = phone, self._now() + NUMBER_KEPT_S, by
            self._forget_numbers()
        total = len(choice.job_ids) or dead.count()
        sealed = self._vault.seal_text(plan.reason, text_binding("decision", token))
        kept = _PLAN.dump_json(replace(plan, reason=sealed))
        self._note(token, plan=kept, total=total, step=Step.LOOKING, looked=0)
        self._start(token, plan, Report(dry_run=True), by="")
        return token

    def get(self, token: str) -> Decided:
        """Return a decision.

        Raises:
            NoSuchDecisionError: there is none.
        """
        values: Any = self.client.hgetall(self.keys.decision(token))
        if "plan" not in values or "step" not in values:
            raise NoSuchDecisionError(token)
        step = Step(values["step"])
        now_ms = time_ms(self.client.time())
        is_silent = now_ms - int(values.get("beat", 0)) > SILENT_MS
        if step in {Step.LOOKING, Step.DOING} and is_silent:
            step = Step.STOPPED
        plan = _PLAN.validate_json(values["plan"])
        reason = self._vault.open_text(plan.reason, text_binding("decision", token))
        return Decided(
            token,
            replace(plan, reason=reason),
            step,
            sum(name.startswith("run:") for name in values),
            int(values.get("looked", 0)),
            int(values.get("total", 0)),
            _report(values, "would"),
            _report(values, "report"),
        )

    def do(self, token: str, run: int, by: str) -> None:
        """Start a decision, or continue it, unless run `run` was started already.

        Raises:
            NoSuchDecisionError: there is none.
            NumberForgottenError: its corrected number must be given again.
        """
        decided = self.get(token)
        may_begin = decided.step is Step.READY or (decided.step is Step.STOPPED and run > 0)
        if not may_begin or run != decided.run:
            return
        if decided.plan.verb == "replace" and self.number_of(token) is None:
            raise NumberForgottenError(token)
        if not self.client.hsetnx(self.keys.decision(token), f"run:{run}", by):
            return
        self._note(token, step=Step.DOING, looked=0)
        report = decided.report
        report.refused.clear()  # the walk begins anew, and meets them again
        self._start(token, decided.plan, report, by, run)

    def number_of(self, token: str, typed_by: str | None = None) -> PhoneNumber | None:
        """Return the corrected number, if this process has it and a given `typed_by` typed it."""
        self._forget_numbers()
        with self._lock:
            phone, _, by = self._numbers.get(token, (None, 0, ""))
        return phone if typed_by is None or (by and by == typed_by) else None

    def _forget_numbers(self) -> None:
        """Forget those whose time is over, and the oldest where there are too many."""
        with self._lock:
            while self._numbers:
                token, (_, until, _) = next(iter(self._numbers.items()))
                if len(self._numbers) <= MOST_NUMBERS and self._now() < until:
                    return
                del self._numbers[token]

    def stop(self, token: str, run: int) -> None:
        """Stop a run before its next window, whichever process it is in."""
        if self.client.exists(self.keys.decision(token)):
            self.client.hset(self.keys.decision(token), f"stop:{run}", 1)

    def wait(self, token: str, timeout_s: float) -> None:
        """Wait for a short one that is at work here."""
        with self._lock:
            thread = self._at_work.get(token)
        if thread is not None:
            thread.join(timeout_s)

    def _start(self, token: str, plan: Plan, report: Report, by: str, run: int = -1) -> None:
        arguments = (token, plan, report, by, run)
        thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        with self._lock:
            self._at_work[token] = thread
        thread.start()

    def _run(self, token: str, plan: Plan, report: Report, by: str, run: int) -> None:
        name = "would" if report.dry_run else "report"

        def progress(looked: int) -> None:
            document = json.dumps(report.as_dict())
            self._note(token, looked=looked, **{name: document})
            is_stop_asked: Any = self.client.hget(self.keys.decision(token), f"stop:{run}")
            if is_stop_asked or self._is_closing.is_set():
                raise _Stopped

        step = Step.STOPPED
        try:
            report = self._act(token, plan, report, by, progress)
            step = Step.READY if report.dry_run else Step.DONE
        except _Stopped:
            pass
        except Exception as exc:  # noqa: BLE001 (its text may hold a number)
            what = fields(decision=token, error=type(exc).__name__)
            log.error("a decision about dead letters failed", extra=what)  # noqa: TRY400
        if step is Step.DONE:
            with self._lock:
                self._numbers.pop(token, None)
        with suppress(redis.RedisError):  # it counts as stopped when it has been silent for a while
            self._note(token, step=step, **{name: json.dumps(report.as_dict())})
        with self._lock:  # it may have been begun again since
            if self._at_work.get(token) is threading.current_thread():
                del self._at_work[token]

    def _act(self, token: str, plan: Plan, report: Report, by: str, progress: Progress) -> Report:
        dead, choice = DeadLetters(self.client, self.settings), plan.choice
        decision = Decision(plan.verb, str(choice), plan.reason, token, by)
        batch = None
        if choice.batch_id is not None:
            batch = Batches(self.client, self.settings).get(choice.batch_id)
        how = Handling(
            may_send_twice=plan.may_send_twice,
            per_second=None if choice.job_ids else half_rate(self.settings, batch),
            dry_run=report.dry_run,
            reason=plan.reason,
            memory=Memory(self.client, self.settings),
        )
        if plan.verb == "replace":
            phone, job_id = self._numbers[token][0], choice.job_ids[0]
            decision = replace(decision, chosen=f"job {job_id}")  # as the command line records it
            return replace_number(dead, job_id, phone, how, decision)
        act = drop if plan.verb == "drop" else requeue
        return act(dead, choice, how, progress, decision=decision, report=report)

    def _note(self, token: str, **values: Any) -> None:
        key = self.keys.decision(token)
        now_ms = time_ms(self.client.time())
        fields_kept: dict[Any, Any] = {**values, "beat": now_ms}
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(key, mapping=fields_kept)
        pipe.expire(key, KEPT_S)
        pipe.execute()


def _report(values: Mapping[str, str], name: str) -> Report:
    return Report.from_dict(json.loads(values[name])) if name in values else Report(name == "would")
