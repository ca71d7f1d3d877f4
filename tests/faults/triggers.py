"""Web, workers and Valkey killed under triggers: is what was accepted sent, and its backend told?

Backends send events over HTTP to two `sendcode web` processes, each with a key of its own, which
they repeat until it is answered; every fourth request repeats its neighbour's key meanwhile. Some
numbers are refused for good: a person requeues those jobs, so they end twice, and in what order
their webhook hears of it can be judged.
"""

from __future__ import annotations

import itertools
import random
import signal
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from jobs.deadletters import DeadLetter, DeadLetters, Decision
from jobs.job import JobRecord, State
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.webhooks import Webhooks
from producer.tokens import Tokens
from tests.faults import doomed
from tests.faults.audit import Asked, Findings, leftovers
from tests.faults.workers import Crew, crew
from tests.faults.world import QUICK, World
from tests.receiver import Received, Receiver
from tests.waiting import wait_until
from tests.web_process import WebProcess

sys.path.append(str(Path(__file__).parents[2] / "clients" / "python"))  # a wheel of its own
from sendcode_client import Client, NotAcceptedError, RefusedError

RATE = 200
"""Requests a second, as far as the machine can."""
CALLERS = 24
CALLER_S = 2.0
"""After which a caller turns to the other process, with the same key."""
KILL_EVERY_S = 1.5
SHARES = {"web": 0.4, "worker": 0.45, "Valkey": 0.15}
POINTS = (*doomed.POINTS, doomed.TOLD, "", "", "", "", "")
"""Where a worker dies; "": wherever it is."""
ARMED_S = 3.0
REST_S = 900.0
REFUSED_EVERY = 20
"""One number of so many is refused for good, and its job requeued once."""
FAILS_EVERY = 50
"""One webhook of so many is answered 500 the first time."""
TOKEN = "shop"


def phone_of(serial: int) -> PhoneNumber:
    """Return the number of a request's key."""
    if serial % REFUSED_EVERY == 0:
        return PhoneNumber("852", f"9901{serial // REFUSED_EVERY:04d}")
    return PhoneNumber("852", f"5{serial:07d}")


@dataclass
class Callers:
    """Backends that send `RATE` requests a second."""

    urls: list[str]
    token: str
    accepted: dict[int, str] = field(default_factory=dict)
    """Key's serial → job id, of all that were answered."""
    broken: list[str] = field(default_factory=list)
    answered: int = 0
    unanswered: int = 0
    """Requests without a 202 or 200 in the time that a caller has."""

    def __post_init__(self) -> None:
        self._serials = itertools.count(1)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no further request, and wait for the answers to those that are begun."""
        self._over.set()
        for thread in self._threads:
            thread.join(REST_S)
            assert not thread.is_alive(), "a request was not answered"

    def _run(self) -> None:
        clients = [Client(url, self.token, timeout=CALLER_S) for url in self.urls]
        while not self._over.wait(0):
            n = next(self._serials)
            self._over.wait(max(0.0, self._began + n / RATE - time.monotonic()))
            serial = n - 1 if n % 4 == 3 else n
            try:
                job_id = self._send(serial, clients[n % 2 :] + clients[: n % 2])
            except RefusedError as exc:
                self.broken.append(f"request {serial} was refused: {exc.status} {exc.code}")
                continue
            with self._lock:
                self.answered += 1
                if self.accepted.setdefault(serial, job_id) != job_id:
                    self.broken.append(f"one key, two jobs: {job_id}")

    def _send(self, serial: int, clients: list[Client]) -> str:
        phone = phone_of(serial)
        for client in itertools.cycle(clients):
            with suppress(NotAcceptedError):
                return client.send_code(
                    phone.country_code, phone.phone_num, key=f"signup-{serial}"
                ).job_id
            self.unanswered += 1
        raise AssertionError


class Person:
    """Requeues each dead letter once."""

    def __init__(self, world: World) -> None:
        self._dead = DeadLetters(world.redis, world.settings)
        self._seen: set[str] = set()
        self._pending: tuple[Decision, list[DeadLetter]] | None = None

    def requeue(self) -> int:
        """Requeue what is new; return how many that was. What fails is repeated the next time."""
        if self._pending is None:
            letters = [each for window in self._dead.walk() for each in window]
            new = [each for each in letters if each.job_id not in self._seen]
            self._pending = Decision("requeue", "all"), new[:100]
        decision, letters = self._pending
        if letters:
            self._dead.requeue(decision, letters)
        self._seen |= {each.job_id for each in letters}
        self._pending = None
        return len(letters)


@dataclass
class Killer:
    """Kills what is ready, in an order drawn by chance."""

    world: World
    webs: list[WebProcess]
    workers: Crew
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)

    def run(self, kills: int, meanwhile: Callable[[], object]) -> None:
        """Kill so many times, and do something else in between."""
        counts = {kind: round(share * kills) for kind, share in SHARES.items()}
        counts["worker"] += kills - sum(counts.values())
        plan = [kind for kind, count in counts.items() for _ in range(count)]
        self.chance.shuffle(plan)
        acts = {"web": self._kill_web, "worker": self._kill_worker, "Valkey": self._kill_valkey}
        for kind in plan:
            time.sleep(self.chance.uniform(0.5, 1.5) * KILL_EVERY_S)
            wait_until(acts[kind], f"a {kind} to kill")
            self.done[kind] += 1
            with suppress(redis.RedisError):
                meanwhile()

    def _kill_web(self) -> bool:
        web = self.chance.choice(self.webs)
        if is_ready := web.answers:
            web.kill()
        return is_ready

    def _kill_worker(self) -> bool:
        ready = [each for each in self.workers.workers.values() if each.is_ready]
        if not ready:
            return False
        worker, point = self.chance.choice(ready), self.chance.choice(POINTS)
        starts = worker.starts
        if point:
            worker.arm(point)
            with suppress(AssertionError):
                wait_until(lambda: worker.starts > starts, point, ARMED_S)
        if worker.starts == starts:
            worker.is_ready = False
            worker.signal(signal.SIGKILL)
        return True

    def _kill_valkey(self) -> bool:
        self.world.valkey.kill()
        time.sleep(self.chance.uniform(0, 0.5))
        self.world.valkey.start()
        return True


class Backend:
    """The webhook's end: what it was told of each job, in the order in which it was."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._failed: set[str] = set()
        receiver.answer = self._answer

    def _answer(self, one: Received) -> int:
        if zlib.crc32(one.id.encode()) % FAILS_EVERY or one.id in self._failed:
            return 204
        self._failed.add(one.id)
        return 500

    def told(self) -> dict[str, list[tuple[int, str]]]:
        """Return for each job the numbers of its outcomes, and their states."""
        found: dict[str, list[tuple[int, str]]] = {}
        for one in self._receiver.received:
            job_id, _, number = one.id.rpartition("_")
            found.setdefault(job_id, []).append((int(number), one.data["state"]))
        return found


