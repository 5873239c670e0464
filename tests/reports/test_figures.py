"""Figures are well-formed, hold what they are given, and escape it."""

from __future__ import annotations

import base64
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from auditor.reports import charts, diagrams
from auditor.reports.charts import Bar, Bin
from auditor.reports.figures import NARROW, WIDE, Row, bullet, domain, forest, row_of
from auditor.reports.images import drawn, image
from auditor.reports.suite_figures import binned
from auditor.reports.svg import Scale, nice_step, wrap
from auditor.reports.turning import turning_figures
from auditor.schema import ConfidenceInterval, Metric

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</text></svg><script>alert(1)</script>\u202e\x00&\"'"
ROWS = [
    Row(label=EVIL, value=0.34, low=0.28, high=0.4, bound=0.1, outcome="fail"),
    Row(label="b", value=0.02, low=0.0, high=0.04, bound=0.1, outcome="pass"),
    Row(label="c", value=0.11, low=0.07, high=0.16, bound=0.1, outcome="inconclusive"),
    Row(label="d", value=2.5, low=None, high=None, unit="nats"),
]
DRAWINGS = {
    "forest": lambda w: forest(ROWS, w),
    "bars": lambda w: charts.bars(
        [(EVIL, [Bar(value=0.2, low=0.1, high=0.3, letter="A"), Bar(value=-0.1, letter="B")])], w, unit="proportion"
    ),
    "histogram": lambda w: charts.histogram([0, 3, 9], [0.0, 1.0, 2.0, 3.0], w, unit="nats"),
    "strip": lambda w: charts.strip([0.1, 0.1, 0.5], w, unit="proportion"),
    "reliability": lambda w: charts.reliability(
        [Bin(confidence=0.9, accuracy=0.6, n=20, low=0.5, high=0.7), Bin(confidence=0.6, accuracy=0.5, n=5)], w
    ),
    "dots": lambda w: diagrams.dots([(EVIL, ["fail", "pass", "inconclusive", "not_assessed"] * 12)], w),
    "loop": lambda w: diagrams.loop({"Reward": [(EVIL, "fail"), ("b", "pass")], "Human labels": [("c", "inconclusive")]}, w),
}


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_figure_is_well_formed_and_inside_its_width(name: str, width: float) -> None:
    svg = DRAWINGS[name](width)
    root = ElementTree.fromstring(svg)
    assert float(root.get("width", "0")) == width
    assert root.findall(f".//{SVG}script") == []
    assert "prefers-color-scheme:dark" in svg
    assert re.search(r"\b(?:href|src|url)\b", svg) is None
    for text in root.iter(f"{SVG}text"):
        assert -1 <= float(text.get("x", "0")) <= width


def test_the_outcome_shows_in_the_shape() -> None:
    shapes = {
        row.outcome: sorted({re.sub(r'[\d.\-" ]+', "", tag) for tag in re.findall(r"<(rect|circle|path) ", bullet(row))})
        for row in ROWS[:3]
    }
    assert shapes["fail"] == ["rect"]
    assert "circle" in shapes["pass"]
    assert "path" in shapes["inconclusive"]


def test_the_shaded_side_is_the_wrong_one() -> None:
    def zone(direction: str) -> tuple[float, float]:
        root = ElementTree.fromstring(bullet(Row(label="", value=0.5, low=0.4, high=0.6, bound=0.25, direction=direction, outcome="pass")))  # type: ignore[arg-type]
        rect = next(r for r in root.iter(f"{SVG}rect") if r.get("class") == "zone")
        return float(rect.get("x", "0")), float(rect.get("x", "0")) + float(rect.get("width", "0"))

    assert zone("below") == pytest.approx((8 + 0.25 * 184, 192), abs=0.1)
    assert zone("above") == pytest.approx((8, 8 + 0.25 * 184), abs=0.1)


def test_positions_follow_the_values() -> None:
    scale = Scale(low=0, high=2, left=100, right=300)
    assert [scale(v) for v in (0, 1, 2, 5)] == [100, 200, 300, 300]
    assert scale.ticks() == [0, 0.5, 1, 1.5, 2]


