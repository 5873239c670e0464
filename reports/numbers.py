"""Numbers as people read them: percent for proportions, the unit's name for all else, a true minus sign."""

from __future__ import annotations

import math

from auditor.schema import ConfidenceInterval, Direction, Metric

MINUS, NBSP = "\u2212", "\u00a0"
NOT_ASSESSED = "not assessed"
PROPORTIONS = frozenset({"proportion", "probability", "share", "rate"})
DIFFERENCES = frozenset({"proportion difference", "difference of proportions", "percentage points", "probability difference"})
BARE_UNITS = frozenset({"", "kappa", "alpha", "score", "auroc", "ratio", "correlation", "index", "coefficient", "brier", "number"})


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def plain(value: float) -> str:
    """Three significant digits below 100, thousands separated above: 0.042, 1.3, 27.5, 1,204."""
    size = abs(value)
    if size >= 100 or (size == round(size) and size >= 10):
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 1 or size == 0:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3f}" if size >= 0.001 else f"{value:.1g}"
    return text.replace("-", MINUS)


def percent(value: float) -> str:
    """34.2 %, 28.0 %, 0 %; two digits below 1 % so that a small rate is not shown as none."""
    scaled = 100 * value
    size = abs(scaled)
    if size in (0, 100):
        text = f"{scaled:.0f}"
    elif size < 0.01:
        return f">{MINUS}0.01\u00a0%" if scaled < 0 else "<0.01\u00a0%"
    else:
        text = f"{scaled:.2f}" if size < 1 else f"{scaled:.1f}"
    return (text + "\u00a0%").replace("-", MINUS)


def number(value: float | None, unit: str) -> str:
    """One value with its unit; None and non-finite values say so in words."""
    if value is None:
        return NOT_ASSESSED
    if not math.isfinite(value):
        return "not a finite number"
    if unit in PROPORTIONS:
        return percent(value)
    if unit in DIFFERENCES:
        return percent(value).replace("%", "points")
    return plain(value) if unit in BARE_UNITS else f"{plain(value)}\u00a0{unit}"


def interval(ci: ConfidenceInterval | None, unit: str) -> str:
    """``28.1 % to 40.6 %``, or a dash where there is none."""
    return "–" if ci is None else span(ci.low, ci.high, unit)


def span(low: float, high: float, unit: str) -> str:
    """``28.1 % to 40.6 %``, ``31.1 to 43.3 tokens``: a unit in words stands once."""
    words = "points" if unit in DIFFERENCES else unit
    return f"{number(low, unit).removesuffix(f'{NBSP}{words}')} to {number(high, unit)}"


def value_with_interval(metric: Metric) -> str:
    """``34.2 % (95 % interval 28.1 % to 40.6 %)``."""
    text = number(metric.value, metric.unit)
    if metric.ci is None or metric.value is None:
        return text
    return f"{text} ({tick(metric.ci.level, 'proportion')} interval {interval(metric.ci, metric.unit)})"


def bound(value: float, direction: Direction, unit: str) -> str:
    """``below 10 %`` or ``above 0.7``: a bound is a round number and printed as one."""
    if unit in PROPORTIONS or unit in DIFFERENCES:
        shown = tick(value, unit).replace("%", "%" if unit in PROPORTIONS else "points")
    else:
        shown = tick(value, unit) + ("" if unit in BARE_UNITS else f"{NBSP}{unit}")
    return f"{direction} {shown}"


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def plural(n: int, noun: str, many: str | None = None) -> str:
    return f"{n:,} {noun if n == 1 else many or noun + 's'}"


def tick(value: float, unit: str) -> str:
    """A number on an axis: the unit stands in the caption, only percent is repeated."""
    if unit in PROPORTIONS or unit in DIFFERENCES:
        return f"{100 * value:.4g}\u00a0%".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS) if abs(value) < 10_000 else plain(value)
