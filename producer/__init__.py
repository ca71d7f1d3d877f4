"""The ways in: a Python call, the command line, batches; and the view from outside.

For a backend: `from producer import send_code`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config.unavailable import RedisUnavailableError
    from producer.events import KeyReusedError, send_code

__all__ = ["KeyReusedError", "RedisUnavailableError", "send_code"]


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for: the command line needs none of them for --help."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from producer import events  # noqa: PLC0415 (see above)

    return getattr(events, name)
