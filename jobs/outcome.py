"""The states of a job. No I/O."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job stands. The final ones change by a person's requeue alone.

    But `dead` and `unknown` become `sent` when a worker that was cut off comes back and knows it.
    """

    QUEUED = "queued"
    """Waiting in its batch, or published to Celery."""
    LEASED = "leased"
    """A worker has it and has not journaled an attempt since: it waits for its slot."""
    SENDING = "sending"
    """An attempt is journaled; its request may have left."""
    PARKED = "parked"
    """Not now; due again at a time."""

    SENT = "sent"
    SENT_INFERRED = "sent_inferred"
    """A probe was refused for the number's interval: the attempt before it had been accepted."""
    DEAD = "dead"
    UNKNOWN = "unknown"
    """Perhaps sent, and it can no longer be proved."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    """A row that never became a job: invalid input."""

    @property
    def is_final(self) -> bool:
        return self in FINAL

    @property
    def is_sent(self) -> bool:
        return self in {State.SENT, State.SENT_INFERRED}

    @property
    def is_for_a_person(self) -> bool:
        """Whether the job is a dead letter, until a person has dealt with it."""
        return self in {State.DEAD, State.UNKNOWN}

    @property
    def is_in_flight(self) -> bool:
        """Whether the job is published, or with a worker."""
        return self in {State.QUEUED, State.LEASED, State.SENDING}


FINAL = frozenset(
    {
        State.SENT,
        State.SENT_INFERRED,
        State.DEAD,
        State.UNKNOWN,
        State.CANCELLED,
        State.EXPIRED,
        State.REJECTED,
    }
)
