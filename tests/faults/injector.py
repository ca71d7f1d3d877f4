"""Injects faults, seeded: what, where and in which order is decided before the first."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

import redis

from config import QUEUES
from tests.faults.recovery import Recoveries
from tests.faults.workers import Crew, Worker
from tests.faults.world import World

ANYWHERE = "SIGKILL anywhere"
FREEZE_SHORT = "SIGSTOP, shorter than the lease"
FREEZE_LONG = "SIGSTOP, longer than the lease"
FREEZE_OUT = "SIGSTOP, longer than the interval"
DEPLOY = "SIGTERM, started again"
REDIS_KILL = "Redis SIGKILLed, started again on its AOF"
REDIS_GONE = "Redis gone for longer than the interval"
REDIS_FROZEN = "Redis SIGSTOPped for a while"
REDIS_STUCK = "Redis SIGSTOPped for longer than its clients wait"
RESET_REDIS = "connections to Redis reset"
RESET_API = "connections to the API reset"
HALF_OPEN_REDIS = "connections to Redis half-open"
HALF_OPEN_API = "connections to the API half-open"
DEAF_API = "answers of the API lost on the way"
LATENCY = "latency of 50 to 300 ms"
GARBAGE = "garbage messages"
QUEUES_DELETED = "queues deleted by hand"
IMPORTER = "importing producer SIGKILLed"

DETOUR = "detour"
"""The worker whose network fails."""

PER_100_KILLS = {
    FREEZE_SHORT: 3,
    FREEZE_LONG: 4,
    FREEZE_OUT: 1,
    DEPLOY: 3,
    REDIS_KILL: 4,
    REDIS_FROZEN: 3,
    RESET_REDIS: 6,
    RESET_API: 6,
    HALF_OPEN_REDIS: 2,
    HALF_OPEN_API: 2,
    DEAF_API: 2,
    LATENCY: 3,
    GARBAGE: 6,
    QUEUES_DELETED: 4,
}
"""Other faults for every hundred SIGKILLs of workers. A Redis away for too long comes twice."""

MIN_UP = 3
"""Workers that must be up and well before one is harmed: a fleet of corpses proves little."""
STUCK_S = 5.5
"""Clients wait for an answer for 5 s: what they gave up is applied all the same, late."""
ARMED_S = 3.0
"""How long a worker may take to pass the point at which it is to die, before it is just killed."""
_GARBAGE = (
    "\x00\xff not a message",
    '{"half": ',
    "[]",
    '{"body": "gASVCgAAAAAAAACMBGV4aXSULg==", "content-type": "application/x-python-serialize", '
    '"content-encoding": "binary", "headers": {"task": "send_code", "id": "x"}, "properties": '
    '{"delivery_tag": "garbage", "body_encoding": "base64"}}',
    '{"body": "W10=", "content-type": "application/json", "headers": {"task": "nobody.knows", '
    '"id": "y"}, "properties": {"delivery_tag": "stranger", "body_encoding": "base64"}}',
    '{"body": "' + "A" * 200_000 + '"}',
    "[" * 5_000 + "]" * 5_000,
)


def plan(kills: int, points: Sequence[str], chance: random.Random, *, plain: bool) -> list[str]:
    """Return the faults in the order in which they come. A third of the kills come anywhere."""
    faults = [ANYWHERE] * (kills // 3)
    faults += list(itertools.islice(itertools.cycle(points), kills - len(faults)))
    if not plain:
        for kind, per_100 in PER_100_KILLS.items():
            faults += [kind] * max(1, round(per_100 * kills / 100))
    chance.shuffle(faults)
    if not plain:
        faults.insert(len(faults) // 2, REDIS_GONE)
        faults.insert(len(faults) // 4, REDIS_STUCK)
    return faults


class Injector:
    """Carries out a plan step by step; call `turn` often, from one thread."""

    def __init__(
        self,
        world: World,
        crew: Crew,
        recoveries: Recoveries,
        faults: Sequence[str],
        chance: random.Random,
    ) -> None:
        self.done: Counter[str] = Counter()
        self._world = world
        self._crew = crew
        self._recoveries = recoveries
        self._faults = list(reversed(faults))
        self._chance = chance
        self._planned = len(faults)
        self._undo: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._armed: dict[str, tuple[float, int]] = {}
        self._busy: set[str] = set()

    @property
    def progress(self) -> float:
        """The share of the plan that is done, 0 to 1."""
        return 1 - len(self._faults) / self._planned if self._planned else 1.0

    @property
    def is_over(self) -> bool:
        return not self._faults and not self._armed and not self._undo

    def turn(self, share: float) -> None:
        """Undo what is over; inject the next fault if less than `share` of the plan is done."""
        now = time.monotonic()
        while self._undo and self._undo[0][0] <= now:
            heapq.heappop(self._undo)[2]()
        self._finish_off(now)
        if self._faults and self.progress < share and self._inject(self._faults[-1]):
            self._faults.pop()

    def stop(self) -> None:
        """Undo everything now."""
        while self._undo:
            heapq.heappop(self._undo)[2]()

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        heapq.heappush(self._undo, (time.monotonic() + seconds, next(self._ticket), undo))

    def _inject(self, kind: str) -> bool:
        """Return False if it cannot be done just now."""
        act = self._acts().get(kind)
        if act is not None:
            done = act()
        elif kind in _NETWORK:
            done = self._break_network(kind)
        else:
            done = self._with_worker(lambda worker: self._arm(worker, kind))
        if done:
            self.done[kind] += 1
        return done

    def _acts(self) -> dict[str, Callable[[], bool]]:
        settings, between = self._world.settings, self._chance.uniform
        lease_s, interval_s = settings.sendcode_lease, settings.sendcode_phone_interval
        return {
            ANYWHERE: lambda: self._with_worker(lambda worker: _end(worker, signal.SIGKILL)),
            DEPLOY: lambda: self._with_worker(lambda worker: _end(worker, signal.SIGTERM)),
            FREEZE_SHORT: lambda: self._freeze(between(0.1, 0.7) * lease_s),
            FREEZE_LONG: lambda: self._freeze(between(1.1 * lease_s, 0.8 * interval_s)),
            FREEZE_OUT: lambda: self._freeze(between(1.1, 1.4) * interval_s),
            REDIS_KILL: lambda: self._redis_away(between(0, 0.5)),
            REDIS_GONE: lambda: self._redis_away(1.3 * interval_s),
            REDIS_FROZEN: lambda: self._freeze_redis(between(0.2, 1.5)),
            REDIS_STUCK: lambda: self._freeze_redis(STUCK_S),
            GARBAGE: self._push_garbage,
            QUEUES_DELETED: self._delete_queues,
        }

    def _with_worker(self, act: Callable[[Worker], object]) -> bool:
        free = [
            worker
            for worker in self._crew.workers.values()
            if worker.is_ready
            and worker.is_alive
            and worker.name not in self._busy
            and worker.name not in self._armed
        ]
        if len(free) < min(MIN_UP, len(self._crew.workers)):
            return False
        act(self._chance.choice(free))
        return True

    def _arm(self, worker: Worker, point: str) -> None:
        worker.arm(point)
        self._armed[worker.name] = (time.monotonic() + ARMED_S, worker.starts)

    def _finish_off(self, now: float) -> None:
        for name, (deadline, starts) in list(self._armed.items()):
            worker = self._crew.workers[name]
            if worker.starts > starts:
                del self._armed[name]
            elif now > deadline:
                worker.signal(signal.SIGKILL)

    def _freeze(self, seconds: float) -> bool:
        def freeze(worker: Worker) -> None:
            worker.signal(signal.SIGSTOP)
            self._busy.add(worker.name)
            self._recoveries.hit(worker.name)

            def thaw() -> None:
                worker.signal(signal.SIGCONT)
                self._busy.discard(worker.name)

            self._later(seconds, thaw)

        return self._with_worker(freeze)

    def _redis_away(self, seconds: float) -> bool:
        if "redis" in self._busy:
            return False
        self._busy.add("redis")
        since = time.monotonic()
        self._world.valkey.kill()

        def start() -> None:
            self._world.valkey.start()
            self._recoveries.absences.append((since, time.monotonic()))
            self._busy.discard("redis")

        self._later(seconds, start)
        return True

    def _freeze_redis(self, seconds: float) -> bool:
        pid = self._world.valkey.pid
        if "redis" in self._busy or pid is None:
            return False
        self._busy.add("redis")
        since = time.monotonic()
        os.kill(pid, signal.SIGSTOP)

        def thaw() -> None:
            os.kill(pid, signal.SIGCONT)
            self._recoveries.absences.append((since, time.monotonic()))
            self._busy.discard("redis")

        self._later(seconds, thaw)
        return True

    def _break_network(self, kind: str) -> bool:
        to_redis, order, shortest_s, longest_s = _NETWORK[kind]
        proxy = self._world.redis_proxy if to_redis else self._world.api_proxy
        name = f"proxy {to_redis}"
        if name in self._busy:
            return False
        if order == "delay":
            order = f"delay {self._chance.uniform(0.05, 0.3)}"
        proxy.order(order)
        self._recoveries.hit(DETOUR)
        if longest_s:
            self._busy.add(name)

            def heal() -> None:
                proxy.order("heal")
                self._recoveries.hit(DETOUR)
                self._busy.discard(name)

            self._later(self._chance.uniform(shortest_s, longest_s), heal)
        return True

    def _push_garbage(self) -> bool:
        try:
            self._world.hasty_redis.rpush(
                self._chance.choice(QUEUES), self._chance.choice(_GARBAGE)
            )
        except redis.RedisError:
            return False
        return True

    def _delete_queues(self) -> bool:
        try:
            self._world.hasty_redis.delete(*QUEUES)
        except redis.RedisError:
            return False
        return True


def _end(worker: Worker, number: int) -> None:
    worker.is_ready = False  # from now on, though it may take a moment to be gone
    worker.signal(number)


_NETWORK = {
    RESET_REDIS: (True, "reset", 0, 0),
    RESET_API: (False, "reset", 0, 0),
    HALF_OPEN_REDIS: (True, "halve", 1, 4),
    HALF_OPEN_API: (False, "halve", 0.3, 2),
    DEAF_API: (False, "deafen", 0.3, 2),
    LATENCY: (True, "delay", 1, 2),
}
"""(to Redis or the API, the proxy's order, seconds until it is healed: shortest, longest)."""
