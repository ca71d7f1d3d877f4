"""Patience with those who guess tokens and passwords."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from config.settings import Settings
from producer.web.console.frame import MOST_WAITING, run_hashing
from producer.web.guesses import Guesses
from producer.web.problems import Problem, ask
from tests.waiting import PATIENCE_S


def late_request(at_once: int) -> Request:
    """A request whose time for Redis is over; so many passwords are checked at once."""
    app = FastAPI()
    app.state.settings, app.state.hashing = Settings(), anyio.CapacityLimiter(at_once)
    scope = {"type": "http", "app": app, "sendcode.answer_s": PATIENCE_S, "sendcode.deadline": 0.0}
    return Request(scope)


def test_each_wrong_guess_is_answered_later_up_to_a_bound() -> None:
    guesses = Guesses(longest_s=5, now=lambda: 0)

    delays = [guesses.add("10.0.0.1") for _ in range(12)]

    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == 5
    assert guesses.add("10.0.0.2") == 0.1


def test_a_right_one_and_ten_minutes_are_forgiven() -> None:
    now = 0.0
    guesses = Guesses(now=lambda: now)
    for _ in range(5):
        guesses.add("user anna")
        guesses.add("user bob")

    guesses.forget("user anna")
    now = 601.0

    assert guesses.add("user anna") == 0.1
    assert guesses.add("user bob") == 0.1


def test_ever_new_places_take_no_more_memory() -> None:
    guesses = Guesses(now=lambda: 0)

    for n in range(10_001):
        guesses.add(f"user {n}")

    assert guesses.add("user 10000") == 0.2
    assert guesses.add("user 0") == 0.1


def test_after_a_password_was_checked_redis_has_its_whole_time() -> None:
    async def sign_in() -> str:
        request = late_request(at_once=1)
        await run_hashing(request, str)
        return await ask(request, lambda: "answered")

    assert asyncio.run(sign_in()) == "answered"


def test_when_many_wait_for_their_password_another_is_told_to_come_back() -> None:
    async def sign_in() -> Problem:
        request, done = late_request(at_once=1), threading.Event()
        limiter: anyio.CapacityLimiter = request.app.state.hashing
        async with asyncio.timeout(PATIENCE_S):
            others = [
                asyncio.create_task(run_hashing(request, done.wait))
                for _ in range(1 + MOST_WAITING)
            ]
            while limiter.statistics().tasks_waiting < MOST_WAITING:
                await asyncio.sleep(0.01)
            try:
                with pytest.raises(Problem) as refused:
                    await asyncio.wait_for(run_hashing(request, str), 5)
            finally:
                done.set()
            await asyncio.gather(*others)
            await run_hashing(request, str)
        return refused.value

    problem = asyncio.run(sign_in())

    assert (problem.status, problem.headers) == (429, {"Retry-After": "2"})