def killed_under_triggers(kills: int, seed: int = 1) -> str:
    """Kill so many processes under requests; return in words what was seen.

    A 202 that a client received is worth one job with one final state, each ending reaches the
    webhook at least once and in order, and no number gets more codes than jobs, unless it says so.

    Raises:
        AssertionError: a promise was broken.
    """
    changes: dict[str, Any] = {"sendcode_webhook_private": True}
    with ExitStack() as stack:
        world = stack.enter_context(World(QUICK, **changes))
        receiver = stack.enter_context(Receiver())
        Webhooks(world.redis, world.settings).set(TOKEN, receiver.url)
        _, token = Tokens(world.redis, world.settings).new(TOKEN, ["send"])
        backend, person = Backend(receiver), Person(world)
        names = dict.fromkeys(("w1", "w2", "w3"), world.settings)
        workers = stack.enter_context(crew(names, world.folder, lambda *_: None))
        webs = [WebProcess(world, name) for name in ("web1", "web2")]
        workers.wait_ready()
        wait_until(lambda: all(web.answers for web in webs), "the web processes")
        began = time.monotonic()
        callers = Callers([web.url for web in webs], token)
        killer = Killer(world, webs, workers, random.Random(seed))
        killer.run(kills, person.requeue)
        callers.stop()
        seconds = time.monotonic() - began
        ledger = Ledger(world.redis, world.settings)
        webhooks = Webhooks(world.redis, world.settings)

        def at_rest() -> bool:
            return not (person.requeue() or leftovers(ledger) or webhooks.all()[0].waiting)

        wait_until(at_rest, "every job ended, its backend told", REST_S)
        seen = _audit(world, callers, backend.told())
        ended = set(workers.deaths) - {-signal.SIGKILL}
        assert not ended, f"a worker ended by itself: {dict(workers.deaths)}"
    kinds = ", ".join(f"{count} {kind}" for kind, count in killer.done.items())
    return (
        f"{kinds} killed under {callers.answered / seconds:.0f} requests/s answered "
        f"({callers.unanswered} repeated elsewhere): {seen}"
    )


def _audit(world: World, callers: Callers, told: dict[str, list[tuple[int, str]]]) -> str:
    ledger = Ledger(world.redis, world.settings)
    broken = list(callers.broken)
    found = {n: ledger.job(job_id) for n, job_id in callers.accepted.items()}
    in_ledger = sum(1 for _ in world.redis.scan_iter(ledger.keys.job("*"), count=1000))
    if in_ledger != len(found):
        broken.append(f"{in_ledger} jobs of {len(found)} keys")
    outcomes = 0
    for serial, job_id in callers.accepted.items():
        endings = 2 if serial % REFUSED_EVERY == 0 else 1
        if flaw := _flaw(found[serial], told.get(job_id, []), endings):
            broken.append(f"{job_id}: {flaw}")
        outcomes += endings
    ordinary = [
        (Asked(job_id, phone_of(serial)), found[serial])
        for serial, job_id in callers.accepted.items()
        if serial % REFUSED_EVERY
    ]
    findings = Findings()
    findings.add(ordinary, world.sandbox.stats()["accepted_per_number"])
    for what in ("lost", "doubled", "wrongly_inferred"):
        broken += [f"{what}: {job}" for job in getattr(findings, what)]
    assert not broken, f"{len(broken)} promises broken, such as {'; '.join(broken[:10])}"
    states = Counter(str(record.state) for record in found.values() if record)
    heard = sum(map(len, told.values()))
    return (
        f"{len(found)} jobs, {', '.join(f'{n} {state}' for state, n in sorted(states.items()))}, "
        f"{len(findings.possible_duplicate)} flagged as possible duplicates; "
        f"{outcomes} endings told in order, by {heard} webhooks"
    )


def _flaw(record: JobRecord | None, told: list[tuple[int, str]], endings: int) -> str:
    """Return what is wrong with a job's end, or with what its backend heard; "" if nothing."""
    if record is None or not record.state.is_final:
        return f"no final state: {record and record.state}"
    numbers = [number for number, _ in told]
    if numbers != sorted(numbers):
        return f"told out of order: {numbers}"
    if set(numbers) != set(range(1, endings + 1)):
        return f"told of outcomes {sorted(set(numbers))}, not of {endings}"
    states = dict(told)
    if any(states[number] != state for number, state in told):
        return f"an outcome with two states: {told}"
    if State(states[endings]) is not record.state:
        return f"told {states[endings]}, but it is {record.state}"
    return ""
