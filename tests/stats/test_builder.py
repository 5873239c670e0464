"""From scores to metrics: joining, counting, and what happens when there is little to count."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.errors import InputError
from auditor.schema import ConfidenceInterval, Sample, Score
from auditor.stats import MetricBuilder, auroc, cohen_kappa, weighted_mean
from auditor.stats.intervals import Estimate, mean_interval, proportion_interval


def make_samples(n: int, per_cluster: int = 4) -> list[Sample]:
    return [Sample(id=f"s{i:03}", messages=(), cluster_id=f"c{i // per_cluster}", metadata={"task": "ab"[i % 2]}) for i in range(n)]


def make_scores(samples, values, scorer="flip", epoch=0) -> list[Score]:
    return [Score(sample_id=s.id, scorer=scorer, value=None if v is None else float(v), epoch=epoch, status="error" if v is None else "scored")
            for s, v in zip(samples, values, strict=True)]


SAMPLES = make_samples(120)
RNG = np.random.default_rng(0)
FLIPS = (RNG.random(120) < 0.3).astype(float)
CLUSTERS = [sample.cluster_id for sample in SAMPLES]


def builder(scores, seed=0) -> MetricBuilder:
    return MetricBuilder(suite="demo", samples=SAMPLES, scores=scores, seed=seed)


def test_proportion_and_mean_carry_their_estimate():
    b = builder(make_scores(SAMPLES, FLIPS))
    metric = b.proportion("flip_rate", "flip", higher_is_better=False, flags=("note",), group="all")
    expected = proportion_interval(FLIPS, CLUSTERS)
    assert (metric.value, metric.ci, metric.design_effect) == (expected.value, expected.ci, expected.design_effect)
    assert (metric.key, metric.n, metric.n_clusters, metric.n_unscored, metric.flags) == ("demo.flip_rate", 120, 30, 0, ("note",))
    mean = b.mean("flip_mean", "flip", bounds=(0, 1), unit="nats", judge_based=True)
    assert mean.ci == mean_interval(FLIPS, CLUSTERS, (0, 1)).ci
    assert (mean.unit, mean.judge_based) == ("nats", True)


def test_unscored_rows_are_counted_and_enter_nothing():
    values = [None, None, *FLIPS[2:]]
    metric = builder(make_scores(SAMPLES, values)).proportion("flip_rate", "flip")
    assert (metric.n, metric.n_unscored) == (118, 2)
    assert metric.value == pytest.approx(FLIPS[2:].mean())
    not_a_number = builder(make_scores(SAMPLES, [float("nan"), *FLIPS[1:]])).mean("flip_rate", "flip")
    assert (not_a_number.n, not_a_number.n_unscored) == (119, 1)


def test_nothing_scored_is_not_a_number():
    none = builder(make_scores(SAMPLES, [None] * 120))
    for metric in (none.proportion("a", "flip"), none.mean("b", "flip"), none.statistic("c", "flip", weighted_mean),
                   none.paired_difference("d", "flip", make_scores(SAMPLES, FLIPS))):
        assert (metric.value, metric.ci, metric.n, metric.n_unscored) == (None, None, 0, 120)
        assert "none of 120 rows" in metric.reason
    assert builder([]).mean("a", "flip").reason == "no sample has this score"
    made_up = builder([]).not_made("a", "no judge given", higher_is_better=True)
    assert (made_up.value, made_up.reason, made_up.higher_is_better) == (None, "no judge given", True)


def test_where_selects_samples_and_group_names_them():
    b = builder(make_scores(SAMPLES, FLIPS))
    metric = b.proportion("flip_rate", "flip", group="a", where=lambda sample: sample.metadata["task"] == "a")
    assert (metric.n, metric.key) == (60, "demo.flip_rate[a]")
    assert metric.value == pytest.approx(FLIPS[::2].mean())


def test_epochs_stay_in_their_samples_cluster():
    scores = make_scores(SAMPLES, FLIPS) + make_scores(SAMPLES, FLIPS, epoch=1)
    twice, once = builder(scores).proportion("flip_rate", "flip"), builder(make_scores(SAMPLES, FLIPS)).proportion("flip_rate", "flip")
    assert (twice.n, twice.n_clusters) == (240, 30)
    assert twice.design_effect == pytest.approx(2 * once.design_effect)
    assert (twice.ci.low, twice.ci.high) == pytest.approx((once.ci.low, once.ci.high))


def test_statistic_joins_scorers_on_sample_and_epoch():
    confidence = RNG.random(120)
    scores = make_scores(SAMPLES, FLIPS, "right") + make_scores(SAMPLES[::-1], [None, *confidence[1:]], "confidence")
    rows = builder(scores).rows(("confidence", "right"))
    assert (len(rows.keys), rows.n_unscored) == (119, 1)
    assert rows.columns[0][0] == confidence[-1]
    assert rows.columns[1][0] == FLIPS[0]
    metric = builder(scores).statistic("auroc", ("confidence", "right"), auroc, unit="probability")
    assert metric.value == pytest.approx(auroc(rows.columns, np.ones((1, 119)))[0])
    assert metric.ci.low < metric.value < metric.ci.high
    assert "clustered BCa" in metric.ci.method


def test_a_row_without_one_of_the_scores_is_no_row():
    scores = make_scores(SAMPLES, FLIPS, "one") + make_scores(SAMPLES[:50], FLIPS[:50], "other")
    metric = builder(scores).statistic("kappa", ("one", "other"), cohen_kappa)
    assert (metric.n, metric.n_unscored) == (50, 0)
    assert metric.value == pytest.approx(1)


def test_degenerate_statistics_do_not_crash():
    b = builder(make_scores(SAMPLES, np.ones(120)))
    flat = b.statistic("flat", "flip", weighted_mean)
    assert (flat.value, flat.ci) == (1.0, None)
    assert any("no variation" in flag for flag in flat.flags)
    bounded = b.statistic("flat", "flip", weighted_mean, bounds=(0, 1))
    assert (bounded.ci.low, bounded.ci.high) == pytest.approx((0.025 ** (1 / 30), 1))
    undefined = b.statistic("kappa", ("flip", "flip"), cohen_kappa)
    assert undefined.value is None
    assert "not defined on the 120 scored rows" in undefined.reason
    single = MetricBuilder(suite="demo", samples=SAMPLES[:1], scores=make_scores(SAMPLES[:1], [0.5])).statistic("one", "flip", weighted_mean)
    assert (single.value, single.ci) == (0.5, None)


def test_paired_difference():
    better = np.where(RNG.random(120) < 0.3, 1 - FLIPS, FLIPS)
    metric = builder(make_scores(SAMPLES, better)).paired_difference("gain", "flip", make_scores(SAMPLES, FLIPS))
    assert metric.value == pytest.approx((better - FLIPS).mean())
    assert metric.ci.low < metric.value < metric.ci.high
    same = builder(make_scores(SAMPLES, FLIPS)).paired_difference("gain", "flip", make_scores(SAMPLES, FLIPS))
    reach = 1 - 0.025 ** (1 / 30)
    assert (same.value, same.ci.low, same.ci.high) == (0, pytest.approx(-reach), pytest.approx(reach))
    assert any("minimum detectable effect" in flag for flag in same.flags)
    partly = builder(make_scores(SAMPLES, better)).paired_difference("gain", "flip", make_scores(SAMPLES[:40], [None, *FLIPS[1:40]]))
    assert (partly.n, partly.n_unscored) == (39, 1)


def test_metrics_do_not_depend_on_each_other_or_on_the_order_of_scores():
    scores = make_scores(SAMPLES, RNG.normal(size=120))
    alone = builder(scores).statistic("spread", "flip", weighted_mean)
    after = builder(scores[::-1])
    after.statistic("other", "flip", weighted_mean)
    assert after.statistic("spread", "flip", weighted_mean) == alone
    assert builder(scores, seed=1).statistic("spread", "flip", weighted_mean).ci != alone.ci


def test_few_clusters_are_flagged():
    metric = MetricBuilder(suite="demo", samples=SAMPLES[:20], scores=make_scores(SAMPLES[:20], FLIPS[:20])).proportion("p", "flip")
    assert metric.n_clusters == 5
    assert any("5 clusters" in flag for flag in metric.flags)


def test_few_degrees_of_freedom_are_flagged_whatever_the_clusters():
    """An interval whose error was estimated elsewhere says so: 3 rows with the error of 200 are sure, 200 rows with that of 5 are not."""
    ci = ConfidenceInterval(low=-1.0, high=2.0, level=0.95, method="t")
    make = builder(make_scores(SAMPLES, FLIPS)).from_estimate
    sure, rough = (make("m", Estimate(value=0.5, ci=ci, n=n, n_clusters=n, df=df)) for n, df in ((3, 199.0), (200, 4.2)))
    assert sure.flags == ()
    assert rough.flags == ("only 4.2 degrees of freedom: the interval is rough",)


def test_bad_scores_are_refused():
    with pytest.raises(InputError, match="two scores of scorer 'flip' for sample 's000'"):
        builder(make_scores(SAMPLES, FLIPS) + make_scores(SAMPLES[:1], [1.0]))
    stranger = [Score(sample_id="zz", scorer="flip", value=1.0)]
    with pytest.raises(InputError, match="unknown sample 'zz'"):
        builder(stranger).mean("m", "flip")
    with pytest.raises(InputError, match=r"found 0\.5"):
        builder(make_scores(SAMPLES[:1], [0.5])).proportion("p", "flip")
    with pytest.raises(TypeError):
        builder([]).mean("m", "flip", colour="red")


@pytest.mark.parametrize("make", ["proportion", "mean"])
def test_no_pass_is_a_flag_that_the_metric_answers_for(make):
    samples = [Sample(id=str(i), messages=(), cluster_id=str(i)) for i in range(40)]
    scores = [Score(sample_id=str(i), scorer="x", value=float(i % 2)) for i in range(40)]
    build = getattr(MetricBuilder(suite="demo", samples=samples, scores=scores), make)
    assert build("rate", "x").no_pass == ""
    assert build("rate", "x", no_pass="at chance", flags=("other",)).no_pass == "at chance"
