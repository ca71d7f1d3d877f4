"""A real worker that tells what its jobs go through, and dies at a named point when told to.

`python -m tests.faults.doomed -A worker worker ...` is `python -m celery -A worker worker ...`
with some methods wrapped in this process only; no production module knows of it. What happens is
written to one pipe, a line of JSON each; the name of the point at which to die is read from
another. When that pipe ends, whoever watched this worker is gone, and so is the worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

EVENTS_FD = "FAULTS_EVENTS_FD"
ORDERS_FD = "FAULTS_ORDERS_FD"
NO_RESULTS = "FAULTS_NO_RESULTS"
"""Set for a worker whose result backend fails, always."""
PLAIN = "FAULTS_PLAIN"
"""Set for a worker of the baseline, which has no ledger to wrap."""

POPPED = "popped, not yet recorded as unacked"
BEFORE_CLAIM = "before the claim"
AFTER_CLAIM = "after the claim"
AFTER_BEGIN = "attempt journaled"
IN_CALL = "the API works"
AFTER_ANSWER = "answer known, not recorded"
AFTER_RECORD = "outcome recorded"
BEFORE_ACK = "before the ack"
AFTER_SWEEP = "swept, not yet published"
TOLD = "outcome delivered, not recorded"
"""Where a worker can be killed that takes outcomes to webhooks."""

POINTS = (
    POPPED,
    BEFORE_CLAIM,
    AFTER_CLAIM,
    AFTER_BEGIN,
    IN_CALL,
    AFTER_ANSWER,
    AFTER_RECORD,
    BEFORE_ACK,
    AFTER_SWEEP,
)
"""Where a worker can be killed, in the order of a job's life; the last is a sweeper's."""
PLAIN_POINTS = (POPPED, BEFORE_CLAIM, IN_CALL, AFTER_ANSWER, BEFORE_ACK)
"""Those of them that a plain task's worker has."""

FREEZE = "freeze: "
"""Before a point's name: stop there (SIGSTOP) instead of dying."""


class Watch:
    """What this process tells, and its orders."""

    def __init__(self, events_fd: int, orders_fd: int) -> None:
        self._events = events_fd
        self._orders = orders_fd
        self._armed = ""
        self.thread = threading.local()

    def start(self) -> None:
        threading.Thread(target=self._obey, name="orders", daemon=True).start()

    def tell(self, event: str, job_id: str = "", note: str = "") -> None:
        """Write one line; short enough to be written whole, also by many threads at once."""
        line = json.dumps([time.monotonic(), event, job_id, note]) + "\n"
        os.write(self._events, line.encode())

    def pass_by(self, point: str, job_id: str = "") -> None:
        """Die or freeze here if that was ordered."""
        if self._armed == point:
            self.tell("dies", job_id, point)
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        if self._armed == FREEZE + point:
            self._armed = ""
            self.tell("freezes", job_id, point)
            os.kill(os.getpid(), signal.SIGSTOP)

    @property
    def job_id(self) -> str:
        """The job that this thread works on."""
        found: str = getattr(self.thread, "job_id", "")
        return found

    def _obey(self) -> None:
        with os.fdopen(self._orders, encoding="utf-8") as orders:
            for line in orders:
                self._armed = line.strip()
        os._exit(3)


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Put `around(original, *args)` in the place of a method."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(owner, name, wrapped)


def watch_transport(watch: Watch, transport: Any) -> None:
    """Watch messages come and go, and the wire on which the API is called."""
    from urllib3.connection import HTTPConnection  # noqa: PLC0415

    from config import SEND_CODE_TASK  # noqa: PLC0415

    def job_of(message: Any) -> str:
        """Read the job's id off a message; "" if it is garbage."""
        headers = message.get("headers") if isinstance(message, dict) else None
        if not isinstance(headers, dict) or headers.get("task") != SEND_CODE_TASK:
            return ""
        is_json = message.get("content-type") == "application/json"
        return str(headers.get("id", "")) if is_json else ""

    def deliver(original: Any, self: Any, message: Any, queue: str) -> Any:
        if job_id := job_of(message):
            watch.tell("received", job_id)
            watch.pass_by(POPPED, job_id)
        return original(self, message, queue)

    def ack(original: Any, self: Any, delivery_tag: Any) -> Any:
        watch.pass_by(BEFORE_ACK)
        return original(self, delivery_tag)

    def getresponse(original: Any, self: Any, *args: Any) -> Any:
        watch.pass_by(IN_CALL, watch.job_id)
        return original(self, *args)

    _wrap(transport, "_deliver", deliver)
    _wrap(transport.Channel.QoS, "ack", ack)
    _wrap(HTTPConnection, "getresponse", getresponse)


