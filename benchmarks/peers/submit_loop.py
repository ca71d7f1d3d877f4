"""The loop that people write: a row, an `apply_async`. `python -m ... FILE [--lean]`."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery


def main(file: str, *options: str) -> None:
    """Publish a message for each row of a CSV file."""
    task = _lean_task() if "--lean" in options else _usual_task()
    with Path(file).open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            task.apply_async(args=(row["country_code"], row["phone_num"]))


def _usual_task() -> Any:
    """With result backend and events, as the usual advice has it."""
    from benchmarks.peers.bare_celery import send  # noqa: PLC0415 (the lean loop goes without)

    return send


def _lean_task() -> Any:
    """With nothing but the broker: the quickest that Celery's loop can be."""
    app = Celery("lean", broker=os.environ["SENDCODE_REDIS_URL"])

    @app.task(name="lean.send")
    def send(country_code: str, phone_num: str) -> None:
        """Nobody runs it: only its messages are counted."""

    return send


if __name__ == "__main__":
    main(*sys.argv[1:])
