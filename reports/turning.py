"""Proxy and gold reward against √KL: the figures of the over-optimisation suite, by best-of-n and along training."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from auditor.reports import numbers
from auditor.reports.images import Figure, Table, drawn
from auditor.reports.svg import Canvas, Scale
from auditor.schema import Metric

DRAWN = re.compile(r"(gold|proxy)_best_of_([1-9]\d{0,8})")
TRAINED = re.compile(r"training_(gold|proxy|kl)")
STEPS = re.compile(r"steps (\d{1,9}) to (\d{1,9})")
HEIGHT, GAP, CURVE_POINTS = 150.0, 34.0, 60
RINGS = "Rings: means with 95 % intervals. Line: the fitted curve of gold; dashed, its turning point if it lies between the outermost rings."

Points = Sequence[tuple[float, Metric]]  # a metric at its d
Line = Sequence[tuple[float, float]]  # gold's fitted curve as (d, gold); empty without one
Fitted = tuple[Callable[[float], float] | None, float | None]  # gold at a d, and the turning point


def distance(n: int) -> float:
    """d = √KL (√nats) of best-of-n from the sampled policy, KL = ln n − (n − 1)/n (Stiennon et al. 2020)."""
    return math.sqrt(math.log(n) - (n - 1) / n)


def turning_figures(metrics: Sequence[Metric]) -> list[Figure]:
    """Gold and proxy over d with gold's fitted curve and its turning point: by best-of-n, and along training where its steps were known."""
    return [figure for figure in (_drawn_figure(metrics), _trained_figure(metrics)) if figure is not None]


def _drawn_figure(metrics: Sequence[Metric]) -> Figure | None:
    """Best-of-n with R(d) = R(0) + d(α − βd); None without three points of gold."""
    found: dict[str, dict[int, Metric]] = {"gold": {}, "proxy": {}}
    for metric in metrics:
        match = DRAWN.fullmatch(metric.name)
        if match and metric.group == "all" and numbers.is_number(metric.value):
            found[match[1]][int(match[2])] = metric
    if len(found["gold"]) < 3:
        return None
    rows = tuple((str(n), f"{distance(n):.2f}", *(numbers.value_with_interval(found[name][n]) if n in found[name] else "–" for name in found))
                 for n in sorted(found["gold"]))
    start = found["gold"][1].value if 1 in found["gold"] else None
    fitted = _fitted(metrics, "best_of_n", start, lambda d, alpha, beta: d * (alpha - beta * d))
    points = {name: [(distance(n), metric) for n, metric in sorted(some.items())] for name, some in found.items()}
    return drawn(partial(_draw, points, fitted), caption="Gold and proxy as the proxy is optimised: the best of n draws",
                 note=f"Over d = √KL in √nats, n = 1 at the left. {RINGS}",
                 alt=f"Gold and proxy reward at {len(rows)} values of n, with the curve fitted to gold. The table below holds the values.",
                 table=Table(headers=("n", "√KL", "Gold", "Proxy"), rows=rows))


def _trained_figure(metrics: Sequence[Metric]) -> Figure | None:
    """The fifths of a training run with R(d) = R(0) + d(α − β ln d); None without them."""
    found: dict[str, dict[tuple[int, int], Metric]] = {"kl": {}, "gold": {}, "proxy": {}}
    for metric in metrics:
        match, steps = TRAINED.fullmatch(metric.name), STEPS.fullmatch(metric.group)
        if match and steps and numbers.is_number(metric.value):
            found[match[1]][int(steps[1]), int(steps[2])] = metric
    spans = sorted(set(found["kl"]) & set(found["gold"]) & set(found["proxy"]))
    if len(spans) < 3:
        return None
    at = {span: math.sqrt(max(found["kl"][span].value or 0.0, 0.0)) for span in spans}
    rows = tuple((f"{first} to {last}", f"{at[first, last]:.2f}", *(numbers.value_with_interval(found[name][first, last]) for name in ("gold", "proxy")))
                 for first, last in spans)
    start = next((metric.value for metric in metrics if metric.name == "training_start" and metric.group == "all"), None)
    fitted = _fitted(metrics, "training", start, lambda d, alpha, beta: d * (alpha - beta * math.log(d)) if d > 0 else 0.0)
    points = {name: [(at[span], found[name][span]) for span in spans] for name in ("gold", "proxy")}
    return drawn(partial(_draw, points, fitted), caption="Gold and proxy as training went on",
                 note=f"Over d = √KL in √nats from the model that the stage began with; a ring for each fifth of the steps. {RINGS}",
                 alt=f"Gold and proxy reward in {len(rows)} parts of the training, with the curve fitted to gold. The table below holds the values.",
                 table=Table(headers=("Steps", "√KL", "Gold", "Proxy"), rows=rows))


