"""Bar charts as small SVG files, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
_LABEL, _BAR, _GAP = 210, 20, 8
_OURS, _PEER = "#2f7ed8", "#9aa5b1"


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a chart: its label, its length, and what is written behind it."""

    label: str
    value: float
    text: str
    is_ours: bool = False


def bar_chart(title: str, bars: Sequence[Bar], *, mark: float | None = None) -> str:
    """Draw `bars` from the top down; `mark` is a vertical line, such as a limit."""
    longest = max([bar.value for bar in bars] + [mark or 0]) or 1
    scale = (WIDTH - _LABEL - 190) / longest
    top = 34
    height = top + len(bars) * (_BAR + _GAP) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-weight="bold" fill="#222222">{escape(title)}</text>',
    ]
    for n, bar in enumerate(bars):
        y = top + n * (_BAR + _GAP)
        length = max(1.0, bar.value * scale)
        fill = _OURS if bar.is_ours else _PEER
        parts += [
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end" fill="#222222">'
            f"{escape(bar.label)}</text>",
            f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{fill}"/>',
            f'<text x="{_LABEL + length + 6:.1f}" y="{y + 15}" fill="#444444">'
            f"{escape(bar.text)}</text>",
        ]
    if mark is not None:
        x = _LABEL + mark * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{height - 8}" '
            'stroke="#c0392b" stroke-dasharray="4 3"/>'
        )
    return "\n".join([*parts, "</svg>", ""])
