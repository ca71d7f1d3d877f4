"""What a benchmark returns: tables and targets, as text or JSON, and into the documentation."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; `notes` say what a reader must know to believe them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        cells = [list(self.columns), *([_plain(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[n]) for row in cells) for n in range(len(self.columns))]
        lines = [_line(row, widths) for row in cells]
        lines.insert(1, "  ".join("-" * width for width in widths))
        notes = [f"* {note}" for note in self.notes]
        return "\n".join([self.title, "", *lines, *notes])


@dataclass(frozen=True, slots=True)
class Target:
    """What must be true, what was measured, and whether it is met."""

    what: str
    measured: str
    is_met: bool

    def text(self) -> str:
        return f"{'met   ' if self.is_met else 'MISSED'}  {self.what}: {self.measured}"


def _describe_machine() -> str:
    """Return the machine, and how busy it was."""
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.machine(),
    )
    load = os.getloadavg()[2]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores "
        f"({model}), {platform.system()}; load average of 15 min {load:.1f}"
    )


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Report:
    """All that one benchmark found."""

    name: str
    command: str
    tables: Sequence[Table]
    targets: Sequence[Target] = ()
    charts: dict[str, str] = field(default_factory=dict)
    """SVG by file name."""
    machine: str = field(default_factory=_describe_machine)

    def text(self) -> str:
        parts = [table.text() for table in self.tables]
        if self.targets:
            parts.append("\n".join(["Targets", "", *(each.text() for each in self.targets)]))
        return "\n\n".join([*parts, f"{self.command}\n{self.machine}"]) + "\n"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "command": self.command,
            "machine": self.machine,
            "tables": [asdict(table) for table in self.tables],
            "targets": [asdict(target) for target in self.targets],
        }

    def save(self) -> None:
        """Write text and charts into docs/, in the place of those of the last run."""
        page = PAGE.read_text(encoding="utf-8")
        start, end = f"<!-- {self.name} -->\n", f"<!-- /{self.name} -->"
        before, _, rest = page.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE} has no place for {self.name}: {start.strip()} … {end}")
        pictures = [f"![{name.removesuffix('.svg')}](pictures/{name})\n\n" for name in self.charts]
        made = f"{''.join(pictures)}```text\n{self.text()}```\n"
        PAGE.write_text(f"{before}{start}{made}{end}{after}", encoding="utf-8")
        for name, svg in self.charts.items():
            (DOCS / "pictures" / name).write_text(svg, encoding="utf-8")


def _plain(cell: Cell) -> str:
    match cell:
        case None:
            return "-"
        case float():
            return (
                f"{cell:,.3g}"
                if abs(cell) < 1
                else f"{cell:,.2f}"
                if abs(cell) < 100
                else f"{cell:,.0f}"
            )
        case int():
            return f"{cell:,}"
        case _:
            return cell


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if n == 0 else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()