def _fitted(metrics: Sequence[Metric], prefix: str, start: float | None, curve: Callable[[float, float, float], float]) -> Fitted:
    whole = {metric.name: metric.value for metric in metrics if metric.group == "all"}
    alpha, beta, turning = (whole.get(f"{prefix}_{name}") for name in ("alpha", "beta", "turning_point"))
    if start is None or alpha is None or beta is None or not all(numbers.is_number(value) for value in (start, alpha, beta)):
        return None, None
    return lambda d: start + curve(d, alpha, beta), turning


def _draw(points: Mapping[str, Points], fitted: Fitted, width: float) -> str:
    canvas = Canvas(width)
    nearest, furthest = (end(d for d, _ in points["gold"]) for end in (min, max))
    across = Scale(low=0, high=(furthest or 1.0) * 1.05, left=62, right=width - 16)
    line = _line(fitted[0], nearest, furthest)
    top = 18.0
    for series, (name, some) in enumerate(points.items()):
        if some:
            up = _panel(canvas, (across, top), (name.capitalize(), series), some, line if name == "gold" else ())
            if name == "gold" and line:
                _curve(canvas, (across, up), line, fitted[1])
            top += HEIGHT + GAP
    for tick in across.ticks(6):
        canvas.text(across(tick), top - GAP + 17, f"{tick:g}", "small muted", "middle")
    canvas.text(across.right, top - GAP + 34, "d = √KL", "small muted", "end")
    return canvas.render(top - GAP + 42)


def _line(gold_at: Callable[[float], float] | None, nearest: float, furthest: float) -> Line:
    """The curve between the outermost points: nothing was seen beyond them."""
    if gold_at is None:
        return ()
    places = [nearest + (furthest - nearest) * step / CURVE_POINTS for step in range(CURVE_POINTS + 1)]
    return [(d, gold_at(d)) for d in places]


def _panel(canvas: Canvas, place: tuple[Scale, float], what: tuple[str, int], points: Points, line: Line) -> Scale:
    """One quantity; the axis holds all of its intervals and of its line, so that neither is bent along an edge."""
    across, top = place
    ends = [value for _, metric in points for value in (metric.value, *((metric.ci.low, metric.ci.high) if metric.ci else ()))
            if value is not None and numbers.is_number(value)]
    ends += [value for _, value in line]
    pad = 0.08 * (max(ends) - min(ends)) or 0.5
    up = Scale(low=min(ends) - pad, high=max(ends) + pad, left=top + HEIGHT, right=top)
    unit = points[0][1].unit
    canvas.text(0, top - 6, what[0], "small b")
    for tick in up.ticks(5):
        canvas.line((across.left, up(tick)), (across.right, up(tick)), "grid")
        canvas.text(across.left - 6, up(tick) + 4, numbers.tick(tick, unit), "small muted", "end")
    for d, metric in points:
        if metric.ci is not None and numbers.is_number(metric.ci.low) and numbers.is_number(metric.ci.high):
            canvas.line((across(d), up(metric.ci.low)), (across(d), up(metric.ci.high)), f"s{what[1]} w2")
        canvas.circle(across(d), up(metric.value or 0.0), 4, f"o-s{what[1]} w2")
    return up


def _curve(canvas: Canvas, scales: tuple[Scale, Scale], line: Line, turning: float | None) -> None:
    across, up = scales
    canvas.path("M" + "L".join(f"{across(d):.1f} {up(gold):.1f}" for d, gold in line), "s0 w2 nofill")
    if turning is not None and line[0][0] < turning <= line[-1][0]:
        canvas.line((across(turning), up(up.low)), (across(turning), up(up.high)), "line w2 dash")
