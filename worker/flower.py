"""What Flower is shown and may do: a worker's answers to remote control, and the queues' depths.

Flower's Broker page lists the queues that a worker says it consumes. A worker names the dead-letter
list among them, so that its depth is seen there; nobody ever consumes it. Orders that would act
behind the ledger's back are refused: a revoked job would be dropped by every worker for hours
while the ledger waits for it, and a consumer added to the dead-letter list would empty it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery
from celery.worker.control import Panel
from celery.worker.request import Request
from kombu import Queue

from config.names import DEAD_LETTER_QUEUE
from config.redis import connect
from config.settings import Settings

_QUEUES = "a worker's queues are set where it is started (sendcode worker --queues)"
_CANCEL = "use sendcode batch cancel, or sendcode halt"
REFUSED = {
    "add_consumer": _QUEUES,
    "cancel_consumer": _QUEUES,
    "rate_limit": "the rate is shared by all workers: set SENDCODE_RATE_LIMIT",
    "revoke": _CANCEL,
    "revoke_by_stamped_headers": _CANCEL,
    "terminate": _CANCEL,
}
"""Orders of Celery's, and what to do instead."""


def answer_remote_control() -> None:
    """Replace Celery's answers in this process by ours; a second call changes nothing."""
    Panel.data["active_queues"] = _active_queues
    Panel.data["ping"] = _ping
    for order, instead in REFUSED.items():
        Panel.data[order] = _refusal(instead)


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


def _refusal(instead: str) -> Callable[..., dict[str, str]]:
    def refuse(_state: Any, **_: Any) -> dict[str, str]:
        return {"error": f"refused: {instead}"}

    return refuse


class ShownRequest(Request):
    """Shows a failure in the field `result` as well: Flower's search skips exceptions."""

    def send_event(self, kind: str, **fields: Any) -> None:
        if kind == "task-failed":
            fields["result"] = fields.get("exception")
        super().send_event(kind, **fields)


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

    Flower's own reading speaks RESP3, and knows neither the CA of a `rediss://` URL nor more than
    one Sentinel nor their database.
    """

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings, retries=1, timeout_s=2)

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return each queue's name and length; Flower calls it."""
        return await asyncio.to_thread(self._read, sorted(names))

    def _read(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"name": name, "messages": self._client.llen(name)} for name in names]
