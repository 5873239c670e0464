"""Paired tests against scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from auditor.errors import InputError
from auditor.stats.bootstrap import Resampling
from auditor.stats.paired import mcnemar_exact, paired_test, sign_flip_p

RNG = np.random.default_rng(0)


def test_sign_flip_by_hand_and_against_scipy():
    assert sign_flip_p([1.0, 1.0, 1.0]) == pytest.approx(2 / 8)
    assert sign_flip_p([3.0, 1.0]) == pytest.approx(2 / 4)
    values = RNG.normal(0.4, 1, 11)
    exact = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_p(values) == pytest.approx(exact)
    longer = RNG.normal(0.2, 1, 100)
    assert sign_flip_p(longer) == pytest.approx(stats.ttest_1samp(longer, 0).pvalue, abs=0.015)


def test_sign_flip_moves_whole_clusters():
    values, clusters = np.ones(52), np.r_[np.zeros(50), [1, 2]]
    assert sign_flip_p(values, clusters) == pytest.approx(2 / 8)  # three units, not 52
    assert sign_flip_p([0.0, 0.0]) == 1
    assert sign_flip_p([]) == 1
    assert 0 < sign_flip_p(np.ones(40)) < 2e-4  # never 0


def test_sign_flip_is_uniform_under_the_null():
    clusters = np.repeat(np.arange(20), 3)
    p = [sign_flip_p(RNG.normal(size=60) + RNG.normal(size=20)[clusters], clusters, permutations=999) for _ in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_mcnemar_equals_statsmodels(share):
    one, other = (RNG.random((2, 60)) < [[share], [0.3]]).astype(float)
    table = [[((one == a) & (other == b)).sum() for b in (1, 0)] for a in (1, 0)]
    assert mcnemar_exact(one, other) == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert mcnemar_exact(one, one) == 1
    with pytest.raises(InputError, match="0 and 1"):
        mcnemar_exact([0.5], [1.0])


def test_paired_test_finds_a_difference_and_states_what_it_could_have_found():
    clusters = np.repeat(np.arange(40), 3)
    baseline = RNG.normal(size=120)
    candidate = baseline + 0.5 + RNG.normal(size=120) + 0.5 * RNG.normal(size=40)[clusters]
    found = paired_test(candidate, baseline, clusters)
    assert found.difference == pytest.approx((candidate - baseline).mean())
    assert found.ci.low > 0
    assert found.p_value < 0.01
    error = (candidate - baseline).reshape(40, 3).mean(1).std(ddof=1) / 40**0.5
    assert found.minimum_detectable_effect == pytest.approx((stats.t.ppf(0.975, 39) + stats.t.ppf(0.8, 39)) * error)
    comparison = found.comparison("demo.flip", "run1", "run2")
    assert (comparison.metric, comparison.n_pairs, comparison.ci) == ("demo.flip", 120, found.ci)


def test_paired_test_edges():
    assert paired_test([], []) is None
    same = paired_test([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (same.ci, same.p_value, same.minimum_detectable_effect) == (None, 1, None)
    assert same.comparison("m", "a", "b") is None
    bounded = paired_test([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], bounds=(-1, 1))
    assert bounded.ci.high == pytest.approx(1 - 0.025 ** (1 / 3))
    with pytest.raises(InputError, match="same order"):
        paired_test([1.0], [1.0, 2.0])
    alone = paired_test([1.0, 2.0], [0.0, 0.0], ["a", "a"])
    assert (alone.ci, alone.minimum_detectable_effect) == (None, None)


def test_few_clusters_get_a_t_interval():
    clusters = np.repeat(np.arange(4), 5)
    one, other = RNG.normal(size=(2, 20))
    found = paired_test(one, other, clusters)
    assert "cluster-robust t" in found.ci.method
    assert found.ci.low < found.difference < found.ci.high


def test_seed_decides_the_draws():
    one, other = RNG.normal(size=(2, 50))
    assert paired_test(one, other, plan=Resampling(seed=5)) == paired_test(one, other, plan=Resampling(seed=5))
