"""The figures as a person reads them: a Markdown table for each question, and a plot."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _BAR, _GAP, _LEFT, _RIGHT = 720, 26, 14, 170, 110
_OURS, _OTHERS = "#4338ca", "#98a2b3"


def markdown(found: Mapping[str, Any]) -> str:
    """Everything that was measured."""
    parts = [f"Measured on {found['date']}: {'; '.join(found['machine'].values())}.", *map(_table, found["tables"])]
    return "\n\n".join(parts) + "\n"


def _table(table: Mapping[str, Any]) -> str:
    head, *rows = table["rows"]
    lines = [f"| {' | '.join(map(str, head))} |", "|" + " --- |" * len(head)]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return f"### {table['title']}\n\n{table['text']}\n\n" + "\n".join(lines)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars as SVG, readable on light and dark ground; the names that begin with "ours" stand out."""
    most = max(value for _, value in values)
    room = _WIDTH - _LEFT - _RIGHT
    height = 44 + len(values) * (_BAR + _GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"',
        f' aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="14">',
        f"<title>{escape(title)}</title>",
        "<style>text { fill: #344054 } @media (prefers-color-scheme: dark) { text { fill: #d0d5dd } }</style>",
        f'<text x="{_LEFT}" y="22" font-weight="600">{escape(title)}</text>',
    ]
    for n, (name, value) in enumerate(values):
        y = 40 + n * (_BAR + _GAP)
        color = _OURS if name.startswith("ours") else _OTHERS
        width = max(2, round(room * value / most))
        lines += [
            f'<text x="{_LEFT - 10}" y="{y + 18}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width}" height="{_BAR}" rx="4" fill="{color}"/>',
            f'<text x="{_LEFT + width + 8}" y="{y + 18}">{value:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>\n"])
