"""Progress of what takes a while, on stderr: a bar on a terminal, now and then a line otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from producer.cli.console import say, talk
from producer.cli.tables import per_second, span

LINE_EVERY_S = 5.0
"""Between two lines where there is no terminal; what is quicker is done without one."""


@contextmanager
def progress_of(
    what: str,
    total: int | None = None,
    unit: str = "rows",
    share: Callable[[], float] | None = None,
) -> Iterator[Callable[[int], None]]:
    """Show how far something is; the block calls what it gets with the count so far.

    The time left is shown where `total` is known, or `share`: how much is done, 0 to 1.
    """
    end = _End(total, share)
    if talk().is_terminal:
        with _bar(what, end, unit) as done:
            yield done
    else:
        yield _Lines(what, end, unit)


@dataclass(frozen=True, slots=True)
class _End:
    """What is known of the end."""

    total: int | None
    share: Callable[[], float] | None

    def at(self, count: int) -> float | None:
        """The count at the end, as far as can be told now."""
        if self.total is not None or self.share is None:
            return self.total
        share = self.share()
        return count / share if share > 0 else None


@contextmanager
def _bar(what: str, end: _End, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]:,} " + unit),
        TextColumn("{task.fields[pace]}"),
    ]
    total = end.total if end.share is None else 1.0
    if total is not None:
        columns.append(TimeRemainingColumn())
    pace = _Pace()
    with Progress(*columns, console=talk(), transient=True) as bar:
        task = bar.add_task(what, total=total, count=0, pace="")

        def done(count: int) -> None:
            rate = pace.of(count)
            told = per_second(rate) if rate else ""
            completed = count if end.share is None else end.share()
            bar.update(task, completed=completed, count=count, pace=told)

        yield done


class _Pace:
    """Measures from the first count on: what was there before was not done now."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first: int | None = None

    def of(self, count: int) -> float:
        if self._first is None:
            self._first = count
        passed = time.monotonic() - self._started
        return (count - self._first) / passed if passed > 0 else 0.0


class _Lines:
    """Says a line every few seconds."""

    def __init__(self, what: str, end: _End, unit: str) -> None:
        self._what, self._end, self._unit = what, end, unit
        self._said = time.monotonic()
        self._pace = _Pace()

    def __call__(self, count: int) -> None:
        rate = self._pace.of(count)
        now = time.monotonic()
        if now - self._said < LINE_EVERY_S:
            return
        self._said = now
        of = f" of {self._end.total:,}" if self._end.total is not None else ""
        total, left = self._end.at(count), ""
        if total is not None and rate > 0:
            left = f", {span((total - count) / rate)} left"
        say(f"{self._what}: {count:,}{of} {self._unit}, {per_second(rate)}{left}")
