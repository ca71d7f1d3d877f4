"""Watches a batch for as long as it runs: a bar on a terminal, now and then a line otherwise."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from producer.cli.batch_view import completing, obstacles, progress_in_words
from producer.cli.console import CommandFailedError, say, talk

if TYPE_CHECKING:
    import redis

    from config.settings import Settings
    from jobs.batch import Batch

LOOK_EVERY_S = 1.0
SAY_EVERY_S = 10.0
"""Between two lines where there is no terminal."""
WARN_EVERY_S = 30.0
STALLED_LOOKS = 20
"""Looks without a new row after which an import is taken to have been cut off."""


def watch(client: redis.Redis, settings: Settings, batch: Batch) -> Batch:
    """Stay with a batch until it has ended; give it as it is then.

    Ctrl-C ends the watching, not the batch, and says how to look again.

    Raises:
        CommandFailedError: its import was cut off and nobody completes it.
    """
    try:
        if talk().is_terminal:
            return _watch_live(client, settings, batch)
        return _watch_in_lines(client, settings, batch)
    except KeyboardInterrupt:
        say(
            f"the batch goes on without you; look again: sendcode batch status {batch.batch_id} "
            "--watch"
        )
        raise


class _Import:
    """Notices that nobody adds rows to a batch any more."""

    def __init__(self) -> None:
        self._total, self._looks = -1, 0

    def check(self, batch: Batch) -> None:
        if batch.phase != "importing" or batch.total != self._total or batch.unfinished:
            self._total, self._looks = batch.total, 0
            return
        self._looks += 1
        if self._looks >= STALLED_LOOKS:
            raise CommandFailedError(
                f"all rows so far have ended, but the import of batch {batch.batch_id} was cut "
                f"off; complete it: {completing(batch)}"
            )


class _Obstacles:
    """Says what holds the batch up, once in a while."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client, self._settings = client, settings
        self._said = -WARN_EVERY_S

    def check(self, batch: Batch) -> None:
        if time.monotonic() - self._said >= WARN_EVERY_S:
            self._said = time.monotonic()
            for line in obstacles(self._client, self._settings, batch):
                say(line)


def _watch_in_lines(client: redis.Redis, settings: Settings, batch: Batch) -> Batch:
    imported, held_up = _Import(), _Obstacles(client, settings)
    said = -SAY_EVERY_S
    while not batch.is_over:
        if time.monotonic() - said >= SAY_EVERY_S:
            said = time.monotonic()
            say(f"batch {batch.batch_id}: {_line(batch)}")
        held_up.check(batch)
        imported.check(batch)
        time.sleep(LOOK_EVERY_S)
        batch = _look_again(client, settings, batch)
    say(f"batch {batch.batch_id}: {_line(batch)}")
    return batch


def _watch_live(client: redis.Redis, settings: Settings, batch: Batch) -> Batch:
    from rich.progress import BarColumn, Progress, TextColumn

    imported, held_up = _Import(), _Obstacles(client, settings)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=talk()) as bar:
        task = bar.add_task(batch.batch_id, total=1, told="")
        while True:
            total = max(1, batch.accepted)
            ended = batch.finished - (0 if batch.state.takes_rows else batch.cancelled)
            done = ended if batch.accepted else 1
            bar.update(task, completed=done, total=total, told=_line(batch))
            if batch.is_over:
                return batch
            held_up.check(batch)
            imported.check(batch)
            time.sleep(LOOK_EVERY_S)
            batch = _look_again(client, settings, batch)


def _look_again(client: redis.Redis, settings: Settings, batch: Batch) -> Batch:
    from jobs.batches import Batches

    found = Batches(client, settings).get(batch.batch_id)
    if found is None:
        raise CommandFailedError(f"batch {batch.batch_id} is gone")
    return found


def _line(batch: Batch) -> str:
    told = progress_in_words(batch)
    failed = batch.counts.get("dead", 0) + batch.counts.get("unknown", 0)
    if failed:
        told += f", {failed:,} failed"
    if parked := batch.counts.get("parked"):
        told += f", {parked:,} wait for another try"
    return told + ("" if batch.phase == "running" else f", {batch.phase}")
