"""`python -m tests.forgery`: thousands of fuzzed messages and forged records among good jobs.

All are seeded by real ones. Workers must live on and send all good jobs once, and nothing else.
The exit code is 1 if that fails.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from config import EVENT_QUEUE
from config.celery import make_celery
from config.settings import Settings
from demo.world import World
from jobs.job import EVENT, Lane, SendCodeJob, State
from jobs.keys import Keys
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.publish import Publisher
from jobs.scripts import time_ms
from sandbox.client import SandboxClient
from tests.waiting import wait_until
from worker.transport import message_of

RATE, INTERVAL_S = 200, 20
_VALUES = ("", "-1", "0", "1", "9" * 40, "sent", "queued", "parked", "event", "batch", "852", "86")
_ODD: tuple[Any, ...] = (None, [], {}, 0, -1, "x", 1e400, ["51234567"], {"a": 1}, True)


@dataclass
class Forger:
    """Writes to Redis what somebody might who knows all of ours but the data key."""

    redis: Redis
    settings: Settings
    dice: random.Random
    good: list[PhoneNumber] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = Keys(self.settings.sendcode_key_prefix)
        self.ledger = Ledger(self.redis, self.settings)
        self.publisher = Publisher(make_celery(self.settings))
        self.seeds: list[str] = []

    def submit(self, count: int) -> None:
        """Submit good jobs, each for a number of its own."""
        for _ in range(count):
            phone = PhoneNumber("852", f"9900{len(self.good):04}")
            self.good.append(phone)
            job_id = self.ledger.submit(SendCodeJob.for_event(phone, life_s=3600)).record.job_id
            self.seeds.append(job_id)
            self.publisher.publish([(Lane.EVENT, job_id)])

    def fuzz_message(self) -> None:
        """Put a changed message into a queue."""
        known = self.dice.choice(self.seeds + self.forged)
        message = message_of(known, EVENT_QUEUE)
        act = self.dice.randrange(4)
        if act == 0:
            part: dict[str, Any] = self.dice.choice(
                [message, message["headers"], message["properties"]]
            )
            part[self.dice.choice(list(part))] = self.dice.choice(_ODD)
        elif act == 1:
            other = message_of(f"{EVENT}-{self.dice.randbytes(10).hex()}", EVENT_QUEUE)
            message["body"] = other["body"]
        content = json.dumps(message).encode()
        if act == 2:
            at = self.dice.randrange(len(content))
            content = content[:at] + self.dice.randbytes(3) + content[at + 3 :]
        elif act == 3:
            content = content[: self.dice.randrange(len(content))]
        self.redis.rpush(EVENT_QUEUE, content)

    def forge_record(self) -> None:
        """Make a record by a real one's pattern, and have it looked after like that one."""
        job_id = f"{EVENT}-{self.dice.randbytes(10).hex()}"
        source, other = self.dice.choice(self.seeds), self.dice.choice(self.seeds)
        record: Any = self.redis.hgetall(self.keys.job(source))
        number = f"5{self.dice.randrange(10**7):07}"
        tokens: list[Callable[[], str]] = [
            lambda: record["num"],  # moved from another job
            lambda: str(self.redis.hget(self.keys.job(other), "num")),
            lambda: number,
            lambda: f"{record['num'][:22]}:v1.k1.{self.dice.randbytes(30).hex()}",
            lambda: record["num"][:-9] + "AAAAAAAA=",
            lambda: self.dice.choice(_VALUES),
        ]
        state = self.dice.choice(["queued", "queued", "parked"])
        record |= {"state": state, "num": self.dice.choice(tokens)(), "created": "1"}
        for name in ("lease", "finished", "by", "dup", "story:1", "told", "open", "doubt"):
            record.pop(name, None)
        if self.dice.random() < 0.5:
            record[self.dice.choice(list(record))] = self.dice.choice(_VALUES)
        self._put(job_id, record)

    def revive(self) -> None:
        """Take the expiry of a job of ours, whose time was over, away or elsewhere."""
        job_id = f"{EVENT}-{self.dice.randbytes(10).hex()}"
        phone = PhoneNumber("852", f"5{self.dice.randrange(10**7):07}")
        now_ms = time_ms(self.redis.time())
        over, later = str(now_ms - self.dice.randrange(1, 10**7)), str(now_ms + 10**9)
        num = self.ledger.records.seal(phone, job_id, Lane.EVENT, over)
        record = {"state": self.dice.choice(["queued", "parked"]), "cc": "852", "num": num}
        record |= {"lane": "event", "created": str(now_ms - 10**7), "attempts": "0", "tries": "0"}
        genuine = {"not_after": over, "term": over, "expires_in": "1"}
        forgeries: list[dict[str, str]] = [
            {"term": over},
            {"term": over, "not_after": later},
            {"term": over, "not_after": later, "created": later},
            {"term": over, "not_after": "", "expires_in": "10000000"},
            {"term": over, "by": "somebody", "story:1": '[0,"requeue","","",null,""]'},
            {"term": later, "not_after": later},
            {"not_after": later},
            {"not_after": later, "life": over},
            {"life": over},
            {"term": over, "life": over},
            {},
            genuine,
            genuine | {"doubt": later, "asked": later},
        ]
        self._put(job_id, record | self.dice.choice(forgeries))

    def _put(self, job_id: str, record: Any) -> None:
        self.redis.hset(self.keys.job(job_id), mapping=record)
        self.redis.zadd(self.keys.due(Lane.EVENT), {job_id: 1})
        self.redis.hincrby(self.keys.sweeps, "events", 1)
        self.forged.append(job_id)


