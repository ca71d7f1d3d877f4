"""The Celery tasks, and all that Flower shows of it and may do; nothing else is made for Flower.

Flower's Broker page lists the queues that a worker says it consumes. A worker names the dead-letter
list among them, so that its depth is shown there; nobody ever consumes it. Orders that would act
behind the ledger's back are refused: a revoked job would be dropped by every worker for hours
while the ledger waits for it, and a consumer added to the dead-letter list would empty it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from celery.worker.control import Panel
from celery.worker.request import Request
from kombu import Queue

from config import DEAD_LETTER_QUEUE, DELIVER_TASK, SEND_CODE_TASK, celery_prefix
from config.redis import connect
from config.settings import Settings
from jobs.job import JobRecord
from worker.recorder import Ended

_QUEUES = "a worker's queues are set where it is started (sendcode worker --queues)"
_CANCEL = "use sendcode batch cancel, or sendcode halt"
_ITS_MACHINE = "a worker is stopped and started on its machine, by SIGTERM and its command"
_THREADS = "set SENDCODE_CONCURRENCY, and restart the worker"
REFUSED = {
    "add_consumer": _QUEUES,
    "cancel_consumer": _QUEUES,
    "rate_limit": "the rate is shared by all workers: set SENDCODE_RATE_LIMIT",
    "revoke": _CANCEL,
    "revoke_by_stamped_headers": _CANCEL,
    "terminate": _CANCEL,
    # whoever can write to Redis could end all workers by them
    **dict.fromkeys(("shutdown", "pool_restart"), _ITS_MACHINE),
    **dict.fromkeys(("pool_grow", "pool_shrink", "autoscale"), _THREADS),
    "time_limit": "set SENDCODE_HTTP_TIMEOUT, the time limit of a call",
    "election": "no worker leads the others",
}
"""Orders of Celery's, and what to do instead."""


def register(app: Celery) -> None:
    """Add the tasks to `app`, whose `sendcode` has what they call: decode, call, encode."""

    @app.task(
        name=SEND_CODE_TASK,
        bind=True,
        throws=(NotSent,),
        shared=False,
        Request="worker.tasks:ShownRequest",
    )
    def send_code(self: Task, job_id: str) -> dict[str, Any]:
        outcome = app.sendcode.sender.send(job_id)
        if isinstance(outcome, Ended):
            return result_of(outcome.record)
        if outcome.due_in_s is not None:
            # the job goes on with another message of the same id: Flower shows RETRY until then
            self.send_event("task-retried", exception=f"NotNow({outcome.reason!r})", traceback="")
        raise Ignore

    # the ledger knows what was not delivered: the message has done its work when it is taken
    @app.task(name=DELIVER_TASK, bind=True, shared=False, acks_late=False, ignore_result=True)
    def deliver_outcome(self: Task, job_id: str) -> dict[str, Any]:
        done = app.sendcode.deliverer.deliver(job_id)
        if done is None:
            raise Ignore
        if done.verb != "delivered":
            exception = f"NotDelivered({done.reason!r})"
            self.send_event("task-retried", exception=exception, traceback="")
            raise Ignore
        return {"endpoint": done.endpoint, "answer": done.reason}


class NotSent(Exception):  # noqa: N818 (Flower shows its subclasses by the API's names)
    """A job that ended without its code being sent, or in doubt.

    It is raised as a subclass that bears the API's code as its name, which Flower shows and filters
    by. It takes one string alone: only such exceptions survive Celery's JSON result backend.
    """

    def __repr__(self) -> str:
        # Python's own shows what follows the last dot of a class' name
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery shows the nearest ancestor of an exception that cannot be pickled
        return _not_sent, (type(self).__name__, str(self))


@cache
def _class_named(code: str) -> type[NotSent]:
    return type(code, (NotSent,), {"__module__": "sendcode"})


def _not_sent(code: str, text: str) -> NotSent:
    return _class_named(code)(text)


def result_of(record: JobRecord) -> dict[str, Any]:
    """Return the result of a job that ended well, as Flower shows it.

    Raises:
        NotSent: it is dead, or perhaps sent; named by its code.
    """
    if record.state.is_for_a_person:
        parts = [record.message or str(record.state), f"job {record.job_id}"]
        if record.request_id:
            parts.append(f"RequestId {record.request_id}")
        raise _not_sent(record.code or str(record.state), ", ".join(parts))
    return {  # Flower's list has room for the first two
        "phone": record.phone.masked,
        "request_id": record.request_id or None,
        "state": str(record.state),
        "attempts": record.attempts,
        "possible_duplicate": record.possible_duplicate,
        "job_id": record.job_id,
    }


class ShownRequest(Request):
    """Shows a failure in the field `result` as well: Flower's search skips exceptions."""

    def send_event(self, kind: str, **fields: Any) -> None:
        if kind == "task-failed":
            fields["result"] = fields.get("exception")
        super().send_event(kind, **fields)


def answer_remote_control() -> None:
    """Replace Celery's answers in this process by ours; a second call changes nothing."""
    Panel.data["active_queues"] = _active_queues
    Panel.data["ping"] = _ping
    for order, instead in REFUSED.items():
        answer = {"error": f"refused: {instead}"}
        Panel.data[order] = lambda _state, _answer=answer, **_: _answer


def _active_queues(state: Any) -> list[dict[str, Any]]:
    consumer = state.consumer.task_consumer
    if not consumer:
        return []
    queues = [*consumer.queues, Queue(DEAD_LETTER_QUEUE)]
    return [dict(queue.as_dict(recurse=True)) for queue in queues]


def _ping(state: Any, **_: Any) -> dict[str, str]:
    stuck = state.app.sendcode.presence.stuck()
    if stuck is None:
        return {"ok": "pong"}
    part, seconds = stuck
    return {"error": f"{part} stuck for {seconds:.0f} s"}


def set_up_flower(app: Celery, settings: Settings) -> None:
    """Prepare Flower's own process: its Broker page reads the queues our way."""
    from flower.views import BaseHandler  # noqa: PLC0415 (of Flower's process alone)

    depths = QueueDepths(settings)
    BaseHandler.get_broker = lambda _: depths
    # what its Broker page lists until it has asked a worker; a worker itself must never consume
    # the dead letters
    app.conf.task_queues = [*app.conf.task_queues, Queue(DEAD_LETTER_QUEUE)]


class QueueDepths:
    """How long the queues are, for Flower's Broker page.

    Flower's own code speaks RESP3, and knows neither the CA of a `rediss://` URL nor more than
    one Sentinel nor their database.
    """

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings, retries=1, timeout_s=2)
        self._prefix = celery_prefix(settings.sendcode_key_prefix)

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return each queue's name and length; Flower calls it."""
        return await asyncio.to_thread(self._read, sorted(names))

    def _read(self, names: list[str]) -> list[dict[str, Any]]:
        read, prefix = self._client.llen, self._prefix
        return [{"name": name, "messages": read(prefix + name)} for name in names]
