"""One fault at a time, each with what must come of it. They run one after the other, bounded.

A scenario gives in words what was seen; it raises AssertionError if a promise was broken.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jobs.batch import BatchRow
from jobs.batches import Batches
from jobs.job import State
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from producer import RedisUnavailableError, send_code
from tests.faults import doomed
from tests.faults.audit import leftovers
from tests.faults.damage import DAMAGES, TARGETS, Damaging
from tests.faults.workers import Crew, crew
from tests.faults.world import QUICK, World
from tests.refusals import REFUSALS
from tests.waiting import wait_until

Scenario = Callable[[], str]
PATIENCE_S = 60.0
STOP_MARGIN_S = 10.0
"""A worker that is told to stop is gone within the HTTP deadline and so much more."""


@dataclass
class Stage:
    """A world with workers in it, and jobs that are asked for one by one."""

    world: World
    workers: Crew
    told: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Worker, event, job id, note."""
    asked: dict[str, str] = field(default_factory=dict)
    """Job id to number."""

    def send(self, count: int = 1, prefix: str = "59") -> None:
        """Ask for codes, each for a number of its own."""
        for _ in range(count):
            phone = f"{prefix}{len(self.asked):0{8 - len(prefix)}d}"
            record = send_code("852", phone, settings=self.world.settings)
            self.asked[record.job_id] = phone

    def wait_ended(self) -> Counter[State]:
        """Wait until all have ended; give their states."""
        ledger = Ledger(self.world.redis, self.world.settings)

        def states() -> Counter[State] | None:
            found = [ledger.job(job_id) for job_id in self.asked]
            if any(record is None or not record.state.is_final for record in found):
                return None
            return Counter(record.state for record in found if record)

        ended = wait_until(states, "every job has ended", PATIENCE_S)
        assert ended is not None
        return ended

    def check_each_sent_once(self) -> None:
        """Every job has ended as sent, and exactly one code went to each number."""
        ended = self.wait_ended()
        assert all(state.is_sent for state in ended), ended
        accepted = self.world.sandbox.stats()["accepted_per_number"]
        wanted = {f"852{phone}": 1 for phone in self.asked.values()}
        assert accepted == wanted, f"sent otherwise than once: {accepted.items() ^ wanted.items()}"
        ledger = Ledger(self.world.redis, self.world.settings)
        wait_until(lambda: not leftovers(ledger), "the ledger is at rest")

    def wait_told(self, worker: str, event: str, note: str = "") -> None:
        wait_until(
            lambda: any(
                (who, what) == (worker, event) and said.startswith(note)
                for who, what, _, said in self.told
            ),
            f"{worker} {event} {note}",
            PATIENCE_S,
        )

    def count(self, event: str, worker: str = "") -> int:
        return sum(what == event and worker in {"", who} for who, what, _, _ in self.told)


@contextmanager
def stage(
    *names: str,
    sandbox_options: tuple[str, ...] = (),
    results: bool = True,
    exit_codes: frozenset[int] = frozenset({0, -signal.SIGKILL}),
    **changes: Any,
) -> Iterator[Stage]:
    """Set up a quick world with workers of these names; `detour` has the failing network.

    A worker that ends with another exit code than these is a broken promise.
    """
    with World(QUICK, sandbox_options=sandbox_options, **changes) as world:
        settings = {name: world.detour if name == "detour" else world.settings for name in names}
        told: list[tuple[str, str, str, str]] = []
        broken = {} if results else {doomed.NO_RESULTS: "1"}
        workers = crew(
            settings,
            world.folder,
            lambda who, _, what, job_id, note: told.append((who, what, job_id, note)),
            environment=broken,
        )
        with workers:
            workers.wait_ready()
            yield Stage(world, workers, told)
            assert workers.deaths.keys() <= exit_codes, workers.deaths


def redis_gone_for_a_minute() -> str:
    """Workers wait and go on by themselves, producers get one clear error."""
    with stage("w1", "w2") as here:
        here.send(20)
        wait_until(lambda: here.count("ended") >= 5)
        here.world.valkey.kill()
        gone_at = time.monotonic()
        complaint = ""
        try:
            here.send()
        except RedisUnavailableError as exc:
            complaint = str(exc)
        answered_s = time.monotonic() - gone_at
        assert complaint, "a producer was told nothing"
        assert "\n" not in complaint
        assert answered_s < 5, f"a producer waited {answered_s:.1f} s for its error"
        time.sleep(max(0.0, here.world.interval_s - (time.monotonic() - gone_at)))
        here.world.valkey.start()
        back_at = time.monotonic()
        here.send(20)
        ended = here.wait_ended()
        took_s = time.monotonic() - back_at
        assert all(state.is_sent for state in ended), ended
        assert not here.workers.deaths, "a worker did not outlive it"
        return (
            f"workers went on {took_s:.1f} s after Redis was back; "
            f"producers were told within {answered_s:.1f} s: {complaint!r}"
        )


