"""Plain text for terminals: control characters made visible, numbers made short."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from auditor.schema import Metric, Verdict

MARKS = {"pass": "✓ pass", "fail": "✗ fail", "inconclusive": "? inconclusive", "not_assessed": "– not assessed"}


def printable(text: str) -> str:
    """Text in which no character moves the cursor, hides or reorders others: model output is hostile to terminals too."""
    return "".join(char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co") else f"\\u{ord(char):04x}" for char in text)


def number(value: float | None, unit: str) -> str:
    """A value in its unit: proportions as per cent, the rest with three significant digits."""
    if value is None:
        return "–"
    if unit == "proportion":
        return f"{100 * value:.1f} %"
    return f"{value:.3g} {unit}".strip()


def interval(metric: Metric) -> str:
    if metric.ci is None:
        return ""
    low, high = (number(bound, metric.unit) for bound in (metric.ci.low, metric.ci.high))
    return f"{low} … {high}"


def verdict_rows(verdicts: Sequence[Verdict]) -> list[tuple[str, str, str, str]]:
    """(verdict, metric, value with interval, bound) of each verdict, failures first."""
    order = list(MARKS)
    rows = []
    for verdict in sorted(verdicts, key=lambda verdict: order.index(verdict.outcome) if verdict.outcome != "fail" else -1):
        criterion, metric = verdict.criterion, verdict.metric
        unit = metric.unit if metric else "proportion"
        value = f"{number(metric.value, unit)} [{interval(metric)}]" if metric and metric.value is not None else verdict.reason
        if verdict.n_needed:
            value += f"; about {verdict.n_needed:,} samples would settle it"
        rows.append((MARKS[verdict.outcome], criterion.metric, value, f"{criterion.direction} {number(criterion.bound, unit)}"))
    return rows
