"""A crew of doomed workers: started, armed, frozen, killed, and started again when they die."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from config.settings import Settings
from demo.world import environment_of
from tests.faults import doomed
from tests.forked import begin, begin_anew

QUIET = ("--without-mingle", "--without-gossip")
"""Workers that greet each other first take a second to start, and prove nothing more."""

Listener = Callable[[str, float, str, str, str], None]
"""Told of each event: worker, monotonic seconds, what, job id, note."""


class Worker:
    """One place in the crew: a process, and after its death the next one."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        folder: Path,
        plain: str,
        environment: Mapping[str, str],
        options: Sequence[str] = (),
        *,
        forked: bool = False,
    ) -> None:
        self.name = name
        self._begin = begin if forked else begin_anew
        self._options = options
        self._environment = environment
        self.settings = settings
        self.is_ready = False
        self.is_told_to_stop = False
        self.starts = 0
        self._folder = folder
        self._plain = plain

    def start(self) -> None:
        events_out, events_in = os.pipe()
        orders_out, orders_in = os.pipe()
        self.events, self._orders = events_out, orders_in
        self.starts += 1
        app = self._plain or "worker"
        more = {
            doomed.EVENTS_FD: str(events_in),
            doomed.ORDERS_FD: str(orders_out),
            **({doomed.PLAIN: "1"} if self._plain else {}),
            **self._environment,
        }
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults.doomed", "-A", app, "worker"]
        environment = environment_of(
            self.settings, XDG_STATE_HOME=str(self._folder / "state"), **more
        )
        with (self._folder / f"{self.name}.log").open("ab") as log, open(os.devnull, "rb") as null:
            self.process = self._begin(  # Ctrl-C is for us; it dies when its orders end
                [*command, "-n", f"{self.name}@%h", *QUIET, *self._options],
                self._folder,
                environment,
                (null.fileno(), log.fileno(), log.fileno()),
                (events_in, orders_out),
            )
        os.close(events_in)
        os.close(orders_out)
        self.is_ready = self.is_told_to_stop = False

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def arm(self, point: str) -> None:
        """Have it kill itself the next time that it passes `point`; "" takes that back."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, f"{point}\n".encode())

    def signal(self, number: int) -> None:
        if self.is_alive:
            self.is_told_to_stop |= number == signal.SIGTERM
            self.process.send_signal(number)

    def close(self) -> None:
        """Forget a dead process; a second time does nothing."""
        for fd in (self.events, self._orders):
            if fd >= 0:
                os.close(fd)
        self.events = self._orders = -1


class Crew:
    """Keeps its workers running and tells a listener what they tell."""

    def __init__(self, workers: Sequence[Worker], listener: Listener) -> None:
        self.workers = {worker.name: worker for worker in workers}
        self.keep_running = True
        self.deaths: Counter[int] = Counter()
        """By signal or exit code, as `subprocess` gives them."""
        self.stopped = 0
        """Deaths after SIGTERM: by themselves, or by their own force when Redis was silent."""
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._rest: dict[str, bytes] = {}
        self._over = False
        self._thread = threading.Thread(target=self._run, name="crew", daemon=True)

    def __enter__(self) -> Self:
        for worker in self.workers.values():
            self._start(worker)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join(timeout=10)
        for worker in self.workers.values():
            worker.signal(signal.SIGKILL)
            worker.process.wait()
            worker.close()
        self._selector.close()

    def stop(self, patience_s: float = 30) -> None:
        """End all as an operator does (SIGTERM), and wait until they have.

        Raises:
            TimeoutError: one does not end in time.
        """
        self.keep_running = False
        for worker in self.workers.values():
            worker.signal(signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        while any(worker.events >= 0 for worker in self.workers.values()):
            if time.monotonic() > deadline:
                raise TimeoutError("a worker did not stop; see its log")
            time.sleep(0.02)

    def wait_ready(self, patience_s: float = 90) -> None:
        """Wait until every worker takes messages.

        Raises:
            TimeoutError: one does not in time.
        """
        deadline = time.monotonic() + patience_s
        while not all(worker.is_ready for worker in self.workers.values()):
            if time.monotonic() > deadline:
                raise TimeoutError("the workers did not start; see their logs")
            time.sleep(0.02)

    def _start(self, worker: Worker) -> None:
        worker.start()
        self._rest[worker.name] = b""
        self._selector.register(worker.events, selectors.EVENT_READ, worker)

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(timeout=0.2):
                self._read(key.data)

    def _read(self, worker: Worker) -> None:
        data = os.read(worker.events, 65_536)
        if not data:
            self._died(worker)
            return
        *lines, self._rest[worker.name] = (self._rest[worker.name] + data).split(b"\n")
        for line in lines:
            at, event, job_id, note = json.loads(line)
            if event == "ready":
                worker.is_ready = True
            self._listener(worker.name, at, event, job_id, note)

    def _died(self, worker: Worker) -> None:
        at = time.monotonic()
        self._selector.unregister(worker.events)
        code = worker.process.wait()
        worker.is_ready = False
        worker.close()
        self.deaths[code] += 1
        self.stopped += code != -signal.SIGKILL and worker.is_told_to_stop
        self._listener(worker.name, at, "killed" if code == -signal.SIGKILL else "ended", "", "")
        if self.keep_running:
            self._start(worker)


def crew(
    names: Mapping[str, Settings],
    folder: Path,
    listener: Listener,
    plain: str = "",
    environment: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    *,
    forked: bool = False,
) -> Crew:
    """Make a crew; nothing runs before it is entered.

    `options` are those of Celery's worker. `forked`: they start at once, not in the time that
    imports take.
    """
    workers = [
        Worker(name, settings, folder, plain, environment or {}, options, forked=forked)
        for name, settings in names.items()
    ]
    return Crew(workers, listener)
