"""Anything that people and workers may do to dead letters, in any order: nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.deadletters import DeadLetters, Decision, Verb
from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import Ending, Ledger
from tests.ended_jobs import (
    DEAD,
    PERMANENT,
    SENT,
    UNKNOWN,
    customers,
    end,
    end_event,
    number,
    run_batch,
)
from tests.ledger_checks import check_ledger

ENDINGS = (DEAD, SENT, PERMANENT, UNKNOWN)
ROWS = 4
VERBS: tuple[Verb, ...] = ("requeue", "drop", "replace")


class World:
    """Two batches and two events, all ended badly, and what may be done to them."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        redis.flushdb()
        self.redis, self.keys = redis, Keys(settings.sendcode_key_prefix)
        self.ledger, self.batches = Ledger(redis, settings), Batches(redis, settings)
        self.dead = DeadLetters(redis, settings)
        self._numbers = iter(range(1_000, 9_999))
        for batch_id, first in (("b1", 1), ("b2", 100)):
            run_batch(self.ledger, self.batches, batch_id, customers(ROWS, first))
        for n in (200, 201):
            end_event(self.ledger, n)

    def decide(self, verb: Verb, at: int, *, twice: bool) -> None:
        """Decide about a dead letter, perhaps with the script applied twice."""
        letters = self.dead.window(0)
        if not letters:
            return
        letter, decision = letters[at % len(letters)], Decision(verb, "one")
        phone = number(next(self._numbers))
        for _ in range(2 if twice else 1):
            if verb == "requeue":
                self.dead.requeue(decision, [letter])
            elif verb == "drop":
                self.dead.drop(decision, [letter])
            else:
                self.dead.replace(decision, letter, phone)

    def work(self, ending: Ending) -> None:
        """Let workers end all that is due."""
        for _, job_id in self.ledger.sweep():
            end(self.ledger, job_id, ending)


DECISIONS = st.tuples(st.sampled_from(VERBS), st.integers(0, 9), st.booleans())
WORK = st.sampled_from(ENDINGS)


@pytest.fixture
def checked(redis: Redis, keys: Keys) -> Iterator[None]:
    yield
    check_ledger(redis, keys)


@pytest.mark.usefixtures("checked")
@hypothesis_settings(max_examples=25)
@given(steps=st.lists(DECISIONS | WORK, max_size=14))
def test_whatever_is_decided_every_job_is_counted_and_looked_after_once(
    steps: list[tuple[Verb, int, bool] | Ending], redis: Redis, settings: Settings
) -> None:
    world = World(redis, settings)

    for step in steps:
        if isinstance(step, Ending):
            world.work(step)
        else:
            verb, at, twice = step
            world.decide(verb, at, twice=twice)
        check_ledger(redis, world.keys)

    for batch_id in ("b1", "b2"):
        batch = world.batches.get(batch_id)
        assert batch is not None
        assert sum(batch.counts.values()) == ROWS
        assert sum(batch.by_code.values()) == sum(
            batch.counts.get(state, 0) for state in (State.DEAD, State.UNKNOWN)
        )
