"""Proxy and gold reward against √KL: the figure of the over-optimisation suite."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial

from auditor.reports import numbers
from auditor.reports.images import Figure, Table, drawn
from auditor.reports.svg import Canvas, Scale
from auditor.schema import Metric

POINT = re.compile(r"(gold|proxy)_best_of_(\d+)")
HEIGHT, GAP, CURVE_POINTS = 150.0, 34.0, 60


def distance(n: int) -> float:
    """d = √KL (√nats) of best-of-n from the sampled policy, KL = ln n − (n − 1)/n (Stiennon et al. 2020)."""
    return math.sqrt(math.log(n) - (n - 1) / n)


def turning_figure(metrics: Sequence[Metric]) -> Figure | None:
    """Gold and proxy by best-of-n over d, with gold's fitted curve R(d) = R(0) + d(α − βd) and its turning point; None without three points of gold."""
    found: dict[str, dict[int, Metric]] = {"gold": {}, "proxy": {}}
    for metric in metrics:
        match = POINT.fullmatch(metric.name)
        if match and metric.group == "all" and numbers.is_number(metric.value):
            found[match[1]][int(match[2])] = metric
    if len(found["gold"]) < 3:
        return None
    rows = tuple((str(n), f"{distance(n):.2f}", *(numbers.value_with_interval(found[name][n]) if n in found[name] else "–" for name in found))
                 for n in sorted(found["gold"]))
    whole = {metric.name: metric for metric in metrics if metric.group == "all"}
    fitted = [whole[name].value if name in whole else None for name in ("best_of_n_alpha", "best_of_n_beta", "best_of_n_turning_point")]
    return drawn(partial(_draw, found, fitted), caption="Gold and proxy as the proxy is optimised: the best of n draws",
                 note="Over d = √KL in √nats, n = 1 at the left. Rings: means with 95 % intervals. Line: the fitted curve of gold; dashed, its turning point "
                      "if it lies among the draws.",
                 alt=f"Gold and proxy reward at {len(rows)} values of n, with the curve fitted to gold. The table below holds the values.",
                 table=Table(headers=("n", "√KL", "Gold", "Proxy"), rows=rows))


def _draw(found: Mapping[str, Mapping[int, Metric]], fitted: Sequence[float | None], width: float) -> str:
    canvas = Canvas(width)
    furthest = distance(max(found["gold"]))
    across = Scale(low=0, high=furthest * 1.05, left=62, right=width - 16)
    top = 18.0
    for series, (name, points) in enumerate(found.items()):
        if points:
            up = _panel(canvas, across, top, (name.capitalize(), series), points)
            if name == "gold":
                _curve(canvas, (across, up), points, fitted)
            top += HEIGHT + GAP
    for tick in across.ticks(6):
        canvas.text(across(tick), top - GAP + 17, f"{tick:g}", "small muted", "middle")
    canvas.text(across.right, top - GAP + 34, "d = √KL", "small muted", "end")
    return canvas.render(top - GAP + 42)


def _panel(canvas: Canvas, across: Scale, top: float, what: tuple[str, int], points: Mapping[int, Metric]) -> Scale:
    ends = [value for metric in points.values() for value in (metric.value, *((metric.ci.low, metric.ci.high) if metric.ci else ())) if value is not None]
    pad = 0.08 * (max(ends) - min(ends)) or 0.5
    up = Scale(low=min(ends) - pad, high=max(ends) + pad, left=top + HEIGHT, right=top)
    unit = next(iter(points.values())).unit
    canvas.text(0, top - 6, what[0], "small b")
    for tick in up.ticks(5):
        canvas.line((across.left, up(tick)), (across.right, up(tick)), "grid")
        canvas.text(across.left - 6, up(tick) + 4, numbers.tick(tick, unit), "small muted", "end")
    for n, metric in points.items():
        x = across(distance(n))
        if metric.ci is not None:
            canvas.line((x, up(metric.ci.low)), (x, up(metric.ci.high)), f"s{what[1]} w2")
        canvas.circle(x, up(metric.value or 0.0), 4, f"o-s{what[1]} w2")
    return up


def _curve(canvas: Canvas, scales: tuple[Scale, Scale], points: Mapping[int, Metric], fitted: Sequence[float | None]) -> None:
    (across, up), (alpha, beta, turning) = scales, fitted
    start = points[1].value if 1 in points else None
    if alpha is None or beta is None or start is None:
        return
    last = distance(max(points))
    places = [last * step / CURVE_POINTS for step in range(CURVE_POINTS + 1)]
    canvas.path("M" + "L".join(f"{across(d):.1f} {up(start + d * (alpha - beta * d)):.1f}" for d in places), "s0 w2 nofill")
    if turning is not None and 0 < turning <= last:
        canvas.line((across(turning), up(up.low)), (across(turning), up(up.high)), "line w2 dash")