def redis_full() -> str:
    """Nothing is lost, and work goes on when there is room."""
    with stage("w1", "w2") as here:
        here.send(60)
        wait_until(lambda: here.count("begun") >= 10)
        redis = here.world.redis
        redis.config_set("maxmemory", "1")
        refused = ""
        try:
            here.send()
        except RedisUnavailableError as exc:
            refused = str(exc)
        assert "full" in refused, refused
        # as long as it takes for leases to run out, and for several sweeps
        time.sleep(3 * here.world.settings.sendcode_lease)
        redis.config_set("maxmemory", "0")
        here.check_each_sent_once()
        assert not here.workers.deaths, "a worker did not outlive it"
        return f"all sent once; a producer was told {refused!r}"


def redis_refuses() -> str:
    """Workers wait while a Redis that runs refuses their commands, and go on by themselves."""
    with stage("w1", "w2", sandbox_options=("--answer-ms", "300")) as here:
        for refusal in REFUSALS.values():
            begun = here.count("begun")
            here.send(2 * here.world.settings.sendcode_concurrency)
            wait_until(lambda begun=begun: here.count("begun") > begun)  # type: ignore[misc]
            with refusal(here.world.redis, here.world.valkey.directory):
                # as long as it takes for leases to run out, and for several sweeps
                time.sleep(3 * here.world.settings.sendcode_lease)
            ended = here.wait_ended()
            assert all(state.is_sent for state in ended), ended
        here.check_each_sent_once()
        assert not here.workers.deaths, "a worker did not outlive it"
        return f"all {len(here.asked)} sent once, through {', '.join(REFUSALS)}"


def result_backend_down() -> str:
    """No slot and no job is lost when results cannot be stored."""
    with stage("w1", results=False) as here:
        here.send(5 * here.world.settings.sendcode_concurrency)
        here.check_each_sent_once()
        return f"{len(here.asked)} jobs through {here.world.settings.sendcode_concurrency} threads"


def broker_connection_reset() -> str:
    """Jobs in work run once, though their messages are delivered again."""
    with stage("detour", sandbox_options=("--answer-ms", "300")) as here:
        here.send(here.world.settings.sendcode_concurrency)
        for wanted in (4, 8, 12):
            wait_until(lambda wanted=wanted: here.count("begun") >= wanted)  # type: ignore[misc]
            here.world.redis_proxy.order("reset")
        here.check_each_sent_once()
        attempts = here.count("begun")
        assert not here.workers.deaths, "the worker did not outlive it"
        return f"3 resets under {len(here.asked)} jobs in work, {attempts} attempts"


def frozen_workers() -> str:
    """A worker that thaws after the interval sends nothing late, wherever it was frozen."""
    points = (doomed.AFTER_CLAIM, doomed.AFTER_BEGIN, doomed.IN_CALL, doomed.AFTER_ANSWER)
    names = [f"w{number}" for number in range(1, len(points) + 1)]
    with stage(*names) as here:
        crew_ = list(here.workers.workers.values())
        for worker in crew_:
            worker.signal(signal.SIGSTOP)
        for worker, point in zip(crew_, points, strict=True):
            worker.signal(signal.SIGCONT)
            worker.arm(doomed.FREEZE + point)
            here.send()
            here.wait_told(worker.name, "freezes", point)
        frozen_at = time.monotonic()
        helper = crew({"helper": here.world.settings}, here.world.folder, lambda *_: None)
        with helper:
            ended = here.wait_ended()
            over_s = 1.2 * here.world.interval_s
            time.sleep(max(0.0, frozen_at + over_s - time.monotonic()))
            for worker in crew_:
                worker.signal(signal.SIGCONT)
                here.wait_told(worker.name, "left")
            here.check_each_sent_once()
        return f"frozen for more than {over_s:.0f} s at {len(points)} points: {_say(ended)}"