@pytest.mark.parametrize(("raw", "step"), [(0.03, 0.05), (1, 1), (2.1, 2.5), (6, 10), (0, 1.0), (math.nan, 1.0)])
def test_nice_step(raw: float, step: float) -> None:
    assert nice_step(raw) == pytest.approx(step)


def test_domain_holds_all_values_and_zero() -> None:
    assert domain([0.6, 0.9], "proportion") == (0.0, 1.0)
    low, high = domain([-3.0, -1.0], "nats")
    assert low < -3 < 0 < high
    assert domain([0.0], "nats")[1] > 0


def test_row_of_leaves_out_what_has_no_value() -> None:
    assert row_of(Metric(suite="s", name="m", value=None), "m") is None
    assert row_of(Metric(suite="s", name="m", value=math.nan), "m") is None
    row = row_of(Metric(suite="s", name="m", value=1.0, ci=ConfidenceInterval(low=-math.inf, high=2.0)), "m")
    assert row is not None
    assert (row.low, row.high) == (None, 2.0)


def test_wrap_keeps_to_the_width() -> None:
    assert wrap("one two three four five six", 60, lines=2) == ["one two", "three…"]
    assert all(len(line) <= 8 for line in wrap("w" * 50, 60, lines=3))


def test_bins_are_round_and_lose_no_value() -> None:
    values = np.random.default_rng(0).normal(size=5_000)
    counts, edges = binned(values)
    assert counts.sum() == 5_000
    assert len(counts) <= 26
    counts, edges = binned(np.array([0.0, 0.5, 1.0]))
    assert counts.sum() == 3
    assert edges[0] == 0.0


def test_images_say_their_size() -> None:
    figure = drawn(DRAWINGS["forest"], caption="c", alt="a")
    assert figure.wide.width == WIDE
    assert figure.narrow.width == NARROW
    assert figure.wide.uri.startswith("data:image/svg+xml;base64,")
    assert image(bullet(ROWS[0])).height == 34


def drawing_of(figure):
    return base64.b64decode(figure.wide.uri.partition(",")[2]).decode()


def best_of(name, values, unit="proportion"):
    return [Metric(suite="overoptimization", name=f"{name}_best_of_{n}", value=value, unit=unit, n=20, ci=ConfidenceInterval(low=value - 0.1, high=value + 0.1))
            for n, value in values.items()]


def test_gold_and_proxy_stand_over_the_distance():
    gold, proxy = best_of("gold", {1: 0.6, 2: 0.62, 4: 0.55}), best_of("proxy", {1: 30.0, 2: 40.0, 4: 45.0}, "words")
    fitted = {"alpha": 0.3, "beta": 0.4, "turning_point": 0.375}
    curve = [Metric(suite="overoptimization", name=f"best_of_n_{name}", value=value) for name, value in fitted.items()]
    (figure,) = turning_figures([*gold, *proxy, *curve])
    # ln 4 − 3/4 = .6363 nats, whose root is .798.
    assert [row[:2] for row in figure.table.rows] == [("1", "0.00"), ("2", "0.44"), ("4", "0.80")]
    drawing = drawing_of(figure)
    root = ElementTree.fromstring(drawing)
    assert len(root.findall(f"{SVG}circle")) == 6
    path = root.find(f"{SVG}path").get("d")
    heights = [float(point.split()[1]) for point in path[1:].split("L")]
    # The top of the curve lies at the turning point; pixels are rounded, so several points share it.
    assert np.mean(np.flatnonzero(np.array(heights) == min(heights))) == pytest.approx(60 * 0.375 / 0.7977, abs=1)
    assert "dash" in drawing


