"""Plain text for terminals: control characters made visible, the same numbers as in the report."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from auditor.reports import numbers
from auditor.schema import Verdict

MARKS = {"pass": "✓ pass", "fail": "✗ fail", "inconclusive": "? inconclusive", "not_assessed": "– not assessed"}


def printable(text: str) -> str:
    """Text in which no character moves the cursor, hides or reorders others: model output is hostile to terminals too."""
    return "".join(char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co") else f"\\u{ord(char):04x}" for char in text)


def short(uri: str) -> str:
    """A model's name for people: a path inside the working folder is shown from there."""
    kind, separator, place = uri.rpartition("recorded:")
    path = Path(place)
    return f"{kind}{separator}{path.relative_to(Path.cwd())}" if path.is_absolute() and path.is_relative_to(Path.cwd()) else uri


def verdict_rows(verdicts: Sequence[Verdict]) -> list[tuple[str, str, str, str]]:
    """(verdict, metric, value with interval, bound) of each verdict, failures first."""
    order = list(MARKS)
    rows = []
    for verdict in sorted(verdicts, key=lambda verdict: order.index(verdict.outcome) if verdict.outcome != "fail" else -1):
        criterion, metric = verdict.criterion, verdict.metric
        unit = metric.unit if metric else "proportion"
        value = f"{numbers.number(metric.value, unit)} [{numbers.interval(metric.ci, unit)}]" if metric and metric.value is not None else verdict.reason
        if verdict.n_needed:
            value += f"; about {verdict.n_needed:,} samples would settle it"
        rows.append((MARKS[verdict.outcome], criterion.metric, value, numbers.bound(criterion.bound, criterion.direction, unit)))
    return rows
