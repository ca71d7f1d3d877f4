"""Producers, sweepers, several workers and an API in any order whatever, with deaths and replays.

The API here knows what it accepted, for which job and when; so every end that the ledger records
can be held against what was really sent. Time is made to pass by `Acts.let_pass`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Literal

import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from config.settings import Settings
from jobs.account import Account
from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import JobRecord, State
from jobs.keys import Keys
from jobs.ledger import Aftermath, Ending, Ledger, Pause, Tried
from tests.ledger_acts import DEFAULTS, REJECTED, Acts, number, row
from tests.ledger_checks import check_ledger

pytestmark = pytest.mark.settings(**DEFAULTS)

INTERVAL_MS = 60_000
MARGIN_MS = 12_000  # a slot a second away, twice the HTTP time-out, slack
MAX_ATTEMPTS = 4
BARRED = 3
"""The number that the API refuses for good."""

Answer = Literal["sent", "refused", "lost", "lost on the way", "throttled", "account"]
Draw = Callable[..., Any]
"""Chooses one of its arguments."""

QUICK = hypothesis_settings(
    max_examples=12,
    stateful_step_count=60,
    # making what failed smaller takes minutes: `HYPOTHESIS_SEARCH=1 pytest --timeout 0 …` does it
    phases=[Phase.explicit, Phase.generate],
)
SEARCH = hypothesis_settings(max_examples=2_000, stateful_step_count=60)
STEP_MS = 4_100
"""No multiple of it comes near a limit, so that a slow machine changes nothing."""
NUMBERS = (0, 0, 0, 1, BARRED)
MOST = 6
DICE = 16
ANSWERS: tuple[Answer, ...] = (
    "sent",
    "lost",
    "lost",
    "lost on the way",
    "lost on the way",
    "refused",
    "throttled",
    "account",
)
HAPPENINGS = (
    *("work",) * 14,
    *("time_passes",) * 5,
    *("die",) * 2,
    *("submit",) * 2,
    *("text_from_elsewhere", "cancel_one", "break_a_record"),
    *("open_batch", "steer", "halt_or_resume", "sweep", "lose_messages", "hand_back"),
)


class Api:
    """Accepts one code in an interval for each number, and remembers for which job it was."""

    def __init__(self) -> None:
        self.passed_ms = 0.0
        self.accepted: Counter[str] = Counter()
        self.texted: set[str] = set()
        """Numbers that somebody else texted, too."""
        self._last: dict[str, float] = {}

    def now_ms(self) -> float:
        return time.monotonic() * 1000 + self.passed_ms

    def text(self, phone_num: str) -> None:
        """Let somebody else, or a job that the ledger forgot, send a code to the number."""
        self._last[phone_num] = self.now_ms()
        self.texted.add(phone_num)

    def ask(self, job_id: str, phone_num: str) -> str:
        if phone_num == number(BARRED).phone_num:
            return "barred"
        last = self._last.get(phone_num)
        if last is not None and self.now_ms() - last <= INTERVAL_MS:
            return "too early"
        self._last[phone_num] = self.now_ms()
        self.accepted[job_id] += 1
        return "sent"


@dataclass
class Worker:
    """A thread that has a job's lease, or believes so."""

    record: JobRecord
    token: str
    tries: int
    attempts: int
    kind: str = ""
    """Of the call under way; empty if there is none."""
    left: Aftermath | None = None


