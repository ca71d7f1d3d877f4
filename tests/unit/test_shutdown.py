"""The order to stop: it ends every sleep, and patience with what must be recorded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import tenacity

from demo.world import environment_of
from tests.forked import begin
from tests.worker_process import TOP
from worker.presence import PATIENCE_S, Shutdown, Stopping

ANY_STATE = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})


def test_a_nap_goes_by_while_nobody_orders_a_stop() -> None:
    began = time.monotonic()

    Shutdown().sleep(0.01)

    assert time.monotonic() - began >= 0.01


def test_the_order_ends_a_nap_that_has_begun() -> None:
    stop = Shutdown()
    asleep, ended = threading.Event(), threading.Event()

    def sleeper() -> None:
        asleep.set()
        with pytest.raises(Stopping):
            stop.sleep(3600)
        ended.set()

    thread = threading.Thread(target=sleeper)
    thread.start()
    asleep.wait(120)

    stop.order()

    assert ended.wait(120)
    thread.join()


def test_after_the_order_no_nap_begins_not_even_one_of_no_length() -> None:
    stop = Shutdown()
    stop.order()

    with pytest.raises(Stopping):
        stop.sleep(0)


def test_patience_has_no_end_without_an_order() -> None:
    assert not Shutdown().out_of_patience(ANY_STATE)


def test_patience_ends_some_seconds_after_the_first_order() -> None:
    now = 1000.0
    stop = Shutdown(lambda: now)

    stop.order()
    now += PATIENCE_S - 0.1
    stop.order()
    patient = not stop.out_of_patience(ANY_STATE)
    now += 0.2

    assert patient
    assert stop.out_of_patience(ANY_STATE)


def test_the_first_order_says_that_it_is_the_first() -> None:
    stop = Shutdown()

    assert [stop.order(), stop.order()] == [True, False]


@pytest.mark.parametrize("log_it", ["lambda: None", "threading.Event().wait", "1 .real"])
def test_a_process_that_hangs_ends_by_force_whether_or_not_it_can_log(log_it: str) -> None:
    hanging = (
        "import worker.presence as s, threading; "
        f"s.end_by_force(0.1, {log_it}); threading.Event().wait()"
    )

    with open(os.devnull, "r+b") as nothing:
        streams = (nothing.fileno(),) * 3
        process = begin([sys.executable, "-P", "-c", hanging], TOP, environment_of(), streams)
        assert process.wait(120) == 1


def test_a_process_that_ends_by_itself_is_not_held_up() -> None:
    ending = "import worker.presence as s; s.end_by_force(3600)"

    ended = subprocess.run([sys.executable, "-c", ending], timeout=120, check=False)

    assert ended.returncode == 0
