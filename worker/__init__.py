"""The way out: claims jobs, waits for a slot, calls the API, records what became of it.

`celery -A worker` finds the Celery app here. It is made on first use, not at import.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "celery":
        from worker.app import make_app  # noqa: PLC0415 (nothing happens at import)

        app = make_app()
        globals()["celery"] = app
        return app
    raise AttributeError(name)
