"""Figures, times, tables and progress as the commands show them to people."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from producer.cli.console import printable, results, say

LINE_EVERY_S = 5.0
"""Between two lines of progress where there is no terminal; what ends sooner shows none."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_LONG_MINUTES = 10
_WHOLE = {"code", "job", "batch"}
"""Columns whose cells are copied into commands: never folded."""
_FILE_WIDTH = 140
"""Of tables that go to a file or another program, where no terminal sets the width."""


def moment(ms: int | None) -> str:
    """Return a time as this machine's clock shows it, "2026-11-23 05:06:19"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000)) if ms else "-"


def clock(ms: float, *, seconds: bool = False) -> str:
    """Return a time for a sentence, "10:02", or "2026-11-27 10:02" where that is not today."""
    then = time.localtime(ms / 1000)
    day = "" if then[:3] == time.localtime()[:3] else "%Y-%m-%d "
    return time.strftime(f"{day}%H:%M{':%S' if seconds else ''}", then)


def span(seconds: float | None) -> str:
    """Return how long something takes: "48 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        minutes, rest = divmod(whole, _MINUTE)
        return f"{minutes} min {rest} s" if minutes < _LONG_MINUTES and rest else f"{minutes} min"
    if whole < _DAY:
        hours, rest = divmod(whole, _HOUR)
        return f"{hours} h {rest // _MINUTE} min"
    days, rest = divmod(whole, _DAY)
    return f"{days} d {rest // _HOUR} h"


def count_of(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, "1 row", "2,000 rows"; `many` where an s does not do."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def per_second(rate: float) -> str:
    """Return a rate to three digits, "19.8/s"."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"  # noqa: PLR2004 (three digits)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """Write a plain table to stdout; the columns named in `right` (by commas) are figures."""
    from rich import box  # noqa: PLC0415 (as in console.py)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    figures = set(right.split(","))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in figures else "left",
            overflow="fold",
            no_wrap=column in _WHOLE,
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = results()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(file=console.file, width=_FILE_WIDTH, highlight=False)
    console.print(table)


class ShowNow(Protocol):
    """Shows how far it is: in words, and as a share from 0 to 1 where that is known."""

    def __call__(self, text: str, share: float | None, *, last: bool = False) -> None:
        """Show it; `last` in any case, however short a time ago another line was."""


@contextmanager
def display(what: str, line_every_s: float, *, transient: bool = False) -> Iterator[ShowNow]:
    """Show a progress bar on stderr; the block gets a callback that updates it.

    Without a terminal there is a line every few seconds. A `transient` bar vanishes at the end;
    without a terminal its first line comes only after these seconds.
    """
    if not sys.stderr.isatty():
        yield _lines(what, line_every_s, at_once=not transient)
        return
    from rich.console import Console  # noqa: PLC0415 (only with a terminal, as the next)
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    stderr = Console(stderr=True, highlight=False)
    with Progress(*columns, console=stderr, transient=transient) as bar:
        task = bar.add_task(what, total=None, text="")

        def show_now(text: str, share: float | None, *, last: bool = False) -> None:  # noqa: ARG001
            total = None if share is None else 1.0
            bar.update(task, completed=share or 0.0, total=total, text=text)

        yield show_now


def _lines(what: str, every_s: float, *, at_once: bool) -> ShowNow:
    last_at = time.monotonic() - (every_s if at_once else 0.0)

    def show_now(text: str, share: float | None, *, last: bool = False) -> None:  # noqa: ARG001
        nonlocal last_at
        if last or time.monotonic() - last_at >= every_s:
            last_at = time.monotonic()
            say(f"{what}: {text}" if what else text)

    return show_now


@contextmanager
def progress_of(
    what: str,
    total: int | None = None,
    unit: str = "rows",
    share: Callable[[], float] | None = None,
) -> Iterator[Callable[[int], None]]:
    """Show the progress of something; the block gets a callback for the count so far.

    The time left is shown where `total` is known, or `share`: how much is done, 0 to 1.
    """
    of = f" of {total:,}" if total is not None else ""
    started = time.monotonic()
    first: int | None = None  # what was done before the start does not count for the rate
    with display(what, LINE_EVERY_S, transient=True) as show_now:

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
