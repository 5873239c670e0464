"""Intervals of proportions and means against statsmodels, scipy and hand computation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from auditor.errors import InputError
from auditor.stats.intervals import (
    clopper_pearson_bounds,
    cluster_sums,
    cluster_variance,
    effective_size,
    mean_interval,
    proportion_interval,
    satterthwaite_df,
    wilson_bounds,
)


@pytest.mark.parametrize(("successes", "n"), [(13, 40), (40, 80), (0, 10), (10, 10), (1, 3), (999, 1000)])
def test_wilson_and_exact_equal_statsmodels(successes, n):
    assert wilson_bounds(successes / n, n) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-12)
    assert clopper_pearson_bounds(successes / n, n) == pytest.approx(proportion_confint(successes, n, method="beta"), abs=1e-12)


def test_unclustered_is_exact_below_thirteen_and_wilson_from_there():
    for successes, method, reference in ((4, "Clopper-Pearson exact", "beta"), (12, "Clopper-Pearson exact", "beta"), (13, "Wilson", "wilson")):
        found = proportion_interval([1.0] * successes + [0.0] * (100 - successes))
        assert found.ci.method == method
        assert (found.ci.low, found.ci.high) == pytest.approx(proportion_confint(successes, 100, method=reference), abs=1e-12)
        assert found.design_effect == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_success_or_no_failure_never_has_zero_width(value):
    clusters = np.repeat(np.arange(20), 5)
    rows, clustered = proportion_interval([value] * 100), proportion_interval([value] * 100, clusters)
    assert rows.ci.high - rows.ci.low == pytest.approx(1 - 0.025 ** (1 / 100))
    assert clustered.ci.high - clustered.ci.low == pytest.approx(1 - 0.025 ** (1 / 20))  # each cluster counts as one draw
    assert clustered.design_effect == 5


def test_no_rows_one_row_one_cluster():
    assert proportion_interval([]) is None
    assert mean_interval([]) is None
    one = proportion_interval([1.0])
    assert (one.ci.low, one.ci.high) == pytest.approx((0.025, 1.0))
    alone = proportion_interval([1.0, 0.0, 1.0], ["a", "a", "a"])
    assert (alone.value, alone.ci) == (pytest.approx(2 / 3), None)
    assert "one cluster" in alone.flag
    assert mean_interval([1.0, 2.0], ["a", "a"]).ci is None


def test_wrong_values_are_named():
    with pytest.raises(InputError, match=r"found 0\.5"):
        proportion_interval([0.0, 0.5, 1.0])
    with pytest.raises(InputError, match="outside bounds"):
        mean_interval([0.0, 2.0], bounds=(0, 1))
    with pytest.raises(InputError, match="one cluster id per row"):
        mean_interval([0.0, 2.0], clusters=["a"])


def test_cluster_variance_equals_sandwich_of_statsmodels():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(12), 4)
    values = rng.normal(size=48) + rng.normal(size=12)[clusters]
    fit = sm.OLS(values, np.ones(48)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    sums, sizes = cluster_sums(values, clusters)
    assert cluster_variance(sums, sizes) ** 0.5 == pytest.approx(fit.bse[0])  # at equal sizes CR2 is CR1
    assert satterthwaite_df(sizes) == pytest.approx(11)


def test_satterthwaite_df_by_the_matrix():
    sizes = np.array([1.0, 2.0, 5.0, 9.0])
    n = sizes.sum()
    member = np.repeat(np.arange(4), sizes.astype(int))
    centring = np.eye(int(n)) - 1 / n
    columns = np.stack([centring @ ((member == g) / n / (1 - sizes[g] / n) ** 0.5) for g in range(4)], axis=1)
    gram = columns.T @ columns
    assert satterthwaite_df(sizes) == pytest.approx(np.trace(gram) ** 2 / (gram**2).sum())
    assert satterthwaite_df(sizes) < 3


def test_symmetric_mean_is_students_t_and_skew_widens_one_side_only():
    values = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
    found = mean_interval(values)
    assert (found.ci.low, found.ci.high) == pytest.approx(stats.t.interval(0.95, 4, 0, stats.sem(values)), rel=1e-4)
    skewed = np.r_[np.zeros(20), np.linspace(0, 1, 20), 8.0, 9.0]
    low, high = stats.t.interval(0.95, 41, skewed.mean(), stats.sem(skewed))
    found = mean_interval(skewed)
    assert found.ci.low == pytest.approx(low)
    assert found.ci.high > high + 0.05 * (high - low)
    mirrored = mean_interval(-skewed)
    assert (mirrored.ci.low, mirrored.ci.high) == pytest.approx((-found.ci.high, -found.ci.low))


def test_bounds_hold_and_keep_the_interval_from_vanishing():
    near = mean_interval([0.0] * 15 + [0.02], bounds=(0, 1))
    assert near.ci.low == 0
    assert near.ci.high > 0.003
    flat = mean_interval([0.0] * 30, np.repeat(np.arange(10), 3), bounds=(0, 1))
    assert (flat.ci.low, flat.ci.high) == pytest.approx((0, 1 - 0.025 ** (1 / 10)))
    assert "no variation" in flat.ci.method
    middle = mean_interval([0.5] * 30, bounds=(-1, 1))
    reach = 1 - 0.025 ** (1 / 30)
    assert (middle.ci.low, middle.ci.high) == pytest.approx((0.5 - 1.5 * reach, 0.5 + 0.5 * reach))
    without = mean_interval([0.5] * 30)
    assert without.ci is None
    assert "no variation" in without.flag


def test_bounded_mean_is_equivariant():
    rng = np.random.default_rng(1)
    values, clusters = rng.beta(0.5, 3, 60), np.repeat(np.arange(20), 3)
    plain, moved = mean_interval(values, clusters, (0, 1)), mean_interval(10 - 4 * values, clusters, (6, 10))
    assert (moved.ci.low, moved.ci.high) == pytest.approx((10 - 4 * plain.ci.high, 10 - 4 * plain.ci.low))


def test_design_effect_of_identical_rows_is_the_cluster_size():
    rng = np.random.default_rng(2)
    per_cluster = (rng.random(400) < 0.4).astype(float)
    rows, clusters = np.repeat(per_cluster, 4), np.repeat(np.arange(400), 4)
    found = proportion_interval(rows, clusters)
    assert found.design_effect == pytest.approx(4, rel=0.01)
    alone = proportion_interval(per_cluster)
    assert found.ci.high - found.ci.low == pytest.approx(alone.ci.high - alone.ci.low, rel=0.01)
    assert mean_interval(rows, clusters).design_effect == pytest.approx(4, rel=0.01)


def test_equal_shares_in_all_clusters_are_not_taken_for_certainty():
    values, clusters = np.tile([0.0, 1.0], 30), np.repeat(np.arange(30), 2)
    assert proportion_interval(values, clusters).design_effect == 1
    design_effect, effective = effective_size(*cluster_sums(values, clusters))
    assert design_effect == 1
    assert effective <= 60


def test_rows_of_rare_events_in_few_clusters_are_worth_fewer_degrees_of_freedom():
    spread, packed = np.zeros(100), np.zeros(100)
    spread[::10] = 1
    packed[:10] = 1
    clusters = np.repeat(np.arange(20), 5)
    wide, narrow = proportion_interval(packed, clusters).ci, proportion_interval(spread, clusters).ci
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