class Machine(RuleBasedStateMachine):
    """See the module's docstring."""

    def __init__(self, acts: Acts, account: Account, policy: str) -> None:
        super().__init__()
        self.acts, self.account, self.policy = acts, account, policy
        self.api = Api()
        self.workers: list[Worker] = []
        self.ended: dict[str, str] = {}
        self.refused_early: set[str] = set()
        self.serial = 0
        self.seen = check_ledger(acts.redis, acts.keys)

    @rule(what=st.sampled_from(HAPPENINGS), dice=st.binary(min_size=DICE, max_size=DICE))
    def something_happens(self, what: str, dice: bytes) -> None:
        """Do something; chance was thrown before, so that a slow machine cannot change its throws.

        What comes next may depend on the time that the machine takes; hypothesis must not see that.
        """
        throws = cycle(dice)
        getattr(self, what)(lambda *choices: choices[next(throws) % len(choices)])

    # producers and people

    def submit(self, draw: Draw) -> None:
        if self.serial < MOST:
            self.serial += 1
            self.acts.event(draw(*NUMBERS), f"key {self.serial}")

    def open_batch(self, draw: Draw) -> None:
        if self.serial < MOST:
            self.serial += 1
            serials = [draw(*NUMBERS, -1) for _ in range(draw(0, 1, 2, 3))]
            rows: list[BatchRow] = [REJECTED if n < 0 else row(n) for n in serials]
            self.acts.batches.open(f"b{self.serial}", f"digest {self.serial}", ["cc", "num"])
            is_complete = draw(True, False)
            for _ in range(2):
                self.acts.batches.append(f"b{self.serial}", 0, rows, last=is_complete)

    def steer(self, draw: Draw) -> None:
        if self.seen.batches:
            batch_id = draw(*self.seen.batches)
            order = draw("pause", "resume", "resume", "cancel")
            for _ in range(2):
                self.acts.batches.steer(batch_id, order)

    def cancel_one(self, draw: Draw) -> None:
        rows = [
            f"{batch_id}-{n}"
            for batch_id, count in self.seen.rows.items()
            for n in range(1, count + 1)
        ]
        if job_ids := sorted({*self.seen.jobs, *rows}):
            self.acts.ledger.cancel(draw(*job_ids))

    def break_a_record(self, draw: Draw) -> None:
        """Damage the record of a job that has not ended, and let some worker meet it."""
        going_on = [j for j, job in self.seen.jobs.items() if not State(job["state"]).is_final]
        if going_on:
            job_id = draw(*sorted(going_on))
            self.workers = [each for each in self.workers if each.record.job_id != job_id]
            self.acts.redis.hset(self.acts.keys.job(job_id), draw("lane", "cc", "attempts"), "x")
            self.acts.claim(job_id)
            for _ in range(2):
                self.acts.ledger.set_aside(job_id)

    def halt_or_resume(self, draw: Draw) -> None:
        by = draw("api", "person")
        if draw(True, False, False):
            self.account.halt(by, "Some.Code", "words")
        else:
            self.account.resume(by)

    def text_from_elsewhere(self, draw: Draw) -> None:
        self.api.text(number(draw(*NUMBERS)).phone_num)

    # sweepers and time

    def sweep(self, _: Draw) -> None:
        self.acts.sweep()

    def lose_messages(self, _: Draw) -> None:
        self.acts.lose_messages()

    def time_passes(self, draw: Draw) -> None:
        """With sweeps and renewals going on, or Redis away all the time, or no worker alive."""
        for worker in [each for each in self.workers if each.kind]:
            # no call lasts so long: it has arrived or not, and its answer was waited for in vain
            self._answer(worker, draw("lost", "lost on the way"))
        steps, renewed = draw(1, 3, 4, 7, 10, 15), draw(True, False)
        if draw(True, True, False):
            for _ in range(steps):
                self._pass(STEP_MS)
                if renewed:
                    self._renew()
                self.acts.sweep()
        else:
            self._pass(steps * STEP_MS)
            if renewed:
                self._renew()

    def _pass(self, ms: int) -> None:
        self.acts.let_pass(ms)
        self.api.passed_ms += ms

    def _renew(self) -> None:
        self.acts.ledger.renew([(each.record.job_id, each.token) for each in self.workers])

    # workers

    def work(self, draw: Draw) -> None:
        """Let some worker, or a new one, do what comes next."""
        if not self.workers or draw(True, False, False):
            if ids := sorted(self.acts.published() or self.seen.jobs):
                self._claim(draw(*ids))
            return
        worker = self.workers[draw(*range(len(self.workers)))]
        if worker.kind:
            self._answer(worker, draw(*ANSWERS))
        else:
            self._begin(worker, twice=draw(True, False))

    def die(self, draw: Draw) -> None:
        if self.workers:
            worker = self.workers.pop(draw(*range(len(self.workers))))
            if worker.kind and draw(True, False):
                self.api.ask(worker.record.job_id, worker.record.phone.phone_num)

    def hand_back(self, draw: Draw) -> None:
        idle = [each for each in self.workers if not each.kind]
        if idle:
            worker = idle[draw(*range(len(idle)))]
            self._park(worker, 0, worker.left)

    # what must hold

    @invariant()
    def the_ledger_is_consistent(self) -> None:
        self.seen = check_ledger(self.acts.redis, self.acts.keys)
        for job_id, job in self.seen.jobs.items():
            if State(job["state"]).is_final:
                assert self.ended.setdefault(job_id, job["state"]) == job["state"]
            self._check_against_the_api(job_id, job)

    def teardown(self) -> None:
        """Whatever happened: with one good worker every job comes to its end."""
        self.account.resume("person")
        for batch_id in self.seen.batches:
            self.acts.batches.steer(batch_id, "resume")
            rows: Any = self.acts.redis.llen(self.acts.keys.rows(batch_id))
            if not self.acts.redis.hget(self.acts.keys.batch(batch_id), "imported"):
                self.acts.batches.append(batch_id, rows, [], last=True)
        self.workers.clear()
        for _ in range(200):
            self.the_ledger_is_consistent()
            is_over = all(
                batch["state"] in {"done", "cancelled"} for batch in self.seen.batches.values()
            )
            if is_over and all(State(job["state"]).is_final for job in self.seen.jobs.values()):
                return
            self._work_off()
        jobs = [each for each in self.seen.jobs.values() if not State(each["state"]).is_final]
        raise AssertionError(f"these never end: {jobs} {self.seen.batches}")

    def _work_off(self) -> None:
        for _ in range(3):
            self._pass(STEP_MS)
            self.acts.sweep()
        for job_id in sorted(self.acts.published()):
            self._claim(job_id)
            for worker in self.workers[:]:
                self._begin(worker, twice=False)
                if worker.kind:
                    self._answer(worker, "sent")

    # how a worker works

    def _claim(self, job_id: str) -> None:
        claim, token = self.acts.claim(job_id)
        if claim.verdict == "granted" and claim.record:
            record = claim.record
            assert self.acts.ledger.claim(record.job_id, token).verdict == "granted"
            self.workers.append(Worker(record, token, record.tries, record.attempts))

    def _begin(self, worker: Worker, *, twice: bool) -> None:
        tried = Tried(worker.left)
        job_id, number_of_try = worker.record.job_id, worker.tries + 1
        begun = self.acts.ledger.begin(job_id, worker.token, number_of_try, MARGIN_MS, tried)
        if twice:
            again = self.acts.ledger.begin(job_id, worker.token, number_of_try, MARGIN_MS, tried)
            assert again.kind == begun.kind
        worker.left = None
        if begun.kind in {"lost", "unknown", "over"}:
            self.workers.remove(worker)
        elif begun.kind == "wait":
            self._park(worker, begun.wait_ms, None)
        else:
            worker.tries += 1
            worker.attempts += 1
            worker.kind = begun.kind

    def _answer(self, worker: Worker, answer: Answer) -> None:
        """Let the call under way end in that way, and do what follows from it (reactions.py)."""
        kind, worker.kind = worker.kind, ""
        unsent = Aftermath(in_doubt=kind == "probe")
        got: str = answer
        if answer in {"refused", "throttled", "account"}:
            pass
        elif answer == "lost on the way":
            got = "lost"
        else:
            got = self.api.ask(worker.record.job_id, worker.record.phone.phone_num)
            got = "lost" if answer == "lost" else got
        if got == "sent":
            self._finish(worker, State.SENT, "closed")
        elif got == "barred":
            self._finish(worker, State.DEAD, "open")
        elif got == "too early" and kind in {"probe", "late"}:
            self._finish(worker, State.SENT_INFERRED, "closed")
        elif got == "too early":
            self.refused_early.add(worker.record.job_id)
            self._park(worker, INTERVAL_MS, unsent, "interval")
        elif got == "account":
            self._refused(worker, kind, unsent)
        elif got == "throttled":
            worker.attempts -= 1
            worker.left = replace(unsent, counts=False)
        elif worker.attempts < MAX_ATTEMPTS or (got == "lost" and kind != "probe"):
            worker.left = Aftermath(in_doubt=True) if got == "lost" else unsent
        elif got == "lost" or kind != "first":
            self._finish(worker, State.UNKNOWN, "keep")
        else:
            self._finish(worker, State.DEAD, "open")

    def _refused(self, worker: Worker, kind: str, unsent: Aftermath) -> None:
        job_id = worker.record.job_id
        for _ in range(2):
            refused = self.account.refuse(job_id, worker.tries, "Some.Code", "words")
        if refused != "alone":
            self._park(worker, 0, replace(unsent, counts=False))
        elif kind == "first":
            self._finish(worker, State.DEAD, "open")
        else:
            self._finish(worker, State.UNKNOWN, "keep")

    def _finish(
        self, worker: Worker, state: State, number: Literal["closed", "open", "keep"]
    ) -> None:
        self.workers.remove(worker)
        ending = Ending(state, "" if state is State.SENT else "Some.Code", "", "", number)
        done = [
            self.acts.ledger.finish(worker.record.job_id, worker.token, ending, Tried())
            for _ in range(2)
        ]
        assert done[0] == done[1]

    def _park(
        self,
        worker: Worker,
        wait_ms: int,
        left: Aftermath | None,
        reason: Literal["", "interval"] = "",
    ) -> None:
        self.workers.remove(worker)
        pause = Pause(wait_ms, "Some.Code", "", reason)
        done = [
            self.acts.ledger.park(worker.record.job_id, worker.token, pause, Tried(left))
            for _ in range(2)
        ]
        assert done[0] == done[1]

    def _check_against_the_api(self, job_id: str, job: dict[str, str]) -> None:
        accepted = self.api.accepted[job_id]
        assert accepted <= (1 if self.policy == "hold" else 2), (
            f"{job_id} went out {accepted} times"
        )
        if accepted > 1:
            assert job.get("dup") == "1", f"{job_id} went out twice, and nobody says so"
        if job["state"] == State.SENT and job_id in self.refused_early:
            assert job.get("dup") == "1", f"{job_id} may be the second code, and nobody says so"
        # to infer rests on nobody else texting the number
        if job["state"] == State.SENT or (
            job["state"] == State.SENT_INFERRED
            and self.acts.job(job_id).phone.phone_num not in self.api.texted
        ):
            assert accepted >= 1, f"{job_id} is {job['state']} and never went out"
        if job["state"] in {State.DEAD, State.CANCELLED, State.EXPIRED}:
            assert accepted == 0, f"{job_id} is {job['state']}, though it went out"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("policy", ["resend-once", "hold"])
def test_no_order_of_events_loses_doubles_or_misjudges_a_job(
    policy: str, redis: Redis, settings: Settings, keys: Keys
) -> None:
    world = settings.model_copy(update={"sendcode_ambiguous": policy})

    def make() -> Machine:
        redis.flushdb()
        acts = Acts(Ledger(redis, world), Batches(redis, world), redis, keys)
        return Machine(acts, Account(redis, world), policy)

    run_state_machine_as_test(
        make,  # type: ignore[arg-type]  # it takes whatever makes a machine
        settings=SEARCH if os.environ.get("HYPOTHESIS_SEARCH") else QUICK,
    )