def test_gold_and_proxy_along_training_stand_over_the_distance():
    """Five fifths of a training whose gold first rises and then falls, R(d) = .5 + d(.4 − .4 ln d): highest at d = 1."""
    def at(name, spot, value, unit):
        return Metric(suite="overoptimization", name=f"training_{name}", value=value, unit=unit, n=4, group=f"steps {4 * spot + 1} to {4 * spot + 4}",
                      ci=ConfidenceInterval(low=value - 0.1, high=value + 0.1))

    kl = (0.04, 0.36, 1.0, 2.25, 4.0)
    golds = [0.5 + math.sqrt(value) * (0.4 - 0.4 * math.log(math.sqrt(value))) for value in kl]
    parts = [metric for k, (value, gold) in enumerate(zip(kl, golds, strict=True))
             for metric in (at("kl", k, value, "nats"), at("gold", k, gold, "reward"), at("proxy", k, 10.0 * k, "reward"))]
    curve = [Metric(suite="overoptimization", name=f"training_{name}", value=value)
             for name, value in {"start": 0.5, "alpha": 0.4, "beta": 0.4, "turning_point": 1.0}.items()]
    (figure,) = turning_figures([*reversed(parts), *curve])
    assert [row[:2] for row in figure.table.rows] == [("1 to 4", "0.20"), ("5 to 8", "0.60"), ("9 to 12", "1.00"), ("13 to 16", "1.50"), ("17 to 20", "2.00")]
    root = ElementTree.fromstring(drawing_of(figure))
    rings = [(float(ring.get("cx")), float(ring.get("cy"))) for ring in root.findall(f"{SVG}circle")]
    assert len(rings) == 10
    line = [tuple(float(part) for part in point.split()) for point in root.find(f"{SVG}path").get("d")[1:].split("L")]
    for x, y in rings[:5]:  # gold was put on the curve: every ring lies on the line
        assert np.interp(x, *zip(*line, strict=True)) == pytest.approx(y, abs=1)
    (without,) = turning_figures(parts)
    assert ElementTree.fromstring(drawing_of(without)).find(f"{SVG}path") is None


def fifths(kls, golds, **more):
    return [Metric(suite="overoptimization", name=f"training_{name}", value=value, unit="reward", group=f"steps {3 * spot + 1} to {3 * spot + 3}", **more)
            for spot, both in enumerate(zip(kls, golds, golds, strict=True)) for name, value in zip(("kl", "proxy", "gold"), both, strict=True)]


def test_a_curve_that_leaves_its_rings_is_not_bent_along_the_edge():
    """R(d) = 2d(1 − ln d) is highest, 2, at d = 1, between rings whose values stay below 1."""
    kl = (0.01, 0.01, 0.01, 6.5, 6.6)
    curve = [Metric(suite="overoptimization", name=f"training_{name}", value=value) for name, value in {"start": 0.0, "alpha": 2.0, "beta": 2.0}.items()]
    (figure,) = turning_figures([*fifths(kl, (0.6, 0.7, 0.65, 0.3, 0.3)), *curve])
    heights = [float(point.split()[1]) for point in ElementTree.fromstring(drawing_of(figure)).find(f"{SVG}path").get("d")[1:].split("L")]
    assert heights.count(min(heights)) <= 4  # the round top, in rounded pixels


def test_hostile_numbers_and_names_draw_no_nonsense():
    endless = ConfidenceInterval(low=-math.inf, high=math.nan)
    curve = [Metric(suite="overoptimization", name=f"training_{name}", value=math.inf) for name in ("start", "alpha", "beta", "turning_point")]
    odd = [Metric(suite="overoptimization", name=name, value=0.5, group=group) for name, group in (
        ("gold_best_of_0", "all"), (f"gold_best_of_{'9' * 5000}", "all"), ("gold_best_of_1", EVIL), ("training_gold", f"steps 1 to {'9' * 5000}"),
        ("training_gold", EVIL), ("training_start", "steps 1 to 3"))]
    (figure,) = turning_figures([*fifths((0.0, 0.0, 0.0), (0.1, 0.1, 0.1), ci=endless), *curve, *odd])
    drawing = drawing_of(figure)
    assert "nan" not in drawing
    assert "inf" not in drawing
    assert len(ElementTree.fromstring(drawing).findall(f"{SVG}circle")) == 6
    assert len(figure.table.rows) == 3


def test_no_curve_without_three_points_of_gold():
    assert turning_figures(best_of("gold", {1: 0.6, 2: 0.62})) == []
