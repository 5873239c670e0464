"""A suite's figures: all measurements against their bounds, differences between groups, the spread of the samples' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from auditor.reports import charts, numbers, wording
from auditor.reports.charts import Bar, Bin
from auditor.reports.figures import Row, forest, row_of
from auditor.reports.images import Figure, Table, drawn
from auditor.reports.svg import nice_step
from auditor.reports.text import humanise, lower_first
from auditor.reports.view import forest_row
from auditor.schema import Metric, Suite, Verdict
from auditor.store import Store

MOST_ROWS, MOST_GROUPS, MOST_GROUP_FIGURES, MOST_SPREADS = 18, 14, 3, 3
RELIABILITY = ("reliability_confidence", "reliability_accuracy")
OF_THEIR_OWN = (*RELIABILITY, "training_kl", "training_proxy", "training_gold")  # groups that another figure shows
FEW = 60  # samples up to which each one is a dot
SHAPES = "Square: fails. Disc: passes. Diamond: inconclusive. Ring: not assessed. Dot: no criterion. The shaded side is the wrong one."


def forest_figure(rows: Sequence[Row], caption: str, note: str = SHAPES) -> Figure | None:
    """Measurements with intervals and bounds; None without rows."""
    if not rows:
        return None
    wrong = sum(row.outcome == "fail" for row in rows)
    shown = numbers.plural(len(rows), "measurement")
    alt = f"Forest plot of {shown} with 95 % intervals; {wrong} on the wrong side of the bound. The table below holds the values."
    return drawn(partial(forest, rows), caption=caption, alt=alt, note=note, table=_forest_table(rows))


def _forest_table(rows: Sequence[Row]) -> Table:
    body = []
    for row in rows:
        ends = "–" if row.low is None or row.high is None else numbers.span(row.low, row.high, row.unit)
        bound = "–" if row.bound is None else numbers.bound(row.bound, row.direction, row.unit)
        body.append(
            (row.label, numbers.number(row.value, row.unit), ends, bound, wording.WORDS[row.outcome] if row.outcome else "no criterion")
        )
    return Table(headers=("Measurement", "Value", "95 % interval", "Must be", "Verdict"), rows=tuple(body))


def suite_forest(metrics: Sequence[Metric], verdicts: Sequence[Verdict]) -> Figure | None:
    """All whole-sample measurements of a suite, those with a criterion first."""
    decided = {(v.criterion.metric, v.criterion.group): v for v in verdicts}
    rows: list[tuple[bool, Row]] = []
    for metric in metrics:
        verdict = decided.get((f"{metric.suite}.{metric.name}", metric.group))
        if verdict is None and metric.group != "all":
            continue
        row = forest_row(verdict) if verdict is not None else row_of(metric, wording.metric_label(metric.name, metric.group))
        if row is not None:
            rows.append((verdict is None, row))
    ordered = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    caption = "What was measured, with 95 % intervals"
    more = len(ordered) - MOST_ROWS
    return forest_figure(
        ordered[:MOST_ROWS], caption, SHAPES + (f" {more} further measurements are in the table below." if more > 0 else "")
    )


def group_figures(metrics: Sequence[Metric], suite: Suite | None) -> list[Figure]:
    """Bars by group for the measurements that were split; the headline ones first."""
    split: dict[str, list[Metric]] = {}
    for metric in metrics:
        if metric.group != "all" and metric.name not in OF_THEIR_OWN and numbers.is_number(metric.value):
            split.setdefault(metric.name, []).append(metric)
    headline = [name.rpartition(".")[2] for name in suite.headline] if suite is not None else []
    names = sorted((n for n in split if len(split[n]) > 1), key=lambda n: headline.index(n) if n in headline else len(headline))
    return [_group_figure(name, split[name]) for name in names[:MOST_GROUP_FIGURES]]


def _group_figure(name: str, metrics: Sequence[Metric]) -> Figure:
    shown = metrics[:MOST_GROUPS]
    groups = [
        (humanise(m.group), [Bar(value=m.value or 0.0, low=m.ci.low if m.ci else None, high=m.ci.high if m.ci else None)]) for m in shown
    ]
    rows = tuple((humanise(m.group), numbers.number(m.value, m.unit), numbers.interval(m.ci, m.unit), numbers.count(m.n)) for m in shown)
    note = "Bars show the value, lines the 95 % interval." + (
        f" {len(metrics) - MOST_GROUPS} further groups are in the table below." if len(metrics) > MOST_GROUPS else ""
    )
    return drawn(
        partial(charts.bars, groups, unit=shown[0].unit),
        caption=f"{humanise(name)}, by group",
        note=note,
        alt=f"Bars of {lower_first(humanise(name))} for {len(shown)} groups with 95 % intervals. The table below holds the values.",
        table=Table(headers=("Group", "Value", "95 % interval", "Samples"), rows=rows),
    )


def reliability_figure(metrics: Sequence[Metric]) -> Figure | None:
    """Accuracy against confidence, where a suite gives both by bin: ``reliability_confidence`` and ``reliability_accuracy``, one group per bin."""
    confidence, accuracy = ({m.group: m for m in metrics if m.name == name and numbers.is_number(m.value)} for name in RELIABILITY)
    bins = []
    for group, metric in confidence.items():
        right = accuracy.get(group)
        if right is None or metric.value is None or right.value is None:
            continue
        ends = (right.ci.low, right.ci.high) if right.ci is not None else (None, None)
        bins.append((group, Bin(confidence=metric.value, accuracy=right.value, n=right.n, low=ends[0], high=ends[1])))
    if not bins:
        return None
    rows = tuple((g, numbers.number(b.confidence, "share"), numbers.number(b.accuracy, "share"), numbers.count(b.n)) for g, b in bins)
    return drawn(
        partial(charts.reliability, [b for _, b in bins]),
        caption="Confidence against right answers",
        note="On the dashed line confidence is earned; in the shaded half the model is surer than it is right. Larger rings hold more samples.",
        alt=f"Reliability diagram of {numbers.plural(len(bins), 'bin')}. The table below holds the values.",
        table=Table(headers=("Bin", "Mean confidence", "Right answers", "Samples"), rows=rows),
    )


def spread_figures(store: Store, run_id: str, suite: str, scorers: Mapping[str, str]) -> list[Figure]:
    """How the single samples' values are spread, for scorers (name -> unit) with more than two distinct values."""
    figures: list[Figure] = []
    for scorer, unit in scorers.items():
        values = store.values(run_id, suite, scorer)
        if len(figures) < MOST_SPREADS and _worth_showing(values):
            figures.append(_spread(scorer, values, unit))
    return figures


