"""What became of jobs lately (`sendcode status --since`)."""

from __future__ import annotations

import json
import re

import pytest
from redis import Redis

from jobs.job import State
from jobs.keys import Keys
from jobs.ledger import Ending, Ledger, Tried
from jobs.scripts import time_ms
from producer.lately import SPAN_MS
from tests.commands import Command
from tests.ledger_acts import DEFAULTS, Acts

pytestmark = pytest.mark.settings(**DEFAULTS)


def test_what_ended_lately_is_shown_by_code_and_by_worker(
    acts: Acts, ledger: Ledger, sendcode: Command
) -> None:
    assert "nothing has ended since" in sendcode("status", "--since", "1h").out
    for number, state, code, worker in (
        (1, State.SENT, "", "w1@vm"),
        (2, State.SENT, "", "w2@vm"),
        (3, State.DEAD, "FailedOperation.PhoneBindUpper", "w2@vm"),
    ):
        job_id = acts.event(number)
        ending = Ending(state, code)
        ledger.finish(job_id, acts.begun(job_id), ending, Tried(), worker)
    ledger.cancel(acts.event(4))

    told = json.loads(sendcode("status", "--since", "1h", "--json").out)

    assert told["since"] <= told["at"]
    assert [list(each.values()) for each in told["ended"]] == [
        [None, "cancelled", None, 1],
        ["w1@vm", "sent", None, 1],
        ["w2@vm", "dead", "FailedOperation.PhoneBindUpper", 1],
        ["w2@vm", "sent", None, 1],
    ]
    shown = sendcode("status", "--since", "1h").out
    assert re.search(r"sent +2", shown)
    assert re.search(r"w2@vm +dead +FailedOperation.PhoneBindUpper +1", shown)


def test_so_many_different_ends_are_counted_together_that_their_memory_is_bounded(
    acts: Acts, ledger: Ledger, redis: Redis, keys: Keys
) -> None:
    span = time_ms(redis.time()) // SPAN_MS
    full = [keys.ends(str(each)) for each in (span, span + 1)]
    for key in full:
        redis.hset(key, mapping={f"w{n}@vm\tsent\t": 1 for n in range(500)})
        redis.expire(key, 60)
    job_id = acts.event()

    ledger.finish(job_id, acts.begun(job_id), Ending(State.DEAD, "Code"), Tried(), "w1@vm")

    assert [redis.hget(key, "\tdead\t") for key in full].count("1") == 1
    assert {redis.hlen(key) for key in full} == {500, 501}
