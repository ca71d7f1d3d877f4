"""Redis' clock, by which the ledger goes: what it answers to TIME, as one number."""

from __future__ import annotations

from typing import Any


def time_us(reply: Any) -> int:
    """Turn the reply, (seconds, microseconds), into Unix microseconds."""
    seconds, micros = reply
    return int(seconds) * 1_000_000 + int(micros)


def time_ms(reply: Any) -> int:
    """Turn the reply into Unix milliseconds."""
    return time_us(reply) // 1000
