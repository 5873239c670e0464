"""Figures as pure functions from numbers to SVG text. Each takes a width: 760 for a desk, 320 for a phone.

Colour never carries a meaning alone: outcomes differ in shape, series in letter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.reports import numbers
from auditor.reports.svg import Canvas, Scale, wrap
from auditor.schema import Direction, Metric, Outcome

WIDE, NARROW = 760.0, 320.0
CSS = {"fail": "fail", "pass": "pass", "inconclusive": "unsure", "not_assessed": "none", None: "s0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement in a forest plot; ``bound`` None where no criterion asks for one."""

    label: str
    value: float
    sub: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = "proportion"
    bound: float | None = None
    direction: Direction = "below"
    outcome: Outcome | None = None


def row_of(metric: Metric, label: str, **extra: object) -> Row | None:
    """A forest row of a metric, or None where it has no finite value."""
    if metric.value is None or not math.isfinite(metric.value):
        return None
    ends = (metric.ci.low, metric.ci.high) if metric.ci is not None else (None, None)
    low, high = (end if numbers.is_number(end) else None for end in ends)
    return Row(label=label, value=metric.value, low=low, high=high, unit=metric.unit, **extra)  # type: ignore[arg-type]


def domain(values: Sequence[float], unit: str) -> tuple[float, float]:
    """Limits that hold all values and 0; proportions that pass one half get the whole of 0..1."""
    low, high = min(0.0, *values), max(0.0, *values)
    if unit in numbers.PROPORTIONS and high > 0.5:
        high = max(high, 1.0)
    if low == high:
        high = low + 1.0
    pad = 0.04 * (high - low)
    bounded = unit in numbers.PROPORTIONS and high <= 1.0
    return (low - pad if low < 0 else low, high if bounded and high == 1.0 else high + pad)


def marker(canvas: Canvas, x: float, y: float, outcome: Outcome | None) -> None:
    """Fail: filled square; pass: filled circle; inconclusive: hollow diamond; none: small dot."""
    css = CSS[outcome]
    if outcome == "fail":
        canvas.rect((x - 5, y - 5), (10, 10), css, 1)
    elif outcome == "pass":
        canvas.circle(x, y, 5.5, css)
    elif outcome == "inconclusive":
        canvas.path(f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7-7z", f"o-{css} w2")
    else:
        canvas.circle(x, y, 4, css if outcome is None else f"o-{css} w2")


def axis(canvas: Canvas, scale: Scale, rows: tuple[float, float], unit: str) -> None:
    """Grid lines from the first y to the second, with numbers under them."""
    top, bottom = rows
    for tick in scale.ticks(6 if scale.right - scale.left > 260 else 4):
        x = scale(tick)
        canvas.line((x, top), (x, bottom), "line" if tick == 0 else "grid")
        canvas.text(x, bottom + 16, numbers.tick(tick, unit), "small muted", "middle")


def whisker(canvas: Canvas, scale: Scale, ends: tuple[float | None, float | None], y: float, css: str) -> None:
    """The interval as a line with caps; nothing where there is none."""
    low, high = ends
    if low is None or high is None:
        return
    left, right = scale(low), scale(high)
    canvas.line((left, y), (right, y), f"{css} w2")
    for x in (left, right):
        canvas.line((x, y - 4), (x, y + 4), f"{css} w2")


def _zone(canvas: Canvas, scale: Scale, row: Row, y: float, height: float) -> None:
    """Shade the wrong side of the bound."""
    if row.bound is None:
        return
    x = scale(row.bound)
    left, right = (x, scale.right) if row.direction == "below" else (scale.left, x)
    canvas.rect((left, y - height / 2), (right - left, height), "zone")
    canvas.line((x, y - height / 2), (x, y + height / 2), "wrong w2")


def _row_values(rows: Sequence[Row]) -> list[float]:
    return [v for r in rows for v in (r.value, r.low, r.high, r.bound) if v is not None]


def _labels(canvas: Canvas, row: Row, place: tuple[float, float], room: float) -> None:
    x, y = place
    lines = wrap(row.label, room, lines=1 if row.sub else 2)
    texts = [(line, "halo") for line in lines] + ([(wrap(row.sub, room, 11.5, 1)[0], "small muted")] if row.sub else [])
    y -= 8 * (len(texts) - 1)
    for k, (line, css) in enumerate(texts):
        canvas.text(x, y + 4 + 16 * k, line, css)


def _reading(canvas: Canvas, row: Row, x: float, y: float) -> None:
    bare = row.low is None or row.high is None
    canvas.text(x, y + (4 if bare else -3), numbers.number(row.value, row.unit), "b")
    if row.low is not None and row.high is not None:
        canvas.text(x, y + 12, numbers.span(row.low, row.high, row.unit), "small muted")


def _panel(canvas: Canvas, rows: Sequence[Row], top: float) -> float:
    """Rows of one unit on one axis; returns the y below it."""
    narrow = canvas.width < 500
    label_room, reading = (canvas.width, 116.0) if narrow else (256.0, 150.0)
    low, high = domain(_row_values(rows), rows[0].unit)
    scale = Scale(low=low, high=high, left=14 if narrow else label_room + 14, right=canvas.width - reading - 14)
    step, lift = (66.0, 48.0) if narrow else (40.0, 20.0)
    bottom = top + step * len(rows)
    axis(canvas, scale, (top, bottom), rows[0].unit)
    for k, row in enumerate(rows):
        y = top + step * k + lift
        _zone(canvas, scale, row, y, 28)
        whisker(canvas, scale, (row.low, row.high), y, CSS[row.outcome])
        marker(canvas, scale(row.value), y, row.outcome)
        label = row if not narrow else Row(label=f"{row.label} · {row.sub}" if row.sub else row.label, value=row.value)
        _labels(canvas, label, (0, y - 28 if narrow else y), label_room)
        _reading(canvas, row, canvas.width - reading, y)
    return bottom + 34


def forest(rows: Sequence[Row], width: float) -> str:
    """Values with intervals, one row each, one axis for each unit; the wrong side of a criterion's bound is shaded."""
    canvas = Canvas(width)
    top = 4.0
    units = list(dict.fromkeys(row.unit for row in rows))
    for unit in units:
        if len(units) > 1:
            canvas.text(0, top + 12, unit[:1].upper() + unit[1:], "small muted b")
            top += 22
        top = _panel(canvas, [row for row in rows if row.unit == unit], top)
    return canvas.render(top)


def bullet(row: Row, width: float = 200.0) -> str:
    """One row without words: the interval, its point, and the shaded wrong side."""
    canvas = Canvas(width)
    low, high = domain(_row_values([row]), row.unit)
    scale = Scale(low=low, high=high, left=8, right=width - 8)
    canvas.line((scale.left, 17), (scale.right, 17), "grid w2")
    _zone(canvas, scale, row, 17, 28)
    whisker(canvas, scale, (row.low, row.high), 17, CSS[row.outcome])
    marker(canvas, scale(row.value), 17, row.outcome)
    return canvas.render(34)
