"""The one Celery task. It decodes, calls and encodes; what it shows is made for Flower."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore

from config.names import SEND_CODE_TASK
from jobs.job import JobRecord
from worker.recorder import Ended


class NotSent(Exception):  # noqa: N818 (Flower shows its subclasses by the API's names)
    """A job that ended without its code being sent, or in doubt.

    It is raised as a subclass that bears the API's code as its name, which Flower shows and filters
    by. One string is all it takes: only such exceptions survive Celery's JSON result backend.
    """

    def __repr__(self) -> str:
        # Python's own shows what follows the last dot of a class' name
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery shows the nearest ancestor of an exception that cannot be pickled
        return _revived, (type(self).__name__, str(self))


@cache
def failure(code: str) -> type[NotSent]:
    """Return the exception class of that name."""
    return type(code, (NotSent,), {"__module__": "sendcode"})


def _revived(code: str, text: str) -> NotSent:
    return failure(code)(text)


def result_of(record: JobRecord) -> dict[str, Any]:
    """Return the result of a job that ended well, as Flower shows it.

    Raises:
        NotSent: it is dead, or perhaps sent; named by its code.
    """
    if record.state.is_for_a_person:
        parts = [record.message or str(record.state), f"job {record.job_id}"]
        if record.request_id:
            parts.append(f"RequestId {record.request_id}")
        raise failure(record.code or str(record.state))(", ".join(parts))
    return {  # Flower's list has room for the first two
        "phone": record.phone.masked,
        "request_id": record.request_id or None,
        "state": str(record.state),
        "attempts": record.attempts,
        "possible_duplicate": record.possible_duplicate,
        "job_id": record.job_id,
    }


def register(app: Celery) -> Task:
    """Add the task to `app`, whose `sendcode` has the sender."""

    @app.task(
        name=SEND_CODE_TASK,
        bind=True,
        throws=(NotSent,),
        shared=False,
        Request="worker.flower:ShownRequest",
    )
    def send_code(self: Task, job_id: str) -> dict[str, Any]:
        outcome = app.sendcode.sender.send(job_id)
        if isinstance(outcome, Ended):
            return result_of(outcome.record)
        if outcome.due_in_s is not None:
            # the job goes on with another message of the same id: Flower shows RETRY until then
            self.send_event("task-retried", exception=f"NotNow({outcome.reason!r})", traceback="")
        raise Ignore

    return send_code
