"""Figures, times and tables as the commands show them to people."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from producer.cli.console import printable, results

_MINUTE = 60
_HOUR = 3600
_DAY = 86_400
_LONG_MINUTES = 10
_LONG_HOURS = 24
_WHOLE = {"code", "job", "batch"}
"""Columns whose cells are copied into commands: never folded."""
_FILE_WIDTH = 140
"""Of tables that go to a file or another program, which have no width of their own."""


def moment(ms: int | None) -> str:
    """A time as this machine's clock shows it, "2026-11-23 05:06:19"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000)) if ms else "-"


def clock(ms: float) -> str:
    """A time for a sentence, "10:02", or "2026-11-27 10:02" where that is not today."""
    then = time.localtime(ms / 1000)
    is_today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M", then)


def span(seconds: float | None) -> str:
    """How long something takes: "48 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        minutes, rest = divmod(whole, _MINUTE)
        return f"{minutes} min {rest} s" if minutes < _LONG_MINUTES and rest else f"{minutes} min"
    if whole < _LONG_HOURS * _HOUR:
        hours, rest = divmod(whole, _HOUR)
        return f"{hours} h {rest // _MINUTE} min"
    days, rest = divmod(whole, _DAY)
    return f"{days} d {rest // _HOUR} h"


def count_of(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun, "1 row", "2,000 rows"; `many` where an s does not do."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def per_second(rate: float) -> str:
    """A rate to three digits, "19.8/s"."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"  # noqa: PLR2004 (three digits)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> Table:
    """Make a plain table; the columns named in `right` (by commas) are figures."""
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
    return table


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """Write a table to stdout."""
    console = results()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(file=console.file, width=_FILE_WIDTH, highlight=False)
    console.print(make_table(columns, rows, right))