def watch_sendcode(watch: Watch) -> None:
    """Watch the steps of a job's life."""
    from jobs.webhooks import Outbox  # noqa: PLC0415
    from worker.api import SendVerifyCodeClient  # noqa: PLC0415
    from worker.sender import Sender  # noqa: PLC0415
    from worker.transport import Transport  # noqa: PLC0415

    def send(original: Any, self: Any, job_id: str) -> Any:
        watch.thread.job_id = job_id
        watch.pass_by(BEFORE_CLAIM, job_id)
        try:
            return original(self, job_id)
        finally:
            watch.tell("left", job_id)

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, *args, **kwargs)
        watch.pass_by(AFTER_ANSWER, watch.job_id)
        return answer

    def settle(original: Any, self: Any, *args: Any) -> Any:
        watch.pass_by(TOLD)
        return original(self, *args)

    _wrap(Sender, "send", send)
    _wrap(SendVerifyCodeClient, "send", call)
    _wrap(Outbox, "settle", settle)
    watch_ledger(watch)
    watch_sweeper(watch)
    watch_transport(watch, Transport)


def watch_ledger(watch: Watch) -> None:
    """Watch what is recorded about a job in work."""
    from jobs.ledger import Ledger  # noqa: PLC0415

    def claim(original: Any, self: Any, job_id: str, token: str) -> Any:
        found = original(self, job_id, token)
        if found.verdict == "granted":
            watch.tell("claimed", job_id)
            watch.pass_by(AFTER_CLAIM, job_id)
        elif found.verdict == "final":
            watch.tell("ended", job_id)
        return found

    def begin(original: Any, self: Any, job_id: str, *args: Any) -> Any:
        begun = original(self, job_id, *args)
        if begun.kind in {"first", "probe", "late", "resend"}:
            watch.tell("begun", job_id, begun.kind)
            watch.pass_by(AFTER_BEGIN, job_id)
        elif begun.kind == "unknown":
            watch.tell("ended", job_id)
        return begun

    def finish(original: Any, self: Any, job_id: str, *args: Any) -> Any:
        recorded = original(self, job_id, *args)
        if recorded:
            watch.tell("ended", job_id)
            watch.pass_by(AFTER_RECORD, job_id)
        return recorded

    _wrap(Ledger, "claim", claim)
    _wrap(Ledger, "begin", begin)
    _wrap(Ledger, "finish", finish)


def watch_sweeper(watch: Watch) -> None:
    """Watch what is found to be published, and published."""
    from jobs.ledger import Ledger  # noqa: PLC0415
    from jobs.publish import Publisher  # noqa: PLC0415

    def sweep(original: Any, self: Any, *args: Any) -> Any:
        due = original(self, *args)
        for _, job_id in due:
            watch.tell("swept", job_id)
        if due:
            watch.pass_by(AFTER_SWEEP)
        return due

    def publish(original: Any, self: Any, due: Any, *args: Any) -> Any:
        published = original(self, due, *args)
        for _, job_id in due:
            watch.tell("published", job_id)
        return published

    _wrap(Ledger, "sweep", sweep)
    _wrap(Publisher, "publish", publish)


def watch_plain(watch: Watch) -> None:
    """Watch the same steps of a plain task, as far as it has them."""
    from kombu.transport.redis import Transport  # noqa: PLC0415

    from tests.faults import baseline  # noqa: PLC0415

    def send(original: Any, job_id: str) -> Any:
        watch.thread.job_id = job_id
        watch.pass_by(BEFORE_CLAIM, job_id)
        watch.tell("begun", job_id, "first")
        try:
            sent = original(job_id)
            watch.pass_by(AFTER_ANSWER, job_id)
            watch.tell("ended", job_id)
            return sent
        finally:
            watch.tell("left", job_id)

    _wrap(baseline, "send_one", send)
    watch_transport(watch, Transport)


def break_results() -> None:
    """Have every write to the result backend fail, as it does when that is down."""
    from celery.backends.redis import RedisBackend  # noqa: PLC0415
    from redis import ConnectionError as RedisGoneError  # noqa: PLC0415

    def fail(*_: Any) -> None:
        raise RedisGoneError("the result backend is down")

    _wrap(RedisBackend, "_set", fail)


def main() -> None:
    """Run Celery's own command line, watched."""
    watch = Watch(int(os.environ[EVENTS_FD]), int(os.environ[ORDERS_FD]))
    if os.environ.get(PLAIN):
        watch_plain(watch)
    else:
        watch_sendcode(watch)
    if os.environ.get(NO_RESULTS):
        break_results()
    watch.start()
    from celery.__main__ import main as celery_main  # noqa: PLC0415
    from celery.signals import worker_ready  # noqa: PLC0415

    worker_ready.connect(lambda **_: watch.tell("ready"), weak=False)
    sys.argv[0] = "celery"
    celery_main()


if __name__ == "__main__":
    main()
