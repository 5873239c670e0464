"""Figures of many numbers: grouped bars, histogram, strip of dots, reliability diagram. Pure functions from numbers to SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor.reports import numbers
from auditor.reports.figures import axis, domain, whisker
from auditor.reports.svg import Canvas, Scale, wrap

LETTERS = "ABCDEFGH"
SLOT, GAP = 20.0, 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a group; ``letter`` names its series in the legend."""

    value: float
    low: float | None = None
    high: float | None = None
    letter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bin of a reliability diagram: mean confidence, accuracy with its interval, number of samples."""

    confidence: float
    accuracy: float
    n: int
    low: float | None = None
    high: float | None = None


def bars(groups: Sequence[tuple[str, Sequence[Bar]]], width: float, *, unit: str) -> str:
    """Horizontal bars with intervals, grouped; the letter of its series stands before each bar."""
    canvas = Canvas(width)
    narrow = width < 500
    low, high = domain([v for _, group in groups for b in group for v in (b.value, b.low, b.high) if v is not None], unit)
    lettered = any(bar.letter for _, group in groups for bar in group)
    room, reading, head = (width, 62.0, 20.0) if narrow else (220.0, 72.0, 0.0)
    scale = Scale(low=low, high=high, left=(0 if narrow else room) + (32 if lettered else 14), right=width - reading - 8)
    height = sum(SLOT * len(group) + GAP + head for _, group in groups) + 4
    axis(canvas, scale, (0, height), unit)
    y = 4.0
    for label, group in groups:
        lines = wrap(label, room, lines=1 if narrow else 2)
        middle = y + 12 if narrow else y + SLOT * len(group) / 2 + 4
        for k, line in enumerate(lines):
            canvas.text(0, middle + 15 * (k - (len(lines) - 1) / 2), line, "halo")
        y += head
        for bar in group:
            _bar(canvas, scale, bar, y + SLOT / 2)
            canvas.text(width - reading, y + SLOT / 2 + 4, numbers.number(bar.value, unit).removesuffix("\u00a0" + unit), "small b")
            y += SLOT
        y += GAP
    return canvas.render(height + 24)


def _bar(canvas: Canvas, scale: Scale, bar: Bar, y: float) -> None:
    series = LETTERS.index(bar.letter) % 4 if bar.letter in LETTERS and bar.letter else 0
    zero, end = scale(0.0), scale(bar.value)
    canvas.rect((min(zero, end), y - 6), (abs(end - zero), 12), f"f{series}", 1.5)
    canvas.line((end, y - 6), (end, y + 6), f"s{series} w3")
    whisker(canvas, scale, (bar.low, bar.high), y, "ink")
    if bar.letter:
        canvas.text(scale.left - 18, y + 4, bar.letter, "small b")


def histogram(counts: Sequence[int], edges: Sequence[float], width: float, *, unit: str) -> str:
    """How the per-sample values are spread: counts in bins of equal width."""
    canvas = Canvas(width)
    bottom, top = 150.0, 20.0
    scale = Scale(low=edges[0], high=edges[-1], left=52, right=width - 16)
    rise = Scale(low=0, high=(max(counts) or 1) * 1.06, left=bottom, right=top)
    for tick in (t for t in rise.ticks(4) if t == round(t)):
        canvas.line((scale.left, rise(tick)), (scale.right, rise(tick)), "grid")
        canvas.text(scale.left - 6, rise(tick) + 4, numbers.count(int(tick)), "small muted", "end")
    for left, right, n in zip(edges[:-1], edges[1:], counts, strict=True):
        gap = min(1.0, (scale(right) - scale(left)) / 6)
        canvas.rect((scale(left) + gap, rise(n)), (scale(right) - scale(left) - 2 * gap, bottom - rise(n)), "s0", 1)
    canvas.line((scale.left, bottom), (scale.right, bottom), "line")
    for tick in scale.ticks(7 if width > 500 else 4):
        canvas.text(scale(tick), bottom + 17, numbers.tick(tick, unit), "small muted", "middle")
    canvas.text(0, 11, "Samples", "small muted")
    return canvas.render(bottom + 26)


def strip(values: Sequence[float], width: float, *, unit: str) -> str:
    """Every value a dot, spread up and down so that equal ones do not hide each other; for a few dozen samples."""
    canvas = Canvas(width)
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 0.5
    scale = Scale(low=low - pad, high=high + pad, left=14, right=width - 14)
    axis(canvas, scale, (4, 84), unit)
    for k, value in enumerate(sorted(values)):
        canvas.circle(scale(value), 14 + 60 * ((k * 0.618034) % 1), 3.5, "o-s0 w2")
    return canvas.render(108)


def reliability(bins: Sequence[Bin], width: float) -> str:
    """Accuracy against confidence with the diagonal of a perfectly calibrated model; below it, how many samples each bin holds."""
    canvas = Canvas(width)
    side = min(width - 70, 340.0)
    x = Scale(low=0, high=1, left=52, right=52 + side)
    y = Scale(low=0, high=1, left=24 + side, right=24)
    for tick in (0, 0.25, 0.5, 0.75, 1.0):
        canvas.line((x(tick), y(0)), (x(tick), y(1)), "grid")
        canvas.line((x(0), y(tick)), (x(1), y(tick)), "grid")
        canvas.text(x(tick), y(0) + 17, numbers.tick(tick, "proportion"), "small muted", "middle")
        canvas.text(x(0) - 6, y(tick) + 4, numbers.tick(tick, "proportion"), "small muted", "end")
    canvas.path(f"M{x(0):.1f} {y(0):.1f}L{x(1):.1f} {y(1):.1f}L{x(1):.1f} {y(0):.1f}z", "zone")
    canvas.line((x(0), y(0)), (x(1), y(1)), "line w2 dash")
    canvas.text(0, 12, "Right answers", "small muted")
    canvas.text(x(1), y(0) + 34, "Confidence", "small muted", "end")
    most = max((b.n for b in bins), default=1)
    for b in bins:
        if b.low is not None and b.high is not None:
            canvas.line((x(b.confidence), y(b.low)), (x(b.confidence), y(b.high)), "s0 w2")
        canvas.circle(x(b.confidence), y(b.accuracy), round(3 + 5 * (b.n / most) ** 0.5, 1), "o-s0 w2")
    return canvas.render(y(0) + 42)