def late_request_of_a_killed_worker() -> str:
    """A request still on its way when its worker is killed arrives after its probe: refused."""
    with stage("w1", sendcode_http_timeout=0.75) as here:
        here.world.sandbox.change(latency_ms=2_500)
        here.workers.workers["w1"].arm(doomed.IN_CALL)
        here.send()
        wait_until(lambda: here.workers.deaths[-signal.SIGKILL] == 1)
        here.world.sandbox.change(latency_ms=0)
        ended = here.wait_ended()
        (phone,) = here.asked.values()
        wait_until(lambda: here.world.sandbox.number(f"852{phone}")["requests"] == 2)
        here.check_each_sent_once()
        return f"both requests arrived, the probe first: {_say(ended)}"


def killed_under_a_long_queue() -> str:
    """A batch job in doubt is probed in time, though far more events wait than there is time."""
    with stage("w1", "w2", sendcode_rate_limit=30, sendcode_concurrency=8) as here:
        batches = Batches(here.world.redis, here.world.settings)
        phone = PhoneNumber("852", "51000000")
        batches.open("b1", "digest", ["country_code", "phone_num"])
        for worker in here.workers.workers.values():
            worker.arm(doomed.IN_CALL)
        batches.append("b1", 0, [BatchRow(2, ["852", phone.phone_num], phone)], last=True)
        wait_until(lambda: here.workers.deaths[-signal.SIGKILL] == 1)
        for worker in here.workers.workers.values():
            worker.arm("")
        here.send(300)
        here.asked["b1-1"] = phone.phone_num
        ended = here.wait_ended()
        here.check_each_sent_once()
        record = Ledger(here.world.redis, here.world.settings).job("b1-1")
        assert record is not None
        assert record.state is State.SENT_INFERRED, record.state
        assert not record.possible_duplicate
        return f"proved before the {len(here.asked) - 1} events behind it were sent: {_say(ended)}"


def stopping_in_time() -> str:
    """SIGTERM ends a worker within the HTTP deadline + 10 s, whatever Redis does; none is lost."""
    took: dict[str, float] = {}
    forced = frozenset({0, 1})
    options = ("--answer-ms", "300")
    with stage("detour", "w1", sandbox_options=options, exit_codes=forced) as here:
        worker = here.workers.workers["detour"]
        limit_s = here.world.settings.sendcode_http_timeout + STOP_MARGIN_S
        for name, order in (
            ("at work", ""),
            ("Redis refuses", "refuse"),
            ("Redis silent", "halve"),
        ):
            begun = here.count("begun", "detour")
            here.send(2 * here.world.settings.sendcode_concurrency)
            wait_until(lambda begun=begun: here.count("begun", "detour") >= begun + 3)  # type: ignore[misc]
            if order:
                here.world.redis_proxy.order(order)
            ended, ordered_at = here.workers.deaths.total(), time.monotonic()
            worker.is_ready = False
            worker.signal(signal.SIGTERM)
            wait_until(lambda ended=ended: here.workers.deaths.total() > ended, name, PATIENCE_S)  # type: ignore[misc]
            took[name] = time.monotonic() - ordered_at
            here.world.redis_proxy.order("heal")
            here.workers.wait_ready()
        here.check_each_sent_once()
        late = {name: s for name, s in took.items() if s > limit_s}
        assert not late, f"longer than {limit_s:.1f} s: {late}"
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
        return f"{told} (allowed: {limit_s:.1f} s)"


def damaged(damage: str) -> Scenario:
    """Make a scenario in which each key of the ledger is damaged in turn."""

    def scenario() -> str:
        with stage("w1", "w2", sendcode_rate_limit=50) as here:
            ledger = Damaging(here.world.redis, here.world.settings, here.world.sandbox)
            ledger.add_load()
            ledger.damage_each(damage)
            ledger.check()
        return f"{len(TARGETS)} keys {damage} under load, one after the other: sending went on"

    return scenario


def _say(states: Counter[State]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


SCENARIOS: dict[str, Scenario] = {
    "Redis gone for as long as the interval": redis_gone_for_a_minute,
    "Redis full": redis_full,
    "Redis refuses commands": redis_refuses,
    "result backend down": result_backend_down,
    "broker connection reset": broker_connection_reset,
    "worker frozen past lease and interval": frozen_workers,
    "request in flight of a killed worker": late_request_of_a_killed_worker,
    "worker killed under a long queue": killed_under_a_long_queue,
    "SIGTERM": stopping_in_time,
    **{f"each key of the ledger {damage}": damaged(damage) for damage in DAMAGES},
}
