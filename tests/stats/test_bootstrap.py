"""The clustered BCa bootstrap against scipy, and its edges."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from auditor.errors import InputError
from auditor.stats.bootstrap import Resampling, bca_bounds, bootstrap_interval, jackknife_statistics, paired_interval, ratio_interval, weighted_mean
from auditor.stats.intervals import mean_interval


def test_bca_equals_scipy_on_the_same_resamples():
    values = np.random.default_rng(0).exponential(size=40)
    result = stats.bootstrap((values,), np.mean, n_resamples=3000, method="BCa", rng=np.random.default_rng(1))
    left = np.array([np.delete(values, i).mean() for i in range(40)])
    found = bca_bounds(values.mean(), result.bootstrap_distribution, left, df=1e9)  # so many units that nothing is expanded
    assert found == pytest.approx(tuple(result.confidence_interval), abs=2e-3)


def test_few_clusters_widen_the_quantiles():
    values = np.random.default_rng(0).normal(size=10)
    drawn, left = np.random.default_rng(1).choice(values, (4000, 10)).mean(1), np.array([np.delete(values, i).mean() for i in range(10)])
    few, many = bca_bounds(values.mean(), drawn, left, df=9), bca_bounds(values.mean(), drawn, left, df=1e9)
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(stats.t.ppf(0.975, 9) / 1.96 * (10 / 9) ** 0.5, rel=0.05)


def test_ratio_path_and_general_path_agree():
    rng = np.random.default_rng(2)
    clusters = rng.integers(0, 60, 300)
    top, bottom = rng.normal(2, 1, 300) + rng.normal(size=60)[clusters], rng.uniform(1, 2, 300)
    fast = ratio_interval(top, bottom, clusters, Resampling(resamples=20_000))
    slow = bootstrap_interval((top, bottom), lambda c, w: (w @ c[0]) / (w @ c[1]), clusters, Resampling(resamples=20_000))
    assert fast.value == pytest.approx(slow.value) == pytest.approx(top.sum() / bottom.sum())
    assert (fast.ci.low, fast.ci.high) == pytest.approx((slow.ci.low, slow.ci.high), abs=0.015)
    assert (fast.n, fast.n_clusters) == (300, len(np.unique(clusters)))


def test_weights_are_constant_within_clusters_and_sum_to_the_number_of_clusters():
    clusters, seen = np.array(list("bacbdefg")), []

    def record(columns, weights):
        seen.append(weights)
        return weights @ columns[0] / np.maximum(weights.sum(1), 1)

    bootstrap_interval((np.arange(8.0),), record, clusters)
    drawn = seen[1]
    assert (drawn[:, 0] == drawn[:, 3]).all()
    assert (drawn[:, [0, 1, 2, 4, 5, 6, 7]].sum(1) == 7).all()


def test_order_of_rows_does_not_matter_and_seed_does():
    rng = np.random.default_rng(3)
    values, clusters = rng.normal(size=80), np.repeat(np.arange(20), 4)
    shuffled = rng.permutation(80)
    one, other = ratio_interval(values, None, clusters), ratio_interval(values[shuffled], None, clusters[shuffled])
    assert (one.ci.low, one.ci.high) == pytest.approx((other.ci.low, other.ci.high), abs=1e-12)
    assert ratio_interval(values, None, clusters, Resampling(seed=1)).ci != one.ci
    assert ratio_interval(values, None, clusters).ci == one.ci


def test_jackknife_leaves_out_each_cluster():
    values, codes = np.array([1.0, 2.0, 3.0, 10.0]), np.array([0, 0, 1, 2])
    assert jackknife_statistics((values,), weighted_mean, codes) == pytest.approx([6.5, 13 / 3, 2.0])


def test_none_and_flags():
    assert bootstrap_interval(([],), weighted_mean) is None
    assert ratio_interval([]) is None
    assert ratio_interval([1.0, 2.0], [0.0, 0.0]) is None
    assert bootstrap_interval(([1.0, 2.0],), lambda c, w: np.full(len(w), np.nan)) is None
    assert "too few clusters for a bootstrap (1)" in bootstrap_interval(([1.0, 2.0],), weighted_mean, ["a", "a"]).flag
    assert ratio_interval(np.arange(5.0)).ci is None
    assert ratio_interval(np.arange(6.0)).ci is not None
    assert "no variation" in ratio_interval([2.0] * 6).flag

    def often_undefined(columns, weights):
        return np.where(weights.min(1) > 0, 1.0, np.nan)

    undefined = bootstrap_interval((np.arange(8.0),), often_undefined)
    assert undefined.ci is None
    assert "undefined" in undefined.flag
    with pytest.raises(InputError, match="2000"):
        Resampling(resamples=500)
    with pytest.raises(InputError, match="level"):
        Resampling(level=95)


def test_many_clusters_are_fast_and_agree_with_the_sandwich():
    """10,000 resamples of 100,000 clustered scores: 2 s of processor time at most."""
    rng = np.random.default_rng(4)
    clusters = rng.integers(0, 20_000, 100_000)
    values = rng.normal(size=100_000) + rng.normal(size=20_000)[clusters]
    started = time.process_time()
    found = ratio_interval(values, None, clusters, Resampling(resamples=10_000))
    assert time.process_time() - started < 2
    reference = mean_interval(values, clusters)
    assert found.n_clusters == len(np.unique(clusters))
    assert found.ci.high - found.ci.low == pytest.approx(reference.ci.high - reference.ci.low, rel=0.05)


@pytest.mark.parametrize(("differing", "excludes"), [(3, False), (5, False), (6, True), (9, True)])
def test_few_differing_clusters_are_no_surer_than_the_exact_test(differing, excludes):
    """All differing pairs on one side: 2 · 2^−k is above 0.05 up to five."""
    values = np.zeros(112)
    values[:2 * differing:2] = 1.0
    found = paired_interval(values, np.repeat(np.arange(56), 2))
    assert (found.ci.low > 0) == excludes
    assert ("sign-flip" in found.flag) != excludes
    mirrored = paired_interval(-values, np.repeat(np.arange(56), 2))
    assert (mirrored.ci.high < 0) == excludes
