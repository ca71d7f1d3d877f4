"""What Flower is told: by a worker, through Celery's remote control, and about the queues' depths.

Flower's Broker page lists the queues that a worker says it consumes. A worker names the dead-letter
list among them, so that its depth is seen there; nobody ever consumes it. Orders that would act
behind the ledger's back are refused: a revoked job would be dropped by every worker for hours
while the ledger waits for it, and a consumer added to the dead-letter list would empty it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from celery.worker.control import Panel
from kombu import Queue

from config.names import DEAD_LETTER_QUEUE
from config.redis import connect
from config.settings import Settings

REFUSED = {
    "add_consumer": "a worker's queues are set where it is started (sendcode worker --queues)",
    "cancel_consumer": "a worker's queues are set where it is started (sendcode worker --queues)",
    "rate_limit": "the rate is shared by all workers: set SENDCODE_RATE_LIMIT",
    "revoke": "use sendcode batch cancel, or sendcode halt",
    "revoke_by_stamped_headers": "use sendcode batch cancel, or sendcode halt",
    "terminate": "use sendcode batch cancel, or sendcode halt",
}
"""Orders of Celery's, and what to do instead."""


def set_up_panel() -> None:
    """Replace Celery's answers in this process by ours; a second time changes nothing."""
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


class QueueDepths:
    """How long the queues are, for Flower's Broker page.

    Flower's own reading speaks RESP3, and knows neither the CA of a `rediss://` URL nor more than
    one Sentinel nor their database.
    """

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings, retries=1, timeout_s=2)

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Look them up; Flower calls it."""
        return await asyncio.to_thread(self._look, sorted(names))

    def _look(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"name": name, "messages": self._client.llen(name)} for name in names]