def _worth_showing(values: np.ndarray) -> bool:
    if len(values) < 5 or not np.isfinite(values).all():
        return False
    probe = values[:: max(1, len(values) // 10_000)]
    return len(np.unique(probe)) > 2


def _spread(scorer: str, values: np.ndarray, unit: str) -> Figure:
    counts, edges = binned(values)
    rows = tuple(
        (numbers.span(float(a), float(b), unit), numbers.count(int(n))) for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    table = Table(headers=("Value", "Samples"), rows=rows)
    caption = f"{humanise(scorer)}: spread over the samples"
    if len(values) <= FEW:
        return drawn(
            partial(charts.strip, values.tolist(), unit=unit),
            caption=caption,
            note="Each ring is one sample.",
            table=table,
            alt=f"Strip of {len(values)} values of {lower_first(humanise(scorer))}. The table below holds their counts by range.",
        )
    return drawn(
        partial(charts.histogram, counts.tolist(), edges.tolist(), unit=unit),
        caption=caption,
        table=table,
        note=f"{len(values):,} scored samples, counted by value.",
        alt=f"Histogram of {len(values):,} values of {lower_first(humanise(scorer))}. The table below holds the counts.",
    )


def binned(values: np.ndarray, most: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Counts (bins,) and edges (bins + 1,), at most ``most`` bins of a round width."""
    low, high = float(values.min()), float(values.max())
    step = nice_step((high - low) / max(most - 2, 1))
    first = np.floor(low / step)
    last = max(np.ceil(high / step), first + 1)
    edges = np.round(np.arange(first, last + 1) * step, 12)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return np.histogram(values, bins=edges)
