"""Equivalence and non-inferiority against statsmodels, and their sizes by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from auditor.errors import InputError
from auditor.stats.equivalence import CLAIM_LEVEL, equivalence_test, margin_p_values, non_inferiority_test
from auditor.stats.intervals import mean_interval, satterthwaite_df

RNG = np.random.default_rng(0)


def test_tost_equals_statsmodels():
    one, other = RNG.normal(0.1, 1, (2, 60))
    expected, lower, upper = ttost_paired(one, other, -0.4, 0.4)
    found = equivalence_test(one - other, 0.4)
    assert (found.p_value, found.p_below, found.p_above) == pytest.approx((expected, lower[1], upper[1]))


def test_non_inferiority_is_a_shifted_one_sided_t_test():
    values = RNG.normal(0.05, 1, 50)
    assert non_inferiority_test(values, 0.3).p_value == pytest.approx(stats.ttest_1samp(values, -0.3, alternative="greater").pvalue)
    assert non_inferiority_test(values, 0.3, higher_is_better=False).p_value == pytest.approx(stats.ttest_1samp(values, 0.3, alternative="less").pvalue)
    assert non_inferiority_test(values, -0.1).p_value == pytest.approx(stats.ttest_1samp(values, 0.1, alternative="greater").pvalue)


def test_a_test_at_its_level_is_a_look_at_the_interval():
    clusters = np.repeat(np.arange(30), 4)
    for shift in np.linspace(-0.5, 0.5, 21):
        values = RNG.normal(shift, 1, 120) + 0.3 * RNG.normal(size=30)[clusters]
        ci = mean_interval(values, clusters, (-9, 9)).ci  # plain t: the bounds are far away
        assert equivalence_test(values, 0.4, clusters).shown() == (ci.low >= -0.4 and ci.high <= 0.4)
        assert non_inferiority_test(values, 0.4, clusters).shown() == (ci.low >= -0.4)


def test_none_and_bad_margins():
    assert equivalence_test([], 0.1) is None
    assert equivalence_test([1.0, 2.0], 0.1, ["a", "a"]) is None
    assert non_inferiority_test([0.5, 0.5, 0.5], 0.1) is None
    with pytest.raises(InputError, match="above 0"):
        equivalence_test([1.0, 2.0], 0.0)
    with pytest.raises(InputError, match="finite"):
        non_inferiority_test([1.0, 2.0], float("inf"))


@pytest.mark.simulation
@pytest.mark.parametrize("clusters", [15, 50])
@pytest.mark.parametrize("kind", ["normal", "paired 0/1"])
def test_size_at_the_margin(clusters, kind):
    """A true difference of exactly the margin is called equivalent (or not inferior) at most as often as the level says."""
    rng, margin, replications = np.random.default_rng([clusters, len(kind)]), 0.2, 8000
    sizes, member = np.full(clusters, 4.0), np.repeat(np.arange(clusters), 4)
    rates = []
    for truth in (-margin, margin):
        if kind == "normal":
            rows = truth + 0.8 * rng.standard_normal((replications, len(member))) + 0.4 * rng.standard_normal((replications, clusters))[:, member]
        else:
            better = rng.random((replications, len(member))) < 0.3 + truth
            rows = better.astype(float) - (rng.random((replications, len(member))) < 0.3)
        below, above = margin_p_values(np.add.reduceat(rows, np.arange(0, len(member), 4), axis=1), sizes, margin)
        rates += [(np.maximum(below, above) <= CLAIM_LEVEL).mean(), ((below if truth < 0 else above) <= CLAIM_LEVEL).mean()]
    assert max(rates) <= 0.031, rates  # 2.5 % and three standard errors of 8,000 replications
    assert min(rates[1::2]) >= 0.019, rates  # non-inferiority uses its level up


@pytest.mark.simulation
def test_power_grows_where_the_models_are_equal():
    rng, shown = np.random.default_rng(3), []
    for clusters in (20, 80, 320):
        sums = rng.normal(0, 1, (2000, clusters))
        shown.append((np.maximum(*margin_p_values(sums, np.ones(clusters), 0.3)) <= CLAIM_LEVEL).mean())
    assert shown[0] < 0.2
    assert shown[2] > 0.95
    assert sorted(shown) == shown


def test_degrees_of_freedom_are_those_of_the_clusters():
    clusters = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 9])
    assert equivalence_test(RNG.normal(size=24), 0.5, clusters).df == pytest.approx(satterthwaite_df(np.array([1.0, 2, 3, 4, 5, 9])))
