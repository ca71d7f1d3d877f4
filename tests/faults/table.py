"""The one table: what was done to the system, and what it did about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.faults.doomed import POINTS
from tests.faults.normal import NormalRecovery
from tests.faults.result import Result

Row = tuple[str, str, str]


def table(ours: Result, plain: Result | None, normal: NormalRecovery | None) -> str:
    """Lay out what runs found, plain text, as Markdown has it."""
    rows = [*_faults(ours, plain), *_outcome(ours, plain), *_times(ours, plain, normal)]
    return _lay_out(("", "sendcode", "plain Celery task"), rows)


def _faults(ours: Result, plain: Result | None) -> list[Row]:
    rows = [_row("faults injected", ours, plain, lambda r: f"{r.faults.total():,}")]
    names = {point: f"SIGKILL: {point}" for point in POINTS}
    others = sorted(ours.faults.keys() - names.keys(), key=lambda kind: -ours.faults[kind])
    names |= {kind: kind for kind in others}
    rows += [
        _row(f"- {name}", ours, plain, lambda r, k=kind: f"{r.faults[k]:,}")  # type: ignore[misc]
        for kind, name in names.items()
    ]
    return rows


def _outcome(ours: Result, plain: Result | None) -> list[Row]:
    def both(name: str, tell: Callable[[Result], str]) -> Row:
        return _row(name, ours, plain, tell)

    def mine(name: str, value: object) -> Row:
        return name, f"{value:,}" if isinstance(value, int) else str(value), "-"

    found = ours.findings
    inside = sum(job.is_inside for job in ours.unproved)
    return [
        both("workers killed (SIGKILL)", lambda r: f"{r.kills:,}"),
        both("workers that ended by themselves", lambda r: f"{r.died_by_themselves:,}"),
        both("jobs", lambda r: f"{r.findings.jobs:,}"),
        both("**lost**", lambda r: f"{len(r.findings.lost):,}"),
        both("**doubled**", lambda r: f"{len(r.findings.doubled):,}"),
        both("lost per 100 kills", lambda r: _per_100(len(r.findings.lost), r.kills)),
        both("doubled per 100 kills", lambda r: _per_100(len(r.findings.doubled), r.kills)),
        mine("wrongly inferred", len(found.wrongly_inferred)),
        mine("proved by the guard (`sent_inferred`)", found.states["sent_inferred"]),
        mine("`unknown`", len(found.unknown)),
        mine("`possible_duplicate`", len(found.possible_duplicate)),
        mine("- of these really sent twice", len(found.doubled_and_flagged)),
        mine("`unknown` or `possible_duplicate` after one fault inside the window", inside),
        mine("requests above the account's limit", ours.above_limit),
    ]


def _times(ours: Result, plain: Result | None, normal: NormalRecovery | None) -> list[Row]:
    at_normal = f"{normal.longest_s:.1f} s ({normal.kills} kills)" if normal else "not measured"
    return [
        _row("jobs recovered", ours, plain, lambda r: f"{r.recoveries.recovered:,}"),
        _row("longest recovery, quick world", ours, plain, _longest),
        ("longest recovery, normal settings", at_normal, "-"),
        _row("seconds", ours, plain, lambda r: f"{r.seconds:.0f}"),
        _row("jobs/s (paced by the kills)", ours, plain, _jobs_per_s),
    ]


def _row(name: str, ours: Result, plain: Result | None, tell: Callable[[Result], str]) -> Row:
    return name, tell(ours), tell(plain) if plain else "-"


def _longest(result: Result) -> str:
    lost = f", {len(result.recoveries.open):,} never" if result.recoveries.open else ""
    return f"{result.recoveries.longest_s:.1f} s{lost}"


def _jobs_per_s(result: Result) -> str:
    return f"{result.findings.jobs / result.seconds:.0f}" if result.seconds else "-"


def _per_100(count: int, kills: int) -> str:
    return f"{100 * count / kills:.1f}" if kills else "-"


def _lay_out(head: Row, rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(3)]

    def line(cells: Row) -> str:
        name, *figures = cells
        right = (figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True))
        return "| " + " | ".join([name.ljust(widths[0]), *right]) + " |"

    rule = f"| {'-' * widths[0]} | " + " | ".join("-" * (w - 1) + ":" for w in widths[1:]) + " |"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])
