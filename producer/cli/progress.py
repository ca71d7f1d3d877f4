"""Progress of what takes a while, on stderr: a bar on a terminal, now and then a line otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, Progress, TextColumn

from producer.cli.console import say, talk
from producer.cli.tables import per_second, span

LINE_EVERY_S = 5.0
"""Between two lines where there is no terminal; what is quicker is done without one."""


class ShowNow(Protocol):
    """Shows how far it is: in words, and as a share from 0 to 1 where that is known."""

    def __call__(self, told: str, share: float | None, *, last: bool = False) -> None:
        """`last` is told in any case, however short a time ago another line was."""


@contextmanager
def display(
    what: str, line_every_s: float, *, at_once: bool = True, transient: bool = False
) -> Iterator[ShowNow]:
    """Show how far something is, each time the block calls what it gets.

    Without a terminal there is a line every few seconds, the first of them `at_once`. A `transient`
    bar vanishes at the end.
    """
    if not talk().is_terminal:
        yield _lines(what, line_every_s, at_once=at_once)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
    )
    with Progress(*columns, console=talk(), transient=transient) as bar:
        task = bar.add_task(what, total=None, told="")

        def show_now(told: str, share: float | None, *, last: bool = False) -> None:  # noqa: ARG001
            total = None if share is None else 1.0
            bar.update(task, completed=share or 0.0, total=total, told=told)

        yield show_now


def _lines(what: str, every_s: float, *, at_once: bool) -> ShowNow:
    said = time.monotonic() - (every_s if at_once else 0.0)

    def show_now(told: str, share: float | None, *, last: bool = False) -> None:  # noqa: ARG001
        nonlocal said
        if last or time.monotonic() - said >= every_s:
            said = time.monotonic()
            say(f"{what}: {told}" if what else told)

    return show_now


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
    of = f" of {total:,}" if total is not None else ""
    started = time.monotonic()
    first: int | None = None  # what was there before was not done now
    with display(what, LINE_EVERY_S, at_once=False, transient=True) as show_now:

        def done(count: int) -> None:
            nonlocal first
            first = count if first is None else first
            passed = time.monotonic() - started
            rate = (count - first) / passed if passed > 0 else 0.0
            part = share() if share is not None else count / total if total else None
            end = total if total is not None else count / part if part else None
            left = f", {span((end - count) / rate)} left" if end is not None and rate > 0 else ""
            show_now(f"{count:,}{of} {unit}, {per_second(rate)}{left}", part)

        yield done