def attack(forger: Forger, *, good: int, messages: int, records: int) -> None:
    """Submit good jobs, with messages and records in between that no producer of ours made."""
    acts = ["good"] * (good - 10) + ["message"] * messages + ["record"] * records
    forger.dice.shuffle(acts)
    forger.submit(10)
    for act in acts:
        if act == "good":
            forger.submit(1)
        elif act == "message":
            forger.fuzz_message()
        else:
            forger.dice.choice([forger.forge_record, forger.revive])()


def check(forger: Forger, sandbox: SandboxClient) -> None:
    """Wait until all good jobs are sent and nothing forged is waiting any more."""

    def left() -> list[str]:
        states = [job.state if job else None for job in forger.ledger.records.read(forger.seeds)]
        return [str(state) for state in states if state is not State.SENT]

    wait_until(lambda: not left(), f"all {len(forger.good)} good jobs sent", patience_s=300)
    in_work = {State.QUEUED, State.LEASED, State.SENDING, State.PARKED}

    def open_forged() -> list[str]:
        records = forger.ledger.records.read(forger.forged)
        return [job.job_id for job in records if job and not job.flaw and job.state in in_work]

    wait_until(lambda: not open_forged(), "an end of what was forged", patience_s=300)
    wait_until(lambda: forger.redis.llen(EVENT_QUEUE) == 0, "an empty queue", patience_s=300)
    sent = sandbox.stats()["accepted_per_number"]
    assert sent == dict.fromkeys((phone.e164[1:] for phone in forger.good), 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.forgery", description=__doc__)
    parser.add_argument("--good", type=int, default=1_000)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    pace = {
        "sendcode_rate_limit": RATE,
        "sendcode_phone_interval": INTERVAL_S,
        "sendcode_http_timeout": 1,
        "sendcode_lease": 2,
        "sendcode_sweep_interval": 0.5,
    }
    with World(pace) as world:
        workers = [world.worker(f"w{n}") for n in (1, 2)]
        for worker in workers:
            worker.wait_for(" ready.", 60)
        forger = Forger(world.redis, world.settings, random.Random(options.seed))
        attack(forger, good=options.good, messages=options.messages, records=options.records)
        try:
            check(forger, world.sandbox)
            world.check()
        except AssertionError as exc:
            print(f"FAILED: {exc}")
            return 1
        tracebacks = sum(worker.log.count("Traceback") for worker in workers)
    print(
        f"{options.messages:,} fuzzed messages and {options.records:,} forged records among "
        f"{options.good:,} good jobs: all good ones sent once, nothing else; "
        f"{tracebacks} tracebacks; {time.monotonic() - began:.0f} s"
    )
    return 1 if tracebacks else 0


if __name__ == "__main__":
    raise SystemExit(main())
