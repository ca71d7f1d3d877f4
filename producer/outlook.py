"""How long work will take at the present rate, with the work that waits already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from config.names import EVENT_QUEUE
from producer.overview import Overview


@dataclass(frozen=True, slots=True)
class Outlook:
    """What stands between new rows and the API."""

    rate: float
    """Requests per second at present."""
    waiting: tuple[int, ...]
    """Unfinished jobs of each running batch that has started."""
    events: int
    workers: int
    halted: bool

    @classmethod
    def of(cls, seen: Overview) -> Self:
        return cls(
            rate=seen.pace.limit * seen.pace.factor,
            waiting=tuple(
                each.unfinished
                for each in seen.batches
                if each.state == "running" and not each.is_scheduled
            ),
            events=seen.queues.get(EVENT_QUEUE, 0),
            workers=seen.alive,
            halted=seen.account.state == "halted",
        )

    @property
    def waiting_before(self) -> int:
        return sum(self.waiting) + self.events

    def seconds_for(self, rows: int, max_rate: float | None = None) -> float:
        """Estimate when the last of `rows` new rows has been sent, one request each.

        Running batches take turns row by row, so a small one does not wait for the whole of a big
        one: until it has ended, each other batch gets as many turns as it at most.
        """
        others = sum(min(rows, waiting) for waiting in self.waiting)
        shared = (rows + others + self.events) / self.rate
        return max(shared, rows / max_rate) if max_rate else shared
