"""The table and the figure of detection_rates.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auditor.reports.svg import Canvas, Scale
from auditor.stats.intervals import wilson_bounds

EVENTS = {"beyond_zero": "beyond zero", "beyond_margin": "beyond the margin", "fails": "turns to fail"}
POWER = 0.8
PANEL, ROW, COLUMNS = (300.0, 150.0), 226.0, 3


def rate(cell: Mapping[str, Any], name: str, event: str) -> tuple[float, float, float]:
    """Share of the cell's simulations with its Wilson interval."""
    n = cell["n"]
    p = cell["measured"][name][event] / n
    low, high = wilson_bounds(p, n)
    return p, float(low), float(high)


def cells_of(kept: Mapping[str, Any]) -> list[tuple[float, Mapping[str, Any]]]:
    """(dose, cell) in order of dose."""
    return sorted((float(dose), cell) for dose, cell in kept["cells"].items())


def smallest_dose(kept: Mapping[str, Any], name: str, event: str) -> float | None:
    """The smallest simulated dose that is seen in four of five simulations; None where none is."""
    return next((dose for dose, cell in cells_of(kept) if dose and rate(cell, name, event)[0] >= POWER), None)


def table(found: Mapping[str, Any]) -> str:
    """A line for each measurement and event: the rate at each dose with its interval, and the smallest dose with 80 % power."""
    lines: list[str] = []
    for suite, kept in found.items():
        sizes = ", ".join(f"{dose:g}: {cell['n']}" for dose, cell in cells_of(kept))
        lines += ["", f"{suite}: {kept['setting']['fault']}", f"  simulations by dose: {sizes}"]
        for name in (*kept["setting"]["measured"], *(name for name in cells_of(kept)[0][1]["measured"] if name not in kept["setting"]["measured"])):
            for event, told in EVENTS.items():
                dose = smallest_dose(kept, name, event)
                shown = "  ".join("{:.3f} ({:.3f}-{:.3f})".format(*rate(cell, name, event)) for _, cell in cells_of(kept))
                lines.append(f"  {name:29} {told:17} {shown}  80 % from {'no dose' if dose is None else f'{dose:g}'}")
    return "\n".join(lines[1:])


def figure(found: Mapping[str, Any]) -> str:
    """One panel a suite: rates of its first measurement over the dose, with Wilson intervals."""
    canvas = Canvas(COLUMNS * PANEL[0])
    for place, told in enumerate(EVENTS.values()):
        canvas.line((10 + 190 * place, 12), (34 + 190 * place, 12), f"s{place} w3")
        canvas.text(40 + 190 * place, 16, told, "small")
    for place, (suite, kept) in enumerate(found.items()):
        _panel(canvas, (PANEL[0] * (place % COLUMNS), 50 + ROW * (place // COLUMNS)), suite, kept)
    bottom = 46 + ROW * -(-len(found) // COLUMNS)
    canvas.text(10, bottom, "Dose: probability of the fault on each item. Whiskers: 95 % Wilson intervals. At dose 0: false alarms.", "small muted")
    return canvas.render(bottom + 8)


def _panel(canvas: Canvas, corner: tuple[float, float], suite: str, kept: Mapping[str, Any]) -> None:
    name, cells = next(iter(kept["setting"]["measured"])), cells_of(kept)
    canvas.text(corner[0] + 8, corner[1], f"{suite}: {name}", "small b")
    across = Scale(low=0, high=max(len(cells) - 1, 1), left=corner[0] + 48, right=corner[0] + PANEL[0] - 18)
    up = Scale(low=0, high=1, left=corner[1] + 14 + PANEL[1], right=corner[1] + 14)
    for tick in (0, 0.25, 0.5, POWER, 1):
        canvas.line((across.left - 4, up(tick)), (across.right + 4, up(tick)), "line dash" if tick == POWER else "grid")
        canvas.text(across.left - 10, up(tick) + 4, f"{tick:.0%}", "small muted", "end")
    for step, (dose, _) in enumerate(cells):
        canvas.text(across(step), up.left + 18, f"{dose:g}", "small muted", "middle")
    for series, event in enumerate(EVENTS):
        _curve(canvas, [(across(step) + 3 * (series - 1), *map(up, rate(cell, name, event))) for step, (_, cell) in enumerate(cells)], series)


def _curve(canvas: Canvas, points: list[tuple[float, float, float, float]], series: int) -> None:
    """``points``: x, y, and the ends of the interval, in pixels."""
    canvas.path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in points), f"s{series} w2 nofill")
    for x, y, low, high in points:
        canvas.line((x, low), (x, high), f"s{series}")
        canvas.circle(x, y, 2.5, f"s{series}")
